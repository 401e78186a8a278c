/*
 * unpack: see unpack.h.
 *
 * Every decoder takes its memory from scratch_alloc, which maps it. With malloc, tens
 * of megabytes would change the thresholds of the process's heap, and perhaps leave
 * it larger, for the VM's whole life.
 *
 * A file may hold several members (gzip), streams (xz) or frames (zstd, lz4) one after the other,
 * as cat and the parallel packers write them; they unpack to one text. Zeroes between them are
 * padding. What follows and is no member is not part of the text, as in a bzImage.
 */
#include "boot/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_createDCtx_advanced: our own memory */
#include <zstd.h>
#include <zstd_errors.h>

#include "vmm/core/bytes.h"

#define IN_BYTES (256u << 10)
#define SCRATCH_HEADER 64u /* keeps the block after it aligned for any decoder */
#define HUGE_PAGE (2u << 20)

/* The legacy LZ4 frame: blocks of at most 8 MiB, each with its packed length before it. */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_FRAME_MAGIC 0x184d2204u
#define LZ4_BLOCK (8u << 20)

struct lz4 {
	uint8_t *in;		  /* LZ4_COMPRESSBOUND(LZ4_BLOCK) */
	uint8_t *out;		  /* LZ4_BLOCK */
	uint32_t out_at, out_len; /* the unread part of the last block */
};

struct unpack {
	enum unpack_kind kind;
	const struct boot_file *file;
	uint64_t pos, end; /* the unread part of the file */
	uint64_t scratch_bytes;
	bool done;
	uint8_t *in;
	uint32_t in_at, in_len;
	z_stream z;
	lzma_allocator xz_alloc;
	lzma_stream xz;
	ZSTD_DCtx *zstd;
	struct lz4 lz4;
};

