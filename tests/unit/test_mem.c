/* mem: regions, slices and their boundaries. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/mem.h"

#define HOLE 0xc0000000ull
#define HIGH 0x100000000ull
#define MIB (1ull << 20)

static const struct mem_options none;

Test(mem, create_below_the_hole)
{
	struct mem mem;
	struct err err;

	cr_assert_eq(mem_create(&mem, 16 * MIB, HOLE, HIGH, &err), 0, "%s", err.text);
	cr_expect_eq(mem.nregions, 1);
	cr_expect_eq(mem.total_bytes, 16 * MIB);
	cr_expect_eq(mem.region[0].base.v, 0);
	cr_expect_eq(mem.region[0].host[0], 0);
	cr_expect_eq(mem.region[0].host[16 * MIB - 1], 0);
	mem_destroy(&mem);
	cr_expect_eq(mem.nregions, 0);
	cr_expect_null(mem.map);
	mem_destroy(&mem);
}

Test(mem, create_around_the_hole)
{
	static const struct {
		uint64_t total, low, high;
	} table[] = {
		{ 4096, 4096, 0 },
		{ HOLE, HOLE, 0 },
		{ HOLE + 4096, HOLE, 4096 },
		{ 6ull << 30, HOLE, 3ull << 30 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct mem mem;
		struct err err;

		cr_assert_eq(mem_create(&mem, table[i].total, HOLE, HIGH, &err), 0, "%s", err.text);
		cr_expect_eq(mem.total_bytes, table[i].total);
		cr_expect_eq(mem.region[0].len_bytes, table[i].low);
		cr_expect_eq(mem.nregions, table[i].high ? 2 : 1);
		cr_expect(table[i].total < 2 * MIB ||
				  (uintptr_t)mem.region[0].host % (2 * MIB) == 0,
			  "no huge pages at %p", (void *)mem.region[0].host);
		if (table[i].high) {
			cr_expect_eq(mem.region[1].base.v, HIGH);
			cr_expect_eq(mem.region[1].len_bytes, table[i].high);
			*(uint8_t *)mem_slice(&mem, gpa(HIGH + table[i].high - 1), 1) = 1;
		}
		cr_expect_null(mem_slice(&mem, gpa(HOLE), 1));
		cr_expect_null(mem_slice(&mem, gpa(HIGH - 1), 1));
		mem_destroy(&mem);
	}
}

Test(mem, create_more_than_the_address_space)
{
	struct mem mem;
	struct err err;

	cr_expect_lt(mem_create(&mem, 1ull << 52, HOLE, HIGH, &err), 0);
	cr_expect(strstr(err.text, "--memory"), "%s", err.text);
	mem_destroy(&mem);
}

/* [0x1000, 0x3000), [0x3000, 0x4000), one near the top: slices never span two. */
static uint8_t a[0x2000], b[0x1000], top[0x1000];
#define TOP 0xffffffffffffe000ull

static void add_all(struct mem *mem)
{
	memset(mem, 0, sizeof(*mem));
	cr_assert_eq(mem_add(mem, gpa(TOP), sizeof(top), top), 0);
	cr_assert_eq(mem_add(mem, gpa(0x3000), sizeof(b), b), 0);
	cr_assert_eq(mem_add(mem, gpa(0x1000), sizeof(a), a), 0);
}

Test(mem, slice)
{
	static const struct {
		uint64_t base, len;
		void *host;
		uint64_t run;
	} table[] = {
		{ 0, 1, NULL, 0 },
		{ 0xfff, 1, NULL, 0 },
		{ 0xfff, 2, NULL, 0 },
		{ 0x1000, 1, a, 0x2000 },
		{ 0x1000, 0, NULL, 0x2000 },
		{ 0x1000, 0x2000, a, 0x2000 },
		{ 0x1000, 0x2001, NULL, 0x2000 },
		{ 0x2fff, 1, a + 0x1fff, 1 },
		{ 0x2fff, 2, NULL, 1 },
		{ 0x3000, 0x1000, b, 0x1000 },
		{ 0x3fff, 1, b + 0xfff, 1 },
		{ 0x4000, 1, NULL, 0 },
		{ 0x1001, UINT64_MAX, NULL, 0x1fff },
		{ 0x1001, UINT64_MAX - 0x1000, NULL, 0x1fff },
		{ TOP, 0x1000, top, 0x1000 },
		{ TOP, 0x1001, NULL, 0x1000 },
		{ TOP + 0xfff, 1, top + 0xfff, 1 },
		{ TOP + 0xfff, UINT64_MAX, NULL, 1 },
		{ TOP + 0x1000, 1, NULL, 0 },
		{ UINT64_MAX, 1, NULL, 0 },
		{ UINT64_MAX, UINT64_MAX, NULL, 0 },
	};
	struct mem mem;

	add_all(&mem);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_eq(mem_slice(&mem, gpa(table[i].base), table[i].len), table[i].host,
			     "0x%llx + 0x%llx", (unsigned long long)table[i].base,
			     (unsigned long long)table[i].len);
		cr_expect_eq(mem_run(&mem, gpa(table[i].base)), table[i].run);
	}
}

