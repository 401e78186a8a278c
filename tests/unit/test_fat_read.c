/* fat/read: what the writer made, and volumes that lie. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/fat/fat.h"
#include "devices/backend/fat/read.h"
#include "vmm/core/bytes.h"

#define BIG_BYTES 700001u

static uint8_t *img;
static uint64_t img_len;

static int from_memory(void *opaque, uint64_t offset, void *to, size_t len)
{
	cr_assert(offset <= img_len && len <= img_len - offset, "%llu+%zu",
		  (unsigned long long)offset, len);
	memcpy(to, img + offset, len);
	return 0;
}

/* An image by the writer: BIG, "long name ü.txt" = "text", a folder "sub" with "inner". */
static void make(uint64_t min_bytes)
{
	struct fat_options options = { .label = "LABEL",
				       .min_bytes = min_bytes,
				       .latest_s = FAT_EPOCH_S,
				       .times = FAT_TIMES_ONE };
	char dir[] = "/tmp/bantam-fatread-XXXXXX", command[200];
	static uint8_t big[BIG_BYTES];
	struct fat *fat;
	struct err err;
	int fd;

	for (unsigned i = 0; i < BIG_BYTES; i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	cr_assert(mkdtemp(dir));
	snprintf(command, sizeof(command), "mkdir %s/sub && printf inner >%s/sub/inner", dir, dir);
	cr_assert_eq(system(command), 0);
	cr_assert_eq(fat_create(&options, &fat, &err), 0);
	cr_assert_eq(fat_add_data(fat, "BIG", (const char *)big, BIG_BYTES, &err), 0);
	cr_assert_eq(fat_add_data(fat, "long name \u00fc.txt", "text", 4, &err), 0);
	cr_assert_eq(fat_add_tree(fat, NULL, dir, &err), 0, "%s", err.text);
	cr_assert_eq(fat_layout(fat, &err), 0);
	fd = memfd_create("fat", MFD_CLOEXEC);
	cr_assert_eq(fat_write(fat, fd, "image", &err), 0, "%s", err.text);
	img_len = (uint64_t)lseek(fd, 0, SEEK_END);
	img = mmap(NULL, img_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	cr_assert_neq(img, MAP_FAILED);
	close(fd);
	fat_destroy(fat);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static struct fat_volume *open_volume(void)
{
	struct fat_volume *v;
	const char *why;

	cr_assert_eq(fat_volume_open(from_memory, NULL, img_len, &v, &why), 0, "%s", why);
	return v;
}

struct seen {
	char names[400];
	struct fat_item item[8];
	unsigned n;
};

static int see(void *opaque, const struct fat_item *item)
{
	struct seen *s = opaque;

	strcat(strcat(s->names, item->name), "|");
	if (s->n < 8)
		s->item[s->n] = *item;
	s->n++;
	return 0;
}

static int check_big(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	uint64_t *at = opaque;

	cr_assert_eq(offset, *at);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(((const uint8_t *)bytes)[i],
			     (uint8_t)((offset + i) * 7 + (offset + i) / 251));
	*at += len;
	return 0;
}

static int nothing(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	return 0;
}

Test(fat_read, what_was_written)
{
	static const struct {
		uint64_t min_bytes;
		unsigned bits;
	} t[] = { { 0, 12 }, { 8 << 20, 16 }, { 600 << 20, 32 } };

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct seen root = { .n = 0 }, sub = { .n = 0 };
		struct fat_volume *v;
		uint64_t at = 0;

		make(t[i].min_bytes);
		v = open_volume();
		cr_expect_eq(fat_volume_bits(v), t[i].bits, "%u", fat_volume_bits(v));
		cr_expect_str_eq(fat_volume_label(v), "LABEL");
		cr_expect(!fat_volume_dirty(v));
		cr_assert_eq(fat_volume_list(v, fat_volume_root(v), see, &root), 0);
		cr_expect_str_eq(root.names, "BIG|long name \u00fc.txt|sub|");
		cr_assert(root.n == 3 && root.item[2].dir && !root.item[1].dir &&
			  root.item[0].len_bytes == BIG_BYTES && root.item[1].len_bytes == 4);
		cr_expect_eq(root.item[0].mtime_s, FAT_EPOCH_S);
		cr_assert_eq(fat_volume_list(v, root.item[2].first, see, &sub), 0);
		cr_expect_str_eq(sub.names, "inner|");
		cr_assert_eq(fat_volume_read(v, root.item[0].first, BIG_BYTES, check_big, &at), 0);
		cr_expect_eq(at, BIG_BYTES);
		cr_expect(fat_item_is(&root.item[0], "big", 3));
		cr_expect(
			fat_item_is(&root.item[1], root.item[1].alias, strlen(root.item[1].alias)));
		cr_expect(!fat_item_is(&root.item[0], "bi", 2));
		fat_volume_close(v);
		munmap(img, img_len);
	}
}

Test(fat_read, boot_sectors_that_lie)
{
	static const struct {
		unsigned at, len;
		uint32_t val;
		const char *why;
	} t[] = {
		{ 510, 2, 0, "no boot sector" }, { 11, 2, 0, "sectors" },
		{ 11, 2, 513, "sectors" },	 { 11, 2, 32768, "sectors" },
		{ 13, 1, 0, "clusters have" },	 { 13, 1, 3, "clusters have" },
		{ 14, 2, 0, "no FAT" },		 { 16, 1, 0, "no FAT" },
		{ 22, 2, 0, "no room" },	 { 22, 2, 1, "too short" },
		{ 22, 2, 0xffff, "no room" },	 { 17, 2, 0xffff, "no room" },
		{ 17, 2, 0, "does not fit" },	 { 19, 2, 0xffff, "longer than" },
		{ 19, 2, 1, "no room" },	 { 19, 2, 0, "no room" },
		{ 11, 2, 4096, "longer than" },
	};

	make(0);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t was[4];
		const char *why;
		struct fat_volume *v;

		memcpy(was, img + t[i].at, 4);
		for (unsigned b = 0; b < t[i].len; b++)
			img[t[i].at + b] = (uint8_t)(t[i].val >> 8 * b);
		cr_expect_eq(fat_volume_open(from_memory, NULL, img_len, &v, &why), -EINVAL, "%zu",
			     i);
		cr_expect(!v && why && strstr(why, t[i].why), "%zu: %s", i, why);
		memcpy(img + t[i].at, was, 4);
	}
	img_len = 511;
	struct fat_volume *v;
	const char *why;
	cr_expect_eq(fat_volume_open(from_memory, NULL, img_len, &v, &why), -EINVAL);
}

/* Where the fixed root of a FAT12 or FAT16 is, and the first FAT. */
static uint8_t *root_of(void)
{
	return img + (get_le16(img + 14) + 2 * get_le16(img + 22)) * 512;
}

static uint8_t *entry_of(const char *alias)
{
	uint8_t *e = root_of();

	while (memcmp(e, alias, 11))
		e += 32;
	return e;
}

Test(fat_read, chains_that_lie)
{
	uint8_t *fat, *big, *sub;
	struct seen root = { .n = 0 };
	struct fat_volume *v;
	uint32_t first, folder;

	make(8 << 20); /* FAT16 */
	fat = img + get_le16(img + 14) * 512;
	big = entry_of("BIG        ");
	sub = entry_of("SUB        ");
	first = get_le16(big + 26);
	folder = get_le16(sub + 26);
	v = open_volume();
	cr_assert_eq(fat_volume_read(v, first, BIG_BYTES, nothing, NULL), 0);
	/* Ends early; leads outside; a circle gives no more than the size. */
	static const uint16_t links[] = { 0xffff, 0xfff8, 0, 1, 0xfff7, 0xfff0 };
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		uint16_t was = get_le16(fat + 2 * first);

		put_le16(fat + 2 * first, links[i]);
		fat_volume_close(v);
		v = open_volume();
		cr_expect_eq(fat_volume_read(v, first, BIG_BYTES, nothing, NULL), -EIO, "%zu", i);
		put_le16(fat + 2 * first, was);
	}
	put_le16(fat + 2 * first, first);
	fat_volume_close(v);
	v = open_volume();
	cr_expect_eq(fat_volume_read(v, first, 0xffffffff, nothing, NULL), 0);
	/* A folder in a circle ends, too. Its cluster has no end of its own entries. */
	put_le16(fat + 2 * folder, folder);
	memset(img + (root_of() - img) + get_le16(img + 17) * 32 +
		       (uint64_t)(folder - 2) * img[13] * 512,
	       0xe5, img[13] * 512u);
	fat_volume_close(v);
	v = open_volume();
	cr_expect_eq(fat_volume_list(v, folder, see, &root), -EIO);
	cr_expect_eq(fat_volume_list(v, 1, see, &root), -EIO);
	cr_expect_eq(fat_volume_list(v, fat_volume_end(v), see, &root), -EIO);
	/* Entries that begin nowhere. */
	put_le16(big + 26, 1);
	put_le16(sub + 26, 0);
	root.n = 0;
	root.names[0] = 0;
	cr_assert_eq(fat_volume_list(v, fat_volume_root(v), see, &root), 0);
	cr_expect(root.n == 3 && root.item[0].broken && !root.item[1].broken &&
		  root.item[2].broken);
	fat_volume_close(v);
}

