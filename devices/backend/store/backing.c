/*
 * store/backing: see backing.h.
 *
 * Theory of operation. A name is first made absolute as a text: relative to the image's own folder,
 * whose real name the kernel tells (/proc/self/fd). Texts alone decide which folder may be entered
 * (the image's own, or one that the user has named), so a name of another place has no effect at
 * all, not even an automount. From the folder's descriptor the walk goes down one component at a
 * time with O_PATH | O_NOFOLLOW, which opens neither a FIFO nor a device. No step goes up: ".." is
 * resolved in the text, where what it follows is known to be no link, or refused. A symbolic link's
 * target is read from the link's descriptor, and is a name like the first one: it is made absolute
 * relative to the folder in which the link is, and has to lead into a folder that may be entered.
 * So whatever the folder's owner exchanges meanwhile, the walk stays below that folder. The kernel's
 * openat2(RESOLVE_BENEATH) does the same for names without such links; this walk needs no Linux 5.6,
 * and no seccomp filter that knows the call.
 *
 * The file at the end is known by a descriptor before it is opened: its kind cannot change any more,
 * and it is opened by /proc/self/fd/N, which leads to the same file.
 */
#include "devices/backend/store/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"
#include "vmm/core/printable.h"

#define LINKS_MAX 40u /* as the kernel */

static char *folders[STORE_FOLDERS_MAX];
static unsigned nfolders;

/* --- names ------------------------------------------------------------------------------ */

/*
 * Joins base, an absolute name without links, and name, which may be absolute, into an absolute one
 * without "." and "..". Returns NULL with errno: EXDEV if a ".." follows a component of name, which
 * may be a link.
 */
static char *join(const char *base, const char *name)
{
	size_t len = strlen(name), at = *name == '/' ? 0 : strlen(base);
	char *out = malloc(at + len + 2);
	unsigned own = 0; /* components of name in out */

	if (!out)
		return NULL;
	if (at)
		memcpy(out, base, at);
	while (at && out[at - 1] == '/')
		at--;
	while (*(name += strspn(name, "/"))) {
		size_t n = strcspn(name, "/");

		if (n == 2 && !memcmp(name, "..", 2)) {
			if (own) {
				free(out);
				errno = EXDEV;
				return NULL;
			}
			while (at && out[--at] != '/')
				;
		} else if (n != 1 || *name != '.') {
			out[at++] = '/';
			memcpy(out + at, name, n);
			at += n;
			own++;
		}
		name += n;
	}
	if (!at)
		out[at++] = '/';
	out[at] = 0;
	return out;
}

/* Returns what of path is below folder, or NULL. Both are absolute and clean. */
static const char *below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	if (n == 1) /* "/" */
		return path[1] ? path + 1 : NULL;
	return !strncmp(path, folder, n) && path[n] == '/' ? path + n + 1 : NULL;
}

static const char *below_folder(const char *path, const struct store_folder *folder)
{
	const char *rest = below(path, folder->path);

	return rest || !folder->given ? rest : below(path, folder->given);
}

/* Returns the name of an open folder, without links, or NULL with errno. */
static char *name_of(int fd)
{
	char link[32], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n > 0 && path[0] == '/' && (size_t)n < sizeof(path))
		return strndup(path, (size_t)n);
	errno = n < 0 ? errno : ENAMETOOLONG;
	return NULL;
}

/* --- folders ---------------------------------------------------------------------------- */

static int open_folder(struct store_folder *folder, const char *dir)
{
	char *here;

	folder->fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder->fd < 0)
		return -errno;
	folder->path = name_of(folder->fd);
	if (!folder->path) {
		int rc = -errno;

		close(folder->fd);
		return rc;
	}
	/* $PWD, if it is right: a person's names may go by links. */
	here = *dir == '/' ? NULL : get_current_dir_name();
	folder->given = *dir == '/' || here ? join(here, dir) : NULL;
	free(here);
	return 0;
}

int store_folder_open(struct store_folder *folder, const char *image, struct err *err)
{
	const char *slash = strrchr(image, '/');
	char *dir = slash ? strndup(image, (size_t)(slash - image + 1)) : strdup(".");
	int rc;

	*folder = (struct store_folder){ .fd = -1 };
	rc = dir ? open_folder(folder, dir) : -ENOMEM;
	free(dir);
	return rc ? err_sys(err, -rc, "disk %s: its folder", image) : 0;
}

void store_folder_close(struct store_folder *folder)
{
	if (folder->path)
		close(folder->fd);
	free(folder->path);
	free(folder->given);
	*folder = (struct store_folder){ 0 };
}

