/*
 * qcow2_pack: compresses clusters. See qcow2_writer.h.
 *
 * zstd's fastest level looks at each cluster before deflate does: it takes a twentieth of the
 * time, and where it gains nothing, deflate would gain a percent that no reader wants to pay for.
 */
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "devices/backend/qcow2_writer.h"

/* What inflates with this window is what QEMU has. */
#define WINDOW_BITS (-12)
#define MEM_LEVEL 9
#define GLANCE_LEVEL 1
/* A cluster must become smaller by this part of itself: reading it takes longer then. */
#define MIN_GAIN 32u

struct qcow2_packer {
	uint32_t cluster_bytes;
	bool zstd;
	bool z_ready;
	z_stream z;
	ZSTD_CCtx *ctx;		/* zstd's own level, or the glance */
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
			       zstd ? ZSTD_CLEVEL_DEFAULT : GLANCE_LEVEL);
	return p;
}

uint32_t qcow2_pack(struct qcow2_packer *p, const void *in, void *out)
{
	uint32_t most = p->cluster_bytes - p->cluster_bytes / MIN_GAIN;
	size_t n = ZSTD_compress2(p->ctx, out, most, in, p->cluster_bytes);

	if (ZSTD_isError(n))
		return 0;
	if (p->zstd)
		return (uint32_t)n;
	deflateReset(&p->z);
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
