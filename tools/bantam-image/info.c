/*
 * info: bantam image info. Describes an image, with qemu-img's keys and words.
 *
 * It takes no lock, so it works while a VM uses the image. Without -f the content decides the
 * format, which is safe here: info uses no byte beyond the header.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/file.h"
#include "devices/backend/store/backing.h"
#include "tools/bantam-image/image.h"
#include "vmm/core/parse.h"
#include "vmm/core/printable.h"

enum { FORMAT, JSON, CHAIN, BACKING_DIR };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "FILE's format [by its content]" },
	[JSON] = { "json", 0, NULL, NULL, "as JSON, with qemu-img's keys" },
	[CHAIN] = { "backing-chain", 0, NULL, NULL,
		    "describe its backing files, too (a JSON list)" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "info",
	.usage = "[OPTION]… FILE",
	.about = "Describes an image. Works while a VM uses it.",
	.option = options,
	.min_files = 1,
	.max_files = 1,
	.use = { ARGS_READ },
};

struct facts {
	const char *path;
	uint64_t size_bytes, disk_bytes;
	dev_t dev;
	ino_t ino;
	struct qcow2_file file;
	const struct qcow2_file *q; /* file; NULL: raw */
	char *backing;		    /* backing file's path from the current folder */
};

static void forget(struct facts *f)
{
	if (f->q)
		qcow2_file_close(&f->file);
	free(f->backing);
	f->q = NULL;
	f->backing = NULL;
}

static int learn_raw(struct facts *f, const char *via, struct err *err)
{
	struct store_options options_raw = {
		.path = f->path, .via = via, .format = STORE_RAW, .readonly = true
	};
	struct store *s;
	struct stat st;
	int rc;

	if (!stat(via ? via : f->path, &st) && S_ISREG(st.st_mode)) {
		f->size_bytes = (uint64_t)st.st_size;
		return 0;
	}
	rc = store_open(&options_raw, &s, err);
	if (rc)
		return rc;
	f->size_bytes = s->size_bytes;
	store_close(s);
	return 0;
}

/* via: as in store_options. */
static int learn(struct facts *f, const char *path, const char *via, enum store_format format,
		 struct err *err)
{
	struct stat st;
	int rc = 0;

	*f = (struct facts){ .path = path };
	if (stat(via ? via : path, &st))
		return err_sys(err, errno, "disk %s", path);
	f->disk_bytes = (uint64_t)st.st_blocks * 512;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	if (format == STORE_AUTO)
		rc = image_detect(path, via, &format, err);
	if (!rc && format == STORE_AUTO)
		format = STORE_RAW;
	if (rc || format == STORE_RAW)
		return rc ? rc : learn_raw(f, via, err);
	rc = qcow2_file_open(&f->file, path, via, QCOW2_GLANCE, false, err);
	if (rc)
		return rc;
	f->q = &f->file;
	f->size_bytes = f->q->disk_bytes;
	if (f->q->backing_name) {
		f->backing = store_backing_path(path, f->q->backing_name);
		if (!f->backing)
			return err_sys(err, ENOMEM, "disk %s", path);
	}
	return 0;
}

static const char *yes(bool b)
{
	return b ? "true" : "false";
}

static void json_line(const char *indent, const char *key, const char *text)
{
	printf("%s\"%s\": ", indent, key);
	image_json_string(stdout, text);
	puts(",");
}

static void print_json(const struct facts *f, const char *in)
{
	const struct qcow2_file *q = f->q;

	printf("%s{\n", in);
	printf("%s    \"virtual-size\": %" PRIu64 ",\n", in, f->size_bytes);
	printf("%s", in);
	json_line("    ", "filename", f->path);
	if (q) {
		printf("%s    \"cluster-size\": %" PRIu64 ",\n", in, q->cluster_bytes);
		printf("%s    \"format-specific\": {\n%s        \"type\": \"qcow2\",\n"
		       "%s        \"data\": {\n",
		       in, in, in);
		printf("%s            \"compat\": \"%s\",\n", in, q->version < 3 ? "0.10" : "1.1");
		printf("%s            \"compression-type\": \"%s\",\n", in,
		       q->zstd ? "zstd" : "zlib");
		if (q->version >= 3)
			printf("%s            \"lazy-refcounts\": %s,\n%s            \"corrupt\": %s,\n"
			       "%s            \"extended-l2\": false,\n",
			       in, yes(q->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS), in,
			       yes(q->incompatible & QCOW2_INCOMPAT_CORRUPT), in);
		printf("%s            \"refcount-bits\": %u\n%s        }\n%s    },\n", in,
		       1u << q->refcount_order, in, in);
		if (q->backing_name) {
			printf("%s", in);
			json_line("    ", "full-backing-filename", f->backing);
			printf("%s", in);
			json_line("    ", "backing-filename", q->backing_name);
			if (q->backing_format != STORE_AUTO)
				printf("%s    \"backing-filename-format\": \"%s\",\n", in,
				       store_format_name(q->backing_format));
		}
		if (q->nsnapshots)
			printf("%s    \"snapshot-count\": %u,\n", in, q->nsnapshots);
	}
	printf("%s    \"format\": \"%s\",\n", in, q ? "qcow2" : "raw");
	printf("%s    \"actual-size\": %" PRIu64 ",\n", in, f->disk_bytes);
	printf("%s    \"dirty-flag\": %s\n%s}", in,
	       yes(q && q->incompatible & QCOW2_INCOMPAT_DIRTY), in);
}