Test(mem, add_refuses)
{
	static const struct {
		uint64_t base, len;
		int rc;
	} table[] = {
		{ 0x5000, 0, -EINVAL },		 { UINT64_MAX, 2, -EINVAL },
		{ 0x5000, UINT64_MAX, -EINVAL }, { 0x0fff, 2, -EEXIST },
		{ 0x1000, 0x1000, -EEXIST },	 { 0x2000, 0x800, -EEXIST },
		{ 0x3fff, 1, -EEXIST },		 { 0x0, 0x5000, -EEXIST },
		{ 0x0, 0x1001, -EEXIST },
	};
	struct mem mem;

	add_all(&mem);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_eq(mem_add(&mem, gpa(table[i].base), table[i].len, a), table[i].rc,
			     "row %zu", i);
	cr_expect_eq(mem.nregions, 3);
	cr_expect_eq(mem.total_bytes, 0x4000);
	for (unsigned i = 3; i < MEM_MAX_REGIONS; i++)
		cr_expect_eq(mem_add(&mem, gpa(i * 0x10000), 0x1000, a), 0);
	cr_expect_lt(mem_add(&mem, gpa(0x900000), 0x1000, a), 0, "table is full");
}

Test(mem, copies)
{
	struct mem mem;

	add_all(&mem);
	cr_expect(mem_write(&mem, gpa(0x2ff8), "12345678", 8));
	cr_expect_arr_eq(mem_slice(&mem, gpa(0x2ff8), 8), "12345678", 8);
	/* Nothing is copied if any byte is outside. */
	cr_expect_not(mem_write(&mem, gpa(0x2ff8), "ABCDEFGHI", 9));
	cr_expect_arr_eq(a + 0x1ff8, "12345678", 8);
	cr_expect_eq(b[0], 0);
	cr_expect_not(mem_write(&mem, gpa(0), "A", 1));
	cr_expect_not(mem_write(&mem, gpa(0x1000), "A", 0));
}

Test(mem, discard)
{
	uint8_t own[8192] __attribute__((aligned(4096)));
	struct stat st;
	struct mem mem;
	struct err err;
	uint8_t *p;

	cr_assert_eq(mem_create(&mem, 8 * MIB, 4 * MIB, HIGH, &err), 0, "%s", err.text);
	p = mem_slice(&mem, gpa(0), 4 * MIB);
	memset(p, 1, 5 * 4096);
	cr_expect(mem_discard(&mem, gpa(4096), 4096));
	cr_expect(p[4095] == 1 && p[4096] == 0 && p[8191] == 0 && p[8192] == 1);
	/* Whole pages only. */
	cr_expect(mem_discard(&mem, gpa(8193), 8190));
	cr_expect(p[8192] == 1 && p[12288] == 1 && p[16383] == 1);
	cr_expect(mem_discard(&mem, gpa(8193), 8192 + 4095));
	cr_expect(p[8192] == 1 && p[12288] == 0 && p[16384] == 0);
	cr_expect(mem_discard(&mem, gpa(HIGH + 4 * MIB - 4096), 4096));
	/* Outside, across a boundary, beyond the end, empty, memory of another owner. */
	cr_expect_not(mem_discard(&mem, gpa(4 * MIB), 4096));
	cr_expect_not(mem_discard(&mem, gpa(4 * MIB - 4096), 8192));
	cr_expect_not(mem_discard(&mem, gpa(HIGH), ~0ull));
	cr_expect_not(mem_discard(&mem, gpa(~0ull << 12), 4096));
	cr_expect_not(mem_discard(&mem, gpa(0), 0));
	own[0] = 1;
	cr_assert_eq(mem_add(&mem, gpa(HIGH * 2), sizeof(own), own), 0);
	cr_expect_not(mem_discard(&mem, gpa(HIGH * 2), 4096));
	cr_expect_eq(own[0], 1);
	mem_destroy(&mem);
	/* The host gets the pages of a file back, too. */
	cr_assert_eq(mem_create_shared(&mem, 8 * MIB, 8 * MIB, HIGH, &err), 0, "%s", err.text);
	p = mem_slice(&mem, gpa(0), 8 * MIB);
	memset(p, 1, 8 * MIB);
	cr_expect(mem_discard(&mem, gpa(4 * MIB), 4 * MIB));
	cr_expect(p[4 * MIB - 1] == 1 && p[4 * MIB] == 0);
	memset(p + 4 * MIB, 0, 1);
	cr_assert_eq(fstat(mem.fd, &st), 0);
	cr_expect_leq(st.st_blocks, (4 * MIB + 2 * MIB) / 512);
	mem_destroy(&mem);
}

