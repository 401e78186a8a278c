/*
 * below: the names in an initrd of the user, to which another archive is appended; see pack.h.
 *
 * The kernel unpacks all archives of an initrd into one root, and each entry replaces what an earlier one
 * has put there: a directory /lib takes the place of a link /lib -> usr/lib and cuts off all that the
 * link leads to. So the names of the first archives are read (Documentation/driver-api/early-userspace/
 * buffer-format.rst: archives "newc" one after the other, with zeroes between them, plain or compressed),
 * and entered as if they were there, but are not written.
 *
 * The end of compressed bytes is known only to their decoder: what follows them is not seen.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "boot/cpio.h"
#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"
#include "boot/unpack.h"

#define HEADER_BYTES 110u
#define BUFFER_BYTES (64u << 10)
/* A gigabyte of zeroes is a megabyte when compressed. */
#define BYTES_MAX (16ull << 30)

struct archive {
	struct pack *pack;
	struct pack_source source;
	struct unpack *unpack; /* NULL: plain */
	uint64_t pos;	       /* in the file, or in what is unpacked */
	uint8_t *buffer;
	struct err *err;
};

static int bad(const struct archive *a, const char *what)
{
	return err_set(a->err, EINVAL, "%s: %s", a->source.file.path, what);
}

/* Reads len_bytes to dst. Returns how many, fewer only at the end, or -errno. */
static int64_t read_some(struct archive *a, void *dst, size_t len_bytes)
{
	int64_t n;
	int ret;

	if (a->unpack) {
		n = unpack_read(a->unpack, dst, len_bytes, a->err);
	} else {
		uint64_t left = a->source.size_bytes - a->pos;

		n = (int64_t)(len_bytes < left ? len_bytes : left);
		ret = pack_source_read(&a->source, a->pos, dst, (size_t)n, a->err);
		n = ret ? ret : n;
	}
	a->pos += n > 0 ? (uint64_t)n : 0;
	if (a->pos > BYTES_MAX)
		return bad(a, "unpacks to more than 16 GiB");
	return n;
}

static int skip(struct archive *a, uint64_t len_bytes)
{
	if (!a->unpack) {
		if (len_bytes > a->source.size_bytes - a->pos)
			return bad(a, "is truncated");
		a->pos += len_bytes;
		return 0;
	}
	while (len_bytes) {
		size_t part = len_bytes < BUFFER_BYTES ? (size_t)len_bytes : BUFFER_BYTES;
		int64_t n = read_some(a, a->buffer, part);

		if (n < (int64_t)part)
			return n < 0 ? (int)n : bad(a, "is truncated");
		len_bytes -= part;
	}
	return 0;
}

/* Field n of a header: eight hexadecimal digits. Returns false if they are none. */
static bool field(const uint8_t *header, unsigned n, uint32_t *value)
{
	static const char digits[] = "0123456789abcdefABCDEF";

	*value = 0;
	for (unsigned i = 0; i < 8; i++) {
		const char *digit = memchr(digits, header[6 + 8 * n + i], sizeof(digits) - 1);
		unsigned at = digit ? (unsigned)(digit - digits) : 0;

		if (!digit)
			return false;
		*value = *value << 4 | (at < 16 ? at : at - 6);
	}
	return true;
}

/* Takes leading "/" and "./" off. */
static const char *relative(const char *name)
{
	while (*name == '/' || (name[0] == '.' && (name[1] == '/' || !name[1])))
		name++;
	return name;
}

static int note(struct archive *a, const char *name, uint32_t mode, const char *target)
{
	struct entry entry = { .below = true };

	name = relative(name);
	if (!cpio_name_ok(name) || (S_ISLNK(mode) && !*target))
		return 0; /* its own kernel may take it; nothing of ours has such a name */
	entry.kind = S_ISDIR(mode) ? ENTRY_DIR : S_ISLNK(mode) ? ENTRY_LINK : ENTRY_BYTES;
	entry.perm = mode & 07777;
	entry.len_bytes = S_ISLNK(mode) ? strlen(target) : 0;
	return pack_entry_note(a->pack, name, &entry, S_ISLNK(mode) ? target : NULL, a->err);
}

