/* create: bantam image create. Makes an image without data. */
#include <errno.h>

#include "devices/backend/qcow2_image/writer.h"
#include "tools/bantam-image/image.h"
#include "tools/bantam-image/newimage.h"
#include "tools/bantam-image/output.h"

#include <unistd.h>

enum { FORMAT, BACKING, BACKING_FORMAT, CLUSTER_SIZE, LAZY, COMPAT, FORCE, MODE, BACKING_DIR };

static const struct args_option options[] = {
	[FORMAT] = { "format", 'f', "raw|qcow2", NULL, "FILE's format [by its name, else raw]" },
	[BACKING] = { "backing", 'b', "FILE", NULL,
		      "make an overlay on that image, which must not change any more",
		      .backing = true },
	[BACKING_FORMAT] = { "backing-format", 'F', "raw|qcow2", NULL,
			     "the backing file's format [by its name]" },
	[CLUSTER_SIZE] = { "cluster-size", 0, "N", NULL,
			   "qcow2: unit of allocation, 512 to 2M [64K]" },
	[LAZY] = { "lazy-refcounts", 0, NULL, NULL, "qcow2: QEMU may write reference counts late" },
	[COMPAT] = { "compat", 0, "2|3", NULL, "qcow2: version [3]; 2 is for QEMU before 1.1" },
	[FORCE] = { "force", 0, NULL, NULL, "replace FILE if it exists" },
	[MODE] = { "mode", 0, "MODE", NULL, "FILE's mode, such as 640 [600]" },
	[BACKING_DIR] = IMAGE_BACKING_DIR,
	{ 0 },
};

static const struct args_table table = {
	.command = "create",
	.usage = "[OPTION]… FILE [SIZE]",
	.about =
		"Makes a new image. Sizes are bytes, or have a suffix: K, M, G, T, P, E (powers of\n"
		"1024; a fraction is rounded up to 4 KiB).\n"
		"With --backing, SIZE may be left out: then it is the backing file's. The backing file's\n"
		"name is written into the image as given, and is relative to the image's folder.",
	.option = options,
	.min_files = 1,
	.max_files = 2,
	.use = { ARGS_NEW, ARGS_WORD },
};

static int make(const struct store_create *create, struct output *o, struct err *err)
{
	struct qcow2_writer *w = NULL;
	int rc = 0;

	if (create->format == STORE_QCOW2) {
		rc = qcow2_writer_create(o->fd, create, &w, err);
		if (rc)
			goto out;
		rc = qcow2_writer_finish(w);
	} else if (ftruncate(o->fd, (off_t)create->size_bytes)) {
		rc = -errno;
	}
	if (rc == -EFBIG)
		err_set(err, EFBIG,
			"%s: a disk of %llu bytes is more than the file system or the "
			"limit on file sizes (ulimit -f) allows",
			create->path, (unsigned long long)create->size_bytes);
	else if (rc)
		err_sys(err, -rc, "%s: cannot write", create->path);
	else
		rc = output_publish(o, true, err);
out:
	qcow2_writer_destroy(w);
	return rc;
}

int image_create_main(int argc, char **argv)
{
	struct store_create create;
	struct output o = { .fd = -1, .old = { .fd = -1, .cached_fd = -1 } };
	struct store *base = NULL;
	struct err err = { "" };
	struct args args;
	unsigned mode = 0;
	int status, rc;

	if (image_args(&table, argc, argv, &args, IMAGE_USAGE, &status))
		return status;
	rc = image_parse_mode(args.value[MODE], &mode, &err);
	/* Opened before the rights to do so are given up; it has no name yet. */
	if (!rc)
		rc = output_create(&o, args.file[0], args.value[FORCE], mode, &err);
	if (!rc)
		image_confine(&table, &args, o.replace || o.temp ? IMAGE_REPLACES : 0);
	if (!rc)
		rc = newimage_parse(&(struct newimage_words){ .format_option = "--format",
							      .format = args.value[FORMAT],
							      .backing = args.value[BACKING],
							      .backing_format =
								      args.value[BACKING_FORMAT],
							      .cluster_size =
								      args.value[CLUSTER_SIZE],
							      .compat = args.value[COMPAT],
							      .lazy = args.value[LAZY] },
				    args.file[0], &create, &base, &err);
	if (!rc && args.nfiles > 1)
		rc = image_parse_size(args.file[1], &create.size_bytes, &err);
	else if (!rc && base)
		create.size_bytes = (base->size_bytes + 511) & ~511ull;
	else if (!rc)
		rc = err_set(&err, EINVAL, "image create: %s: SIZE is missing", args.file[0]);
	if (!rc && !create.size_bytes)
		rc = err_set(&err, EINVAL, "backing file %s: is empty", create.backing);
	if (!rc)
		rc = make(&create, &o, &err);
	output_close(&o);
	store_close(base);
	if (!rc && create.backing)
		image_note_backing(create.path, create.backing);
	return rc ? image_fail(&err, IMAGE_ERROR) : IMAGE_OK;
}
