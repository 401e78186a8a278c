/* store: which format an image has, and what all formats share. See store.h. */
#include "devices/backend/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"

static const char *const names[] = {
	[STORE_AUTO] = "auto",
	[STORE_RAW] = "raw",
	[STORE_QCOW2] = "qcow2",
};
#define QCOW2_MAGIC "QFI\xfb"
#define NFORMATS (sizeof(names) / sizeof(names[0]))

const char *store_format_name(enum store_format format)
{
	return names[format];
}

int store_format_parse(const char *name, enum store_format *out)
{
	for (size_t i = 0; i < NFORMATS; i++) {
		if (!strcmp(name, names[i])) {
			*out = (enum store_format)i;
			return 0;
		}
	}
	return -EINVAL;
}

enum store_format store_format_of_name(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && (!strcmp(dot, ".qcow2") || !strcmp(dot, ".qcow")) ? STORE_QCOW2 : STORE_RAW;
}

/* Reads the first len bytes of a file or block device. Returns false if it has fewer. */
static bool read_head(const char *path, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	bool got;

	if (fd < 0)
		return false;
	got = !fd_stat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
	      pread(fd, buf, len, 0) == (ssize_t)len;
	close(fd);
	return got;
}

enum store_format store_format_of_content(const char *path)
{
	struct store_looks looks;

	store_look(path, NULL, &looks);
	return looks.qcow2 ? STORE_QCOW2 : STORE_RAW;
}

bool store_has_backing(const char *path)
{
	static const char none[8];
	char head[16]; /* magic, version, offset of the backing file's name */

	return read_head(path, head, sizeof(head)) && !memcmp(head, QCOW2_MAGIC, 4) &&
	       memcmp(head + 8, none, sizeof(none)) != 0;
}

int store_format_guess(const char *path, enum store_format *out)
{
	*out = store_format_of_name(path);
	return *out == STORE_RAW && store_format_of_content(path) == STORE_QCOW2 ? -EINVAL : 0;
}

int store_format_refuse(const char *kind, const char *path, const char *option, struct err *err)
{
	return err_set(err, EINVAL,
		       "%s %s: begins like a qcow2 image but is not named .qcow2; "
		       "give %sqcow2, or %sraw if a guest wrote that there",
		       kind, path, option, option);
}

int store_choose_format(struct store_options *options, struct err *err)
{
	struct store_looks looks;

	if (options->format != STORE_AUTO)
		return 0;
	options->format = store_format_of_name(options->path);
	if (options->format == STORE_QCOW2)
		return 0;
	store_look(options->path, options->via, &looks);
	if (looks.qcow2)
		return store_format_refuse("disk", options->path, "format=", err);
	return looks.foreign ? store_refuse_foreign(options->path, &looks, "format=raw", err) : 0;
}

char *store_backing_path(const char *image, const char *name)
{
	const char *slash = strrchr(image, '/');
	char *path;

	if (name[0] == '/' || !slash)
		return strdup(name);
	return asprintf(&path, "%.*s%s", (int)(slash - image + 1), image, name) < 0 ? NULL : path;
}

int store_read(struct store *s, void *buf, uint64_t offset, uint64_t len_bytes)
{
	struct iovec iov = { buf, len_bytes };

	return s->ops->read(s, &iov, 1, offset, len_bytes);
}

int store_write(struct store *s, const void *buf, uint64_t offset, uint64_t len_bytes)
{
	struct iovec iov = { (void *)buf, len_bytes };

	return s->ops->write(s, &iov, 1, offset, len_bytes);
}
