/*
 * qcow2_image/pack: compresses clusters. See qcow2_image/writer.h.
 *
 * Random data is not deflated: that would take as long as text, and gain nothing. A sample of the
 * cluster's bytes recognises most of the data that is not random. If it does not, zstd's fastest
 * level compresses the whole cluster for a test: that takes a twentieth of deflate's time. If zstd
 * gains nothing, deflate would gain about one percent, which is not worth the time that each read
 * then takes.
 */
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "devices/backend/qcow2_image/writer.h"

/* QEMU's window (4 KiB): QEMU cannot inflate a stream with a larger one. */
#define WINDOW_BITS (-12)
/* A hash table that fits the window and the processor's cache: a larger one gains nothing here. */
#define MEM_LEVEL 7
/* deflate's level 6, but with fewer candidates for a match: a quarter faster, hardly larger. */
#define TUNE_GOOD 8
#define TUNE_LAZY 16
#define TUNE_NICE 128
#define TUNE_CHAIN 48
#define TEST_LEVEL 1
/* The sample of a cluster: the first SAMPLE_BYTES of each SAMPLE_EVERY bytes. */
#define SAMPLE_BYTES 32u
#define SAMPLE_EVERY 512u
/* A cluster must shrink by 1/MIN_GAIN at least, since reading a compressed one takes longer. */
#define MIN_GAIN 32u

struct qcow2_packer {
	uint32_t cluster_bytes;
	bool zstd;
	bool z_ready;
	z_stream z;
	ZSTD_CCtx *ctx; /* zstd: at its default level; deflate: for the test, at TEST_LEVEL */
};

struct qcow2_packer *qcow2_packer_create(bool zstd, uint32_t cluster_bytes)
{
	struct qcow2_packer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->cluster_bytes = cluster_bytes;
	p->zstd = zstd;
	p->ctx = ZSTD_createCCtx();
	if (!zstd)
		p->z_ready = deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS,
					  MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
	if (!p->ctx || (!zstd && !p->z_ready)) {
		qcow2_packer_destroy(p);
		return NULL;
	}
	ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_compressionLevel,
			       zstd ? ZSTD_CLEVEL_DEFAULT : TEST_LEVEL);
	return p;
}

/*
 * In random data two bytes are equal in 1 of 256 cases. Returns true if more than twice as many
 * pairs of the sample are equal: then some bytes are common, and deflate gives them short codes.
 */
static bool bytes_are_uneven(const uint8_t *in, uint32_t len)
{
	uint32_t seen[256] = { 0 };
	uint64_t n = 0, pairs = 0;

	for (uint32_t at = 0; at + SAMPLE_BYTES <= len; at += SAMPLE_EVERY)
		for (uint32_t i = 0; i < SAMPLE_BYTES; i++, n++)
			seen[in[at + i]]++;
	for (unsigned i = 0; i < 256; i++)
		pairs += (uint64_t)seen[i] * (seen[i] ? seen[i] - 1 : 0);
	/* The sample of a small cluster is too small to judge by. */
	return n >= 1024 && pairs * 256 > 2 * n * n;
}

uint32_t qcow2_pack(struct qcow2_packer *p, const void *in, void *out)
{
	uint32_t most = p->cluster_bytes - p->cluster_bytes / MIN_GAIN;

	if (p->zstd || !bytes_are_uneven(in, p->cluster_bytes)) {
		size_t n = ZSTD_compress2(p->ctx, out, most, in, p->cluster_bytes);

		if (ZSTD_isError(n))
			return 0;
		if (p->zstd)
			return (uint32_t)n;
	}
	deflateReset(&p->z);
	deflateTune(&p->z, TUNE_GOOD, TUNE_LAZY, TUNE_NICE, TUNE_CHAIN);
	p->z.next_in = (uint8_t *)in;
	p->z.avail_in = p->cluster_bytes;
	p->z.next_out = out;
	p->z.avail_out = most;
	return deflate(&p->z, Z_FINISH) == Z_STREAM_END ? most - p->z.avail_out : 0;
}

void qcow2_packer_destroy(struct qcow2_packer *p)
{
	if (!p)
		return;
	if (p->z_ready)
		deflateEnd(&p->z);
	ZSTD_freeCCtx(p->ctx);
	free(p);
}
