/* sha256: bantam image sha256. Prints the checksum of the bytes that a guest reads. */
#include <errno.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdlib.h>

#include "tools/bantam-image/image.h"

#define STEP_BYTES (1u << 18)

enum { FORMAT };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "the files' format [by their names]" },
	{ 0 },
};

static const struct args_table table = {
	.command = "sha256",
	.usage = "[OPTION]… FILE…",
	.about =
		"Prints the SHA-256 of each disk's bytes as a guest reads them: it is the same in every\n"
		"format. For a raw image it is what sha256sum prints, and the lines look the same.",
	.option = options,
	.min_files = 1,
	.max_files = ARGS_FILES_MAX,
};

static const uint8_t zeroes[STEP_BYTES];

/* Hashes zeroes from a small buffer, without reading them from the file. */
static int sum(struct store *s, const char *path, uint8_t *buf, struct sha256_ctx *ctx,
	       struct err *err)
{
	uint64_t at = 0;

	while (at < s->size_bytes) {
		struct store_extent e;
		int rc = s->ops->map(s, at, s->size_bytes - at, &e);

		for (uint64_t left = rc ? 0 : e.len_bytes, n; left && !rc; left -= n, at += n) {
			n = left < STEP_BYTES ? left : STEP_BYTES;
			if (!e.zero)
				rc = store_read(s, buf, at, n);
			sha256_update(ctx, n, e.zero ? zeroes : buf);
			if (rc)
				break;
		}
		if (rc)
			return err_sys(err, -rc, "%s: cannot read at %" PRIu64, path, at);
	}
	return 0;
}

static int one(const char *path, enum store_format format, uint8_t *buf, struct err *err)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	struct store *s;
	int rc = image_open_store(path, format, true, &s, err);

	if (rc)
		return rc;
	sha256_init(&ctx);
	rc = sum(s, path, buf, &ctx, err);
	store_close(s);
	if (rc)
		return rc;
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		printf("%02x", digest[i]);
	printf("  %s\n", path);
	return 0;
}

int image_sha256_main(int argc, char **argv)
{
	enum store_format format;
	struct err err = { "" };
	struct args args;
	uint8_t *buf;
	int status;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	if (image_parse_format("--format", args.value[FORMAT], &format, &err))
		return image_fail(&err, IMAGE_ERROR);
	buf = malloc(STEP_BYTES);
	if (!buf) {
		err_sys(&err, ENOMEM, "image sha256");
		return image_fail(&err, IMAGE_ERROR);
	}
	status = IMAGE_OK;
	/* An error with one file does not stop the others. */
	for (unsigned i = 0; i < args.nfiles; i++)
		if (one(args.file[i], format, buf, &err))
			status = image_fail(&err, IMAGE_ERROR);
	free(buf);
	return status;
}
