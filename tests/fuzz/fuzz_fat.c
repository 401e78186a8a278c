/*
 * fuzz_fat: names and sizes of files for the FAT writer. A reader that shares no code with the
 * writer must find all accepted files; a refusal must be one printable line.
 *
 * The input: a byte of options, then for each file a byte of its length, its name and a newline.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/fat/fat.h"
#include "tests/unit/fat_reader.h"

#define MAX_FILES 600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *text)
{
	size_t len = strnlen(text, sizeof(((struct err *)0)->text));

	BUG_ON(!len || len == sizeof(((struct err *)0)->text));
	for (size_t i = 0; i < len; i++)
		BUG_ON((uint8_t)text[i] < ' ' || text[i] == 0x7f);
}

static void look(struct fat *fat, char **name, const uint8_t *len, unsigned n)
{
	int fd = memfd_create("fat", MFD_CLOEXEC);
	struct fat_info info;
	struct fat_seen seen;
	struct err err;
	uint8_t *img;

	BUG_ON(fat_write(fat, fd, "image", &err));
	fat_get_info(fat, &info);
	img = mmap(NULL, info.size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	BUG_ON(img == MAP_FAILED);
	BUG_ON(!fat_read_image(&seen, img, info.size_bytes));
	BUG_ON(seen.nfiles != n || seen.bits != info.bits);
	for (unsigned i = 0; i < n; i++) {
		const struct fat_found *f = fat_seen_find(&seen, name[i]);

		BUG_ON(!f || f->size != len[i] * 37u);
		for (uint32_t at = 0; at < f->size; at += 101)
			BUG_ON(fat_seen_byte(&seen, f, at) != len[i]);
	}
	fat_seen_clear(&seen);
	munmap(img, info.size_bytes);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fat_options options = { .label = size && data[0] & 1 ? "FUZZ" : NULL };
	char *name[MAX_FILES], text[256 * 37];
	uint8_t len[MAX_FILES];
	struct fat *fat;
	struct err err;
	unsigned n = 0;
	size_t at = 1;

	if (size && data[0] & 2)
		options.min_bytes = 4u << 20;
	BUG_ON(fat_create(&options, &fat, &err));
	while (at + 1 < size && n < MAX_FILES) {
		const uint8_t *from = data + at + 1, *end = memchr(from, '\n', size - at - 1);
		size_t chars = end ? (size_t)(end - from) : size - at - 1;

		len[n] = data[at];
		memset(text, len[n], sizeof(text));
		name[n] = strndup((const char *)from, chars);
		BUG_ON(fat_add_data(fat, name[n], text, len[n] * 37u, &err));
		n++;
		at += chars + 2;
	}
	err.text[0] = 0;
	if (fat_layout(fat, &err))
		check_line(err.text);
	else
		look(fat, name, len, n);
	fat_destroy(fat);
	while (n)
		free(name[--n]);
	return 0;
}
