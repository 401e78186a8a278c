/* Reads images that qemu-img made with every option that we support; chains of backing files. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "devices/backend/store/backing.h"
#include "tests/unit/qcow2_files.h"

TestSuite(qcow2_read, .init = scratch_enter, .fini = scratch_leave, .timeout = 120);

#define RAW_BYTES (5 * MIB + 3 * 512)

static const char *options[] = {
	"-o compat=0.10",
	"-o compat=1.1",
	"-o compat=1.1,lazy_refcounts=on",
	"-o cluster_size=512",
	"-o cluster_size=1k",
	"-o cluster_size=2k",
	"-o cluster_size=4k",
	"-o cluster_size=128k",
	"-o cluster_size=2M",
	"-o compat=0.10,cluster_size=512",
	"-o refcount_bits=1",
	"-o refcount_bits=2",
	"-o refcount_bits=4",
	"-o refcount_bits=8",
	"-o refcount_bits=32",
	"-o refcount_bits=64",
	"-o preallocation=off",
	"-o preallocation=metadata",
	"-o preallocation=falloc",
	"-o preallocation=full",
	"-S 0",
	"-c",
	"-c -o compat=0.10",
	"-c -o cluster_size=512",
	"-c -o cluster_size=4k",
	"-c -o cluster_size=2M",
	"-c -o compression_type=zstd",
	"-c -o compression_type=zstd,cluster_size=512",
	"-c -o compression_type=zstd,cluster_size=2M",
};

Test(qcow2_read, what_qemu_img_makes)
{
	make_raw("raw", RAW_BYTES, 1);
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct store *s;

		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 %s raw q.qcow2", options[i]);
		s = must_open("q.qcow2", STORE_AUTO, true);
		cr_log_info("%s", options[i]);
		same_as_raw(s, "raw");
		store_close(s);
	}
}

/* --- invalid compressed streams --------------------------------------------------------- */

#define CLUSTER (64 * KIB)

static void fill(uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i % 13 + 1);
}

/* Makes a raw deflate stream of fill()'s bytes. Returns its length. */
static uint64_t stream_of(uint64_t bytes, int flush, uint8_t *out, uint64_t room)
{
	uint8_t *in = malloc(bytes);
	z_stream z = {
		.next_in = in, .avail_in = (uInt)bytes, .next_out = out, .avail_out = (uInt)room
	};

	cr_assert(in);
	fill(in, bytes);
	cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
	deflate(&z, flush);
	cr_assert_eq(z.avail_in, 0);
	deflateEnd(&z);
	free(in);
	return room - z.avail_out;
}

/* As in QEMU, a stream must give a full cluster; valid data after that does not matter. */
Test(qcow2_read, deflate_streams)
{
	static const struct {
		const char *what;
		uint64_t bytes;
		int flush;
		uint8_t then; /* fills the rest of the sector */
		bool good;
	} t[] = {
		{ "whole", CLUSTER, Z_FINISH, 0, true },
		{ "whole, noise behind it", CLUSTER, Z_FINISH, 0xa7, true },
		{ "longer than a cluster by a byte", CLUSTER + 1, Z_FINISH, 0, true },
		{ "two clusters", 2 * CLUSTER, Z_FINISH, 0, true },
		{ "too short by a byte", CLUSTER - 1, Z_FINISH, 0, false },
		{ "no end, an invalid block next", CLUSTER, Z_SYNC_FLUSH, 0xff, false },
		{ "no end, another block next", CLUSTER + 100, Z_SYNC_FLUSH, 0xff, true },
		{ "nothing", 0, Z_FINISH, 0, false },
		{ "an invalid block", 0, Z_NO_FLUSH, 0xff, false },
	};
	uint8_t *want = malloc(CLUSTER), *got = malloc(CLUSTER);
	uint64_t host;

	cr_assert(want && got);
	fill(want, CLUSTER);
	must("head -c %u /dev/zero | tr '\\0' a > a.raw", CLUSTER);
	must("qemu-img convert -c -f raw -O qcow2 a.raw a.qcow2");
	host = peek64("a.qcow2", 40);
	host = peek64("a.qcow2", host) & 0xfffffffffffe00;
	host = peek64("a.qcow2", host) & ((1ull << 54) - 1);
	cr_assert_eq(host % 512, 0);
	for (unsigned n = 0; n < sizeof(t) / sizeof(t[0]); n++) {
		uint8_t sector[512];
		struct store *s;
		int rc;

		memset(sector, t[n].then, sizeof(sector));
		if (t[n].flush != Z_NO_FLUSH)
			stream_of(t[n].bytes, t[n].flush, sector, sizeof(sector));
		poke("a.qcow2", host, sector, sizeof(sector));
		s = must_open("a.qcow2", STORE_QCOW2, true);
		for (unsigned again = 0; again < 2; again++) {
			memset(got, 0, CLUSTER);
			rc = store_read(s, got, 0, CLUSTER);
			cr_assert_eq(rc, t[n].good ? 0 : -EIO, "%s: %d", t[n].what, rc);
			cr_assert(rc || !memcmp(got, want, CLUSTER), "%s", t[n].what);
		}
		store_close(s);
		rc = sh("qemu-img convert -f qcow2 -O raw a.qcow2 q.raw");
		cr_assert_eq(!rc, t[n].good, "%s: qemu-img says %d", t[n].what, rc);
	}
	free(want);
	free(got);
}

