/* convert: bantam image convert. See copy.h for how the bytes are copied. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tools/bantam-image/copy.h"
#include "tools/bantam-image/image.h"
#include "tools/bantam-image/newimage.h"
#include "tools/bantam-image/output.h"
#include "vmm/core/parse.h"

enum {
	FROM,
	TO,
	COMPRESS,
	BACKING,
	BACKING_FORMAT,
	CLUSTER_SIZE,
	LAZY,
	COMPAT,
	THREADS,
	PROGRESS,
	FORCE,
	MODE,
	SYNC,
	BACKING_DIR
};

static const char *const compressions[] = { "zlib", "zstd", NULL };
static const char *const progresses[] = { "on", "auto", "off", NULL };

static const struct args_option options[] = {
	[FROM] = { "format", 'f', "raw|qcow2", NULL, "SRC's format [by its name]" },
	[TO] = { "output-format", 'O', "raw|qcow2", NULL, "DST's format [by its name, else raw]" },
	[COMPRESS] = { "compress", 'c', "zlib|zstd", compressions,
		       "compress a qcow2 image [zlib]" },
	[BACKING] = { "backing", 'B', "FILE", NULL,
		      "make DST an overlay: leave out data that is the same in that image",
		      .backing = true },
	[BACKING_FORMAT] = { "backing-format", 'F', "raw|qcow2", NULL,
			     "the backing file's format [by its name]" },
	[CLUSTER_SIZE] = { "cluster-size", 0, "N", NULL,
			   "qcow2: unit of allocation, 512 to 2M [64K]" },
	[LAZY] = { "lazy-refcounts", 0, NULL, NULL, "qcow2: QEMU may write reference counts late" },
	[COMPAT] = { "compat", 0, "2|3", NULL, "qcow2: version [3]; 2 is for QEMU before 1.1" },
	[THREADS] = { "threads", 'm', "N", NULL,
		      "number of threads [the number of CPUs, from 4 to 8]" },
	[PROGRESS] = { "progress", 'p', "on|auto|off", progresses,
		       "show a progress bar [auto: on a terminal]" },
	[FORCE] = { "force", 0, NULL, NULL, "replace DST if it exists" },
	[MODE] = { "mode", 0, "MODE", NULL, "DST's mode, such as 640 [600]" },
	[SYNC] = { "sync", 0, "on|off", NULL, "wait until DST is on stable storage [on]" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "convert",
	.usage = "[OPTION]… SRC DST",
	.about =
		"Copies the disk in SRC into a new image DST. Zeroes take no space in it. DST appears\n"
		"when it is complete: if anything goes wrong, or ^C is pressed, nothing is left.",
	.option = options,
	.min_files = 2,
	.max_files = 2,
	.use = { ARGS_READ, ARGS_NEW },
};

static int parse_rest(const struct args *args, struct copy *c, bool *sync, struct err *err)
{
	const char *compress = args->value[COMPRESS];

	*sync = true;
	if (args->value[SYNC] && parse_bool(args->value[SYNC], sync))
		return err_set(err, EINVAL, "--sync %.40s: must be on or off", args->value[SYNC]);
	if (compress && strcmp(compress, "zlib") && strcmp(compress, "zstd"))
		return err_set(err, EINVAL, "--compress %.40s: must be zlib or zstd", compress);
	c->compress = compress;
	c->zstd = compress && !strcmp(compress, "zstd");
	c->writeback = *sync;
	return image_parse_threads(args->value[THREADS], &c->nthreads, err);
}

/* Writes the whole image into *o, which the caller then publishes. */
static int fill_output(struct copy *c, struct store_create *create, struct output *o,
		       struct progress *progress, struct err *err)
{
	int rc = 0;

