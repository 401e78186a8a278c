/* partitions: valid MBR and GPT tables, and hostile ones. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "devices/backend/store/partitions.h"
#include "vmm/core/bytes.h"

#define SECTORS 2048u

/* A disk in memory. */
struct fake {
	struct store store; /* first */
	uint8_t *bytes;
	int fail_from; /* reads from this sector on fail; 0: none */
};

static int fake_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		     uint64_t len)
{
	struct fake *f = (struct fake *)s;

	cr_assert_eq(niov, 1);
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return -EINVAL;
	if (f->fail_from && offset + len > (uint64_t)f->fail_from * 512)
		return -EIO;
	memcpy(iov->iov_base, f->bytes + offset, len);
	return 0;
}

static const struct store_ops fake_ops = { .format = STORE_RAW, .read = fake_read };
static struct fake disk;
static struct store_partitions got;

static void setup(void)
{
	disk = (struct fake){ .store = { .ops = &fake_ops, .size_bytes = SECTORS * 512 } };
	disk.bytes = calloc(SECTORS, 512);
}

static void teardown(void)
{
	free(disk.bytes);
}

TestSuite(partitions, .init = setup, .fini = teardown);

static uint8_t *sector(uint64_t i)
{
	return disk.bytes + i * 512;
}

static void mbr_entry(uint64_t at, unsigned i, uint8_t type, uint32_t start, uint32_t len)
{
	uint8_t *e = sector(at) + 446 + 16 * i;

	e[4] = type;
	put_le32(e + 8, start);
	put_le32(e + 12, len);
	sector(at)[510] = 0x55;
	sector(at)[511] = 0xaa;
}

static int read_table(void)
{
	struct err err;

	return store_partitions_read(&disk.store, &got, &err);
}

static void is_part(unsigned i, unsigned number, uint64_t start, uint64_t len, const char *uuid)
{
	cr_assert_lt(i, got.n);
	cr_assert_eq(got.part[i].number, number);
	cr_assert_eq(got.part[i].offset, start * got.sector_bytes);
	cr_assert_eq(got.part[i].len_bytes, len * got.sector_bytes);
	cr_assert_str_eq(got.part[i].partuuid, uuid);
}

Test(partitions, none)
{
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.table, PART_TABLE_NONE);
	is_part(0, 0, 0, SECTORS, "");
	disk.store.size_bytes = 0;
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.n, 0);
	disk.store.size_bytes = 511;
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.part[0].len_bytes, 511);
}

Test(partitions, mbr)
{
	put_le32(sector(0) + 440, 0xdeadbeef);
	mbr_entry(0, 0, 0x83, 100, 50);
	mbr_entry(0, 2, 0x83, 200, 1u << 31);
	/* A partition beyond the end, and an empty one. */
	mbr_entry(0, 1, 0x83, SECTORS, 1);
	mbr_entry(0, 3, 0x83, 300, 0);
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.table, PART_TABLE_MBR);
	cr_assert_eq(got.n, 2);
	is_part(0, 1, 100, 50, "deadbeef-01");
	is_part(1, 3, 200, SECTORS - 200, "deadbeef-03");
	put_le32(sector(0) + 440, 0);
	cr_assert_eq(read_table(), 0);
	is_part(0, 1, 100, 50, "");
	/* A FAT boot sector looks like this. */
	sector(0)[446] = 0x12;
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.table, PART_TABLE_NONE);
}

Test(partitions, logical)
{
	put_le32(sector(0) + 440, 1);
	mbr_entry(0, 0, 0x83, 10, 5);
	mbr_entry(0, 1, 0x05, 100, 1000);
	mbr_entry(100, 0, 0x83, 1, 20);
	mbr_entry(100, 1, 0x05, 50, 100);
	mbr_entry(150, 0, 0x83, 2, 30);
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.n, 3);
	is_part(1, 5, 101, 20, "00000001-05");
	is_part(2, 6, 152, 30, "00000001-06");
	/* A loop of extended partitions: the reader stops. */
	mbr_entry(150, 1, 0x05, 50, 100);
	cr_assert_eq(read_table(), 0);
	cr_assert_leq(got.n, PARTITIONS_MAX);
	mbr_entry(150, 1, 0x05, 0xffffffff, 100);
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.n, 3);
	disk.fail_from = 120;
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.n, 2);
}

/* --- GPT ------------------------------------------------------------------------------------ */