/* One entry behind its header. Returns 1 after the last one of an archive. */
static int read_entry(struct archive *a, const uint8_t *header)
{
	char name[PATH_MAX + 1], target[PATH_MAX + 1] = "";
	uint32_t mode, size, len;
	uint64_t pad;
	int ret;

	if (memcmp(header, "07070", 5) || (header[5] != '1' && header[5] != '2') ||
	    !field(header, 1, &mode) || !field(header, 6, &size) || !field(header, 11, &len))
		return bad(a, "is no initrd: the archive in it is damaged");
	if (!len || len > PATH_MAX)
		return bad(a, "is no initrd: a name in it is too long");
	if (read_some(a, name, len) != (int64_t)len)
		return bad(a, "is truncated");
	name[len] = 0;
	pad = -(HEADER_BYTES + (uint64_t)len) & 3;
	ret = skip(a, pad);
	if (!strcmp(name, "TRAILER!!!"))
		return 1; /* the last archive's padding may be missing */
	if (!ret && S_ISLNK(mode) && size && size < PATH_MAX) {
		if (read_some(a, target, size) != (int64_t)size)
			return bad(a, "is truncated");
		target[size] = 0;
		ret = skip(a, -(uint64_t)size & 3);
	} else if (!ret) {
		ret = skip(a, (uint64_t)size + (-(uint64_t)size & 3));
	}
	return ret ? ret : note(a, name, mode, target);
}

/* Reads archives and the zeroes between them. Returns 0 at the end, or 1 where something else begins. */
static int read_archives(struct archive *a)
{
	uint8_t header[HEADER_BYTES];

	for (;;) {
		int64_t n = read_some(a, header, 4);
		int ret;

		if (n <= 0)
			return (int)n;
		if (n == 4 && !header[0] && !header[1] && !header[2] && !header[3])
			continue;
		if (n < 4 || memcmp(header, "0707", 4)) {
			a->pos -= (uint64_t)n;
			return 1;
		}
		do {
			n = read_some(a, header + 4, HEADER_BYTES - 4);
			if (n < (int64_t)HEADER_BYTES - 4)
				return n < 0 ? (int)n : bad(a, "is truncated");
			ret = read_entry(a, header);
			if (!ret && read_some(a, header, 4) != 4)
				return bad(a, "is truncated");
		} while (!ret);
		if (ret < 0)
			return ret;
	}
}

static int read_all(struct archive *a)
{
	uint8_t head[8] = { 0 };
	enum unpack_kind kind;
	size_t n;
	int ret = read_archives(a);

	if (ret <= 0)
		return ret;
	n = a->source.size_bytes - a->pos < sizeof(head) ? (size_t)(a->source.size_bytes - a->pos) :
							   sizeof(head);
	ret = pack_source_read(&a->source, a->pos, head, n, a->err);
	if (ret)
		return ret;
	kind = unpack_detect(head, (uint32_t)n);
	if (kind == UNPACK_NONE)
		return bad(a,
			   "is no initrd: neither an archive (cpio -H newc) nor a compressed one");
	if (!unpack_supported(kind))
		return err_set(a->err, ENOTSUP, "%s: is packed with %s", a->source.file.path,
			       unpack_name(kind));
	ret = unpack_open(&a->unpack, kind, &a->source.file, a->pos, a->source.size_bytes - a->pos,
			  a->err);
	a->pos = 0;
	if (!ret)
		ret = read_archives(a);
	unpack_close(a->unpack);
	a->unpack = NULL;
	return ret > 0 ? 0 : ret;
}

int pack_add_below(struct pack *pack, const char *path, struct err *err)
{
	struct archive a = { .pack = pack, .err = err };
	int ret = pack_source_open(&a.source, path, false, err);

	if (ret)
		return ret;
	a.buffer = malloc(BUFFER_BYTES);
	ret = a.buffer ? read_all(&a) : err_sys(err, ENOMEM, "%s", path);
	free(a.buffer);
	pack_source_close(&a.source);
	return ret;
}