static const struct {
	const char *name;
	bool supported;
	uint8_t magic[6];
	uint8_t magic_bytes;
} kinds[UNPACK_KINDS] = {
	[UNPACK_NONE] = { "nothing", false, { 0 }, 0 },
	[UNPACK_GZIP] = { "gzip", true, { 0x1f, 0x8b, 8 }, 3 },
	[UNPACK_XZ] = { "xz", true, { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
	[UNPACK_ZSTD] = { "zstd", true, { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	[UNPACK_LZ4] = { "lz4", true, { 0x02, 0x21, 0x4c, 0x18 }, 4 },
	[UNPACK_BZIP2] = { "bzip2", false, { 'B', 'Z', 'h' }, 3 },
	[UNPACK_LZMA] = { "lzma", false, { 0x5d, 0, 0 }, 3 },
	[UNPACK_LZO] = { "lzo", false, { 0x89, 'L', 'Z', 'O', 0 }, 5 },
	[UNPACK_LZ4_FRAME] = { "lz4 (not its legacy frame: use lz4 -l)",
			       false,
			       { 0x04, 0x22, 0x4d, 0x18 },
			       4 },
};

enum unpack_kind unpack_detect(const uint8_t *head, uint32_t n)
{
	for (unsigned i = UNPACK_NONE + 1; i < UNPACK_KINDS; i++)
		if (n >= kinds[i].magic_bytes &&
		    !memcmp(head, kinds[i].magic, kinds[i].magic_bytes))
			return (enum unpack_kind)i;
	return UNPACK_NONE;
}

const char *unpack_name(enum unpack_kind kind)
{
	return kinds[kind].name;
}

bool unpack_supported(enum unpack_kind kind)
{
	return kinds[kind].supported;
}

static void *scratch_alloc(struct unpack *u, size_t n)
{
	uint8_t *p;
	size_t all;

	if (n > UNPACK_MEMORY_MAX || u->scratch_bytes + n > UNPACK_MEMORY_MAX)
		return NULL;
	all = n + SCRATCH_HEADER;
	p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (all >= 2 * HUGE_PAGE)
		madvise(p, all, MADV_HUGEPAGE);
	memcpy(p, &all, sizeof(all));
	u->scratch_bytes += n;
	return p + SCRATCH_HEADER;
}

static void scratch_free(struct unpack *u, void *ptr)
{
	size_t all;

	if (!ptr)
		return;
	ptr = (uint8_t *)ptr - SCRATCH_HEADER;
	memcpy(&all, ptr, sizeof(all));
	munmap(ptr, all);
	u->scratch_bytes -= all - SCRATCH_HEADER;
}

static void *lib_alloc(void *opaque, size_t n)
{
	return scratch_alloc(opaque, n);
}

static void lib_free(void *opaque, void *ptr)
{
	scratch_free(opaque, ptr);
}

static void *lib_alloc_array(void *opaque, size_t count, size_t n)
{
	return __builtin_mul_overflow(count, n, &n) ? NULL : scratch_alloc(opaque, n);
}

static void *zlib_alloc(void *opaque, unsigned count, unsigned n)
{
	return scratch_alloc(opaque, (size_t)count * n);
}

static int corrupt(const struct unpack *u, struct err *err)
{
	return err_set(err, EINVAL, "%s %s: its %s data is corrupt", u->file->what, u->file->path,
		       unpack_name(u->kind));
}

static int no_memory(const struct unpack *u, struct err *err)
{
	return err_set(err, ENOMEM, "%s %s: unpacking its %s data takes more than %llu MiB",
		       u->file->what, u->file->path, unpack_name(u->kind), UNPACK_MEMORY_MAX >> 20);
}

static int open_decoder(struct unpack *u)
{
	switch (u->kind) {
	case UNPACK_GZIP:
		u->z.zalloc = zlib_alloc;
		u->z.zfree = lib_free;
		u->z.opaque = u;
		return inflateInit2(&u->z, 16 + MAX_WBITS) == Z_OK ? 0 : -ENOMEM;
	case UNPACK_XZ:
		u->xz_alloc = (lzma_allocator){ lib_alloc_array, lib_free, u };
		u->xz = (lzma_stream)LZMA_STREAM_INIT;
		u->xz.allocator = &u->xz_alloc;
		return lzma_stream_decoder(&u->xz, UNPACK_MEMORY_MAX, 0) == LZMA_OK ? 0 : -ENOMEM;
	case UNPACK_ZSTD:
		u->zstd = ZSTD_createDCtx_advanced((ZSTD_customMem){ lib_alloc, lib_free, u });
		return u->zstd ? 0 : -ENOMEM;
	case UNPACK_LZ4:
		u->lz4.in = scratch_alloc(u, LZ4_COMPRESSBOUND(LZ4_BLOCK));
		u->lz4.out = scratch_alloc(u, LZ4_BLOCK);
		u->pos += u->pos < u->end ? 4 : 0; /* the magic */
		return u->lz4.in && u->lz4.out ? 0 : -ENOMEM;
	default:
		BUG_ON(true);
	}
}

int unpack_open(struct unpack **out, enum unpack_kind kind, const struct boot_file *file,
		uint64_t off, uint64_t len_bytes, struct err *err)
{
	struct unpack first = { .kind = kind, .file = file, .pos = off, .end = off + len_bytes };
	struct unpack *u;

	*out = NULL;
	BUG_ON(!unpack_supported(kind));
	u = scratch_alloc(&first, sizeof(*u));
	if (!u)
		return err_sys(err, ENOMEM, "%s %s", file->what, file->path);
	*u = first;
	*out = u;
	u->in = scratch_alloc(u, IN_BYTES);
	if (!u->in || open_decoder(u) < 0)
		return no_memory(u, err);
	return 0;
}

void unpack_close(struct unpack *u)
{
	struct unpack last;

	if (!u)
		return;
	inflateEnd(&u->z); /* each of these calls accepts a decoder that was not opened */
	lzma_end(&u->xz);
	ZSTD_freeDCtx(u->zstd);
	scratch_free(u, u->lz4.in);
	scratch_free(u, u->lz4.out);
	scratch_free(u, u->in);
	last = *u;
	scratch_free(&last, u);
	BUG_ON(last.scratch_bytes);
}

/* Reads more input if the decoder has used up the last and the file has more. */
static int refill(struct unpack *u, struct err *err)
{
	uint64_t n = u->end - u->pos;
	int ret;

	if (u->in_at < u->in_len || !n)
		return 0;
	if (n > IN_BYTES)
		n = IN_BYTES;
	ret = boot_file_read(u->file, u->pos, u->in, n, err);
	if (ret < 0)
		return ret;
	u->pos += n;
	u->in_at = 0;
	u->in_len = (uint32_t)n;
	return 0;
}

/*
 * One step of a decoder: decodes in[in_at … in_len) to at most n bytes at dst.
 * Returns the bytes written or -errno; sets done at the stream's end.
 */
static int64_t step_gzip(struct unpack *u, uint8_t *dst, uint32_t n, struct err *err)
{
	int ret;

	u->z.next_in = u->in + u->in_at;
	u->z.avail_in = u->in_len - u->in_at;
	u->z.next_out = dst;
	u->z.avail_out = n;
	ret = inflate(&u->z, Z_NO_FLUSH);
	u->in_at = u->in_len - u->z.avail_in;
	if (ret == Z_MEM_ERROR)
		return no_memory(u, err);
	if (ret != Z_OK && ret != Z_STREAM_END && ret != Z_BUF_ERROR)
		return corrupt(u, err);
	u->done = ret == Z_STREAM_END;
	return n - u->z.avail_out;
}

static int64_t step_xz(struct unpack *u, uint8_t *dst, uint32_t n, struct err *err)
{
	lzma_ret ret;

	u->xz.next_in = u->in + u->in_at;
	u->xz.avail_in = u->in_len - u->in_at;
	u->xz.next_out = dst;
	u->xz.avail_out = n;
	ret = lzma_code(&u->xz, LZMA_RUN);
	u->in_at = u->in_len - (uint32_t)u->xz.avail_in;
	if (ret == LZMA_MEM_ERROR || ret == LZMA_MEMLIMIT_ERROR)
		return no_memory(u, err);
	if (ret != LZMA_OK && ret != LZMA_STREAM_END && ret != LZMA_BUF_ERROR)
		return corrupt(u, err);
	u->done = ret == LZMA_STREAM_END;
	return (int64_t)(n - u->xz.avail_out);
}

static int64_t step_zstd(struct unpack *u, uint8_t *dst, uint32_t n, struct err *err)
{
	ZSTD_inBuffer in = { u->in, u->in_len, u->in_at };
	ZSTD_outBuffer out = { dst, n, 0 };
	size_t ret = ZSTD_decompressStream(u->zstd, &out, &in);

	u->in_at = (uint32_t)in.pos;
	if (ZSTD_isError(ret)) {
		ZSTD_ErrorCode code = ZSTD_getErrorCode(ret);

		return code == ZSTD_error_memory_allocation ||
				       code == ZSTD_error_frameParameter_windowTooLarge ?
			       no_memory(u, err) :
			       corrupt(u, err);
	}
	u->done = !ret;
	return (int64_t)out.pos;
}

/* Decodes straight to dst if a whole block fits there. */
static int64_t step_lz4(struct unpack *u, uint8_t *dst, uint32_t n, struct err *err)
{
	struct lz4 *l = &u->lz4;
	bool straight = n >= LZ4_BLOCK;
	uint8_t word[4];
	uint32_t packed;
	int got, ret;

	if (l->out_at < l->out_len) {
		uint32_t part = l->out_len - l->out_at < n ? l->out_len - l->out_at : n;

		memcpy(dst, l->out + l->out_at, part);
		l->out_at += part;
		return part;
	}
	if (u->end - u->pos < 4) {
		u->done = true;
		return 0;
	}
	ret = boot_file_read(u->file, u->pos, word, 4, err);
	if (ret < 0)
		return ret;
	u->pos += 4;
	packed = get_le32(word);
	if (packed == LZ4_LEGACY_MAGIC) /* another frame follows */
		return 0;
	if (!packed || packed > LZ4_COMPRESSBOUND(LZ4_BLOCK) || packed > u->end - u->pos)
		return corrupt(u, err);
	ret = boot_file_read(u->file, u->pos, l->in, packed, err);
	if (ret < 0)
		return ret;
	u->pos += packed;
	got = LZ4_decompress_safe((const char *)l->in, (char *)(straight ? dst : l->out),
				  (int)packed, LZ4_BLOCK);
	if (got < 0)
		return corrupt(u, err);
	if (straight)
		return got;
	l->out_at = 0;
	l->out_len = (uint32_t)got;
	return 0;
}

/* Fills the input up to at least n bytes, or to the end of the file. */
static int gather(struct unpack *u, uint32_t n, struct err *err)
{
	uint32_t have = u->in_len - u->in_at;
	uint64_t more = u->end - u->pos;
	int ret;

	if (have >= n || !more)
		return 0;
	memmove(u->in, u->in + u->in_at, have);
	if (more > IN_BYTES - have)
		more = IN_BYTES - have;
	u->in_at = 0;
	u->in_len = have;
	ret = boot_file_read(u->file, u->pos, u->in + have, more, err);
	if (ret < 0)
		return ret;
	u->pos += more;
	u->in_len += (uint32_t)more;
	return 0;
}

static bool restart(struct unpack *u)
{
	switch (u->kind) {
	case UNPACK_GZIP:
		return inflateReset(&u->z) == Z_OK;
	case UNPACK_XZ:
		return lzma_stream_decoder(&u->xz, UNPACK_MEMORY_MAX, 0) == LZMA_OK;
	default: /* zstd begins the next frame by itself */
		return true;
	}
}

/* After a member's end: clears done if another member follows. */
static int next_member(struct unpack *u, struct err *err)
{
	int ret;

	do {
		ret = gather(u, kinds[u->kind].magic_bytes, err);
		while (u->in_at < u->in_len && !u->in[u->in_at])
			u->in_at++;
	} while (!ret && u->in_at == u->in_len && u->pos < u->end);
	if (!ret)
		ret = gather(u, kinds[u->kind].magic_bytes, err);
	if (ret < 0 || unpack_detect(u->in + u->in_at, u->in_len - u->in_at) != u->kind)
		return ret;
	u->done = false;
	return restart(u) ? 0 : no_memory(u, err);
}

int64_t unpack_read(struct unpack *u, void *dst, uint64_t len_bytes, struct err *err)
{
	uint8_t *to = dst;
	uint64_t left = len_bytes;

	while (left && !u->done) {
		uint32_t want = left < 1u << 30 ? (uint32_t)left : 1u << 30;
		bool dry;
		int64_t n;
		int ret = u->kind == UNPACK_LZ4 ? 0 : refill(u, err);

		if (ret < 0)
			return ret;
		dry = u->in_at == u->in_len && u->kind != UNPACK_LZ4;
		n = u->kind == UNPACK_GZIP ? step_gzip(u, to, want, err) :
		    u->kind == UNPACK_XZ   ? step_xz(u, to, want, err) :
		    u->kind == UNPACK_ZSTD ? step_zstd(u, to, want, err) :
					     step_lz4(u, to, want, err);
		if (n < 0)
			return n;
		/* No input left and no output: the stream is truncated. */
		if (dry && !n && !u->done)
			return corrupt(u, err);
		to += n;
		left -= (uint64_t)n;
		ret = u->done && u->kind != UNPACK_LZ4 ? next_member(u, err) : 0;
		if (ret < 0)
			return ret;
	}
	return (int64_t)(len_bytes - left);
}
