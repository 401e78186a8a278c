/* map: bantam image map. Lists which parts of the disk hold data, and where, as qemu-img map. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/bantam-image/image.h"

enum { FORMAT, JSON, BACKING_DIR };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "FILE's format [by its name]" },
	[JSON] = { "json", 0, NULL, NULL, "as JSON, with qemu-img's keys" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "map",
	.usage = "[OPTION]… FILE",
	.about =
		"Lists the parts of a disk that hold data, the file each is in (FILE or one of its backing\n"
		"files), and where in it. --json lists everything, zeroes and holes too.",
	.option = options,
	.min_files = 1,
	.max_files = 1,
	.use = { ARGS_READ },
};

/* Returns true if b, which follows a on the disk, has its kind and continues it in the file. */
static bool continues(const struct store_extent *a, const struct store_extent *b)
{
	return a->zero == b->zero && a->data == b->data && a->present == b->present &&
	       a->compressed == b->compressed && a->depth == b->depth &&
	       a->in_place == b->in_place &&
	       (!a->in_place || b->offset == a->offset + a->len_bytes);
}

static void print_json(const struct store_extent *e, uint64_t start, bool first)
{
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s, \"compressed\": %s",
	       first ? "[" : ",\n", start, e->len_bytes, e->depth, e->present ? "true" : "false",
	       e->zero ? "true" : "false", e->data ? "true" : "false",
	       e->compressed ? "true" : "false");
	if (e->in_place)
		printf(", \"offset\": %" PRIu64, e->offset);
	putchar('}');
}

static void print_line(const struct store_extent *e, uint64_t start)
{
	if (!e->data || e->zero)
		return;
	printf("%#-18" PRIx64 " %#-18" PRIx64 " ", start, e->len_bytes);
	if (e->in_place)
		printf("%#-18" PRIx64 " %u\n", e->offset, e->depth);
	else
		printf("%-18s %u\n", "compressed", e->depth);
}

static int map(struct store *s, bool json, const char *path, struct err *err)
{
	struct store_extent run = { 0 }, e;
	uint64_t start = 0, at = 0;
	bool first = true;

	if (!json)
		printf("%-18s %-18s %-18s %s\n", "Offset", "Length", "In the file at", "Depth");
	while (at < s->size_bytes) {
		int rc = s->ops->map(s, at, s->size_bytes - at, &e);

		if (rc)
			return err_sys(err, -rc, "%s: cannot map offset %" PRIu64, path, at);
		if (run.len_bytes && continues(&run, &e)) {
			run.len_bytes += e.len_bytes;
		} else {
			if (run.len_bytes && json)
				print_json(&run, start, first);
			else if (run.len_bytes)
				print_line(&run, start);
			first = first && !run.len_bytes;
			run = e;
			start = at;
		}
		at += e.len_bytes;
	}
	if (run.len_bytes && json)
		print_json(&run, start, first);
	else if (run.len_bytes)
		print_line(&run, start);
	if (json)
		puts(run.len_bytes ? "]" : "[]");
	return 0;
}

int image_map_main(int argc, char **argv)
{
	enum store_format format;
	struct err err = { "" };
	struct store *s = NULL;
	struct args args;
	int status, rc;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	rc = image_parse_format("--format", args.value[FORMAT], &format, &err);
	if (!rc)
		rc = image_look(&table, &args, 0, &err);
	if (!rc)
		image_confine(&table, &args, 0);
	if (!rc)
		rc = image_open_store(args.file[0], format, true, &s, &err);
	if (!rc)
		rc = map(s, args.value[JSON], args.file[0], &err);
	store_close(s);
	return rc ? image_fail(&err, IMAGE_ERROR) : IMAGE_OK;
}
