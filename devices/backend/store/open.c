/*
 * store/open: the factory: opens and creates images of any format, and opens the chain of backing
 * files below an image. See store.h. No file in this folder calls it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/qcow2/qcow2.h"
#include "devices/backend/qcow2_image/create.h"
#include "devices/backend/store/backing.h"
#include "devices/backend/store/raw.h"
#include "vmm/core/fd_stat.h"

static int open_one(const struct store_options *options, struct store **out, struct err *err)
{
	return options->format == STORE_QCOW2 ? qcow2_store_open(options, out, err) :
						store_raw_open(options, out, err);
}

/* --- backing files -------------------------------------------------------------------- */

static bool is_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' && n;
}

static unsigned depth_of(const struct store *s)
{
	unsigned depth = 0;

	for (; s; s = s->backing)
		depth++;
	return depth;
}

int store_check_backing(const char *name, const struct store *base, struct err *err)
{
	if (is_protocol(name))
		return err_set(err, EINVAL,
			       "backing file %s: what is before the colon would be a protocol; "
			       "write ./%s",
			       name, name);
	if (depth_of(base) >= STORE_CHAIN_MAX)
		return err_set(err, ELOOP,
			       "backing file %s: its chain of backing files has %u images "
			       "already, and more cannot be opened; bantam image convert makes "
			       "one image of it",
			       name, STORE_CHAIN_MAX);
	return 0;
}

/*
 * Checks that path, which is *found, may be the backing file of last, the last image of top's chain.
 * 0 or -errno.
 */
static int check_loop(const struct store *top, const char *last, const char *path,
		      const struct stat *found, struct err *err)
{
	struct stat above;

	if (depth_of(top) >= STORE_CHAIN_MAX)
		return err_set(err, ELOOP, "disk %s: its chain of backing files is longer than %u",
			       last, STORE_CHAIN_MAX);
	for (const struct store *s = top; s; s = s->backing) {
		if (fd_stat(s->image->fd, &above))
			return err_sys(err, errno, "disk %s", last);
		if (above.st_dev == found->st_dev && above.st_ino == found->st_ino)
			return err_set(err, ELOOP,
				       "disk %s: its backing file %s is an image that "
				       "is based on it: a loop",
				       last, path);
	}
	return 0;
}

/* Open the file that was found for last's backing_name. options has its path. */
static int open_found(const struct store *top, struct store *last, const char *at,
		      const struct store_found *found, struct store_options *options,
		      struct err *err)
{
	int rc = check_loop(top, at, options->path, &found->st, err);

	if (rc)
		return rc;
	options->via = found->via;
	options->format = last->backing_format;
	rc = store_choose_format(options, err);
	if (rc == -EINVAL)
		err_set(err, EINVAL,
			"disk %s: does not say what format its backing file %s has, "
			"which begins like a qcow2 image; qemu-img rebase -u -b '%s' -F FORMAT '%s' "
			"writes it down (qcow2 or raw, as it was made)",
			at, options->path, last->backing_name, at);
	return rc ? rc : open_one(options, &last->backing, err);
}

/*
 * Open the backing file of last, the end of top's chain so far. at: the path of last; *own: its
 * folder, which becomes that of the backing file. The caller frees options->path, which stays as it
 * was if the image names no file.
 */
static int open_backing(const struct store *top, struct store *last, const char *at,
			struct store_folder *own, struct store_options *options, struct err *err)
{
	struct store_found found;
	int rc;

	if (is_protocol(last->backing_name))
		return err_set(err, ENOTSUP,
			       "disk %s: its backing file \"%.60s\" is not the name of "
			       "a file; only files are supported (./ before a name with a colon)",
			       at, last->backing_name);
	options->path = store_backing_path(at, last->backing_name);
	if (!options->path)
		return err_sys(err, ENOMEM, "disk %s", at);
	rc = store_backing_find(own, at, last->backing_name, &found, err);
	if (rc)
		return rc;
	rc = open_found(top, last, at, &found, options, err);
	close(found.fd);
	return rc;
}

/* Open the chain from the top down: each image names the next. */
static int open_chain(struct store *top, const char *path, enum store_direct direct,
		      struct err *err)
{
	struct store_folder own = { 0 };
	char *at = NULL;
	int rc = 0;

	if (top->backing_name)
		rc = store_folder_open(&own, path, err);
	for (struct store *s = top; !rc && s && s->backing_name; s = s->backing) {
		struct store_options options = { .readonly = true, .direct = direct };

		rc = open_backing(top, s, at ? at : path, &own, &options, err);
		free(at);
		at = (char *)options.path;
	}
	free(at);
	store_folder_close(&own);
	return rc;
}

int store_open(const struct store_options *options, struct store **out, struct err *err)
{
	struct store_options known = *options;
	int rc;

	*out = NULL;
	rc = store_choose_format(&known, err);
	if (!rc)
		rc = open_one(&known, out, err);
	if (!rc && known.alone && (*out)->backing_name)
		rc = err_set(err, EINVAL,
			     "disk %s: has the backing file %.80s; set backing_files to true if it "
			     "may be read",
			     known.path, (*out)->backing_name);
	if (!rc)
		rc = open_chain(*out, known.path, known.direct, err);
	if (rc) {
		store_close(*out);
		*out = NULL;
	}
	return rc;
}

/* --- new images ------------------------------------------------------------------------- */

/* Open the backing file, which must exist; its size is the default. */
static int look_at_backing(struct store_create *c, struct err *err)
{
	struct store_options options = { .format = c->backing_format, .readonly = true };
	char *path = store_backing_path(c->path, c->backing);
	struct store *s;
	int rc;

	if (!path)
		return err_sys(err, ENOMEM, "disk %s", c->path);
	options.path = path;
	rc = store_choose_format(&options, err);
	if (!rc)
		rc = store_open(&options, &s, err);
	if (!rc) {
		if (!c->size_bytes)
			c->size_bytes = s->size_bytes;
		c->backing_format = options.format;
		store_close(s);
	}
	free(path);
	return rc;
}

int store_create(const struct store_create *create, struct err *err)
{
	struct store_create c = *create;
	int rc = 0;

	if (c.format != STORE_QCOW2)
		return store_raw_create(&c, err);
	if (c.backing)
		rc = look_at_backing(&c, err);
	return rc ? rc : qcow2_store_create(&c, err);
}
