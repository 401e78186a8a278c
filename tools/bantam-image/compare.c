/* compare: bantam image compare. Compares the bytes that guests read. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-image/image.h"
#include "vmm/usage/progress.h"

#define STEP_BYTES (1u << 20)

enum { FORMAT_A, FORMAT_B, STRICT, QUIET, BACKING_DIR };

/* As in qemu-img. */
#define STATUS_DIFFER 1
#define STATUS_ERROR 2

static const struct args_option options[] = {
	[FORMAT_A] = { "format", 'f', "raw|qcow2", NULL, "A's format [by its name]" },
	[FORMAT_B] = { "second-format", 'F', "raw|qcow2", NULL, "B's format [by its name]" },
	[STRICT] = { "strict", 's', NULL, NULL,
		     "disks of different sizes differ, even if the rest is zeroes" },
	[QUIET] = { "quiet", 'q', NULL, NULL, "print nothing; the exit status is the answer" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "compare",
	.usage = "[OPTION]… A B",
	.about =
		"Compares the bytes that guests read. Exit status 0: the same, 1: different, 2: an error.\n"
		"A longer disk counts as the same if the rest is zeroes, unless --strict.",
	.option = options,
	.min_files = 2,
	.max_files = 2,
	.use = { ARGS_READ, ARGS_READ },
};

struct side {
	const char *path;
	struct store *s;
	uint8_t *bytes;
};

static int extent_at(const struct side *a, uint64_t offset, uint64_t *len, bool *zero,
		     struct err *err)
{
	struct store_extent e;
	int rc;

	*zero = true;
	if (offset >= a->s->size_bytes)
		return 0;
	if (*len > a->s->size_bytes - offset)
		*len = a->s->size_bytes - offset;
	rc = a->s->ops->map(a->s, offset, *len, &e);
	if (rc)
		return err_sys(err, -rc, "%s: cannot read at %" PRIu64, a->path, offset);
	*zero = e.zero;
	if (*len > e.len_bytes)
		*len = e.len_bytes;
	return 0;
}

static int load(const struct side *a, bool zero, uint64_t offset, uint64_t len, struct err *err)
{
	int rc;

	if (zero) {
		memset(a->bytes, 0, len);
		return 0;
	}
	rc = store_read(a->s, a->bytes, offset, len);
	return rc ? err_sys(err, -rc, "%s: cannot read at %" PRIu64, a->path, offset) : 0;
}

static uint64_t longer(const struct side *a, const struct side *b)
{
	return a->s->size_bytes > b->s->size_bytes ? a->s->size_bytes : b->s->size_bytes;
}

/* Sets *differ to the offset of the first byte that differs; UINT64_MAX: none does. */
static int compare(const struct side *a, const struct side *b, struct progress *progress,
		   uint64_t *differ, struct err *err)
{
	uint64_t size = longer(a, b), at = 0, read = 0, len;
	bool zero_a, zero_b;
	int rc;

	*differ = UINT64_MAX;
	for (; at < size; at += len) {
		len = size - at;
		rc = extent_at(a, at, &len, &zero_a, err);
		if (!rc)
			rc = extent_at(b, at, &len, &zero_b, err);
		if (rc)
			return rc;
		if (zero_a && zero_b)
			continue;
		if (len > STEP_BYTES)
			len = STEP_BYTES;
		progress_tick(progress, at, read);
		read += len;
		rc = load(a, zero_a, at, len, err);
		if (!rc)
			rc = load(b, zero_b, at, len, err);
		if (rc)
			return rc;
		if (!memcmp(a->bytes, b->bytes, len))
			continue;
		for (*differ = at; a->bytes[*differ - at] == b->bytes[*differ - at];)
			++*differ;
		return 0;
	}
	return 0;
}

static int judge(const struct side *a, const struct side *b, const struct args *args, int *status,
		 struct err *err)
{
	bool quiet = args->value[QUIET], same_size = a->s->size_bytes == b->s->size_bytes;
	struct progress progress;
	uint64_t differ;
	int rc;

	*status = STATUS_DIFFER;
	if (!same_size && args->value[STRICT]) {
		if (!quiet)
			printf("Strict mode: Image size mismatch!\n");
		return 0;
	}
	progress_start(&progress, quiet ? "off" : NULL, longer(a, b));
	rc = compare(a, b, &progress, &differ, err);
	progress_end(&progress);
	if (rc)
		return rc;
	if (differ != UINT64_MAX) {
		if (!quiet)
			printf("Content mismatch at offset %" PRIu64 "!\n", differ);
		return 0;
	}
	*status = IMAGE_OK;
	if (!quiet)
		printf("%sImages are identical.\n",
		       same_size ? "" : "Warning: Image size mismatch!\n");
	return 0;
}

int image_compare_main(int argc, char **argv)
{
	struct side a = { 0 }, b = { 0 };
	enum store_format format_a, format_b;
	struct err err = { "" };
	struct args args;
	int status, rc;

	if (image_args(&table, argc, argv, &args, STATUS_ERROR, &status))
		return status;
	a.path = args.file[0];
	b.path = args.file[1];
	a.bytes = malloc(STEP_BYTES);
	b.bytes = malloc(STEP_BYTES);
	rc = a.bytes && b.bytes ? 0 : err_sys(&err, ENOMEM, "image compare");
	if (!rc)
		rc = image_parse_format("--format", args.value[FORMAT_A], &format_a, &err);
	if (!rc)
		rc = image_parse_format("--second-format", args.value[FORMAT_B], &format_b, &err);
	if (!rc)
		rc = image_look(&table, &args, 0, &err);
	if (!rc)
		image_confine(&table, &args, 0);
	if (!rc)
		rc = image_open_store(a.path, format_a, true, &a.s, &err);
	if (!rc)
		rc = image_open_store(b.path, format_b, true, &b.s, &err);
	if (!rc)
		rc = judge(&a, &b, &args, &status, &err);
	store_close(a.s);
	store_close(b.s);
	free(a.bytes);
	free(b.bytes);
	return rc ? image_fail(&err, STATUS_ERROR) : status;
}
