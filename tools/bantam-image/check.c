/* check: bantam image check. Text, keys and exit statuses are those of qemu-img. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "devices/backend/qcow2_image/check.h"
#include "tools/bantam-image/image.h"

#define STATUS_FAILED 1
#define STATUS_CORRUPT 2
#define STATUS_LEAKS 3
#define STATUS_UNSUPPORTED 63

enum { FORMAT, REPAIR, JSON };

static const char *const repairs[] = { "leaks", "all", NULL };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "FILE's format [by its name]" },
	[REPAIR] = { "repair", 'r', "leaks|all", repairs,
		     "leaks: free lost space; all: repair refcounts, too [leaks]" },
	[JSON] = { "json", 0, NULL, NULL, "as JSON, with qemu-img's keys" },
	{ 0 },
};

static const struct args_table table = {
	.command = "check",
	.usage = "[OPTION]… FILE",
	.about =
		"Looks for damage in the tables of a qcow2 image. Exit status 0: none, 1: it could not be\n"
		"checked, 2: it is corrupt, 3: only space is lost (leaks), 63: it is raw and has no tables.\n"
		"--repair rebuilds the refcounts of an image that is marked dirty (QEMU's lazy refcounts).",
	.option = options,
	.min_files = 1,
	.max_files = 1,
	.use = { ARGS_READ },
};

static void print_line(void *opaque, const char *line)
{
	puts(line);
}

static void print_json(const struct qcow2_check *c, const char *path)
{
	printf("{\n    \"filename\": ");
	image_json_string(stdout, path);
	printf(",\n    \"format\": \"qcow2\",\n    \"check-errors\": 0,\n");
	printf("    \"image-end-offset\": %" PRIu64 ",\n", c->end_bytes);
	if (c->corruptions)
		printf("    \"corruptions\": %" PRIu64 ",\n", c->corruptions);
	if (c->leaks)
		printf("    \"leaks\": %" PRIu64 ",\n", c->leaks);
	if (c->corruptions_fixed)
		printf("    \"corruptions-fixed\": %" PRIu64 ",\n", c->corruptions_fixed);
	if (c->leaks_fixed)
		printf("    \"leaks-fixed\": %" PRIu64 ",\n", c->leaks_fixed);
	printf("    \"total-clusters\": %" PRIu64 ",\n    \"allocated-clusters\": %" PRIu64
	       ",\n    \"fragmented-clusters\": %" PRIu64 ",\n    \"compressed-clusters\": %" PRIu64
	       "\n}\n",
	       c->total_clusters, c->allocated_clusters, c->fragmented_clusters,
	       c->compressed_clusters);
}

static double percent(uint64_t part, uint64_t of)
{
	return of ? (double)part * 100 / (double)of : 0;
}

static void print_text(const struct qcow2_check *c)
{
	if (c->leaks_fixed || c->corruptions_fixed)
		printf("Repaired: %" PRIu64 " leaked clusters, %" PRIu64 " corruptions.\n",
		       c->leaks_fixed, c->corruptions_fixed);
	else if (c->dirty_fixed)
		printf("Repaired: the image is no longer marked dirty or corrupt.\n");
	if (c->corruptions)
		printf("%" PRIu64
		       " errors were found on the image.\nData may be corrupted, or further "
		       "writes to the image may corrupt it.\n",
		       c->corruptions);
	if (c->leaks)
		printf("%" PRIu64
		       " leaked clusters were found on the image.\nThis means waste of disk "
		       "space, but no harm to data.\n",
		       c->leaks);
	if (!c->corruptions && !c->leaks)
		printf("No errors were found on the image.\n");
	printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed "
	       "clusters\nImage end offset: %" PRIu64 "\n",
	       c->allocated_clusters, c->total_clusters,
	       percent(c->allocated_clusters, c->total_clusters),
	       percent(c->fragmented_clusters, c->allocated_clusters),
	       percent(c->compressed_clusters, c->allocated_clusters), c->end_bytes);
}

static int parse(const struct args *args, enum store_format *format, struct qcow2_check *c,
		 struct err *err)
{
	const char *repair = args->value[REPAIR];
	int rc = image_parse_format("--format", args->value[FORMAT], format, err);

	if (rc)
		return rc;
	if (repair && strcmp(repair, "leaks") && strcmp(repair, "all"))
		return err_set(err, EINVAL, "--repair %.40s: must be leaks or all", repair);
	if (repair)
		c->repair = strcmp(repair, "all") ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_ALL;
	if (*format == STORE_AUTO && store_format_of_name(args->file[0]) == STORE_QCOW2)
		*format = STORE_QCOW2;
	return *format == STORE_AUTO ? image_detect(args->file[0], NULL, format, err) : 0;
}

int image_check_main(int argc, char **argv)
{
	struct qcow2_check c = { .repair = QCOW2_REPAIR_NONE };
	enum store_format format;
	struct err err = { "" };
	struct args args;
	unsigned how;
	int status;

	if (image_args(&table, argc, argv, &args, STATUS_FAILED, &status))
		return status;
	how = args.value[REPAIR] ? IMAGE_WRITES : 0;
	if (image_look(&table, &args, how, &err))
		return image_fail(&err, STATUS_FAILED);
	image_confine(&table, &args, how);
	if (parse(&args, &format, &c, &err))
		return image_fail(&err, STATUS_FAILED);
	if (format == STORE_RAW) {
		struct store *s;

		/* An error with the file itself comes first. */
		if (image_open_store(args.file[0], STORE_RAW, true, &s, &err))
			return image_fail(&err, STATUS_FAILED);
		store_close(s);
		err_set(&err, ENOTSUP, "%s: is a raw image, which has no tables to check",
			args.file[0]);
		return image_fail(&err, STATUS_UNSUPPORTED);
	}
	if (!args.value[JSON])
		c.report = print_line;
	if (qcow2_check(&c, args.file[0], &err))
		return image_fail(&err, STATUS_FAILED);
	if (args.value[JSON])
		print_json(&c, args.file[0]);
	else
		print_text(&c);
	return c.corruptions ? STATUS_CORRUPT : c.leaks ? STATUS_LEAKS : IMAGE_OK;
}
