/* store/sum: see sum.h. */
#include "devices/backend/store/sum.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>

#define STEP_BYTES (256u << 10)

_Static_assert(STORE_SUM_BYTES == SHA256_DIGEST_SIZE, "SHA-256");

/* Not const: in .bss it costs neither file nor memory, because only reads touch it. */
static uint8_t zeroes[STEP_BYTES];

/* Adds one run of bytes at *at. */
static int add(struct store *s, const struct store_extent *e, const atomic_bool *stop, uint8_t *buf,
	       uint64_t *at, struct sha256_ctx *ctx)
{
	for (uint64_t left = e->len_bytes, n; left; left -= n, *at += n) {
		int rc = 0;

		if (stop && atomic_load(stop))
			return -ECANCELED;
		n = left < STEP_BYTES ? left : STEP_BYTES;
		if (!e->zero)
			rc = store_read(s, buf, *at, n);
		if (rc)
			return rc;
		sha256_update(ctx, n, e->zero ? zeroes : buf);
	}
	return 0;
}

int store_sum(struct store *s, const atomic_bool *stop, uint8_t sum[STORE_SUM_BYTES],
	      uint64_t *failed_at)
{
	uint8_t *buf = malloc(STEP_BYTES);
	struct sha256_ctx ctx;
	uint64_t at = 0;
	int rc = buf ? 0 : -ENOMEM;

	sha256_init(&ctx);
	while (!rc && at < s->size_bytes) {
		struct store_extent e;

		rc = s->ops->map(s, at, s->size_bytes - at, &e);
		if (!rc)
			rc = add(s, &e, stop, buf, &at, &ctx);
	}
	free(buf);
	*failed_at = at;
	if (!rc)
		sha256_digest(&ctx, STORE_SUM_BYTES, sum);
	return rc;
}
