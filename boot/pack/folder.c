/*
 * folder: adds a folder of the host to an initrd; see pack.h.
 *
 * Folders wait in a list and are read one after the other, so that neither their depth nor their number
 * takes descriptors or stack. Contents are read when the archive is written.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "boot/pack/pack_impl.h"

struct copy {
	struct pack *pack;
	const char *from, *to; /* the folder on the host, and in the archive: "" or "/NAME" */
	char **todo;	       /* folders below both: "" or "/NAME" */
	size_t ntodo, room;
	dev_t dev;
	uint64_t bytes;
	struct err *err;
};

static int later(struct copy *c, const char *below)
{
	char **more;

	if (c->ntodo == c->room) {
		more = realloc(c->todo, (c->room * 2 + 16) * sizeof(*more));
		if (!more)
			return err_sys(c->err, ENOMEM, "%s", c->from);
		c->todo = more;
		c->room = c->room * 2 + 16;
	}
	c->todo[c->ntodo] = strdup(below);
	return c->todo[c->ntodo++] ? 0 : err_sys(c->err, ENOMEM, "%s", c->from);
}

static unsigned perm_of(const struct stat *st)
{
	return st->st_mode & (st->st_uid ? 01777 : 07777);
}

static int add_link(struct copy *c, int dir, const char *file, const char *path, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, file, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(c->err, errno, "%s", path);
	target[n] = 0;
	return pack_add_link(c->pack, name, target, c->err);
}

static int add_file(struct copy *c, int dir, const char *file, const char *path, const char *name,
		    const struct stat *st)
{
	const struct entry entry = { .kind = ENTRY_FILE,
				     .perm = perm_of(st),
				     .len_bytes = strlen(path) };

	if (faccessat(dir, file, R_OK, 0))
		return err_sys(c->err, errno, "%s", path);
	c->bytes += (uint64_t)st->st_size;
	if (c->bytes > PACK_FOLDER_MAX)
		return err_set(
			c->err, E2BIG,
			"%s: has more than %llu GiB, too much for an initrd; make a disk of it",
			*c->from ? c->from : "/", PACK_FOLDER_MAX >> 30);
	return pack_entry_add(c->pack, name, &entry, path, c->err);
}

/* below: the folder's place; file: a name in it */
static int add_one(struct copy *c, int dir, const char *below, const char *file)
{
	char path[PATH_MAX], name[PATH_MAX];
	const char *here;
	struct stat st;
	int ret;

	if ((size_t)snprintf(path, sizeof(path), "%s%s/%s", c->from, below, file) >= sizeof(path) ||
	    (size_t)snprintf(name, sizeof(name), "%s%s/%s", c->to, below, file) >= sizeof(name))
		return err_sys(c->err, ENAMETOOLONG, "%.200s/%.200s", c->from, file);
	here = path + strlen(c->from);
	if (fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : err_sys(c->err, errno, "%s", path);
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		ret = pack_add_dir(c->pack, name, perm_of(&st), c->err);
		return ret || st.st_dev != c->dev ? ret : later(c, here);
	case S_IFREG:
		return add_file(c, dir, file, path, name, &st);
	case S_IFLNK:
		return add_link(c, dir, file, path, name);
	case S_IFCHR:
	case S_IFBLK:
		if (pack_has(c->pack, name)) /* /dev/console */
			return 0;
		return pack_add_node(c->pack, name, perm_of(&st), S_ISBLK(st.st_mode),
				     major(st.st_rdev), minor(st.st_rdev), c->err);
	default:
		return 0;
	}
}

static int read_one(struct copy *c, const char *below)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	DIR *dir;
	int ret = 0;

	snprintf(path, sizeof(path), "%s%s", c->from, below);
	dir = opendir(*path ? path : "/");
	if (!dir)
		return err_sys(c->err, errno, "%s", *path ? path : "/");
	errno = 0;
	while (!ret && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			ret = add_one(c, dirfd(dir), below, entry->d_name);
		errno = 0;
	}
	if (!ret && errno)
		ret = err_sys(c->err, errno, "%s", path);
	closedir(dir);
	return ret;
}

int pack_add_folder(struct pack *pack, const char *name, const char *source, struct err *err)
{
	struct copy c = { .pack = pack,
			  .to = strspn(name, "/") == strlen(name) ? "" : name,
			  .err = err };
	char real[PATH_MAX];
	struct stat st;
	int ret;

	if (!realpath(source, real) || stat(real, &st))
		return err_sys(err, errno, "%s", source);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "%s: not a folder", source);
	c.from = strcmp(real, "/") ? real : "";
	c.dev = st.st_dev;
	ret = *c.to ? pack_add_dir(pack, name, perm_of(&st), err) : 0;
	if (!ret)
		ret = later(&c, "");
	while (!ret && c.ntodo) {
		char *below = c.todo[--c.ntodo];

		ret = read_one(&c, below);
		free(below);
	}
	while (c.ntodo)
		free(c.todo[--c.ntodo]);
	free(c.todo);
	return ret;
}
