/*
 * fat/source: finds the host's folders and files for an image. See fat_impl.h.
 *
 * Theory of operation. bantam, perhaps run by root, reads folders that belong to others, and
 * their owner may exchange a folder and a link at any moment. So a name that was found in a folder
 * is only ever looked up beneath the descriptor of the folder that the user named, and no link on
 * the way is followed: by openat2(2), or, where the kernel or a filter refuses that call, component
 * by component. What is found is an O_PATH descriptor. Its kind is known before it is opened for
 * reading, and the open goes through the descriptor, so no FIFO or device is opened in its place.
 *
 * Links are followed in two cases: in a path that the user gave, and below it with --follow. There
 * the kernel's rule for links in shared folders holds, a bit stricter (proc_sys_fs(5),
 * protected_symlinks): a link that belongs neither to root nor to the user leads only to what
 * belongs to the link's owner. Therefore this file resolves such paths itself.
 */
#include "devices/backend/fat/fat_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/core/fd_now.h"
#include "vmm/core/fd_stat.h"

#define LINKS_MAX 40u /* as in the kernel */
#define TRIES 32u

struct walk {
	int at; /* O_PATH: where the walk has come to */
	bool follow;
	unsigned nlinks;
	bool by_other; /* a link on the way belongs to other */
	uid_t other;
	bool foreign;
};

static int replace(struct walk *w, int fd)
{
	if (fd < 0)
		return -errno;
	if (w->at >= 0)
		close(w->at);
	w->at = fd;
	return 0;
}

/* A link's owner must be trusted, or own what the link leads to in the end. */
static void note_link(struct walk *w, uid_t owner)
{
	if (!owner || owner == geteuid())
		return;
	if (w->by_other && w->other != owner)
		w->foreign = true;
	w->by_other = true;
	w->other = owner;
}

/* link: O_PATH. *todo becomes the path that is left: the link's text, then the rest. */
static int enter_link(struct walk *w, int link, const char *name, char **todo, const char *rest)
{
	char text[PATH_MAX], *longer;
	struct statfs fs;
	ssize_t n;

	if (++w->nlinks > LINKS_MAX)
		return -ELOOP;
	/* /proc/self/fd/N has no text that leads there. */
	if (!fstatfs(link, &fs) && fs.f_type == PROC_SUPER_MAGIC) {
		memmove(*todo, rest, strlen(rest) + 1);
		return replace(w, openat(w->at, name, O_PATH | O_CLOEXEC));
	}
	n = readlinkat(link, "", text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	if (asprintf(&longer, "%s/%s", text, rest) < 0)
		return -ENOMEM;
	free(*todo);
	*todo = longer;
	return *text == '/' ? replace(w, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) : 0;
}

/* Walks over the first name of *todo. */
static int step(struct walk *w, char **todo)
{
	size_t skip = strspn(*todo, "/"), len = strcspn(*todo + skip, "/");
	char name[NAME_MAX + 1];
	const char *rest = *todo + skip + len;
	struct stat st;
	int fd, rc = 0;

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, *todo + skip, len);
	name[len] = 0;
	if (!strcmp(name, "..") && !w->follow)
		return -EXDEV;
	/* A folder in the first try: this mounts what autofs has there. */
	fd = openat(w->at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fd_stat(fd, &st)) {
		rc = -errno;
	} else if (S_ISLNK(st.st_mode) && w->follow) {
		note_link(w, st.st_uid);
		rc = enter_link(w, fd, name, todo, rest);
	} else if (rest[strspn(rest, "/")] && !S_ISDIR(st.st_mode)) {
		rc = -ENOTDIR;
	} else {
		rc = replace(w, fd);
		fd = -1;
		memmove(*todo, rest, strlen(rest) + 1);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Walks from w->at, which is closed or becomes the result. Returns the result or -errno. */
static int walk(struct walk *w, const char *path)
{
	char *todo = strdup(path);
	struct stat st;
	int rc = todo ? 0 : -ENOMEM;

	if (w->at < 0)
		rc = -errno;
	while (!rc && todo[strspn(todo, "/")])
		rc = step(w, &todo);
	free(todo);
	if (!rc && w->by_other && (fd_stat(w->at, &st) || st.st_uid != w->other))
		w->foreign = true;
	if (!rc && w->foreign)
		rc = -EACCES;
	if (!rc)
		return w->at;
	if (w->at >= 0)
		close(w->at);
	return rc;
}

/* Returns a descriptor, -errno, or -ENOSYS if this kernel or a filter refuses the call. */
static int beneath(int top, const char *rel)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	long fd = -1;

	errno = EAGAIN;
	for (unsigned i = 0; fd < 0 && errno == EAGAIN && i < TRIES; i++)
		fd = syscall(SYS_openat2, top, rel, &how, sizeof(how));
	if (fd >= 0)
		return (int)fd;
	/* A filter that does not know the call answers EPERM; the walk tells the true reason. */
	return errno == EPERM || errno == EINVAL || errno == E2BIG || errno == EAGAIN ? -ENOSYS :
											-errno;
}

static int finish(int fd, struct walk *w, struct fat_source *out)
{
	*out = (struct fat_source){ .fd = fd, .foreign = w->foreign };
	if (fd < 0 || !fd_stat(fd, &out->st))
		return fd < 0 ? fd : 0;
	fd = -errno;
	fat_source_close(out);
	return fd;
}

int fat_source_named(const char *path, struct fat_source *out)
{
	const char *from = *path == '/' ? "/" : ".";
	struct walk w = { .at = *path ? open(from, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1,
			  .follow = true };

	if (!*path)
		errno = ENOENT;
	return finish(walk(&w, path), &w, out);
}

int fat_source_beneath(int top, const char *rel, bool follow, struct fat_source *out)
{
	struct walk w = { .at = -1, .follow = follow };
	int fd = follow ? -ENOSYS : beneath(top, rel);

	if (fd == -ENOSYS) {
		w.at = fcntl(top, F_DUPFD_CLOEXEC, 0);
		fd = walk(&w, rel);
	}
	return finish(fd, &w, out);
}

int fat_source_find(const struct fat *fat, const struct fat_node *node, struct fat_source *out)
{
	const char *rel = node->path + strlen(node->top->path);

	return fat_source_beneath(node->top->source.fd, rel + strspn(rel, "/"), fat->options.follow,
				  out);
}

int fat_source_read(const struct fat_source *source, int more)
{
	int fd = fd_open_again(source->fd, O_RDONLY | more);

	return fd < 0 ? -errno : fd;
}

int fat_source_read_plain(const struct fat_source *source)
{
	if (!S_ISREG(source->st.st_mode) && !S_ISDIR(source->st.st_mode))
		return -EINVAL;
	return fat_source_read(source, O_NONBLOCK);
}

void fat_source_close(struct fat_source *source)
{
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}