/* A daemon that shares the memory can read, write and map it, but cannot resize it. */
Test(mem, shared_keeps_its_size)
{
	struct mem mem;
	struct err err;
	uint8_t *p;
	int fd;

	cr_assert_eq(mem_create_shared(&mem, 8 * MIB, 8 * MIB, HIGH, &err), 0, "%s", err.text);
	fd = dup(mem.fd);
	cr_expect_eq(ftruncate(fd, 4096), -1);
	cr_expect_eq(errno, EPERM);
	cr_expect_eq(ftruncate(fd, 16 * MIB), -1);
	/* The daemon cannot add a seal that forbids holes, which the balloon needs. */
	cr_expect_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	cr_expect_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	p = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(p, MAP_FAILED);
	p[8 * MIB - 1] = 7;
	cr_expect_eq(*(uint8_t *)mem_slice(&mem, gpa(8 * MIB - 1), 1), 7);
	cr_expect(mem_discard(&mem, gpa(4 * MIB), 4 * MIB));
	cr_expect_eq(p[8 * MIB - 1], 0);
	munmap(p, 8 * MIB);
	close(fd);
	mem_destroy(&mem);
}

static void need_huge_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start)
{
	int rc = mem_create_huge_shared(mem, total_bytes, hole_start, HIGH, &none);

	if (rc)
		cr_skip_test("no huge files here: %s", strerror(-rc));
}

/* Returns how many bytes of [from, from + len) are in huge pages, shared or private. */
static uint64_t huge_bytes(const void *from, uint64_t len_bytes)
{
	uintptr_t begin = (uintptr_t)from, end = begin + len_bytes;
	unsigned long long start, stop, kib, sum = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	bool ours = false;
	char line[512];

	cr_assert_not_null(smaps);
	while (fgets(line, sizeof(line), smaps))
		if (sscanf(line, "%llx-%llx ", &start, &stop) == 2)
			ours = start >= begin && stop <= end;
		else if (ours && (sscanf(line, "ShmemPmdMapped: %llu", &kib) == 1 ||
				  sscanf(line, "AnonHugePages: %llu", &kib) == 1))
			sum += kib << 10;
	fclose(smaps);
	return sum;
}

#define HUGE_TEST_BYTES (32 * MIB)

/* Shared memory gets huge pages if private memory does, but none in the first 16 MiB. */
Test(mem, huge_shared_has_huge_pages)
{
	uint64_t private_bytes, shared_bytes;
	struct mem mem;
	struct err err;

	cr_assert_eq(mem_create(&mem, HUGE_TEST_BYTES, HOLE, HIGH, &err), 0, "%s", err.text);
	memset(mem.map, 1, HUGE_TEST_BYTES);
	private_bytes = huge_bytes(mem.map, HUGE_TEST_BYTES);
	mem_destroy(&mem);
	need_huge_shared(&mem, HUGE_TEST_BYTES, HOLE);
	cr_expect_eq((uintptr_t)mem.map % (2 * MIB), 0);
	cr_expect_eq(mem.map[HUGE_TEST_BYTES - 1], 0);
	memset(mem.map, 1, HUGE_TEST_BYTES);
	shared_bytes = huge_bytes(mem.map, HUGE_TEST_BYTES);
	cr_expect_eq(huge_bytes(mem.map, 16 * MIB), 0);
	mem_destroy(&mem);
	if (!private_bytes)
		cr_skip_test("this host has no huge pages now");
	cr_expect_gt(shared_bytes, 0, "private memory: %llu", (unsigned long long)private_bytes);
}