static uint32_t gpt_ss = 512, gpt_entry_bytes = 128, gpt_entries = 8;
static const uint8_t linux_type[16] = { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
					0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4 };

static uint8_t *lba(uint64_t i)
{
	return disk.bytes + i * gpt_ss;
}

static void gpt_header(uint64_t at, uint64_t alternate, uint64_t entries)
{
	uint8_t *h = lba(at);

	memset(h, 0, gpt_ss);
	memcpy(h, "EFI PART", 8);
	put_le32(h + 8, 0x10000);
	put_le32(h + 12, 92);
	put_le64(h + 24, at);
	put_le64(h + 32, alternate);
	put_le64(h + 72, entries);
	put_le32(h + 80, gpt_entries);
	put_le32(h + 84, gpt_entry_bytes);
	put_le32(h + 88, (uint32_t)crc32(0, lba(entries), gpt_entries * gpt_entry_bytes));
	put_le32(h + 16, (uint32_t)crc32(0, h, 92));
}

static void gpt_entry(uint64_t entries, unsigned i, uint64_t first, uint64_t last)
{
	uint8_t *e = lba(entries) + i * gpt_entry_bytes;

	memcpy(e, linux_type, 16);
	memset(e + 16, 0x11 * (int)(i + 1), 16);
	put_le64(e + 32, first);
	put_le64(e + 40, last);
}

static void gpt(uint64_t first, uint64_t last)
{
	uint64_t end = SECTORS * 512 / gpt_ss - 1;

	mbr_entry(0, 0, 0xee, 1, SECTORS - 1);
	for (unsigned copy = 0; copy < 2; copy++) {
		uint64_t entries = copy ? end - 20 : 2;

		gpt_entry(entries, 1, first, last);
		gpt_entry(entries, 4, 60, 69);
		gpt_header(copy ? end : 1, copy ? 1 : end, entries);
	}
}

Test(partitions, gpt_sizes)
{
	static const uint32_t sizes[][2] = {
		{ 512, 128 }, { 512, 256 }, { 4096, 128 }, { 512, 1024 }
	};

	for (unsigned i = 0; i < 4; i++) {
		memset(disk.bytes, 0, SECTORS * 512);
		gpt_ss = sizes[i][0];
		gpt_entry_bytes = sizes[i][1];
		gpt(30, 39);
		cr_assert_eq(read_table(), 0);
		cr_assert_eq(got.table, PART_TABLE_GPT);
		cr_assert_eq(got.sector_bytes, gpt_ss);
		cr_assert_not(got.from_backup);
		cr_assert_eq(got.n, 2);
		is_part(0, 2, 30, 10, "22222222-2222-2222-2222-222222222222");
		is_part(1, 5, 60, 10, "55555555-5555-5555-5555-555555555555");
		if (gpt_ss == 512)
			continue;
		/* What is left of a GPT of smaller sectors does not hide it. */
		memcpy(sector(1), "EFI PART", 8);
		cr_assert_eq(read_table(), 0);
		cr_assert_eq(got.sector_bytes, gpt_ss);
		cr_assert_eq(got.n, 2);
	}
}

/* The name of a partition, UTF-16 in the GPT: of every width, unpaired surrogates, the longest. */
Test(partitions, gpt_names)
{
	static const struct {
		uint16_t units[36];
		const char *name;
	} t[] = {
		{ { 0 }, "" },
		{ { 'a', ' ', 'b' }, "a b" },
		{ { 0xdf, 0x20ac, 0xd83d, 0xde00, 'x' }, "\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80x" },
		{ { 0xd83d, 'x' }, "?x" },
		{ { 0xde00, 0xd83d }, "??" },
		{ { 'a', 0, 'b' }, "a" },
	};

	for (size_t i = 0; i <= sizeof(t) / sizeof(t[0]); i++) {
		bool longest = i == sizeof(t) / sizeof(t[0]);

		memset(disk.bytes, 0, SECTORS * 512);
		for (unsigned k = 0; k < 36; k++)
			put_le16(lba(2) + gpt_entry_bytes + 56 + 2 * k,
				 longest ? 0xffff : t[i].units[k]);
		gpt(30, 39);
		cr_assert_eq(read_table(), 0);
		cr_assert_not(got.from_backup);
		if (longest)
			cr_assert_eq(strlen(got.part[0].partlabel), 3 * 36);
		else
			cr_assert_str_eq(got.part[0].partlabel, t[i].name);
		cr_assert_str_eq(got.part[1].partlabel, "");
	}
}

