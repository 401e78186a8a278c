/* qcow2_check compared with qemu-img check: the same counts, and no errors after our repairs. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_image/check.h"
#include "tests/unit/qcow2_files.h"

TestSuite(qcow2_check, .init = scratch_enter, .fini = scratch_leave, .timeout = 120);

static struct qcow2_check check(enum qcow2_repair repair)
{
	struct qcow2_check r = { .repair = repair };
	struct err err = { "" };

	cr_assert_eq(qcow2_check(&r, "q.qcow2", &err), 0, "%s", err.text);
	return r;
}

static uint64_t qemu_says(const char *field)
{
	char line[64] = "";
	FILE *f;

	sh("qemu-img check -f qcow2 --output=json q.qcow2 > json; jq '.[\"%s\"] // 0' json > value",
	   field);
	f = fopen("value", "r");
	cr_assert(f && fgets(line, sizeof(line), f));
	fclose(f);
	return strtoull(line, NULL, 10);
}

static void same_as_qemu(void)
{
	struct qcow2_check r = check(QCOW2_REPAIR_NONE);

	cr_assert_eq(r.corruptions, qemu_says("corruptions"));
	cr_assert_eq(r.leaks, qemu_says("leaks"));
	cr_assert_eq(r.total_clusters, qemu_says("total-clusters"));
	cr_assert_eq(r.allocated_clusters, qemu_says("allocated-clusters"));
	cr_assert_eq(r.compressed_clusters, qemu_says("compressed-clusters"));
	cr_assert_eq(r.fragmented_clusters, qemu_says("fragmented-clusters"), "%lu, not %lu",
		     r.fragmented_clusters, qemu_says("fragmented-clusters"));
	cr_assert_eq(r.end_bytes, qemu_says("image-end-offset"));
}

Test(qcow2_check, healthy_images)
{
	static const char *how[] = {
		"",
		"-c",
		"-o cluster_size=512",
		"-c -o cluster_size=2M",
		"-o refcount_bits=1",
		"-o refcount_bits=64,cluster_size=4k",
		"-o compat=0.10",
		"-o preallocation=metadata",
	};

	make_raw("raw", 3 * MIB, 1);
	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 %s raw q.qcow2", how[i]);
		cr_log_info("%s", how[i]);
		same_as_qemu();
		if (!strstr(how[i], "refcount_bits=1")) {
			must("qemu-img snapshot -c one q.qcow2");
			must("qemu-io -f qcow2 -c 'write -P 7 1M 70k' q.qcow2");
			same_as_qemu();
		}
	}
}

Test(qcow2_check, leaks_and_low_refcounts)
{
	static const char *how[] = { "", "-o cluster_size=512", "-o compat=0.10" };

	make_raw("raw", 2 * MIB, 1);
	for (unsigned i = 0; i < 3; i++) {
		struct qcow2_check r;
		uint64_t block;

		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 %s raw q.qcow2", how[i]);
		block = peek64("q.qcow2", peek64("q.qcow2", 48));
		/* Clusters 5 and 6 get refcount 0; 250 and 251, near the end, get 7 and 1. */
		poke("q.qcow2", block + 10, "\0\0\0\0", 4);
		poke("q.qcow2", block + 250 * 2, "\0\7\0\1", 4);
		if (i != 1)
			must("truncate -s 17M q.qcow2");
		same_as_qemu();
		r = check(QCOW2_REPAIR_LEAKS);
		cr_assert_eq(r.leaks, 0);
		r = check(QCOW2_REPAIR_ALL);
		cr_assert_eq(r.corruptions, 0);
		cr_assert_eq(qemu_check("q.qcow2"), 0);
		same_as_qemu();
		must("qemu-img compare -f raw -F qcow2 raw q.qcow2");
	}
}

Test(qcow2_check, a_refcount_block_is_gone)
{
	struct qcow2_check r;

	make_raw("raw", 2 * MIB, 1);
	must("qemu-img convert -f raw -O qcow2 -o cluster_size=1k raw q.qcow2");
	poke64("q.qcow2", peek64("q.qcow2", 48) + 8, 0);
	poke64("q.qcow2", peek64("q.qcow2", 48) + 16, 0x1234567);
	r = check(QCOW2_REPAIR_ALL);
	cr_assert(r.corruptions_fixed > 10);
	r = check(QCOW2_REPAIR_ALL);
	cr_assert_eq(r.corruptions, 0);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
	must("qemu-img compare -f raw -F qcow2 raw q.qcow2");
}

