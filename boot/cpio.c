/* cpio: the "newc" archive format; see cpio.h. */
#include "boot/cpio.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_BYTES 110

void cpio_init(struct cpio *cpio, FILE *out)
{
	memset(cpio, 0, sizeof(*cpio));
	cpio->out = out;
}

static void put(struct cpio *cpio, const void *data, size_t len)
{
	if (cpio->error || !len)
		return;
	errno = 0;
	if (fwrite(data, 1, len, cpio->out) != len)
		cpio->error = errno ? -errno : -EIO;
	cpio->len_bytes += len;
}

static void pad(struct cpio *cpio, unsigned align)
{
	static const char zeroes[512];

	put(cpio, zeroes, (align - cpio->len_bytes % align) % align);
}

bool cpio_name_ok(const char *name)
{
	if (!*name || strlen(name) >= PATH_MAX)
		return false;
	while (*name) {
		size_t len = strcspn(name, "/");

		if (len == 0 || (len == 1 && name[0] == '.') ||
		    (len == 2 && !memcmp(name, "..", 2)))
			return false;
		name += len;
		if (*name && !*++name)
			return false; /* a slash at the end */
	}
	return true;
}

/* The header of an entry whose contents are to follow. */
static int begin(struct cpio *cpio, const char *name, unsigned mode, uint64_t len_bytes,
		 unsigned major, unsigned minor)
{
	bool trailer = !mode;
	char header[HEADER_BYTES + 1];

	while (*name == '/')
		name++;
	if (cpio->error)
		return cpio->error;
	if (!trailer && !cpio_name_ok(name))
		return cpio->error = -EINVAL;
	if (cpio->left_bytes) /* the entry before is not complete */
		return cpio->error = -EINVAL;
	if (len_bytes > UINT32_MAX)
		return cpio->error = -EFBIG;
	/* A link count of 1 keeps the kernel from looking for hard links. */
	snprintf(header, sizeof(header),
		 "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		 trailer ? 0 : ++cpio->ino, mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0,
		 (unsigned)len_bytes, 0, 0, major, minor, (unsigned)strlen(name) + 1, 0);
	put(cpio, header, HEADER_BYTES);
	put(cpio, name, strlen(name) + 1);
	pad(cpio, 4);
	cpio->left_bytes = len_bytes;
	return cpio->error;
}

int cpio_write(struct cpio *cpio, const void *data, size_t len_bytes)
{
	if (!cpio->error && len_bytes > cpio->left_bytes)
		cpio->error = -EINVAL;
	put(cpio, data, len_bytes);
	cpio->left_bytes -= cpio->error ? 0 : len_bytes;
	if (!cpio->left_bytes)
		pad(cpio, 4);
	return cpio->error;
}

static int add(struct cpio *cpio, const char *name, unsigned mode, const void *data,
	       uint64_t len_bytes, unsigned major, unsigned minor)
{
	begin(cpio, name, mode, len_bytes, major, minor);
	return cpio_write(cpio, data, len_bytes);
}

int cpio_begin_file(struct cpio *cpio, const char *name, unsigned perm, uint64_t len_bytes)
{
	return begin(cpio, name, S_IFREG | (perm & 07777), len_bytes, 0, 0);
}

int cpio_add_link(struct cpio *cpio, const char *name, const char *target)
{
	size_t len = strlen(target);

	if (!cpio->error && (!len || len >= PATH_MAX))
		cpio->error = -EINVAL;
	return add(cpio, name, S_IFLNK | 0777, target, len, 0, 0);
}

int cpio_add_dir(struct cpio *cpio, const char *name, unsigned perm)
{
	return add(cpio, name, S_IFDIR | (perm & 07777), NULL, 0, 0, 0);
}

int cpio_add_file(struct cpio *cpio, const char *name, unsigned perm, const void *data,
		  uint64_t len_bytes)
{
	return add(cpio, name, S_IFREG | (perm & 07777), data, len_bytes, 0, 0);
}

int cpio_add_chardev(struct cpio *cpio, const char *name, unsigned perm, unsigned major,
		     unsigned minor)
{
	return add(cpio, name, S_IFCHR | (perm & 07777), NULL, 0, major, minor);
}

int cpio_add_blockdev(struct cpio *cpio, const char *name, unsigned perm, unsigned major,
		      unsigned minor)
{
	return add(cpio, name, S_IFBLK | (perm & 07777), NULL, 0, major, minor);
}

int cpio_finish(struct cpio *cpio)
{
	add(cpio, "TRAILER!!!", 0, NULL, 0, 0, 0);
	pad(cpio, 512);
	errno = 0;
	if (!cpio->error && fflush(cpio->out))
		cpio->error = errno ? -errno : -EIO;
	return cpio->error;
}
