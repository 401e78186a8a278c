/*
 * store: an image of any format, synchronously.
 *
 * What `bantam image`, the file system helper and the slow paths of disk.h read and
 * write by. Offsets and lengths are bytes of the guest's disk, of any alignment;
 * whoever asks beyond size_bytes gets -EINVAL. Functions return 0 or -errno (-EIO:
 * the image is damaged there), never less than asked for.
 *
 * Thread: any, several at once; a format locks for itself. create, resize and
 * close: alone. A store owns its backing store.
 */
#ifndef BANTAM_STORE_H
#define BANTAM_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/store/image_file.h"
#include "vmm/core/err.h"

/* Of a chain of backing files: images, with the top. */
#define STORE_CHAIN_MAX 64u

/* In the order of the choices. */
#define STORE_FORMAT_CHOICES "auto|raw|qcow2"
enum store_format { STORE_AUTO, STORE_RAW, STORE_QCOW2 };

/* A run of bytes that are stored in the same way. */
struct store_extent {
	uint64_t len_bytes; /* at least 1 */
	bool zero;	    /* reads as zeroes without a look at any data */
	bool data;	    /* has bytes in some file */
	bool compressed;
	bool present;	 /* some image of the chain says what it reads as */
	unsigned depth;	 /* 0: this image, 1: its backing file, … */
	int fd;		 /* with in_place: where they are; the store's, -1 otherwise */
	bool in_place;	 /* offset in fd is the bytes' own place */
	uint64_t offset; /* in the file of that depth */
};

struct store;

struct store_ops {
	enum store_format format; /* not AUTO */
	int (*read)(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		    uint64_t len_bytes);
	int (*write)(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		     uint64_t len_bytes);
	/* Reads as zeroes afterwards; unmap: and may lose its place in the file. */
	int (*zero)(struct store *s, uint64_t offset, uint64_t len_bytes, bool unmap);
	/* A hint; what it reads as afterwards is old data or zeroes. */
	int (*discard)(struct store *s, uint64_t offset, uint64_t len_bytes);
	/* What was written before is on stable storage. */
	int (*flush)(struct store *s);
	/* How [offset, offset + max_bytes) begins. */
	int (*map)(struct store *s, uint64_t offset, uint64_t max_bytes, struct store_extent *out);
	int (*resize)(struct store *s, uint64_t size_bytes, struct err *err);
	/* Closed in any case; -errno: the last changes are not on stable storage. */
	int (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	uint64_t size_bytes;
	bool readonly;
	struct store *backing;		  /* NULL: none */
	const char *backing_name;	  /* as the image has it, NULL: none; the format's */
	enum store_format backing_format; /* AUTO: the image does not say */
	const struct store_image *image;  /* its file, for whoever does I/O of its own there */
};

struct store_options {
	const char *path;
	enum store_format format;
	bool readonly;
	bool direct;  /* O_DIRECT */
	bool dry_run; /* opened and locked as asked, to see whether it can be; but nothing
				 * is changed: what needs a repair is not repaired, nor written */
};

/*
 * Open path, locked as image_file.h says, and the backing files of it. AUTO: as
 * store_choose_format says.
 */
int store_open(const struct store_options *options, struct store **out, struct err *err);

/* What a new image shall be. Unset fields are 0. */
struct store_create {
	const char *path;
	enum store_format format; /* not AUTO */
	uint64_t size_bytes;	  /* 0 with backing: as large as that */
	const char *backing;	  /* as written into the image: absolute, or relative to it */
	enum store_format backing_format; /* AUTO: as store_choose_format says */
	uint32_t cluster_bytes;		  /* 0: 65536 */
	unsigned version;		  /* qcow2: 2 or 3; 0: 3 */
	bool lazy_refcounts;
	bool zstd; /* compression type of compressed clusters */
};

/* Makes the file; -EEXIST if there is one. On failure none is left. */
int store_create(const struct store_create *create, struct err *err);

/* --- which format --------------------------------------------------------------------- */

/* "auto", "raw", "qcow2". */
const char *store_format_name(enum store_format format);
/* 0 or -EINVAL. */
int store_format_parse(const char *name, enum store_format *out);
/* .qcow2 and .qcow are qcow2, all others raw. */
enum store_format store_format_of_name(const char *path);
/* QCOW2 if the file begins like one. RAW also for what cannot be read. */
enum store_format store_format_of_content(const char *path);
/*
 * The format of an image if the user does not say: what its name says, never its content, which a
 * guest can write. Returns -EINVAL if it is raw by its name and begins like a qcow2 image: the user
 * must say which it is, and the caller says how.
 */
int store_format_guess(const char *path, enum store_format *out);
/* If options->format is AUTO, makes it RAW or QCOW2 by that rule. The message names format=. */
int store_choose_format(struct store_options *options, struct err *err);

/* Where the backing file is that image's header calls name: a relative name is relative to the
 * folder of the image. The caller frees it; NULL: out of memory. */
char *store_backing_path(const char *image, const char *name);

/* One buffer. */
int store_read(struct store *s, void *buf, uint64_t offset, uint64_t len_bytes);
int store_write(struct store *s, const void *buf, uint64_t offset, uint64_t len_bytes);

static inline int store_close(struct store *s)
{
	return s ? s->ops->close(s) : 0;
}

#endif
