/*
 * store: an image of any format, with synchronous access.
 *
 * `bantam image`, the file system helper and the slow paths of disk.h read and write through it.
 * Offsets and lengths are bytes of the guest's disk, of any alignment; access beyond size_bytes is
 * -EINVAL. Functions return 0 or -errno (-EIO: the image is damaged there), never a short count.
 *
 * Thread: any, several at once; a format does its own locking. create, close, and a resize to less:
 * alone. While a resize to more runs, other threads may read and write the old part, but none resizes
 * too. A store owns its backing store.
 */
#ifndef BANTAM_STORE_H
#define BANTAM_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/store/image_file.h"
#include "vmm/core/err.h"

/* The most images in a chain of backing files, with the top one. */
#define STORE_CHAIN_MAX 64u

/* In the order of the choices. */
#define STORE_FORMAT_CHOICES "auto|raw|qcow2"
enum store_format { STORE_AUTO, STORE_RAW, STORE_QCOW2 };

/* A run of bytes that are stored in the same way. */
struct store_extent {
	uint64_t len_bytes; /* at least 1 */
	bool zero;	    /* reads as zeroes; no data need be read */
	bool data;	    /* has bytes in a file */
	bool compressed;
	bool present;	/* some image of the chain defines these bytes */
	unsigned depth; /* 0: this image, 1: its backing file, … */
	/* with in_place: the file that holds the bytes; owned by the store; else -1 */
	int fd;
	bool in_place;	 /* the bytes are in fd at offset, as they are */
	uint64_t offset; /* in the file at that depth */
};

struct store;

struct store_ops {
	enum store_format format; /* not AUTO */
	int (*read)(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		    uint64_t len_bytes);
	int (*write)(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		     uint64_t len_bytes);
	/* The range reads as zeroes afterwards; unmap: and may be deallocated. */
	int (*zero)(struct store *s, uint64_t offset, uint64_t len_bytes, bool unmap);
	/* A hint; afterwards the range reads as old data or zeroes. */
	int (*discard)(struct store *s, uint64_t offset, uint64_t len_bytes);
	/* On return, all earlier writes are on stable storage. */
	int (*flush)(struct store *s);
	/* Describes the first run of [offset, offset + max_bytes). */
	int (*map)(struct store *s, uint64_t offset, uint64_t max_bytes, struct store_extent *out);
	int (*resize)(struct store *s, uint64_t size_bytes, struct err *err);
	/* Closes in any case. -errno: the last changes are not on stable storage. */
	int (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	uint64_t size_bytes;
	bool readonly;
	struct store *backing; /* NULL: none */
	/* as written in the image; NULL: none; owned by the format */
	const char *backing_name;
	enum store_format backing_format; /* AUTO: the image does not name it */
	const struct store_image *image;  /* its file, for callers that do their own I/O on it */
};

struct store_options {
	const char *path;
	/* what is opened in place of path, which messages still name (backing.h); NULL: path */
	const char *via;
	enum store_format format;
	bool readonly;
	enum store_direct direct;
	bool alone; /* an image with a backing file is refused */
	/*
	 * only a check: opened and locked as usual, but nothing is changed: not repaired, not
	 * written
	 */
	bool dry_run;
};

/*
 * Open path, locked as image_file.h describes, and its backing files, where backing.h allows to
 * follow their names. AUTO: as store_choose_format decides. 0 or -errno.
 */
int store_open(const struct store_options *options, struct store **out, struct err *err);

/* The properties of a new image. Unset fields are 0. */
/* The mode of a new image: only its owner reads it. */
#define STORE_NEW_MODE 0600

struct store_create {
	const char *path;
	enum store_format format; /* not AUTO */
	uint64_t size_bytes;	  /* 0 with backing: the backing file's size */
	const char *backing;	  /* as written into the image: absolute, or relative to it */
	enum store_format backing_format; /* AUTO: as store_choose_format decides */
	uint32_t cluster_bytes;		  /* 0: 65536 */
	unsigned version;		  /* qcow2: 2 or 3; 0: 3 */
	bool lazy_refcounts;
	bool zstd; /* compression type of compressed clusters */
};

/* Creates the file; -EEXIST if it exists. On failure no file is left. */
int store_create(const struct store_create *create, struct err *err);

/* --- which format --------------------------------------------------------------------- */

/* "auto", "raw", "qcow2". */
const char *store_format_name(enum store_format format);
/* 0 or -EINVAL. */
int store_format_parse(const char *name, enum store_format *out);
/* By the name: .qcow2 and .qcow are QCOW2, all others RAW. */
enum store_format store_format_of_name(const char *path);
/* QCOW2 if the file begins like a qcow2 image. RAW also if the file cannot be read. */
enum store_format store_format_of_content(const char *path);
/* Returns true if the file is a qcow2 image that names a backing file. For a look before it is opened. */
bool store_has_backing(const char *path);
/*
 * Guesses the format of an image if the user has not given it: by the name, never by the content,
 * which a guest can write. Returns -EINVAL if the image is raw by its name and begins like a qcow2
 * image: then the user must choose, and store_format_refuse says how.
 */
int store_format_guess(const char *path, enum store_format *out);
/*
 * Returns -EINVAL. kind and path name the image ("disk", "backing file"); option is what the user
 * gives before the format: "format=", "-f ".
 */
int store_format_refuse(const char *kind, const char *path, const char *option, struct err *err);
/* What a file's first sector looks like. */
struct store_looks {
	bool qcow2;
	const char *foreign; /* "a VMDK image": neither raw nor qcow2; NULL: nothing known */
	const char *advice;  /* the command that makes a disk of it */
};
/* Looks at the file; via: as in store_options. All is unset if it cannot be read. */
void store_look(const char *path, const char *via, struct store_looks *out);
/*
 * Returns -ENOTSUP, for a file that looks foreign. option: what the user gives to open it as raw, or
 * NULL if there is no choice.
 */
int store_refuse_foreign(const char *path, const struct store_looks *looks, const char *option,
			 struct err *err);
/*
 * If options->format is AUTO, sets it to RAW or QCOW2 by the name. Returns -EINVAL as
 * store_format_guess does, -ENOTSUP if the image is raw by its name and looks foreign. The message
 * names format=.
 */
int store_choose_format(struct store_options *options, struct err *err);

/*
 * Returns the path of the backing file that image's header calls name: a relative name is relative
 * to the folder of the image. The caller frees it; NULL: out of memory.
 */
char *store_backing_path(const char *image, const char *name);
/* May a new image have the backing file name, which base is? What store_open refuses is -errno. */
int store_check_backing(const char *name, const struct store *base, struct err *err);

/* The same as the ops, for one buffer. */
int store_read(struct store *s, void *buf, uint64_t offset, uint64_t len_bytes);
int store_write(struct store *s, const void *buf, uint64_t offset, uint64_t len_bytes);

/* The size, while another thread may be making the disk larger. */
static inline uint64_t store_size(const struct store *s)
{
	return __atomic_load_n(&s->size_bytes, __ATOMIC_RELAXED);
}

static inline void store_set_size(struct store *s, uint64_t size_bytes)
{
	__atomic_store_n(&s->size_bytes, size_bytes, __ATOMIC_RELAXED);
}

static inline int store_close(struct store *s)
{
	return s ? s->ops->close(s) : 0;
}

#endif