Test(fat_read, names_that_lie)
{
	static const struct {
		const char *alias, *want;
		uint8_t flags;
	} t[] = {
		{ "A/B     C  ", "A?B.C|", 0 },
		{ "..x        ", "..x|", 0 },
		{ "A\x1b[1m   TXT", "A?[1m.TXT|", 0 },
		{ "\x05\x80      \xfc  ", "\u03c3\u00c7.\u207f|", 0 },
		{ "NAME    TXT", "name.TXT|", 0x08 },
		{ "NAME    TXT", "NAME.txt|", 0x10 },
		{ "           ", "?|", 0 },
		{ "\xe5NAME      ", "", 0 },
		{ ".          ", "", 0 },
		{ "..         ", "", 0 },
	};
	/* Long names: "." and a '/', a control character, half a surrogate. */
	static const struct {
		uint16_t wide[4];
		const char *want;
	} l[] = {
		{ { '.', 0 }, "?|" },
		{ { '.', '.', 0 }, "?|" },
		{ { 'a', '/', 'b', 0 }, "a?b|" },
		{ { 0x9b, 10, 0xd800, 'x' }, "???x|" },
		{ { 0xd834, 0xdd1e, 0 }, "\U0001d11e|" },
		{ { 0 }, "X|" },
	};
	struct fat_volume *v;

	make(0);
	v = open_volume();
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct seen s = { .n = 0 };
		uint8_t *e = root_of();

		memset(e, 0, 64);
		memcpy(e, t[i].alias, 11);
		e[12] = t[i].flags;
		cr_assert_eq(fat_volume_list(v, fat_volume_root(v), see, &s), 0);
		cr_expect_str_eq(s.names, t[i].want, "%zu: %s", i, s.names);
	}
	for (size_t i = 0; i < sizeof(l) / sizeof(l[0]); i++) {
		for (unsigned damage = 0; damage < 4; damage++) {
			struct seen s = { .n = 0 };
			uint8_t *e = root_of(), sum = 0;

			memset(e, 0, 96);
			memcpy(e + 32, "X          ", 11);
			for (unsigned b = 0; b < 11; b++)
				sum = (uint8_t)(((sum & 1) << 7) + (sum >> 1) + e[32 + b]);
			e[0] = damage == 1 ? 0x42 : 0x41;
			e[11] = 0x0f;
			e[13] = (uint8_t)(sum + (damage == 2));
			for (unsigned b = 0; b < 4; b++)
				put_le16(e + 1 + 2 * b, l[i].wide[b]);
			if (damage == 3)
				e[0] = 0x7f;
			cr_assert_eq(fat_volume_list(v, fat_volume_root(v), see, &s), 0);
			cr_expect_str_eq(s.names, damage ? "X|" : l[i].want, "%zu, %u: %s", i,
					 damage, s.names);
		}
	}
	fat_volume_close(v);
}