Test(partitions, gpt_copies)
{
	gpt(30, 39);
	sector(1)[40] ^= 1; /* damage the first header */
	cr_assert_eq(read_table(), 0);
	cr_assert(got.from_backup);
	cr_assert_eq(got.n, 2);
	sector(SECTORS - 1)[40] ^= 1; /* damage the second header, too */
	cr_assert_eq(read_table(), -EINVAL);
	gpt(30, 39);
	sector(2)[130] ^= 1; /* damage the first entries */
	cr_assert_eq(read_table(), 0);
	cr_assert(got.from_backup);
	sector(SECTORS - 21)[130] ^= 1; /* damage the second entries, too */
	cr_assert_eq(read_table(), -EINVAL);
	gpt(30, 39);
	/* The image has grown, and the first header is gone. */
	disk.fail_from = 1;
	cr_assert_eq(read_table(), -EINVAL);
	/* Without its protective MBR it is none, as for Linux. */
	disk.fail_from = 0;
	memset(sector(0), 0, 512);
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.table, PART_TABLE_NONE);
}

Test(partitions, gpt_hostile_numbers)
{
	static const struct {
		unsigned at, bytes;
		uint64_t val;
	} fields[] = {
		{ 12, 4, 91 },
		{ 12, 4, 513 },
		{ 12, 4, 0xffffffff },
		{ 24, 8, 2 },
		{ 72, 8, 0 },
		{ 72, 8, UINT64_MAX },
		{ 72, 8, UINT64_MAX / 512 + 2 },
		{ 72, 8, SECTORS },
		{ 80, 4, 0xffffffff },
		{ 80, 4, 1025 },
		{ 84, 4, 0 },
		{ 84, 4, 127 },
		{ 84, 4, 129 },
		{ 84, 4, 0x80000000 },
		{ 84, 4, 8192 },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		uint8_t *h = sector(1);

		memset(disk.bytes, 0, SECTORS * 512);
		gpt(30, 39);
		memset(sector(SECTORS - 1), 0, 512);
		if (fields[i].bytes == 8)
			put_le64(h + fields[i].at, fields[i].val);
		else
			put_le32(h + fields[i].at, (uint32_t)fields[i].val);
		put_le32(h + 16, 0);
		put_le32(h + 16, (uint32_t)crc32(0, h, 92));
		cr_assert_eq(read_table(), -EINVAL, "field %zu", i);
	}
}

Test(partitions, gpt_hostile_entries)
{
	static const struct {
		uint64_t first, last;
		unsigned n;
	} e[] = {
		{ 39, 30, 1 },
		{ 0, UINT64_MAX, 1 },
		{ UINT64_MAX, UINT64_MAX, 1 },
		{ SECTORS, SECTORS + 5, 1 },
		{ 30, UINT64_MAX - 1, 2 },
		{ 0, 0, 2 },
	};

	for (size_t i = 0; i < sizeof(e) / sizeof(e[0]); i++) {
		memset(disk.bytes, 0, SECTORS * 512);
		gpt(e[i].first, e[i].last);
		cr_assert_eq(read_table(), 0);
		cr_assert_eq(got.n, e[i].n, "entry %zu", i);
		for (unsigned k = 0; k < got.n; k++)
			cr_assert_leq(got.part[k].offset + got.part[k].len_bytes,
				      disk.store.size_bytes);
	}
}

Test(partitions, roles)
{
	static const uint8_t esp[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
					 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };

	gpt(30, 39);
	memcpy(sector(2) + 128, esp, 16);
	gpt_header(1, SECTORS - 1, 2);
	cr_assert_eq(read_table(), 0);
	cr_assert_eq(got.part[0].role, PART_ROLE_ESP);
	cr_assert_eq(got.part[1].role, PART_ROLE_OTHER);
}

Test(partitions, content)
{
	cr_assert_null(store_partitions_content(&disk.store, 0, SECTORS * 512));
	memcpy(sector(10) + 1024 + 56, "\x53\xef", 2);
	cr_assert_str_eq(store_partitions_content(&disk.store, 5120, 4096), "ext4");
	/* Outside of the partition, or of the disk. */
	cr_assert_null(store_partitions_content(&disk.store, 5120, 1024));
	cr_assert_null(store_partitions_content(&disk.store, SECTORS * 512 - 1, UINT64_MAX / 2));
	memcpy(sector(20), "XFSB", 4);
	cr_assert_str_eq(store_partitions_content(&disk.store, 10240, 4096), "xfs");
}