Test(mem, huge_shared_is_shared)
{
	struct mem mem;
	uint8_t *p;

	need_huge_shared(&mem, 8 * MIB, 4 * MIB);
	cr_expect_eq(mem.nregions, 2);
	p = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
	cr_assert_neq(p, MAP_FAILED);
	*(uint8_t *)mem_slice(&mem, gpa(HIGH), 1) = 7;
	cr_expect_eq(p[4 * MIB], 7);
	p[4 * MIB - 1] = 8;
	cr_expect_eq(*(uint8_t *)mem_slice(&mem, gpa(4 * MIB - 1), 1), 8);
	munmap(p, 8 * MIB);
	mem_destroy(&mem);
	cr_expect_eq(mem.fd, 0);
	/* A failed mapping leaves nothing behind. */
	cr_expect_lt(mem_create_huge_shared(&mem, 1ull << 52, HOLE, HIGH, &none), 0);
	cr_expect_null(mem.map);
}

static int64_t blocks(const struct mem *mem)
{
	struct stat st;

	cr_assert_eq(fstat(mem->fd, &st), 0);
	return st.st_blocks;
}

/* The host gets back even one small page of a huge page. */
Test(mem, huge_shared_discard)
{
	static const uint64_t page = 9 * MIB + 4096;
	int64_t before;
	struct mem mem;
	uint8_t *p;

	need_huge_shared(&mem, 16 * MIB, HOLE);
	p = mem.map;
	memset(p, 1, 16 * MIB);
	before = blocks(&mem);
	cr_expect_eq(before, 16 * MIB / 512);
	cr_expect(mem_discard(&mem, gpa(4 * MIB), 4 * MIB));
	cr_expect_eq(blocks(&mem), before - (int64_t)(4 * MIB / 512));
	cr_expect(p[4 * MIB - 1] == 1 && p[4 * MIB] == 0 && p[8 * MIB - 1] == 0 && p[8 * MIB] == 1);
	before = blocks(&mem);
	cr_expect(mem_discard(&mem, gpa(page), 4096));
	cr_expect_leq(blocks(&mem), before - 4096 / 512);
	cr_expect(p[page - 1] == 1 && p[page] == 0 && p[page + 4095] == 0 && p[page + 4096] == 1);
	mem_destroy(&mem);
}

/* --- options ------------------------------------------------------------------------ */

static int as(struct mem *mem, uint64_t bytes, const struct mem_options *o, struct err *err)
{
	return mem_create_as(mem, bytes, HOLE, HIGH, o, err);
}

Test(mem, options_shared_is_sealed)
{
	const struct mem_options o = { .shared = true };
	struct mem mem;
	struct err err;

	cr_assert_eq(as(&mem, 4 * MIB, &o, &err), 0, "%s", err.text);
	cr_expect_gt(mem.fd, 0);
	cr_expect_lt(ftruncate(mem.fd, 0), 0);
	mem_destroy(&mem);
}

/* Every page is there, also those of the last part, which is shorter than the others. */
Test(mem, options_prefault)
{
	static const uint64_t sizes[] = { 4096, 3 * MIB, 133 * MIB + 4096 };
	static unsigned char in[(133ull << 20) / 4096 + 1];

	for (unsigned i = 0; i < 6; i++) {
		const struct mem_options o = { .prefault = true, .shared = i % 2, .no_thp = true };
		uint64_t bytes = sizes[i / 2], absent = 0;
		struct mem mem;
		struct err err;

		cr_assert_eq(as(&mem, bytes, &o, &err), 0, "%s", err.text);
		cr_assert_eq(mincore(mem.map, bytes, in), 0);
		for (uint64_t page = 0; page < bytes / 4096; page++)
			absent += !(in[page] & 1);
		cr_expect_eq(absent, 0, "%llu bytes: %llu pages are not there",
			     (unsigned long long)bytes, (unsigned long long)absent);
		cr_expect_eq(mem.map[bytes - 1], 0);
		mem_destroy(&mem);
	}
}

/* Returns true if the mapping that begins at from has the flag in smaps' VmFlags. */
static bool has_flag(const void *from, const char *flag)
{
	unsigned long long start, stop;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	bool ours = false, found = false;
	char line[512];

	cr_assert_not_null(smaps);
	while (fgets(line, sizeof(line), smaps))
		if (sscanf(line, "%llx-%llx ", &start, &stop) == 2)
			ours = start == (uintptr_t)from;
		else if (ours && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag) != NULL;
	fclose(smaps);
	return found;
}