Test(qcow2_read, odd_sizes)
{
	static const uint64_t sizes[] = { 512, 1024, 65536, 65536 + 512, 0 };

	for (unsigned i = 0; i < 5; i++) {
		struct store *s;

		make_raw("raw", sizes[i], 2);
		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 raw q.qcow2");
		s = must_open("q.qcow2", STORE_AUTO, true);
		same_as_raw(s, "raw");
		store_close(s);
	}
}

Test(qcow2_read, chains)
{
	struct err err = { "" };
	struct store *s;

	must("mkdir sub");
	cr_assert_eq(store_allow_folder("sub", &err), 0, "%s", err.text);
	make_raw("sub/base.raw", 3 * MIB, 3);
	/* An overlay on a compressed image, and a larger overlay on that. */
	must("qemu-img convert -c -O qcow2 -f raw sub/base.raw sub/base.qcow2");
	must("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 sub/mid.qcow2");
	must("qemu-io -f qcow2 -c 'write -P 7 1M 70k' -c 'write -z 2M 100k' sub/mid.qcow2");
	must("qemu-img create -q -f qcow2 -b sub/mid.qcow2 -F qcow2 -o cluster_size=4k top.qcow2 4M");
	must("qemu-io -f qcow2 -c 'write -P 9 1030k 3k' -c 'write -P 3 3M 5k' top.qcow2");
	must("qemu-img convert -f qcow2 -O raw top.qcow2 want");
	s = must_open("top.qcow2", STORE_AUTO, true);
	same_as_raw(s, "want");
	store_close(s);
	/* Raw at the bottom, larger than the overlay; v2 without the format extension. */
	must("qemu-img create -q -f qcow2 -b sub/base.raw -F raw -o compat=0.10 o.qcow2 1M");
	must("qemu-io -f qcow2 -c 'write -P 1 100k 1k' o.qcow2");
	must("qemu-img convert -f qcow2 -O raw o.qcow2 want");
	s = must_open("o.qcow2", STORE_QCOW2, true);
	same_as_raw(s, "want");
	store_close(s);
}

Test(qcow2_read, snapshots)
{
	struct store *s;

	make_raw("raw", 2 * MIB, 4);
	must("qemu-img convert -f raw -O qcow2 raw q.qcow2");
	must("qemu-img snapshot -c one q.qcow2");
	must("qemu-io -f qcow2 -c 'write -P 7 1M 70k' q.qcow2");
	must("qemu-img snapshot -c two q.qcow2");
	must("qemu-img convert -f qcow2 -O raw q.qcow2 want");
	s = must_open("q.qcow2", STORE_AUTO, true);
	same_as_raw(s, "want");
	store_close(s);
}