	c->fd = o->fd;
	if (create->format == STORE_QCOW2) {
		c->cluster_bytes = create->cluster_bytes;
		rc = qcow2_writer_create(o->fd, create, &c->writer, err);
	} else if (ftruncate(o->fd, (off_t)c->size_bytes)) {
		rc = err_sys(err, errno, "%s: cannot set its size to %llu bytes", c->dst_path,
			     (unsigned long long)c->size_bytes);
	}
	if (!rc)
		rc = copy_run(c, progress, err);
	if (!rc && c->writer) {
		rc = qcow2_writer_finish(c->writer);
		if (rc)
			err_sys(err, -rc, "%s: cannot write", c->dst_path);
	}
	if (!rc && image_stopped())
		rc = -EINTR;
	return rc;
}

static int convert(struct copy *c, struct store_create *create, const struct args *args,
		   struct output *o, bool sync, struct err *err)
{
	struct progress progress;
	int rc;

	if (!c->src->size_bytes)
		return err_set(err, EINVAL, "%s: is empty", c->src_path);
	c->size_bytes = c->src->size_bytes;
	if (create->format == STORE_QCOW2)
		c->size_bytes = (c->size_bytes + 511) & ~511ull;
	create->size_bytes = c->size_bytes;
	if (!create->cluster_bytes)
		create->cluster_bytes = 65536;
	if (progress_start(&progress, args->value[PROGRESS], c->size_bytes))
		return err_set(err, EINVAL, "--progress %.40s: must be on, auto or off",
			       args->value[PROGRESS]);
	rc = fill_output(c, create, o, &progress, err);
	if (!rc)
		rc = output_publish(o, sync, err);
	progress_end(&progress);
	qcow2_writer_destroy(c->writer);
	return rc;
}

int image_convert_main(int argc, char **argv)
{
	struct copy c = { .fd = -1 };
	struct store_create create;
	enum store_format from;
	struct err err = { "" };
	struct args args;
	struct output o = { .fd = -1, .old = { .fd = -1, .cached_fd = -1 } };
	unsigned mode;
	bool sync;
	int status, rc;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	image_catch_signals();
	c.src_path = args.file[0];
	c.dst_path = args.file[1];
	rc = image_parse_format("--format", args.value[FROM], &from, &err);
	if (!rc)
		rc = parse_rest(&args, &c, &sync, &err);
	if (!rc)
		rc = image_parse_mode(args.value[MODE], &mode, &err);
	if (!rc)
		rc = image_look(&table, &args, 0, &err);
	/* Opened before the rights to do so are given up; it has no name yet. */
	if (!rc)
		rc = output_create(&o, c.dst_path, args.value[FORCE], mode, &err);
	if (!rc)
		image_confine(&table, &args, o.replace || o.temp ? IMAGE_REPLACES : 0);
	if (!rc)
		rc = newimage_parse(&(struct newimage_words){ .format_option = "--output-format",
							      .format = args.value[TO],
							      .backing = args.value[BACKING],
							      .backing_format =
								      args.value[BACKING_FORMAT],
							      .cluster_size =
								      args.value[CLUSTER_SIZE],
							      .compat = args.value[COMPAT],
							      .lazy = args.value[LAZY] },
				    c.dst_path, &create, &c.base, &err);
	if (!rc && c.compress && create.format == STORE_RAW)
		rc = err_set(&err, EINVAL, "%s: a raw image cannot be compressed; use -O qcow2",
			     c.dst_path);
	create.zstd = c.zstd;
	if (!rc)
		rc = image_open_store(c.src_path, from, true, &c.src, &err);
	if (!rc)
		rc = convert(&c, &create, &args, &o, sync, &err);
	output_close(&o);
	store_close(c.src);
	store_close(c.base);
	if (!rc && create.backing)
		image_note_backing(c.dst_path, create.backing);
	if (rc == -EINTR && image_stopped()) {
		/* The parent process expects a stopped program to die of the signal. */
		signal(image_stopped(), SIG_DFL);
		raise(image_stopped());
	}
	return rc ? image_fail(&err, IMAGE_ERROR) : IMAGE_OK;
}
