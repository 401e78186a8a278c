/*
 * qcow2_image/file: a qcow2 image's file and the contents of its header.
 *
 * Enough to check, repair and describe an image. The engine (devices/backend/qcow2) has a struct
 * qcow2_file in each open image, and changes it under its own lock. For the engine, for this
 * folder, and for bantam image.
 *
 * Functions return 0 or -errno. Offsets and lengths are bytes of the file, of any alignment.
 * Thread: any; transfers may run at the same time, and need no lock.
 */
#ifndef BANTAM_QCOW2_IMAGE_FILE_H
#define BANTAM_QCOW2_IMAGE_FILE_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/qcow2_image/format.h"
#include "devices/backend/store/image_file.h"
#include "devices/backend/store/store.h"

enum qcow2_access {
	QCOW2_GLANCE, /* to read, without a lock: another process may be writing */
	QCOW2_READ,   /* to read, locked as in image_file.h */
	QCOW2_REPAIR, /* to write; accepts the corrupt bit and a broken refcount table */
	QCOW2_WRITE,  /* to write; the refcount table must be sound, and is loaded */
};

/* The tables that are in memory as a whole, in host byte order. */
struct qcow2_l1 {
	uint64_t *entry;
	uint64_t offset;
	uint32_t n; /* entries */
};

struct qcow2_reftable {
	uint64_t *entry; /* NULL unless QCOW2_WRITE */
	uint64_t offset;
	uint32_t clusters; /* in the file */
	uint64_t n;	   /* entries in memory */
};

struct qcow2_file {
	struct store_image image;
	int fd; /* through the page cache; image's */
	char *path;
	bool will_write; /* opened with QCOW2_WRITE */
	bool unsafe;	 /* damaged: the engine writes no more to the image */
	int lost_writes; /* -errno of the first flush that failed; atomic */

	/* From the header; the engine changes the features and, by a resize, disk_bytes. */
	unsigned version;
	unsigned cluster_bits;
	uint64_t cluster_bytes;
	unsigned l2_bits; /* log2 of the entries of an L2 table */
	unsigned refcount_order;
	unsigned refblock_bits; /* log2 of the entries of a refcount block */
	uint64_t refcount_max;
	uint64_t incompatible, compatible, autoclear;
	bool zstd;
	uint32_t nsnapshots;
	uint64_t snapshots_offset;
	char *backing_name;		  /* as written, NULL: none */
	enum store_format backing_format; /* AUTO: the header does not say */
	uint64_t disk_bytes;		  /* the guest's disk */
	uint64_t bytes; /* the file, up to a whole cluster; no mapping may reach beyond */

	struct qcow2_l1 l1;
	struct qcow2_reftable reftable;
};

static inline uint64_t qcow2_round_up(const struct qcow2_file *f, uint64_t bytes)
{
	return (bytes + f->cluster_bytes - 1) & ~(f->cluster_bytes - 1);
}

/* Sets [*offset, + *len) to the bytes of the file that a compressed cluster's sectors take. */
static inline void qcow2_packed_extent(const struct qcow2_file *f, uint64_t entry, uint64_t *offset,
				       uint64_t *len)
{
	unsigned x = 62 - (f->cluster_bits - 8);
	uint64_t sectors = (entry & ~(QCOW2_COPIED | QCOW2_COMPRESSED)) >> x;

	*offset = entry & ((1ull << x) - 1);
	*len = (sectors + 1) * 512 - (*offset & 511);
}

/* --- file_open.c ------------------------------------------------------------------------ */

/*
 * Opens, locks and checks the image, and fills *f. Does not look at backing files. On failure it
 * sets *err and closes *f. via: as in store_options. direct: QCOW2_READ and QCOW2_WRITE only;
 * image.fd is O_DIRECT then.
 */
int qcow2_file_open(struct qcow2_file *f, const char *path, const char *via,
		    enum qcow2_access access, enum store_direct direct, struct err *err);
/* Accepts an *f that is all zeroes. Flushes nothing. */
void qcow2_file_close(struct qcow2_file *f);

/* --- header.c --------------------------------------------------------------------------- */

/* Reads and checks the header of the open f->fd, fills *f from it, and loads the tables. On failure
 * some of *f may be filled: qcow2_file_close frees it. */
int qcow2_header_load(struct qcow2_file *f, struct err *err);
/* Patches len bytes of the header at offset; they are on the medium when it returns. */
int qcow2_header_patch(struct qcow2_file *f, uint64_t offset, const void *bytes, uint64_t len);
/* Sets the incompatible features, in the file and in f. Version 2 has none: does nothing. */
int qcow2_header_incompatible(struct qcow2_file *f, uint64_t features);

/* --- file.c: whole transfers ------------------------------------------------------------- */

/* Bytes beyond the end of the file read as zeroes. */
int qcow2_pread(const struct qcow2_file *f, void *buf, uint64_t len, uint64_t offset);
/* Reads from the page cache. Returns false if the read would wait, or fails. */
bool qcow2_pread_now(const struct qcow2_file *f, void *buf, uint64_t len, uint64_t offset);
int qcow2_pwrite(const struct qcow2_file *f, const void *buf, uint64_t len, uint64_t offset);
/* Transfers len bytes of the iovec, behind its first skip bytes. */
int qcow2_preadv(const struct qcow2_file *f, const struct iovec *iov, unsigned niov, uint64_t skip,
		 uint64_t len, uint64_t offset);
int qcow2_pwritev(const struct qcow2_file *f, const struct iovec *iov, unsigned niov, uint64_t skip,
		  uint64_t len, uint64_t offset);
int qcow2_pzero(const struct qcow2_file *f, uint64_t len, uint64_t offset);
/*
 * fdatasync. If the host cannot write pages back, it reports the error once: then the pages count
 * as clean, the next fdatasync succeeds, and the data is lost. So lost_writes keeps the first
 * error, and every later call returns it until the image is closed.
 */
int qcow2_sync(struct qcow2_file *f);
static inline int qcow2_get_lost_writes(const struct qcow2_file *f)
{
	return __atomic_load_n(&f->lost_writes, __ATOMIC_RELAXED);
}

/* Notes a flush that failed elsewhere than in qcow2_sync. error: -errno. */
void qcow2_set_lost_writes(struct qcow2_file *f, int error);
/* For an image that is damaged at offset: logs what is wrong (once), sets unsafe, returns -EIO. */
int qcow2_damaged(struct qcow2_file *f, const char *what, uint64_t offset);

#endif
