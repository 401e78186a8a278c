/* write: makes the archive, and compresses it; see pack.h. */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/cpio.h"
#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"
#include "boot/pack/strip.h"

#define PART_BYTES (128u << 10)

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct entry *const *)a)->name,
		      (*(const struct entry *const *)b)->name);
}

/* The bytes of a source, a part at a time. Returns -errno, with err filled if cpio has no error. */
static int put_parts(struct cpio *cpio, const struct pack_source *source, struct err *err)
{
	char *part = malloc(PART_BYTES);
	uint64_t at = 0;
	int ret = part ? 0 : err_sys(err, ENOMEM, "%s", source->file.path);

	do {
		uint64_t left = source->size_bytes - at;
		size_t n = left < PART_BYTES ? (size_t)left : PART_BYTES;

		if (!ret)
			ret = pack_source_read(source, at, part, n, err);
		if (!ret)
			ret = cpio_write(cpio, part, n);
		at += n;
	} while (!ret && at < source->size_bytes);
	free(part);
	return ret;
}

/* A file of the host, or a module without its debug information. Returns as put_parts. */
static int put_source(struct cpio *cpio, const struct entry *e, struct err *err)
{
	bool module = e->kind == ENTRY_MODULE;
	struct pack_source source;
	uint8_t *small = NULL;
	size_t len = 0;
	int ret = pack_source_open(&source, e->data, module, err);

	if (ret)
		return ret;
	if (module)
		ret = pack_strip_debug(&source, &small, &len, err);
	if (!ret && source.size_bytes > UINT32_MAX)
		ret = err_set(err, EFBIG, "%s: a file in an initrd has less than 4 GiB", e->data);
	if (!ret && small)
		ret = cpio_add_file(cpio, e->name, e->perm, small, len);
	else if (!ret)
		ret = cpio_begin_file(cpio, e->name, e->perm, source.size_bytes);
	if (!ret && !small)
		ret = put_parts(cpio, &source, err);
	free(small);
	pack_source_close(&source);
	return ret;
}

static int put_entry(const struct pack *pack, struct cpio *cpio, const struct entry *e,
		     struct err *err)
{
	switch (e->kind) {
	case ENTRY_DIR:
		return cpio_add_dir(cpio, e->name, e->perm);
	case ENTRY_BYTES:
		return cpio_add_file(cpio, e->name, e->perm, e->data, e->len_bytes);
	case ENTRY_CHAR:
		return cpio_add_chardev(cpio, e->name, e->perm, e->major, e->minor);
	case ENTRY_BLOCK:
		return cpio_add_blockdev(cpio, e->name, e->perm, e->major, e->minor);
	case ENTRY_LINK:
		return cpio_add_link(cpio, e->name, e->data);
	case ENTRY_LIST:
		return cpio_add_file(cpio, e->name, e->perm, pack->list, pack->list_bytes);
	case ENTRY_FILE:
	case ENTRY_MODULE:
		return put_source(cpio, e, err);
	}
	return -EINVAL;
}

/* path: where out leads, for errors */
static int write_archive(struct pack *pack, FILE *out, const char *path, struct err *err)
{
	const struct entry **sorted = malloc((pack->nentries + 1) * sizeof(*sorted));
	struct cpio cpio;
	size_t n = 0;
	int ret = 0;

	if (!sorted)
		return err_sys(err, ENOMEM, "cannot build an initrd");
	for (size_t i = 0; i < pack->nentries; i++)
		if (!pack->entries[i].below)
			sorted[n++] = &pack->entries[i];
	qsort(sorted, n, sizeof(*sorted), by_name);
	cpio_init(&cpio, out);
	for (size_t i = 0; i < n && !ret; i++)
		ret = put_entry(pack, &cpio, sorted[i], err);
	free(sorted);
	if (ret && !cpio.error)
		return ret;
	if (cpio_finish(&cpio))
		return err_sys(err, -cpio.error, "%s", path);
	return 0;
}

static int compress_gzip(const char *data, size_t len, void **out, size_t *out_len, struct err *err)
{
	z_stream z = { 0 };
	void *buf;
	int ret;

	if (len > UINT_MAX)
		return err_set(err, EFBIG,
			       "initrd: has %zu bytes; gzip takes less than 4 GiB, "
			       "zstd takes more",
			       len);
	if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return err_sys(err, ENOMEM, "gzip");
	*out_len = deflateBound(&z, len);
	buf = *out_len <= UINT_MAX ? malloc(*out_len) : NULL;
	if (!buf) {
		deflateEnd(&z);
		return err_sys(err, ENOMEM, "gzip");
	}
	z.next_in = (Bytef *)data;
	z.avail_in = (unsigned)len;
	z.next_out = buf;
	z.avail_out = (unsigned)*out_len;
	ret = deflate(&z, Z_FINISH);
	*out_len = z.total_out;
	deflateEnd(&z);
	if (ret != Z_STREAM_END) {
		free(buf);
		return err_set(err, EIO, "gzip: compression failed");
	}
	*out = buf;
	return 0;
}

static int compress_zstd(const char *data, size_t len, void **out, size_t *out_len, struct err *err)
{
	size_t bound = ZSTD_compressBound(len);
	void *buf = malloc(bound);

	if (!buf)
		return err_sys(err, ENOMEM, "zstd");
	*out_len = ZSTD_compress(buf, bound, data, len, 6);
	if (ZSTD_isError(*out_len)) {
		free(buf);
		return err_set(err, EIO, "zstd: %s", ZSTD_getErrorName(*out_len));
	}
	*out = buf;
	return 0;
}

int pack_to_memory(struct pack *pack, enum pack_compression compression, void **data,
		   size_t *len_bytes, struct err *err)
{
	char *plain = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&plain, &len);
	int ret;

	*data = NULL;
	*len_bytes = 0;
	if (!out)
		return err_sys(err, errno, "cannot build an initrd");
	ret = write_archive(pack, out, "cannot build an initrd", err);
	fclose(out);
	if (!ret && compression == PACK_PLAIN) {
		*data = plain;
		*len_bytes = len;
		return 0;
	}
	if (!ret)
		ret = compression == PACK_GZIP ? compress_gzip(plain, len, data, len_bytes, err) :
						 compress_zstd(plain, len, data, len_bytes, err);
	free(plain);
	return ret;
}

int pack_write(struct pack *pack, int fd, const char *path, enum pack_compression compression,
	       struct err *err)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), ret = 0;
	FILE *out = own < 0 ? NULL : fdopen(own, "w");
	void *data = NULL;
	size_t len;

	if (!out) {
		ret = err_sys(err, errno, "%s", path);
		if (own >= 0)
			close(own);
		return ret;
	}
	if (compression == PACK_PLAIN) {
		ret = write_archive(pack, out, path, err);
	} else {
		ret = pack_to_memory(pack, compression, &data, &len, err);
		errno = 0;
		if (!ret && fwrite(data, 1, len, out) != len)
			ret = err_sys(err, errno ? errno : EIO, "%s", path);
	}
	free(data);
	if (fclose(out) && !ret)
		ret = err_sys(err, errno, "%s", path);
	return ret;
}
