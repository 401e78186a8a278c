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
	const char *name; /* "raw", "qcow2" */
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
	struct store *backing;		 /* NULL: none */
	const struct store_image *image; /* its file, for whoever does I/O of its own there */
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
 * Open path, locked as image.h says. STORE_AUTO: by name (.qcow2 and .qcow: qcow2, else raw), never by
 * content, which a guest can write; but a raw image that begins like a qcow2 one is refused until
 * the user says which it is.
 */
int store_open(const struct store_options *options, struct store **out, struct err *err);

/* If AUTO, make it RAW or QCOW2 by the rule above. */
int store_choose_format(struct store_options *options, struct err *err);

/* What a new image shall be. Unset fields are 0. */
struct store_create {
	const char *path;
	enum store_format format; /* not AUTO */
	uint64_t size_bytes;	  /* 0 with backing: as large as that */
	const char *backing;	  /* as written into the image: absolute, or relative to it */
	enum store_format backing_format;
	uint32_t cluster_bytes; /* 0: 65536 */
	unsigned version;	/* qcow2: 2 or 3; 0: 3 */
	bool lazy_refcounts;
	bool zstd; /* compression type of compressed clusters */
};

/* Makes the file; -EEXIST if there is one. On failure none is left. */
int store_create(const struct store_create *create, struct err *err);

/* "auto", "raw", "qcow2". */
const char *store_format_name(enum store_format format);
int store_format_parse(const char *name, enum store_format *out);
/* What the name says. */
enum store_format store_format_of_name(const char *path);

/* One buffer. */
int store_read(struct store *s, void *buf, uint64_t offset, uint64_t len_bytes);
int store_write(struct store *s, const void *buf, uint64_t offset, uint64_t len_bytes);

static inline int store_close(struct store *s)
{
	return s ? s->ops->close(s) : 0;
}

/* The formats. */
int store_raw_open(const struct store_options *options, struct store **out, struct err *err);
int store_raw_create(const struct store_create *create, struct err *err);
int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err);
int qcow2_store_create(const struct store_create *create, struct err *err);

#endif
