/* text: lists and small files. See seed.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/fat/fat.h"
#include "tools/bantam-seed/seed.h"

#define TEXT_MAX (64u << 20)

int list_add(struct list *list, const char *item)
{
	/* Grow to 8, 16, 32 … items. */
	if (!list->n || (list->n >= 8 && !(list->n & (list->n - 1)))) {
		size_t room = list->n ? list->n * 2 : 8;
		const char **bigger = realloc(list->item, room * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		list->item = bigger;
	}
	list->item[list->n++] = item;
	return 0;
}

void list_clear(struct list *list)
{
	free(list->item);
	*list = (struct list){ NULL, 0 };
}

void text_clear(struct text *text)
{
	free(text->data);
	*text = (struct text){ NULL, 0 };
}

int text_load(const char *path, struct text *out, struct err *err)
{
	int fd = strcmp(path, "-") ? fat_open_named(path, err) : 0;
	size_t room = 0;
	int rc = 0;

	*out = (struct text){ NULL, 0 };
	if (fd < 0)
		return fd;
	while (!rc) {
		ssize_t n;

		if (out->len + 1 >= room) {
			char *bigger;

			room = room ? room * 2 : 4096;
			bigger = realloc(out->data, room);
			if (!bigger) {
				rc = err_sys(err, ENOMEM, "%s", path);
				break;
			}
			out->data = bigger;
		}
		n = read(fd, out->data + out->len, room - out->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_sys(err, errno, "%s", path);
		if (n <= 0)
			break;
		out->len += (size_t)n;
		if (out->len > TEXT_MAX)
			rc = err_set(err, EFBIG, "%s: is larger than 64 MiB", path);
	}
	if (fd)
		close(fd);
	if (rc)
		text_clear(out);
	else
		out->data[out->len] = 0;
	return rc;
}