int store_allow_folder(const char *dir, struct err *err)
{
	struct stat st;

	if (nfolders == STORE_FOLDERS_MAX)
		return err_set(err, E2BIG, "--backing-dir %s: more than %u", dir,
			       STORE_FOLDERS_MAX);
	if (stat(dir, &st))
		return err_sys(err, errno, "--backing-dir %s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_sys(err, ENOTDIR, "--backing-dir %s", dir);
	folders[nfolders] = strdup(dir);
	if (!folders[nfolders])
		return err_sys(err, ENOMEM, "--backing-dir %s", dir);
	nfolders++;
	return 0;
}

int store_allow_folders(const char *list, struct err *err)
{
	int rc = 0;

	while (!rc && list && *list) {
		size_t n = strcspn(list, "\n");
		char *dir = strndup(list, n);

		rc = dir ? store_allow_folder(dir, err) : err_sys(err, ENOMEM, "--backing-dir");
		free(dir);
		list += n + (list[n] == '\n');
	}
	return rc;
}

const char *store_allowed_folder(unsigned i)
{
	return i < nfolders ? folders[i] : NULL;
}

/* --- the walk --------------------------------------------------------------------------- */

struct walk {
	struct store_folder *own;
	const char *image, *name; /* for messages */
	char *path;		  /* absolute: what name means, by the links so far */
	unsigned links;
	/* where the walk is */
	int fd;
	const char *rest; /* in path */
	bool named;	  /* below a folder that the user has named */
};

/* Writes text as one word of a shell's command. Returns false if it does not fit. */
static bool quote(const char *text, char *out, size_t len)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "/._-+,:@%";
	size_t at = 0;

	if (!text[strspn(text, plain)])
		return snprintf(out, len, "%s", text) < (int)len;
	for (const char *c = text - 1; at + 6 < len; c++) {
		if (c < text)
			out[at++] = '\'';
		else if (*c == '\'')
			at += (size_t)sprintf(out + at, "'\\''");
		else if (*c)
			out[at++] = *c;
		if (c >= text && !*c) {
			strcpy(out + at, "'");
			return true;
		}
	}
	return false;
}

/*
 * Says that path (NULL: unknown) is not opened, and which option changes that. Names that are too
 * long for a message are cut, but never the option's value. Returns -EXDEV.
 */
static int refuse(const struct walk *w, const char *what, const char *path, struct err *err)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : NULL;
	const char *to = path && w->links ? path : NULL;
	char option[200] = "", text[sizeof(err->text)];
	bool hint = dir && quote(dir, option, sizeof(option)) && printable_is(option);

	for (int max = 4096; max > 50; max = max > 60 ? 60 : 50)
		if (snprintf(text, sizeof(text),
			     "disk %.*s: its backing file %.*s%s%.*s%s %s, and is not opened%s%s",
			     max, w->image, max, w->name, to ? " (a link to " : "", max,
			     to ? to : "", to ? ")" : "", what,
			     hint ? "; if you trust the image, give --backing-dir " : "",
			     hint ? option : "") < (int)sizeof(text))
			break;
	free(dir);
	return err_set(err, EXDEV, "%s", text);
}

static int sys_fail(const struct walk *w, int code, struct err *err)
{
	return err_sys(err, code, "disk %s: its backing file %s", w->image, w->name);
}

/* If path is below folder, the walk begins there. Returns 1, 0 if it is not, or -errno. */
static int begin_in(struct walk *w, const struct store_folder *folder, bool named)
{
	const char *rest = below_folder(w->path, folder);

	/* Of the own folder only what is in it, not what is in its folders. */
	if (!rest || (!named && strchr(rest, '/')))
		return 0;
	w->fd = fcntl(folder->fd, F_DUPFD_CLOEXEC, 0);
	if (w->fd < 0)
		return -errno;
	w->rest = rest;
	w->named = named;
	return 1;
}

/* Opens the folder from which path may be reached, and sets where the walk is. */
static int enter(struct walk *w, struct err *err)
{
	int rc = 0;

	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	for (unsigned i = 0; !rc && i < nfolders; i++) {
		struct store_folder folder;

		rc = open_folder(&folder, folders[i]);
		if (rc)
			return err_sys(err, -rc, "--backing-dir %s", folders[i]);
		rc = begin_in(w, &folder, true);
		store_folder_close(&folder);
	}
	if (!rc)
		rc = begin_in(w, w->own, false);
	if (!rc)
		return refuse(w, "lies in another folder", w->path, err);
	return rc < 0 ? sys_fail(w, -rc, err) : 0;
}

