/*
 * Damaged images: each field of the header and entries of each table get values that are wrong,
 * overlap, point outside or are far too large. The engine refuses the image with one line, or reads
 * and writes fail where the damage is. It overwrites neither metadata nor other data, and the wrong
 * values cost neither much time nor much memory.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"
#include "tests/unit/qcow2_files.h"
#include "vmm/core/log.h"

TestSuite(qcow2_bad, .init = scratch_enter, .fini = scratch_leave, .timeout = 240);

#define DISK_BYTES (4 * MIB)
#define CLUSTER 4096u
#define MARK 0xa5

struct good {
	uint64_t bytes;
	uint8_t *file;
	uint8_t *disk;
	uint64_t l1, l2[2], reftable, refblock;
};

static struct good good;
static bool is_meta[4096];

static uint64_t at(uint64_t offset)
{
	uint64_t v;

	memcpy(&v, good.file + offset, 8);
	return be64toh(v) & 0xfffffffffffe00;
}

static void make_good(void)
{
	struct store *s;
	struct stat st;
	int fd;

	make_raw("raw", DISK_BYTES, 5);
	must("qemu-img convert -c -f raw -O qcow2 -o cluster_size=4k raw good");
	must("qemu-io -f qcow2 -c 'write -P 1 0 40k' -c 'write -P 2 2M 40k' -c 'write -z 64k 8k' "
	     "-c 'discard 100k 16k' good");
	must("qemu-img check -f qcow2 good");
	fd = open("good", O_RDONLY);
	cr_assert(fd >= 0 && !fstat(fd, &st));
	good.bytes = (uint64_t)st.st_size;
	good.file = malloc(good.bytes);
	good.disk = malloc(DISK_BYTES);
	cr_assert(read(fd, good.file, good.bytes) == st.st_size);
	close(fd);
	s = must_open("good", STORE_QCOW2, true);
	cr_assert_eq(store_read(s, good.disk, 0, DISK_BYTES), 0);
	store_close(s);
	good.l1 = at(40);
	good.l2[0] = at(good.l1);
	good.l2[1] = at(good.l1 + 8);
	good.reftable = at(48);
	good.refblock = at(good.reftable);
	cr_assert(good.l2[0] && good.l2[1] && good.refblock);
	is_meta[0] = is_meta[good.l1 / CLUSTER] = is_meta[good.l2[0] / CLUSTER] = true;
	is_meta[good.l2[1] / CLUSTER] = is_meta[good.reftable / CLUSTER] = true;
	is_meta[good.refblock / CLUSTER] = true;
}

static void copy_good(void)
{
	int fd = open("bad", O_RDWR | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && write(fd, good.file, good.bytes) == (ssize_t)good.bytes);
	close(fd);
}

/* Checks that no cluster of metadata holds bytes of the guest. */
static void check_file(const char *what)
{
	static uint8_t mark[512];
	uint8_t buf[CLUSTER];
	int fd = open("bad", O_RDONLY);

	memset(mark, MARK, sizeof(mark));
	for (uint64_t i = 0; i < good.bytes / CLUSTER; i++) {
		if (!is_meta[i])
			continue;
		cr_assert(pread(fd, buf, CLUSTER, (off_t)(i * CLUSTER)) == CLUSTER);
		for (unsigned k = 0; k < CLUSTER; k += 512)
			cr_assert(memcmp(buf + k, mark, 512), "%s: guest data in cluster %lu", what,
				  i);
	}
	close(fd);
}

static bool fine(int rc)
{
	return !rc || rc == -EIO;
}

static void use(struct store *s, const char *what)
{
	static uint8_t buf[64 * KIB], mark[64 * KIB];
	uint64_t size = s->size_bytes < DISK_BYTES ? s->size_bytes : DISK_BYTES;
	bool rw = !s->readonly;
	struct err err = { "" };
	struct store_extent e;

	memset(mark, MARK, sizeof(mark));
	for (uint64_t o = 0; o + sizeof(buf) <= size; o += sizeof(buf)) {
		cr_assert(fine(store_read(s, buf, o, sizeof(buf))), "%s", what);
		cr_assert(fine(s->ops->map(s, o, sizeof(buf), &e)), "%s", what);
	}
	/* The end of the size that the image claims. */
	if (s->size_bytes > 4096)
		cr_assert(fine(store_read(s, buf, s->size_bytes - 4096, 4096)), "%s", what);
	if (!rw)
		return;
	for (uint64_t o = 8 * KIB; o + sizeof(mark) <= size; o += 500 * KIB) {
		int rc = store_write(s, mark, o, 20000);

		cr_assert(fine(rc) || rc == -EFBIG || rc == -ENOSPC, "%s: %s", what, strerror(-rc));
		rc = s->ops->zero(s, o + 30 * KIB, 9000, true);
		cr_assert(fine(rc) || rc == -EFBIG, "%s: %s", what, strerror(-rc));
		rc = s->ops->discard(s, o + 44 * KIB, 8192);
		cr_assert(fine(rc), "%s: %s", what, strerror(-rc));
	}
	cr_assert(fine(s->ops->flush(s)), "%s", what);
	if (size == DISK_BYTES)
		s->ops->resize(s, DISK_BYTES + MIB, &err);
}

