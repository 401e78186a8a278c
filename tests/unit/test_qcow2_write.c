/* What the qcow2 engine writes, checked by a mirror in memory, qemu-img check and compare. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/store/backing.h"
#include "tests/unit/qcow2_files.h"

TestSuite(qcow2_write, .init = scratch_enter, .fini = scratch_leave, .timeout = 240);

#define DISK_BYTES (3 * MIB + 5 * 512)

/* A disk and the content that it must have. */
struct mirror {
	struct store *s;
	uint8_t *want;
	uint64_t bytes;
	unsigned state;
};

static unsigned rnd(struct mirror *m, unsigned n)
{
	m->state = m->state * 1103515245u + 12345u;
	return (m->state >> 8) % n;
}

static void check_all(struct mirror *m)
{
	static uint8_t buf[256 * KIB];

	cr_assert_eq(m->s->size_bytes, m->bytes);
	for (uint64_t at = 0; at < m->bytes; at += sizeof(buf)) {
		uint64_t n = m->bytes - at < sizeof(buf) ? m->bytes - at : sizeof(buf);

		cr_assert_eq(store_read(m->s, buf, at, n), 0);
		for (uint64_t i = 0; i < n; i++)
			cr_assert(buf[i] == m->want[at + i], "byte %lu: %u, not %u", at + i, buf[i],
				  m->want[at + i]);
	}
}

/* Does one random operation. A discard may or may not take effect: read the result. */
static void step(struct mirror *m)
{
	static uint8_t buf[400 * KIB];
	static const unsigned sizes[] = { 512, 4 * KIB, 20 * KIB, 65 * KIB, 400 * KIB };
	uint64_t at, n = rnd(m, sizes[rnd(m, 5)]) + 1;
	unsigned what = rnd(m, 10);

	if (rnd(m, 2))
		n = (n + 511) & ~511ull;
	at = rnd(m, (unsigned)(m->bytes - n));
	if (rnd(m, 2))
		at &= ~511ull;
	if (what < 6) {
		pattern(buf, n, m->state);
		cr_assert_eq(store_write(m->s, buf, at, n), 0);
		memcpy(m->want + at, buf, n);
	} else if (what < 8) {
		cr_assert_eq(m->s->ops->zero(m->s, at, n, rnd(m, 2)), 0);
		memset(m->want + at, 0, n);
	} else if (what < 9) {
		cr_assert_eq(m->s->ops->discard(m->s, at, n), 0);
		cr_assert_eq(store_read(m->s, buf, at, n), 0);
		for (uint64_t i = 0; i < n; i++)
			cr_assert(!buf[i] || buf[i] == m->want[at + i]);
		memcpy(m->want + at, buf, n);
	} else {
		cr_assert_eq(m->s->ops->flush(m->s), 0);
	}
}

static void load_mirror(struct mirror *m)
{
	m->bytes = m->s->size_bytes;
	m->want = malloc(m->bytes);
	cr_assert_eq(store_read(m->s, m->want, 0, m->bytes), 0);
}

static void compare(struct mirror *m, const char *image)
{
	int fd = open("mirror", O_RDWR | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && write(fd, m->want, m->bytes) == (ssize_t)m->bytes);
	close(fd);
	cr_assert_eq(qemu_check(image), 0);
	must("qemu-img compare -f raw -F qcow2 mirror %s", image);
}

static void random_ops(const char *image, unsigned seed, unsigned nops)
{
	struct mirror m = { .state = seed };

	m.s = must_open(image, STORE_QCOW2, false);
	load_mirror(&m);
	for (unsigned i = 0; i < nops; i++)
		step(&m);
	check_all(&m);
	store_close(m.s);
	compare(&m, image);
	/* Once more, from the existing content. */
	m.s = must_open(image, STORE_QCOW2, false);
	for (unsigned i = 0; i < nops / 4; i++)
		step(&m);
	store_close(m.s);
	compare(&m, image);
	free(m.want);
}

static const char *options[] = {
	"compat=1.1",
	"compat=0.10",
	"cluster_size=512",
	"cluster_size=4k",
	"cluster_size=2M",
	"compat=0.10,cluster_size=512",
	"lazy_refcounts=on",
	"refcount_bits=1",
	"refcount_bits=2",
	"refcount_bits=4,cluster_size=512",
	"refcount_bits=8",
	"refcount_bits=32",
	"refcount_bits=64,cluster_size=512",
	"preallocation=metadata",
	"preallocation=falloc",
	"preallocation=full",
	"compression_type=zstd",
};

