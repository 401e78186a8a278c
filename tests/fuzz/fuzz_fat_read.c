/*
 * fuzz_fat_read: the FAT reader on volumes that the writer made and the input damages. Everything that
 * the reader finds is read; no name may lead out of its folder.
 *
 * The input: a byte that chooses FAT12, 16 or 32, then patches: three bytes of the place, a byte of length,
 * the bytes. A place counts from the volume's start, and in FAT32 folders lie at its data's start.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/fat/fat.h"
#include "devices/backend/fat/read.h"
#include "vmm/core/printable.h"

#define DEPTH_MAX 6u
#define ITEMS_MAX 3000u
#define KINDS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct base {
	uint8_t *bytes;
	uint64_t len;
} base[KINDS];

static void make(struct base *b, uint64_t min_bytes)
{
	static const char zeroes[40000];
	struct fat_options options = { .label = "FUZZ", .min_bytes = min_bytes };
	char name[] = "a longer name 00", dir[] = "/tmp/bantam-fuzz-XXXXXX", sub[64];
	int fd = memfd_create("fat", MFD_CLOEXEC);
	struct fat *fat;
	struct err err;

	BUG_ON(fat_create(&options, &fat, &err));
	for (unsigned i = 0; i < 40; i++) {
		name[14] = (char)('0' + i / 10);
		name[15] = (char)('0' + i % 10);
		BUG_ON(fat_add_data(fat, name, name, i % 3 ? sizeof(name) : 0, &err));
	}
	BUG_ON(!mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/sub", dir);
	BUG_ON(mkdir(sub, 0700) || fat_add_tree(fat, NULL, dir, &err));
	rmdir(sub);
	rmdir(dir);
	BUG_ON(fat_add_data(fat, "F", zeroes, sizeof(zeroes), &err));
	BUG_ON(fat_layout(fat, &err) || fat_write(fat, fd, "image", &err));
	b->len = (uint64_t)lseek(fd, 0, SEEK_END);
	b->bytes = mmap(NULL, b->len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	BUG_ON(b->bytes == MAP_FAILED);
	close(fd);
	fat_destroy(fat);
}

static int from_memory(void *opaque, uint64_t offset, void *to, size_t len)
{
	const struct base *b = opaque;

	if (offset > b->len || len > b->len - offset)
		return -EIO;
	memcpy(to, b->bytes + offset, len);
	return 0;
}

struct walk {
	struct fat_volume *v;
	unsigned depth, items;
};

static int take_bytes(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	uint64_t *at = opaque;

	BUG_ON(offset != *at || !len);
	*at += len;
	return *at > (1u << 20) ? -ECANCELED : 0;
}

static int take(void *opaque, const struct fat_item *item)
{
	struct walk *w = opaque;
	uint64_t at = 0;
	int rc;

	BUG_ON(!item->name[0] || strchr(item->name, '/') || !printable_is(item->name) ||
	       !strcmp(item->name, ".") || !strcmp(item->name, ".."));
	BUG_ON(strlen(item->name) >= FAT_READ_NAME_BYTES || !printable_is(item->alias));
	BUG_ON(!fat_item_is(item, item->name, strlen(item->name)));
	if (w->items++ > ITEMS_MAX)
		return 1;
	if (item->dir && w->depth < DEPTH_MAX) {
		w->depth++;
		rc = fat_volume_list(w->v, item->first, take, w);
		w->depth--;
		return rc == 1;
	}
	rc = item->dir ? 0 : fat_volume_read(w->v, item->first, item->len_bytes, take_bytes, &at);
	BUG_ON(at > item->len_bytes || (!rc && !item->dir && at != item->len_bytes));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t was[1 << 16];
	static uint32_t place[1 << 16];
	struct walk w = { .depth = 0 };
	const char *why = NULL;
	unsigned n = 0;
	struct base *b;

	if (!base[0].bytes)
		for (unsigned i = 0; i < KINDS; i++)
			make(&base[i], (const uint64_t[]){ 0, 8 << 20, 40 << 20 }[i]);
	if (!size)
		return 0;
	b = &base[*data++ % KINDS];
	size--;
	while (size > 4) {
		uint32_t at = data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16;
		uint8_t len = data[3];

		data += 4;
		size -= 4;
		for (; len && size; len--, data++, size--, at++) {
			if (at >= b->len || n == sizeof(place) / sizeof(place[0]))
				continue;
			place[n] = at;
			was[n++] = b->bytes[at];
			b->bytes[at] = *data;
		}
	}
	if (fat_volume_open(from_memory, b, b->len, &w.v, &why)) {
		BUG_ON(w.v || !why);
	} else {
		fat_volume_dirty(w.v);
		BUG_ON(!printable_is(fat_volume_label(w.v)));
		fat_volume_list(w.v, fat_volume_root(w.v), take, &w);
		fat_volume_close(w.v);
	}
	while (n--)
		b->bytes[place[n]] = was[n];
	return 0;
}
