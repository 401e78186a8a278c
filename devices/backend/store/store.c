/* store: which format an image has, and what all formats share. See store.h. */
#include "devices/backend/store/store.h"

#include <errno.h>
#include <fcntl.h>
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

/* Only to be able to refuse; errors are the real open's to report. */
static bool begins_like_qcow2(const char *path)
{
	char magic[4];
	struct stat st;
	bool yes = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		yes = pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "QFI\xfb", 4);
	close(fd);
	return yes;
}

int store_choose_format(struct store_options *options, struct err *err)
{
	if (options->format != STORE_AUTO)
		return 0;
	options->format = store_format_of_name(options->path);
	if (options->format == STORE_RAW && begins_like_qcow2(options->path))
		return err_set(
			err, EINVAL,
			"disk %s: begins like a qcow2 image and is not named "
			".qcow2; say format=qcow2, or format=raw if a guest wrote that there",
			options->path);
	return 0;
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