Test(qcow2_write, fresh_images_of_qemu_img)
{
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 -o %s q.qcow2 %u", options[i],
		     DISK_BYTES);
		cr_log_info("%s", options[i]);
		random_ops("q.qcow2", i + 1, 120);
	}
}

Test(qcow2_write, over_data_of_qemu_img)
{
	static const char *how[] = {
		"",
		"-c",
		"-c -o compat=0.10",
		"-c -o cluster_size=512",
		"-c -o compression_type=zstd,cluster_size=4k",
		"-o preallocation=metadata -S 0",
	};

	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		make_raw("raw", DISK_BYTES, i);
		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 %s raw q.qcow2", how[i]);
		cr_log_info("%s", how[i]);
		random_ops("q.qcow2", i + 100, 120);
	}
}

Test(qcow2_write, overlays)
{
	static const char *how[] = {
		"-b base.qcow2 -F qcow2",
		"-b raw -F raw",
		"-b base.qcow2 -F qcow2 -o compat=0.10",
		"-b raw -F raw -o cluster_size=512",
		"-b raw -F raw -o cluster_size=512,compat=0.10",
		"-b base.qcow2 -F qcow2 -o cluster_size=2M",
	};

	make_raw("raw", 2 * MIB + 512, 7);
	must("qemu-img convert -c -f raw -O qcow2 raw base.qcow2");
	must("sha256sum raw base.qcow2 > sums");
	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 %u", how[i],
		     DISK_BYTES);
		cr_log_info("%s", how[i]);
		random_ops("q.qcow2", i + 200, 120);
	}
	must("sha256sum -c sums");
}

Test(qcow2_write, snapshots_keep_their_data)
{
	make_raw("raw", DISK_BYTES, 8);
	for (unsigned i = 0; i < 2; i++) {
		must("rm -f q.qcow2; qemu-img convert -f raw -O qcow2 %s raw q.qcow2",
		     i ? "-c -o cluster_size=512" : "");
		must("qemu-img snapshot -c one q.qcow2");
		random_ops("q.qcow2", 300 + i, 100);
		must("qemu-img snapshot -c two q.qcow2");
		must("qemu-img convert -f qcow2 -O raw q.qcow2 two");
		random_ops("q.qcow2", 310 + i, 100);
		must("qemu-img convert -l snapshot.name=one -f qcow2 -O raw q.qcow2 got");
		must("cmp raw got");
		must("qemu-img convert -l snapshot.name=two -f qcow2 -O raw q.qcow2 got");
		must("cmp two got");
		/* Without snapshot one, some clusters have the COPIED flag and others do not. */
		must("qemu-img snapshot -d one q.qcow2");
		random_ops("q.qcow2", 320 + i, 60);
		must("qemu-img snapshot -a two q.qcow2");
		must("qemu-img compare -f raw -F qcow2 two q.qcow2");
	}
}

Test(qcow2_write, our_own_images)
{
	static const uint32_t clusters[] = { 0, 512, 4096, 2 * MIB };
	static const uint64_t sizes[] = { 0, 512, DISK_BYTES };

	for (unsigned i = 0; i < 24; i++) {
		struct store_create c = { .path = "q.qcow2",
					  .format = STORE_QCOW2,
					  .size_bytes = sizes[i % 3],
					  .cluster_bytes = clusters[i / 3 % 4],
					  .version = i / 12 ? 2 : 3,
					  .lazy_refcounts = i == 2,
					  .zstd = i == 5 };
		struct err err = { "" };

		must("rm -f q.qcow2");
		cr_assert_eq(store_create(&c, &err), 0, "%s", err.text);
		cr_assert_eq(qemu_check("q.qcow2"), 0);
		cr_assert_eq(store_create(&c, &err), -EEXIST);
		if (c.size_bytes > 1 * MIB)
			random_ops("q.qcow2", 400 + i, 80);
		else
			store_close(must_open("q.qcow2", STORE_AUTO, false));
		cr_assert_eq(qemu_check("q.qcow2"), 0);
	}
}

