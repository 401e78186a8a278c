/* sha256: bantam image sha256. Prints the checksum of the bytes that a guest reads. */
#include <errno.h>
#include <inttypes.h>

#include "devices/backend/store/sum.h"
#include "tools/bantam-image/image.h"
#include "vmm/usage/progress.h"

enum { FORMAT, BACKING_DIR };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "the files' format [by their names]" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
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
	.use = { ARGS_READ, ARGS_READ },
};

static int show(void *opaque, uint64_t at)
{
	progress_tick(opaque, at, at);
	return 0;
}

static int one(const char *path, enum store_format format, struct err *err)
{
	uint8_t sum[STORE_SUM_BYTES];
	struct progress progress;
	struct store *s;
	uint64_t at;
	int rc = image_open_store(path, format, true, &s, err);

	if (rc)
		return rc;
	progress_start(&progress, NULL, s->size_bytes);
	rc = store_sum(s, show, &progress, sum, &at);
	progress_end(&progress);
	store_close(s);
	if (rc)
		return err_sys(err, -rc, "%s: cannot read at %" PRIu64, path, at);
	for (size_t i = 0; i < sizeof(sum); i++)
		printf("%02x", sum[i]);
	printf("  %s\n", path);
	return 0;
}

int image_sha256_main(int argc, char **argv)
{
	enum store_format format;
	struct err err = { "" };
	struct args args;
	int status;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	if (image_parse_format("--format", args.value[FORMAT], &format, &err))
		return image_fail(&err, IMAGE_ERROR);
	image_confine(&table, &args, 0);
	status = IMAGE_OK;
	/* An error with one file does not stop the others. */
	for (unsigned i = 0; i < args.nfiles; i++)
		if (one(args.file[i], format, &err))
			status = image_fail(&err, IMAGE_ERROR);
	return status;
}
