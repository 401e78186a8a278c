/* store/sum: see sum.h. */
#include "devices/backend/store/sum.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>

#define STEP_BYTES (256u << 10)

_Static_assert(STORE_SUM_BYTES == SHA256_DIGEST_SIZE, "SHA-256");

/* Not const: in .bss it costs neither file nor memory, because only reads touch it. */
static uint8_t zeroes[STEP_BYTES];

struct summing {
	struct store *store;
	int (*step)(void *opaque, uint64_t at);
	void *opaque;
	uint8_t *buf;
	struct sha256_ctx ctx;
};

/* Adds one run of bytes at *at. */
static int add(struct summing *s, const struct store_extent *e, uint64_t *at)
{
	for (uint64_t left = e->len_bytes, n; left; left -= n, *at += n) {
		int rc = s->step ? s->step(s->opaque, *at) : 0;

		n = left < STEP_BYTES ? left : STEP_BYTES;
		if (!rc && !e->zero)
			rc = store_read(s->store, s->buf, *at, n);
		if (rc)
			return rc;
		sha256_update(&s->ctx, n, e->zero ? zeroes : s->buf);
	}
	return 0;
}

int store_sum(struct store *s, int (*step)(void *opaque, uint64_t at), void *opaque,
	      uint8_t sum[STORE_SUM_BYTES], uint64_t *failed_at)
{
	struct summing job = { s, step, opaque, malloc(STEP_BYTES) };
	uint64_t at = 0;
	int rc = job.buf ? 0 : -ENOMEM;

	sha256_init(&job.ctx);
	while (!rc && at < s->size_bytes) {
		struct store_extent e;

		rc = s->ops->map(s, at, s->size_bytes - at, &e);
		if (!rc)
			rc = add(&job, &e, &at);
	}
	free(job.buf);
	*failed_at = at;
	if (!rc)
		sha256_digest(&job.ctx, STORE_SUM_BYTES, sum);
	return rc;
}