Test(qcow2_read, extents_add_up)
{
	struct store_extent e;
	struct store *s;
	uint8_t a[512], b[512];

	make_raw("raw", 3 * MIB, 5);
	must("qemu-img convert -c -f raw -O qcow2 raw base.qcow2");
	must("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 q.qcow2 4M");
	must("qemu-io -f qcow2 -c 'write -P 7 1M 70k' -c 'write -z 2M 128k' q.qcow2");
	s = must_open("q.qcow2", STORE_AUTO, true);
	for (uint64_t at = 0; at < s->size_bytes; at += e.len_bytes) {
		cr_assert_eq(s->ops->map(s, at, s->size_bytes - at, &e), 0);
		cr_assert(e.len_bytes && e.len_bytes <= s->size_bytes - at);
		cr_assert(!(e.zero && e.data));
		cr_assert_eq(store_read(s, a, at, 512), 0);
		if (at == MIB)
			cr_assert(e.in_place && e.depth == 0 && e.len_bytes == 128 * KIB);
		if (at >= 3 * MIB || (at >= 2 * MIB && at < 2 * MIB + 128 * KIB))
			cr_assert(e.zero);
		if (e.compressed)
			cr_assert_eq(e.depth, 1);
		memset(b, 0, 512);
		if (e.in_place)
			cr_assert(pread(e.fd, b, 512, (off_t)e.offset) == 512);
		if (e.in_place || e.zero)
			cr_assert(!memcmp(a, b, 512));
	}
	cr_assert_eq(s->ops->map(s, s->size_bytes, 1, &e), -EINVAL);
	store_close(s);
}

Test(qcow2_read, refusals)
{
	must("qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k el2.qcow2 1M");
	must_refuse("el2.qcow2", STORE_AUTO, true, "extended L2");
	must("qemu-img create -q -f qcow2 -o data_file=d.raw ext.qcow2 1M");
	must_refuse("ext.qcow2", STORE_AUTO, true, "external data file");
	must("qemu-img create -q -f qcow2 --object secret,id=s,data=x "
	     "-o encrypt.format=aes,encrypt.key-secret=s crypt.qcow2 1M");
	must_refuse("crypt.qcow2", STORE_AUTO, true, "encrypted (AES)");
	/* Only a LUKS header: qemu-img cannot make one on a host with a coarse CPU clock. */
	poke32("crypt.qcow2", 32, 2);
	must_refuse("crypt.qcow2", STORE_AUTO, true, "encrypted (LUKS)");
	must("qemu-img create -q -f qcow 1.qcow 1M");
	must_refuse("1.qcow", STORE_AUTO, true, "version 1");
	must("truncate -s 1M x.qcow2");
	must_refuse("x.qcow2", STORE_AUTO, true, "not a qcow2 image");
	must("truncate -s 10 x.qcow2");
	must_refuse("x.qcow2", STORE_AUTO, true, "not a qcow2 image");
	must_refuse("missing.qcow2", STORE_AUTO, true, "No such file");
	/* A guest that writes a qcow2 header into its raw disk gains nothing. */
	must("qemu-img create -q -f qcow2 evil 1M");
	must_refuse("evil", STORE_AUTO, true, "format=");
	store_close(must_open("evil", STORE_RAW, true));
	store_close(must_open("evil", STORE_QCOW2, true));
}

