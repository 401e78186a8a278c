/*
 * confine: what bantam image gives up before it reads the first byte of an image. See image.h.
 *
 * Theory of operation. An image comes from anywhere, and the code that reads its tables may have a mistake. Behind
 * image_confine the process has no capability but those that open files of other users (root), starts no program and no
 * process, opens no socket, and sees only some files (Landlock): the named images, and the folders in which
 * a header may name a backing file. Those are the ones of the policy in store/backing.h.
 *
 * There is no process beside it that opens files by that policy. The policy's answer to an attacker who names files is
 * all files of these folders, one by one; Landlock's is the same, and what is below the image's own folder. A
 * broker would save only that, and would need a second process and a wire for each open.
 *
 * A new file is opened before, so that the right to write is with its descriptor alone. Its name is given at the end:
 * for that the process may make names in its folder (and remove some, if it is to replace a file), but not write to any
 * file there.
 *
 * Landlock says which files, the filter what may be done with a file at all (image.calls), also where there is no
 * Landlock: no command opens one for writing, and only one that makes an image names files.
 *
 * A step that this host refuses (a kernel without filters, a container's own) is left out: the commands worked there before.
 *
 * Who has locked an image can be found only in other processes' folders of /proc, which are closed then. So the images
 * are opened and locked once before, to tell the user of what is in the way, and closed; no byte of them is read. One
 * that is to be changed stays open (store_image_keep).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/store/backing.h"
#include "devices/backend/store/image_file.h"
#include "tools/bantam-image/image.h"
#include "tools/giveup/giveup.h"

/* --- the files ------------------------------------------------------------------------------ */

struct list {
	struct giveup_path *path; /* each name is owned */
	unsigned n, max;
};

/* A name that does not fit into memory is left out: its file cannot be opened. */
static void add(struct list *l, char *name, unsigned what)
{
	if (name && l->n < l->max)
		l->path[l->n++] = (struct giveup_path){ name, what };
	else
		free(name);
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

static void add_image(struct list *l, const char *path, unsigned what)
{
	add(l, strdup(path), what);
	add(l, folder_of(path), GIVEUP_READ);
}

/* The folder in which the new image gets its name: a link leads to another one. */
static void add_new(struct list *l, const char *path, bool replace)
{
	unsigned what = GIVEUP_NAME | GIVEUP_LIST | (replace ? GIVEUP_REMOVE : 0);
	char *real = realpath(path, NULL);

	add(l, folder_of(path), what);
	if (real)
		add(l, folder_of(real), what);
	free(real);
}

static enum args_use use_of(const struct args_table *table, unsigned i)
{
	return table->use[i ? 1 : 0];
}

static void list_files(const struct args_table *table, const struct args *args, unsigned how,
		       struct list *l)
{
	const char *made = NULL;

	for (unsigned i = 0; i < args->nfiles; i++) {
		if (use_of(table, i) == ARGS_READ)
			add_image(l, args->file[i], GIVEUP_READ);
		if (use_of(table, i) == ARGS_NEW)
			add_new(l, made = args->file[i], how & IMAGE_REPLACES);
	}
	for (unsigned i = 0; made && table->option[i].name; i++) {
		char *full = table->option[i].backing && args->value[i] ?
				     store_backing_path(made, args->value[i]) :
				     NULL;

		if (full)
			add_image(l, full, GIVEUP_READ);
		free(full);
	}
	for (unsigned i = 0; store_allowed_folder(i); i++)
		add(l, strdup(store_allowed_folder(i)), GIVEUP_READ);
}

int image_look(const struct args_table *table, const struct args *args, unsigned how,
	       struct err *err)
{
	struct store_image image;
	int rc = 0;

	for (unsigned i = 0; !rc && i < args->nfiles; i++) {
		const char *path = args->file[i];

		if (use_of(table, i) != ARGS_READ)
			continue;
		for (unsigned k = 0; k < args->nfiles; k++)
			if (use_of(table, k) == ARGS_NEW && image_same_file(path, args->file[k]))
				return err_set(err, EINVAL,
					       "%s: is %s itself, from which it would be made",
					       args->file[k], path);
		rc = store_image_open(&image, path, NULL, !(how & IMAGE_WRITES), STORE_CACHED, err);
		if (!rc && how & IMAGE_WRITES)
			store_image_keep(&image, path);
		else if (!rc)
			store_image_close(&image);
	}
	return rc;
}

int image_confine_files(const struct args_table *table, const struct args *args, unsigned how)
{
	struct list l = { .max = 2 * args->nfiles + 2 + 2 * ARGS_OPTIONS_MAX + STORE_FOLDERS_MAX };
	int rc;

	l.path = calloc(l.max, sizeof(*l.path));
	if (!l.path)
		return -ENOMEM;
	list_files(table, args, how, &l);
	rc = giveup_files(l.path, l.n);
	for (unsigned i = 0; i < l.n; i++)
		free((char *)l.path[i].path);
	free(l.path);
	return rc;
}

int image_confine_calls(const struct args_table *table, const struct args *args, unsigned how)
{
	const struct giveup_filter *filter = &giveup_image_looks;

	for (unsigned i = 0; i < args->nfiles; i++)
		if (use_of(table, i) == ARGS_NEW)
			filter = &giveup_image_makes;
	if (how & IMAGE_WRITES)
		filter = &giveup_image_changes;
	return giveup_calls(filter, "image");
}

void image_confine(const struct args_table *table, const struct args *args, unsigned how)
{
#ifndef __SANITIZE_ADDRESS__ /* its reports open files and start a program */
	(void)giveup_privileges(giveup_file_caps);
	(void)image_confine_files(table, args, how);
	(void)image_confine_calls(table, args, how);
#endif
}