Test(qcow2_write, our_own_overlays)
{
	struct store_create c = { .path = "sub/o.qcow2",
				  .format = STORE_QCOW2,
				  .backing = "../raw",
				  .backing_format = STORE_RAW };
	struct err err;

	make_raw("raw", DISK_BYTES, 9);
	must("mkdir sub");
	cr_assert_eq(store_allow_folder(".", &err), 0, "%s", err.text);
	cr_assert_eq(store_create(&c, &err), 0, "%s", err.text);
	must("qemu-img compare -f raw -F qcow2 raw sub/o.qcow2");
	random_ops("sub/o.qcow2", 500, 100);
	c.path = "x.qcow2";
	c.backing = "missing";
	cr_assert_eq(store_create(&c, &err), -ENOENT);
	cr_assert(strstr(err.text, "missing"));
	cr_assert(access("x.qcow2", F_OK));
}

static uint64_t room_of(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

Test(qcow2_write, freed_space_is_used_again)
{
	static uint8_t buf[MIB];
	struct store *s;
	struct stat st;

	must("qemu-img create -q -f qcow2 q.qcow2 64M");
	s = must_open("q.qcow2", STORE_AUTO, false);
	pattern(buf, sizeof(buf), 1);
	for (unsigned round = 0; round < 40; round++) {
		cr_assert_eq(store_write(s, buf, (round * 7 % 40) * MIB, MIB), 0);
		cr_assert_eq(s->ops->flush(s), 0);
		cr_assert_eq(s->ops->discard(s, (round * 7 % 40) * MIB, MIB), 0);
		cr_assert_eq(s->ops->flush(s), 0);
	}
	store_close(s);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
	cr_assert(stat("q.qcow2", &st) == 0);
	cr_assert(st.st_size < 4 * MIB, "%ld bytes", st.st_size);
	cr_assert_lt(room_of("q.qcow2"), MIB);
}

Test(qcow2_write, room_is_asked_for_ahead_and_given_back)
{
	static uint8_t buf[64 * KIB];
	struct store *s;
	int fd = open("probe", O_RDWR | O_CREAT, 0600);

	if (fallocate(fd, 0, 0, MIB))
		cr_skip("this file system does not know fallocate");
	close(fd);
	must("qemu-img create -q -f qcow2 q.qcow2 64M");
	s = must_open("q.qcow2", STORE_AUTO, false);
	pattern(buf, sizeof(buf), 1);
	cr_assert_eq(store_write(s, buf, 0, sizeof(buf)), 0);
	cr_assert_geq(room_of("q.qcow2"), MIB);
	cr_assert_eq(store_close(s), 0);
	cr_assert_lt(room_of("q.qcow2"), MIB);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

/* More tables than the cache holds, each in its own slice, with 4 KiB of data in each. */
Test(qcow2_write, the_cache_is_bounded)
{
	const uint64_t reach = 2 * MIB, n = QCOW2_CACHE_BYTES / QCOW2_SLICE_BYTES + 500;
	uint8_t buf[4096], got[4096];
	struct store *s;
	struct qcow2 *q;

	must("qemu-img create -q -f qcow2 -o cluster_size=4k q.qcow2 %lu", n * reach);
	s = must_open("q.qcow2", STORE_AUTO, false);
	q = qcow2_of(s);
	for (uint64_t i = 0; i < n; i++) {
		pattern(buf, sizeof(buf), (unsigned)i);
		cr_assert_eq(store_write(s, buf, i * reach, sizeof(buf)), 0);
	}
	cr_assert_eq(s->ops->flush(s), 0);
	/* The first table is in constant use, and stays in the cache. */
	for (uint64_t i = 0; i < n; i++) {
		const struct qcow2_slice *slice;

		pattern(buf, sizeof(buf), (unsigned)i);
		cr_assert_eq(store_read(s, got, i * reach, sizeof(got)), 0);
		cr_assert(!memcmp(buf, got, sizeof(buf)), "table %lu", i);
		cr_assert_leq(q->cache.nslices, q->cache.max_slices + 1);
		for (slice = q->cache.slices.next; slice != &q->cache.slices; slice = slice->next)
			if (slice->offset == (q->file.l1.entry[0] & QCOW2_OFFSET_MASK))
				break;
		cr_assert(slice != &q->cache.slices, "given up at table %lu", i);
		cr_assert_eq(store_read(s, got, 0, 512), 0);
	}
	cr_assert_eq(store_close(s), 0);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

Test(qcow2_write, the_refcount_table_moves)
{
	/* 512-byte clusters, 64-bit refcounts: a table of one cluster covers 2 MiB of file. */
	static uint8_t buf[256 * KIB], got[256 * KIB];
	struct store *s;

	must("qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 q.qcow2 40M");
	s = must_open("q.qcow2", STORE_AUTO, false);
	for (uint64_t at = 0; at < 20 * MIB; at += sizeof(buf)) {
		pattern(buf, sizeof(buf), at);
		cr_assert_eq(store_write(s, buf, at, sizeof(buf)), 0);
		if (at % (3 * MIB) == 0)
			cr_assert_eq(s->ops->flush(s), 0);
	}
	for (uint64_t at = 0; at < 20 * MIB; at += sizeof(buf)) {
		pattern(buf, sizeof(buf), at);
		cr_assert_eq(store_read(s, got, at, sizeof(buf)), 0);
		cr_assert(!memcmp(buf, got, sizeof(buf)));
	}
	store_close(s);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

Test(qcow2_write, resize)
{
	static const char *how[] = { "-o cluster_size=512", "", "-b raw -F raw",
				     "-b raw -F raw -o compat=0.10,cluster_size=4k" };
	static const uint64_t sizes[] = { MIB,	    700 * KIB + 512, 3 * MIB,
					  80 * MIB, MIB + 1024,	     5 * MIB };

	make_raw("raw", 2 * MIB, 3);
	for (unsigned i = 0; i < 4; i++) {
		struct mirror m = { .state = i };
		struct err err = { "" };

		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 1M", how[i]);
		m.s = must_open("q.qcow2", STORE_AUTO, false);
		load_mirror(&m);
		for (unsigned k = 0; k < 6; k++) {
			cr_assert_eq(m.s->ops->resize(m.s, sizes[k], &err), 0, "%s", err.text);
			m.want = realloc(m.want, sizes[k]);
			if (sizes[k] > m.bytes)
				memset(m.want + m.bytes, 0, sizes[k] - m.bytes);
			m.bytes = sizes[k];
			check_all(&m);
			for (unsigned j = 0; j < 20; j++)
				step(&m);
			check_all(&m);
		}
		store_close(m.s);
		compare(&m, "q.qcow2");
		free(m.want);
	}
}

/* Several threads at once, each with its own clusters and some shared with a neighbour. */
struct worker {
	struct store *s;
	unsigned id;
	int rc;
};

static void *work(void *opaque)
{
	struct worker *w = opaque;
	uint8_t buf[3000];

	for (unsigned i = 0; i < 300 && !w->rc; i++) {
		uint64_t at = (uint64_t)((i * 7919 + w->id * 131) % 700) * 4 * 3000 + w->id * 3000;

		pattern(buf, sizeof(buf), at);
		w->rc = store_write(w->s, buf, at, sizeof(buf));
		if (!w->rc && i % 50 == w->id)
			w->rc = w->s->ops->flush(w->s);
		if (!w->rc && i % 10 == 0)
			w->rc = w->s->ops->discard(w->s, 20 * MIB + (i * 64 % 2048) * KIB,
						   256 * KIB);
		if (!w->rc && i % 10 == 5)
			w->rc = store_write(w->s, buf, 20 * MIB + (i * 96 % 2048) * KIB, 3000);
	}
	return NULL;
}

/* The header has the smaller size, and no cluster is freed yet. */
Test(qcow2_write, grows_after_a_shrink_that_was_cut_short)
{
	static uint8_t buf[64 * KIB];
	struct err err = { "" };
	struct store *s;

	must("qemu-img create -f qcow2 -o cluster_size=4k cut 8M");
	must("qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 5M 1M' cut");
	poke64("cut", 24, MIB);
	s = must_open("cut", STORE_QCOW2, false);
	cr_assert_eq(s->ops->resize(s, 8 * MIB, &err), 0, "%s", err.text);
	cr_assert_eq(store_read(s, buf, 5 * MIB, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], 0);
	cr_assert_eq(store_read(s, buf, MIB - 1, 1), 0);
	cr_assert_eq(buf[0], 1);
	store_close(s);
	cr_assert_eq(qemu_check("cut"), 0);
}

Test(qcow2_write, threads)
{
	make_raw("raw", 24 * MIB, 4);
	for (unsigned turn = 0; turn < 2; turn++) {
		struct worker w[4];
		pthread_t t[4];
		uint8_t buf[3000], got[3000];
		struct store *s;

		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 24M",
		     turn ? "-b raw -F raw" : "");
		s = must_open("q.qcow2", STORE_AUTO, false);
		for (unsigned i = 0; i < 4; i++) {
			w[i] = (struct worker){ s, i, 0 };
			pthread_create(&t[i], NULL, work, &w[i]);
		}
		for (unsigned i = 0; i < 4; i++) {
			pthread_join(t[i], NULL);
			cr_assert_eq(w[i].rc, 0);
		}
		for (unsigned id = 0; id < 4; id++) {
			for (unsigned i = 0; i < 300; i++) {
				uint64_t at = (uint64_t)((i * 7919 + id * 131) % 700) * 4 * 3000 +
					      id * 3000;

				pattern(buf, sizeof(buf), at);
				cr_assert_eq(store_read(s, got, at, sizeof(buf)), 0);
				cr_assert(!memcmp(buf, got, sizeof(buf)));
			}
		}
		store_close(s);
		cr_assert_eq(qemu_check("q.qcow2"), 0);
	}
}

Test(qcow2_write, locks)
{
	struct store *s, *reader;

	must("qemu-img create -q -f qcow2 base.qcow2 1M");
	must("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 q.qcow2");
	s = must_open("q.qcow2", STORE_AUTO, false);
	must_refuse("q.qcow2", STORE_AUTO, false, "open twice in this VM");
	must_refuse("q.qcow2", STORE_AUTO, true, "open for writing in this VM");
	cr_assert_neq(sh("qemu-io -f qcow2 -c 'write 0 4k' q.qcow2"), 0);
	cr_assert_neq(sh("qemu-img check -f qcow2 q.qcow2"), 0);
	/* Other processes can read the base, but not write it. */
	must("qemu-img check -f qcow2 base.qcow2");
	reader = must_open("base.qcow2", STORE_AUTO, true);
	store_close(reader);
	must_refuse("base.qcow2", STORE_AUTO, false, "open twice in this VM");
	cr_assert_neq(sh("qemu-io -f qcow2 -c 'write 0 4k' base.qcow2"), 0);
	store_close(s);
	must("qemu-io -f qcow2 -c 'write 0 4k' q.qcow2");
}

/* Writes until a kill. After it the image is not corrupt, and holds all flushed data. */
static void write_until_killed(int told, unsigned seed)
{
	struct store *s = must_open("q.qcow2", STORE_AUTO, false);
	uint8_t buf[5000];

	for (unsigned i = 0;; i++) {
		uint64_t at = (uint64_t)(i % 600) * 5000;

		pattern(buf, sizeof(buf), at + seed);
		if (store_write(s, buf, at, sizeof(buf)) ||
		    s->ops->discard(s, 4 * MIB + (i * 64 % 3000) * KIB, 128 * KIB) ||
		    store_write(s, buf, 4 * MIB + (i * 64 % 3000) * KIB, 5000))
			_exit(1);
		if (i % 7 == 6) {
			if (s->ops->flush(s))
				_exit(2);
			/* All writes up to i are durable. */
			if (write(told, &i, sizeof(i)) != sizeof(i))
				_exit(3);
		}
	}
}

Test(qcow2_write, killed)
{
	static const char *how[] = { "", "-o cluster_size=512", "-b raw -F raw" };

	make_raw("raw", 8 * MIB, 4);
	for (unsigned round = 0; round < 18; round++) {
		unsigned last = 0, i;
		struct store *s;
		int p[2], status, rc;
		bool any = false;
		pid_t pid;

		if (round < 3 || round % 6 == 0)
			must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 8M",
			     how[round % 3]);
		cr_assert(!pipe(p));
		pid = fork();
		if (!pid)
			write_until_killed(p[1], round);
		close(p[1]);
		usleep(20000 + round * 9000);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		cr_assert(WIFSIGNALED(status));
		while (read(p[0], &i, sizeof(i)) == sizeof(i)) {
			last = i;
			any = true;
		}
		close(p[0]);
		rc = qemu_check("q.qcow2");
		cr_assert(rc == 0 || rc == 3, "round %u: corrupt", round);
		s = must_open("q.qcow2", STORE_AUTO, false);
		for (i = last > 500 ? last - 500 : 0; any && i <= last; i++) {
			uint64_t at = (uint64_t)(i % 600) * 5000;
			uint8_t want[5000], got[5000];

			pattern(want, sizeof(want), at + round);
			cr_assert_eq(store_read(s, got, at, sizeof(got)), 0);
			cr_assert(!memcmp(want, got, sizeof(got)), "round %u: %u of %u", round, i,
				  last);
		}
		store_close(s);
	}
}
