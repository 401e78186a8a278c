/* store: which format an image has, and what all formats share. See store.h. */
#include "devices/backend/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {
	[STORE_AUTO] = "auto",
	[STORE_RAW] = "raw",
	[STORE_QCOW2] = "qcow2",
};
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

enum store_format store_format_of_content(const char *path)
{
	char magic[4];
	struct stat st;
	bool qcow2 = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return STORE_RAW;
	if (!fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		qcow2 = pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "QFI\xfb", 4);
	close(fd);
	return qcow2 ? STORE_QCOW2 : STORE_RAW;
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
	if (options->format != STORE_AUTO || !store_format_guess(options->path, &options->format))
		return 0;
	return store_format_refuse("disk", options->path, "format=", err);
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