static void try_open(bool readonly, const char *what)
{
	struct store_options o = { .path = "bad", .format = STORE_QCOW2, .readonly = readonly };
	struct qcow2_check check = { .repair = readonly ? QCOW2_REPAIR_NONE : QCOW2_REPAIR_ALL };
	struct err err = { "" };
	struct store *s;
	int rc;

	alarm(30);
	rc = store_open(&o, &s, &err);
	if (rc)
		cr_assert(err.text[0] && !strchr(err.text, '\n') && !s, "%s", what);
	else {
		use(s, what);
		store_close(s);
		check_file(what);
	}
	/* The check must end, whatever it finds. */
	qcow2_check(&check, "bad", &err);
	alarm(0);
}

static const uint64_t values[] = {
	0,	    1,		2,	    3,		511,	    512,
	4096,	    4097,	8192,	    65536,	1u << 20,   0x7fffffff,
	0x80000000, 0xffffffff, 1ull << 40, 1ull << 55, 1ull << 56, 1ull << 60,
	1ull << 62, 1ull << 63, INT64_MAX,  UINT64_MAX,
};
#define NVALUES (sizeof(values) / sizeof(values[0]))

struct field {
	const char *name;
	uint64_t offset;
	unsigned bytes;
};

static void put(uint64_t offset, unsigned bytes, uint64_t value)
{
	uint64_t be = htobe64(value);

	poke("bad", offset, (uint8_t *)&be + 8 - bytes, bytes);
}

static void try_field(const struct field *f)
{
	char what[96];

	for (unsigned i = 0; i < NVALUES; i++) {
		for (int ro = 0; ro < 2; ro++) {
			copy_good();
			put(f->offset, f->bytes, values[i]);
			snprintf(what, sizeof(what), "%s = %#lx%s", f->name, values[i],
				 ro ? " (ro)" : "");
			try_open(ro, what);
		}
	}
}

static void bounds(void)
{
	struct rusage u;

	cr_assert(!getrusage(RUSAGE_SELF, &u));
	cr_assert(u.ru_maxrss < 700 * 1024, "%ld KiB", u.ru_maxrss);
}

Test(qcow2_bad, header_fields)
{
	static const struct field fields[] = {
		{ "version", 4, 4 },
		{ "backing_offset", 8, 8 },
		{ "backing_len", 16, 4 },
		{ "cluster_bits", 20, 4 },
		{ "size", 24, 8 },
		{ "crypt", 32, 4 },
		{ "l1_size", 36, 4 },
		{ "l1_offset", 40, 8 },
		{ "reftable_offset", 48, 8 },
		{ "reftable_clusters", 56, 4 },
		{ "nsnapshots", 60, 4 },
		{ "snapshots_offset", 64, 8 },
		{ "incompatible", 72, 8 },
		{ "compatible", 80, 8 },
		{ "autoclear", 88, 8 },
		{ "refcount_order", 96, 4 },
		{ "header_len", 100, 4 },
		{ "compression", 104, 1 },
		{ "extension type", 112, 4 },
		{ "extension length", 116, 4 },
	};

	log_set_level(LOG_ERROR - 1);
	make_good();
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		try_field(&fields[i]);
	bounds();
}

Test(qcow2_bad, tables)
{
	struct field fields[] = {
		{ "l1[0]", 0, 8 },	     { "l1[1]", 8, 8 },
		{ "reftable[0]", 0, 8 },     { "reftable[1]", 8, 8 },
		{ "refblock", 0, 8 },	     { "refblock behind", 100 * 2, 8 },
		{ "l2 data", 16, 8 },	     { "l2 zero", 16 * 8, 8 },
		{ "l2 packed", 160 * 8, 8 }, { "l2 of l1[1]", 16, 8 },
	};

	log_set_level(LOG_ERROR - 1);
	make_good();
	fields[0].offset += good.l1;
	fields[1].offset += good.l1;
	fields[2].offset += good.reftable;
	fields[3].offset += good.reftable;
	fields[4].offset += good.refblock;
	fields[5].offset += good.refblock;
	fields[6].offset += good.l2[0];
	fields[7].offset += good.l2[0];
	fields[8].offset += good.l2[0];
	fields[9].offset += good.l2[1];
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		try_field(&fields[i]);
	bounds();
}