/* The walk has met a link, whose descriptor is link_fd: path becomes what it leads to. */
static int follow(struct walk *w, int link_fd, const char *rest, struct err *err)
{
	char target[PATH_MAX], *base = name_of(w->fd), *to = NULL, *path = NULL;
	ssize_t n = readlinkat(link_fd, "", target, sizeof(target));
	int rc = 0;

	if (!base || n <= 0 || (size_t)n == sizeof(target)) {
		rc = sys_fail(w, !base || n < 0 ? errno : ENAMETOOLONG, err);
	} else if (++w->links > LINKS_MAX) {
		rc = sys_fail(w, ELOOP, err);
	} else {
		target[n] = 0;
		to = join(base, target);
		/* What follows the link has no ".." of its own. */
		if (to)
			path = join(to, rest + strspn(rest, "/"));
		if (path && strlen(path) >= PATH_MAX)
			rc = sys_fail(w, ENAMETOOLONG, err);
		else if (!path)
			rc = errno == EXDEV ?
				     refuse(w, "is a link to a name with .. behind a folder", NULL,
					    err) :
				     sys_fail(w, ENOMEM, err);
	}
	free(base);
	free(to);
	if (rc || !path) {
		free(path);
		return rc;
	}
	free(w->path);
	w->path = path;
	return 0;
}

/* Goes down one component. Returns 1 when *fd is the file at the end, 0, or -errno. */
static int step(struct walk *w, int *fd, struct stat *st, struct err *err)
{
	size_t n = strcspn(w->rest, "/");
	char name[NAME_MAX + 1];
	int rc;

	if (n > NAME_MAX)
		return sys_fail(w, ENAMETOOLONG, err);
	memcpy(name, w->rest, n);
	name[n] = 0;
	*fd = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0 || fd_stat(*fd, st)) {
		rc = sys_fail(w, errno, err);
	} else if (S_ISLNK(st->st_mode)) {
		rc = follow(w, *fd, w->rest + n, err);
		if (!rc)
			rc = enter(w, err);
	} else if (!w->rest[n]) {
		return 1;
	} else if (!S_ISDIR(st->st_mode)) {
		rc = sys_fail(w, ENOTDIR, err);
	} else {
		close(w->fd);
		w->fd = *fd;
		w->rest += n + 1;
		return 0;
	}
	if (*fd >= 0)
		close(*fd);
	return rc;
}

static const char *kind_of(mode_t mode)
{
	return S_ISDIR(mode)  ? "is a folder" :
	       S_ISFIFO(mode) ? "is a FIFO" :
	       S_ISSOCK(mode) ? "is a socket" :
				"is a character device";
}

/* Makes the folder in which the file is the next image's own. */
static int move_own(struct walk *w, struct err *err)
{
	char *path = name_of(w->fd);

	if (!path)
		return sys_fail(w, errno, err);
	store_folder_close(w->own);
	*w->own = (struct store_folder){ .fd = w->fd, .path = path };
	w->fd = -1;
	return 0;
}

int store_backing_find(struct store_folder *own, const char *image, const char *name,
		       struct store_found *out, struct err *err)
{
	struct walk w = { .own = own, .image = image, .name = name, .fd = -1 };
	int fd = -1, rc;

	w.path = join(own->path, name);
	if (!w.path)
		rc = errno == EXDEV ? refuse(&w, "has .. behind a folder", NULL, err) :
				      sys_fail(&w, ENOMEM, err);
	else
		rc = enter(&w, err);
	while (!rc)
		rc = step(&w, &fd, &out->st, err);
	if (rc > 0) {
		rc = 0;
		if (S_ISBLK(out->st.st_mode) && !w.named)
			rc = refuse(&w, "is a block device", w.path, err);
		else if (!S_ISREG(out->st.st_mode) && !S_ISBLK(out->st.st_mode))
			rc = err_set(
				err, EINVAL,
				"disk %.150s: its backing file %.150s %s, neither a file nor a "
				"block device, and is not opened",
				image, name, kind_of(out->st.st_mode));
		if (!rc)
			rc = move_own(&w, err);
		if (rc)
			close(fd);
	}
	if (w.fd >= 0)
		close(w.fd);
	free(w.path);
	if (rc)
		return rc;
	out->fd = fd;
	snprintf(out->via, sizeof(out->via), "/proc/self/fd/%d", fd);
	return 0;
}