Test(qcow2_read, backing_refusals)
{
	char name[32];

	must("qemu-img create -q -f qcow2 base.qcow2 1M");
	/* A loop of two, and an image that backs itself. */
	must("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2");
	must("qemu-img rebase -q -u -f qcow2 -b a.qcow2 -F qcow2 base.qcow2");
	must_refuse("a.qcow2", STORE_AUTO, true, "a loop");
	must("qemu-img rebase -q -u -f qcow2 -b base.qcow2 -F qcow2 base.qcow2");
	must_refuse("base.qcow2", STORE_AUTO, true, "a loop");
	must("qemu-img rebase -q -u -f qcow2 -b gone.qcow2 -F qcow2 a.qcow2");
	must_refuse("a.qcow2", STORE_AUTO, true, "gone.qcow2");
	must("qemu-img rebase -q -u -f qcow2 -b nbd://localhost/x -F raw a.qcow2");
	must_refuse("a.qcow2", STORE_AUTO, true, "nbd:");
	must("qemu-img rebase -q -u -f qcow2 -b 'json:{\"driver\":\"raw\"}' -F raw a.qcow2");
	must_refuse("a.qcow2", STORE_AUTO, true, "json:");
	must("qemu-img rebase -q -u -f qcow2 -b base.qcow2 -F vmdk a.qcow2");
	must_refuse("a.qcow2", STORE_AUTO, true, "\"vmdk\"");
	/* Without a format in the header, the name says raw; the content does not make it qcow2. */
	must("qemu-img create -q -f qcow2 blob 1M");
	must("qemu-img rebase -q -u -f qcow2 -b blob -F qcow2 a.qcow2");
	store_close(must_open("a.qcow2", STORE_AUTO, true));
	cr_assert_eq(peek64("a.qcow2", 112) >> 32, 0xe2792aca);
	poke32("a.qcow2", 112, 0x11111111);
	must_refuse("a.qcow2", STORE_AUTO, true, "does not say what format");
	must("qemu-img create -q -f qcow2 c0.qcow2 1M");
	for (int i = 1; i < 66; i++) {
		snprintf(name, sizeof(name), "c%d.qcow2", i);
		must("qemu-img create -q -u -f qcow2 -b c%d.qcow2 -F qcow2 %s 1M", i - 1, name);
		if (i == 63)
			store_close(must_open(name, STORE_AUTO, true));
	}
	must_refuse("c65.qcow2", STORE_AUTO, true, "longer than");
}

/* The image at the end of a chain of 1 to 3 names no backing file that bantam opens. */
Test(qcow2_read, backing_refusals_at_any_depth)
{
	static const struct {
		const char *backing, *format, *word;
	} table[] = {
		{ "nbd://localhost/x", "raw", "nbd:" },
		{ "'json:{\"driver\":\"raw\"}'", "raw", "json:" },
		{ "gone.qcow2", "qcow2", "gone.qcow2" },
		{ "base.qcow2", "vmdk", "\"vmdk\"" },
		{ "base.qcow2", "qcow2", "a loop" },
		{ "short.qcow2", "qcow2", "not a qcow2 image" },
	};

	must("truncate -s 10 short.qcow2");
	must("qemu-img create -q -f qcow2 base.qcow2 1M");
	must("qemu-img create -q -f qcow2 -u -b base.qcow2 -F qcow2 mid.qcow2 1M");
	must("qemu-img create -q -f qcow2 -u -b mid.qcow2 -F qcow2 top.qcow2 1M");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		must("qemu-img rebase -q -u -f qcow2 -b %s -F %s base.qcow2", table[i].backing,
		     table[i].format);
		must_refuse("base.qcow2", STORE_AUTO, true, table[i].word);
		must_refuse("mid.qcow2", STORE_AUTO, true, table[i].word);
		must_refuse("top.qcow2", STORE_AUTO, true, table[i].word);
	}
}

Test(qcow2_read, unknown_features_are_named)
{
	static const char entry[48] = "\0\7shiny things";
	char table[8 + 48 + 8] = { 0 };

	must("qemu-img create -q -f qcow2 q.qcow2 1M");
	poke64("q.qcow2", 72, 1ull << 7);
	must_refuse("q.qcow2", STORE_AUTO, true, "bit 7");
	/* Our own feature name table in place of QEMU's. */
	memcpy(table, "\x68\x03\xf8\x57\0\0\0\x30", 8);
	memcpy(table + 8, entry, 48);
	poke("q.qcow2", 112, table, sizeof(table));
	must_refuse("q.qcow2", STORE_AUTO, true, "\"shiny things\"");
}