static void print_text(const struct facts *f)
{
	const struct qcow2_file *q = f->q;
	char size[32], disk[32];

	/* The names of backing files come from images, so control characters are replaced. */
	fputs("image: ", stdout);
	printable_put(stdout, f->path);
	printf("\nfile format: %s\n", q ? "qcow2" : "raw");
	printf("virtual size: %s (%" PRIu64 " bytes)\n",
	       parse_size_text(f->size_bytes, size, sizeof(size)), f->size_bytes);
	printf("disk size: %s\n", parse_size_text(f->disk_bytes, disk, sizeof(disk)));
	if (!q)
		return;
	printf("cluster_size: %" PRIu64 "\n", q->cluster_bytes);
	if (q->backing_name) {
		fputs("backing file: ", stdout);
		printable_put(stdout, q->backing_name);
		if (strcmp(q->backing_name, f->backing)) {
			fputs(" (actual path: ", stdout);
			printable_put(stdout, f->backing);
			putchar(')');
		}
		putchar('\n');
		if (q->backing_format != STORE_AUTO)
			printf("backing file format: %s\n", store_format_name(q->backing_format));
	}
	if (q->nsnapshots)
		printf("snapshots: %u\n", q->nsnapshots);
	printf("Format specific information:\n    compat: %s\n    compression type: %s\n",
	       q->version < 3 ? "0.10" : "1.1", q->zstd ? "zstd" : "zlib");
	if (q->version >= 3)
		printf("    lazy refcounts: %s\n",
		       yes(q->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS));
	printf("    refcount bits: %u\n", 1u << q->refcount_order);
	if (q->version >= 3)
		printf("    dirty: %s\n    corrupt: %s\n",
		       yes(q->incompatible & QCOW2_INCOMPAT_DIRTY),
		       yes(q->incompatible & QCOW2_INCOMPAT_CORRUPT));
}

/* Reads about the backing file that top names. *own: the folder of top, which becomes its own. */
static int learn_backing(struct facts *f, const struct facts *top, struct store_folder *own,
			 struct err *err)
{
	enum store_format format = top->q->backing_format;
	struct store_found found;
	int rc = store_backing_find(own, top->path, top->q->backing_name, &found, err);

	*f = (struct facts){ 0 };
	if (rc)
		return rc;
	/* As a VM opens it: by its name, since a guest may have written the content. */
	if (format == STORE_AUTO)
		format = store_format_of_name(top->backing);
	rc = learn(f, top->backing, found.via, format, err);
	close(found.fd);
	return rc;
}

/* Reads the whole chain before anything is printed: an error leaves no half answer. */
static int learn_chain(struct facts *f, unsigned *n, const char *path, enum store_format format,
		       bool chain, struct err *err)
{
	struct store_folder own = { 0 };
	int rc = learn(&f[(*n)++], path, NULL, format, err);

	if (!rc && chain && f[0].backing)
		rc = store_folder_open(&own, path, err);
	while (!rc && chain && f[*n - 1].backing) {
		const struct facts *top = &f[*n - 1];

		if (*n == STORE_CHAIN_MAX) {
			rc = err_set(err, ELOOP,
				     "disk %s: its chain of backing files is longer than %u", path,
				     STORE_CHAIN_MAX);
			break;
		}
		rc = learn_backing(&f[(*n)++], top, &own, err);
		for (unsigned i = 0; !rc && i + 1 < *n; i++)
			if (f[i].dev == f[*n - 1].dev && f[i].ino == f[*n - 1].ino)
				rc = err_set(err, ELOOP,
					     "disk %s: its backing file %s is an image "
					     "that is based on it: a loop",
					     top->path, top->backing);
	}
	store_folder_close(&own);
	return rc;
}

int image_info_main(int argc, char **argv)
{
	struct facts f[STORE_CHAIN_MAX];
	enum store_format format;
	struct err err = { "" };
	struct args args;
	unsigned n = 0;
	int status, rc;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	rc = image_parse_format("--format", args.value[FORMAT], &format, &err);
	if (!rc)
		image_confine(&table, &args, 0);
	if (!rc)
		rc = learn_chain(f, &n, args.file[0], format, args.value[CHAIN], &err);
	for (unsigned i = 0; !rc && i < n; i++) {
		const char *indent = args.value[CHAIN] ? "    " : "";

		if (args.value[JSON] && args.value[CHAIN])
			printf("%s", i ? ",\n" : "[\n");
		else if (i)
			putchar('\n');
		if (args.value[JSON])
			print_json(&f[i], indent);
		else
			print_text(&f[i]);
	}
	if (!rc && args.value[JSON])
		puts(args.value[CHAIN] ? "\n]" : "");
	for (unsigned i = 0; i < n; i++)
		forget(&f[i]);
	return rc ? image_fail(&err, IMAGE_ERROR) : IMAGE_OK;
}