/* The entry of guest cluster 2 points to each kind of metadata, with and without COPIED. */
Test(qcow2_bad, entries_that_point_to_metadata)
{
	uint64_t places[] = { 0, 0, 0, 0, 0, 0 };

	log_set_level(LOG_ERROR - 1);
	make_good();
	places[1] = good.l1;
	places[2] = good.l2[0];
	places[3] = good.l2[1];
	places[4] = good.reftable;
	places[5] = good.refblock;
	/* With COPIED the engine writes in place; without, it copies and frees the cluster. */
	for (unsigned n = 2; n < 12; n++) {
		uint64_t copied = n & 1 ? 1ull << 63 : 0;
		struct store *s;
		uint8_t buf[CLUSTER];

		copy_good();
		put(good.l2[0] + 16, 8, places[n / 2] | copied);
		s = must_open("bad", STORE_QCOW2, false);
		memset(buf, MARK, sizeof(buf));
		cr_assert_eq(store_write(s, buf, 2 * CLUSTER, CLUSTER), -EIO);
		/* The engine writes nothing more to such an image; undamaged data can be read. */
		cr_assert_eq(store_write(s, buf, 3 * CLUSTER, CLUSTER), -EIO);
		cr_assert_eq(store_read(s, buf, 2 * MIB, CLUSTER), 0);
		cr_assert_eq(buf[5], 2);
		s->ops->flush(s);
		store_close(s);
		check_file("");
		/* The image is marked corrupt, for every other program. */
		cr_assert(peek64("bad", 72) & 2);
		must_refuse("bad", STORE_QCOW2, false, "marked corrupt");
	}
}

/* The tables have refcount 0: an allocation must not take them. */
Test(qcow2_bad, metadata_without_refcounts)
{
	log_set_level(LOG_ERROR - 1);
	make_good();
	for (uint64_t i = 1; i < good.bytes / CLUSTER; i++) {
		struct store *s;
		uint8_t buf[CLUSTER];
		int rc = 0;

		if (!is_meta[i])
			continue;
		copy_good();
		put(good.refblock + i * 2, 2, 0);
		s = must_open("bad", STORE_QCOW2, false);
		memset(buf, MARK, sizeof(buf));
		for (uint64_t o = 300 * KIB; !rc && o < 400 * KIB; o += CLUSTER)
			rc = store_write(s, buf, o, CLUSTER);
		cr_assert_eq(rc, -EIO);
		store_close(s);
		check_file("");
	}
}

Test(qcow2_bad, cut_short)
{
	log_set_level(LOG_ERROR - 1);
	make_good();
	for (uint64_t n = 0; n < good.bytes; n += n < 256 ? 8 : 2048) {
		for (int ro = 0; ro < 2; ro++) {
			struct store_options o = { .path = "bad",
						   .format = STORE_QCOW2,
						   .readonly = ro };
			struct err err = { "" };
			struct store *s;

			copy_good();
			cr_assert(!truncate("bad", (off_t)n));
			if (store_open(&o, &s, &err)) {
				cr_assert(err.text[0]);
				continue;
			}
			use(s, "cut short");
			store_close(s);
		}
	}
}

/* A sparse file claims a large size at no cost. The engine limits what it counts and keeps. */
Test(qcow2_bad, what_a_sparse_file_may_cost)
{
	struct qcow2_check check = { .repair = QCOW2_REPAIR_NONE };
	struct err err = { "" };

	log_set_level(LOG_ERROR - 1);
	must("qemu-img create -q -f qcow2 -o cluster_size=512,lazy_refcounts=on bad 1M");
	/* 17 snapshots with L1 tables of 32 MiB each. */
	must("truncate -s 2G bad");
	for (unsigned i = 0; i < 17; i++) {
		poke64("bad", 65536 + i * 40, (1ull << 30) + i * (32ull << 20));
		poke32("bad", 65536 + i * 40 + 8, 4u << 20);
	}
	poke32("bad", 60, 17);
	poke64("bad", 64, 65536);
	must_refuse("bad", STORE_QCOW2, false, "snapshots");
	poke32("bad", 60, 0);
	/* Mark the image dirty, so that opening it starts the check. */
	poke64("bad", 72, 1);
	must("truncate -s 40G bad");
	must_refuse("bad", STORE_QCOW2, false, "check --repair");
	must("truncate -s 200G bad");
	cr_assert_eq(qcow2_check(&check, "bad", &err), -EFBIG);
	cr_assert(strstr(err.text, "too many") && strstr(err.text, "convert"), "%s", err.text);
	bounds();
}

/* A zstd frame declares how much memory its reader needs. */
Test(qcow2_bad, what_a_compressed_cluster_may_cost)
{
	static uint8_t buf[65536];
	uint64_t at;
	struct store *s;

	log_set_level(LOG_ERROR - 1);
	must("yes 'much of the same' | head -c 65536 > raw");
	must("qemu-img convert -c -o compression_type=zstd -f raw -O qcow2 raw bad");
	at = peek64("bad", peek64("bad", peek64("bad", 40)) & 0xfffffffffffe00) &
	     ((1ull << 54) - 1);
	for (unsigned i = 0; i < 2; i++) {
		must("cat raw | zstd -q --long=%u | dd of=bad bs=1 seek=%lu conv=notrunc",
		     i ? 27 : 23, at);
		s = must_open("bad", STORE_QCOW2, true);
		cr_assert_eq(store_read(s, buf, 0, sizeof(buf)), i ? -EIO : 0, "%u", i);
		cr_assert(i || !memcmp(buf, "much of", 7));
		store_close(s);
	}
}
