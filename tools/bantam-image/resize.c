/* resize: bantam image resize. */
#include <errno.h>

#include "tools/bantam-image/image.h"
#include "vmm/core/parse.h"

enum { FORMAT, SHRINK, BACKING_DIR };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "FILE's format [by its name]" },
	[SHRINK] = { "shrink", 0, NULL, NULL, "allow a smaller disk: data beyond its end is lost" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "resize",
	.usage = "[OPTION]… FILE SIZE|+SIZE|-SIZE",
	.about =
		"Sets a disk's size, or makes it larger (+) or smaller (-) by SIZE. The new part reads as\n"
		"zeroes. The guest must grow its partitions and file systems itself, and shrink them\n"
		"before --shrink.",
	.option = options,
	.min_files = 2,
	.max_files = 2,
	.use = { ARGS_READ, ARGS_WORD },
};

static int new_size(uint64_t old, const char *text, uint64_t *out, struct err *err)
{
	bool plus = text[0] == '+', minus = text[0] == '-';
	uint64_t by;
	int rc = image_parse_size(text + (plus || minus), &by, err);

	if (rc)
		return rc;
	if (minus && by >= old)
		return err_set(err, EINVAL, "size %.40s: the disk has only %llu bytes", text,
			       (unsigned long long)old);
	*out = plus ? old + by : minus ? old - by : by;
	if (*out > (uint64_t)INT64_MAX / 2)
		return err_set(err, ERANGE,
			       "size %.40s: makes the disk too large; the limit is 4 EiB", text);
	return 0;
}

static int resize(struct store *s, const struct args *args, struct err *err)
{
	const char *path = args->file[0];
	struct err why = { "" };
	uint64_t size = 0;
	int rc = new_size(s->size_bytes, args->file[1], &size, err);

	if (rc)
		return rc;
	if (size < s->size_bytes && !args->value[SHRINK])
		return err_set(err, EINVAL,
			       "%s: %llu bytes are less than its %llu: data beyond the new end "
			       "would be lost; --shrink allows it",
			       path, (unsigned long long)size, (unsigned long long)s->size_bytes);
	if (size == s->size_bytes)
		return 0;
	rc = s->ops->resize(s, size, &why);
	if (rc)
		return err_set(err, -rc, "%s: %s", path, why.text);
	rc = s->ops->flush(s);
	return rc ? err_sys(err, -rc, "%s: cannot write", path) : 0;
}

int image_resize_main(int argc, char **argv)
{
	enum store_format format;
	struct err err = { "" };
	struct store *s = NULL;
	struct args args;
	int status, rc, closed;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	rc = image_parse_format("--format", args.value[FORMAT], &format, &err);
	if (!rc)
		rc = image_look(&table, &args, IMAGE_WRITES, &err);
	if (!rc)
		image_confine(&table, &args, IMAGE_WRITES);
	if (!rc)
		rc = image_open_store(args.file[0], format, false, &s, &err);
	if (!rc)
		rc = resize(s, &args, &err);
	closed = store_close(s);
	/* Closing frees clusters and cuts the file. */
	if (!rc && closed)
		rc = err_sys(&err, -closed,
			     "%s: has its new size, but freed space could not be given back",
			     args.file[0]);
	return rc ? image_fail(&err, IMAGE_ERROR) : IMAGE_OK;
}