Test(mem, options_are_advice_to_the_host)
{
	const struct mem_options thp = { .no_thp = true }, ksm = { .mergeable = true };
	struct mem mem;
	struct err err;

	cr_assert_eq(as(&mem, 32 * MIB, &thp, &err), 0, "%s", err.text);
	memset(mem.map, 1, 32 * MIB);
	cr_expect_eq(huge_bytes(mem.map, 32 * MIB), 0);
	cr_expect(has_flag(mem.map, " nh"));
	mem_destroy(&mem);
	cr_assert_eq(as(&mem, 32 * MIB, &ksm, &err), 0, "%s", err.text);
	cr_expect(access("/sys/kernel/mm/ksm", F_OK) || has_flag(mem.map, " mg"));
	mem_destroy(&mem);
	cr_assert_eq(as(&mem, 32 * MIB, &none, &err), 0, "%s", err.text);
	cr_expect(!has_flag(mem.map, " mg") && has_flag(mem.map, " nh"));
	cr_expect(!has_flag(mem.map + 16 * MIB, " nh") && has_flag(mem.map + 16 * MIB, " hg"));
	mem_destroy(&mem);
}

Test(mem, huge_page_sizes_that_cannot_be)
{
	static const struct {
		uint64_t bytes, page_bytes;
		const char *text;
	} table[] = {
		{ 64 * MIB, 32 * MIB, "no huge pages of 32M" },
		{ 64 * MIB, 4096, "no huge pages of 4K" },
		{ 64 * MIB, 1ull << 62, "no huge pages of" },
		{ 64 * MIB, 1ull << 63, "no huge pages of" },
		{ 3 * MIB, 2 * MIB, "not a multiple of the huge pages' size, 2M" },
		{ 1ull << 50, 2 * MIB, "needs 536870912 huge pages of 2M, and this host has" },
	};

	if (access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK))
		cr_skip_test("this kernel has no huge pages of 2 MiB");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct mem_options o = { .huge_pages = true,
					       .huge_page_bytes = table[i].page_bytes };
		struct mem mem;
		struct err err;

		cr_expect_lt(as(&mem, table[i].bytes, &o, &err), 0);
		cr_expect(strstr(err.text, table[i].text), "%s", err.text);
		mem_destroy(&mem);
	}
}

static unsigned pool(const char *name)
{
	char path[128];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", name);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	cr_assert_eq(fscanf(f, "%u", &n), 1);
	fclose(f);
	return n;
}

/* With pages in the pool: echo 8 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages */
Test(mem, huge_pages_of_the_pool)
{
	const struct mem_options o = { .huge_pages = true, .prefault = true };
	const struct mem_options lazy = { .huge_pages = true, .huge_page_bytes = 2 * MIB };
	unsigned reserved;
	struct mem mem;
	struct err err;
	uint8_t *p;

	if (as(&mem, 8 * MIB, &o, &err)) {
		cr_assert(strstr(err.text, "huge pages of"), "%s", err.text);
		cr_skip_test("%s", err.text);
	}
	cr_expect_eq(mem.map[8 * MIB - 1], 0);
	cr_expect(has_flag(mem.map, " ht"));
	cr_expect_lt(ftruncate(mem.fd, 0), 0);
	p = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
	cr_assert_neq(p, MAP_FAILED);
	p[5 * MIB] = 7;
	cr_expect_eq(mem.map[5 * MIB], 7);
	munmap(p, 8 * MIB);
	/* The guest's balloon: a page of 4 KiB reads zero afterwards or stays, nothing else goes. */
	mem.map[5 * MIB - 1] = 8;
	mem_discard(&mem, gpa(5 * MIB), 4096);
	cr_expect_eq(mem.map[5 * MIB - 1], 8);
	mem_destroy(&mem);
	/* Reserved, not only promised: no later VM takes these pages. */
	reserved = pool("resv_hugepages");
	cr_assert_eq(as(&mem, 8 * MIB, &lazy, &err), 0, "%s", err.text);
	cr_expect_eq(pool("resv_hugepages"), reserved + 4);
	mem_destroy(&mem);
	cr_expect_eq(pool("resv_hugepages"), reserved);
}