Test(qcow2_check, copied_flags)
{
	struct qcow2_check r;
	uint64_t l1, l2;

	make_raw("raw", 2 * MIB, 1);
	must("qemu-img convert -S 0 -f raw -O qcow2 raw q.qcow2");
	l1 = peek64("q.qcow2", 40);
	l2 = peek64("q.qcow2", l1) & 0xffffffffffff00;
	poke64("q.qcow2", l1, l2);
	poke64("q.qcow2", l2 + 8, peek64("q.qcow2", l2 + 8) & ~(1ull << 63));
	same_as_qemu();
	r = check(QCOW2_REPAIR_ALL);
	cr_assert_eq(r.corruptions_fixed, 2);
	cr_assert_eq(r.corruptions, 0);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

Test(qcow2_check, dirty_images_are_repaired_when_opened_for_writing)
{
	static const char *how[] = { "", ",cluster_size=512", ",refcount_bits=64,cluster_size=1k" };

	for (unsigned i = 0; i < 3; i++) {
		struct store *s;
		uint8_t b[2];

		must("rm -f q.qcow2; qemu-img create -q -f qcow2 -o lazy_refcounts=on%s q.qcow2 8M",
		     how[i]);
		/* qemu-io aborts before it writes its refcounts. */
		sh("qemu-io -f qcow2 -c 'write -P 5 0 1M' -c 'write -P 6 4M 100k' -c flush -c abort "
		   "q.qcow2");
		cr_assert(peek64("q.qcow2", 72) & 1, "qemu-io left no dirty image");
		s = must_open("q.qcow2", STORE_AUTO, true);
		store_close(s);
		cr_assert(peek64("q.qcow2", 72) & 1);
		s = must_open("q.qcow2", STORE_AUTO, false);
		cr_assert_eq(store_read(s, b, MIB - 1, 1), 0);
		cr_assert_eq(b[0], 5);
		cr_assert_eq(store_write(s, b, 2 * MIB, 2), 0);
		store_close(s);
		cr_assert_eq(peek64("q.qcow2", 72), 0);
		cr_assert_eq(qemu_check("q.qcow2"), 0);
	}
}

Test(qcow2_check, a_corrupt_image_is_read_but_not_written)
{
	struct qcow2_check r;

	make_raw("raw", MIB, 1);
	must("qemu-img convert -f raw -O qcow2 raw q.qcow2");
	poke64("q.qcow2", 72, 2);
	store_close(must_open("q.qcow2", STORE_AUTO, true));
	must_refuse("q.qcow2", STORE_AUTO, false, "marked corrupt");
	/* The image is good, so a repair removes the mark. */
	r = check(QCOW2_REPAIR_ALL);
	cr_assert_eq(r.corruptions, 0);
	store_close(must_open("q.qcow2", STORE_AUTO, false));
}

#define ENTRY_OFFSET 0x00fffffffffffe00ull
#define COPIED (1ull << 63)

/* One flag needs a repair, and another L1 entry points to a place without an L2 table. */
Test(qcow2_check, flags_are_not_repaired_where_no_table_is)
{
	make_raw("raw", 4 * MIB, 1);
	must("qemu-img convert -S 0 -f raw -O qcow2 -o cluster_size=4k raw good.qcow2");
	for (unsigned i = 0; i < 4; i++) {
		uint64_t l1 = peek64("good.qcow2", 40),
			 l2 = peek64("good.qcow2", l1) & ENTRY_OFFSET;
		uint64_t data = peek64("good.qcow2", l2) & ENTRY_OFFSET;
		const uint64_t where[] = { data + 512, 1ull << 40, data, l1 };
		struct qcow2_check r = { .repair = QCOW2_REPAIR_ALL };
		struct err err = { "" };

		must("cp good.qcow2 q.qcow2");
		/* The guest's data looks like L2 entries without the COPIED flag. */
		for (unsigned k = 0; k < 2 * 4 * KIB; k += 8)
			poke64("q.qcow2", data + k, data + 8 * 4 * KIB);
		poke64("q.qcow2", l2 + 16, peek64("q.qcow2", l2 + 16) & ~COPIED);
		poke64("q.qcow2", l1 + 8, where[i] | COPIED);
		must("stat -c %%s q.qcow2 > size");
		cr_assert_eq(qcow2_check(&r, "q.qcow2", &err), 0, "%s", err.text);
		cr_assert(r.corruptions, "%u", i);
		/* The L1 table, read as an L2 table, also refers to the good one: no repair. */
		cr_assert(i == 3 || peek64("q.qcow2", l2 + 16) & COPIED, "%u", i);
		for (unsigned k = 0; k < 2 * 4 * KIB; k += 8)
			cr_assert_eq(peek64("q.qcow2", data + k), data + 8 * 4 * KIB, "%u", i);
		cr_assert_eq(peek64("q.qcow2", l1) & ENTRY_OFFSET, l2, "%u", i);
		must("stat -c %%s q.qcow2 | cmp - size");
	}
}

/* Data that only a damaged entry refers to is not a leak to free. */
Test(qcow2_check, no_leak_is_freed_beside_an_entry_that_leads_nowhere)
{
	make_raw("raw", 2 * MIB, 1);
	must("qemu-img convert -S 0 -f raw -O qcow2 -o cluster_size=4k raw good.qcow2");
	for (unsigned i = 0; i < 3; i++) {
		uint64_t l2 = peek64("good.qcow2", peek64("good.qcow2", 40)) & ENTRY_OFFSET;
		uint64_t entry = peek64("good.qcow2", l2 + 80);
		const uint64_t lies[] = { entry + 512, entry | 1ull << 45,
					  1ull << 62 | 1ull << 40 };
		uint64_t blocks = peek64("good.qcow2", peek64("good.qcow2", 48));
		struct qcow2_check r;

		must("cp good.qcow2 q.qcow2");
		poke64("q.qcow2", l2 + 80, lies[i]);
		for (enum qcow2_repair repair = QCOW2_REPAIR_LEAKS; repair <= QCOW2_REPAIR_ALL;
		     repair++) {
			r = check(repair);
			cr_assert_eq(r.corruptions, 1, "%u", i);
			cr_assert_eq(r.leaks, 1, "%u", i);
		}
		must("cmp -n 4096 -i %lu good.qcow2 q.qcow2", blocks);
		poke64("q.qcow2", l2 + 80, entry);
		cr_assert_eq(qemu_check("q.qcow2"), 0);
	}
}
