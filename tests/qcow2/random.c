/*
 * random: operations on one image and on a raw file, with QEMU's tools in between.
 *
 * A campaign makes an image with random options and runs a few phases: some hundred operations
 * through store.h by several threads or through disk.h, then qemu-img check and compare, then
 * another change of the image: a resize, a snapshot, an overlay, rebase, commit,
 * qemu-io. Every campaign ends with a check of its snapshots' content.
 */
#include <endian.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/format.h"
#include "tests/qcow2/torture.h"

#define THREADS 4u
#define SNAPSHOTS 4u
#define MIB (1ull << 20)

struct world {
	struct rng rng;
	uint64_t seq;
	uint8_t *mirror;
	uint8_t *maybe;
	uint64_t bytes;
	char top[32];  /* the image's name */
	char base[32]; /* its backing file, "" if none */
	const char *base_format;
	unsigned noverlays, cluster_bits;
	bool snapshots_ok, base_frozen;
	unsigned nsnapshots; /* number in the image top */
	bool on_disk;	     /* the scratch folder is not on a tmpfs */
	uint64_t ops, phases, campaigns, resizes, overlays, rebases, commits, snaps, foreign;
};

/* --- the mirror ---------------------------------------------------------------------------------- */

static void unmap_mirror(struct world *w)
{
	if (w->mirror)
		munmap(w->mirror, w->bytes);
	free(w->maybe);
	w->mirror = w->maybe = NULL;
}

/* Maps the file "mirror". */
static void map_mirror(struct world *w)
{
	int fd = open("mirror", O_RDWR);
	struct stat st;

	unmap_mirror(w);
	if (fd < 0 || fstat(fd, &st))
		fail("mirror");
	w->bytes = (uint64_t)st.st_size;
	w->mirror = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	w->maybe = calloc(1, w->bytes / SECTOR);
	if (w->mirror == MAP_FAILED || !w->maybe)
		fail("no memory");
	close(fd);
}

/* Discarded sectors may have become zeroes: take them over into the mirror. */
static void settle_discards(struct world *w, struct store *s)
{
	static const uint8_t zeroes[SECTOR];
	uint8_t buf[SECTOR];

	for (uint64_t i = 0; i < w->bytes / SECTOR; i++) {
		if (!w->maybe[i])
			continue;
		if (store_read(s, buf, i * SECTOR, SECTOR))
			fail("read");
		if (!memcmp(buf, zeroes, SECTOR))
			memset(w->mirror + i * SECTOR, 0, SECTOR);
		w->maybe[i] = 0;
	}
}

static void judge(struct world *w)
{
	check_image(w->top, false);
	must("qemu-img compare -f raw -F qcow2 mirror %s", w->top);
}

/* --- threads on a store ------------------------------------------------------------------------ */

struct worker {
	struct world *w;
	struct store *store;
	struct rng rng;
	unsigned index;
	uint64_t nops;
	bool overlap, hot;
	uint64_t stripe; /* sectors */
};

/* Chooses a range that only this thread uses; in bytes, with any alignment. */
static uint64_t pick_own(struct worker *t, uint64_t *len)
{
	uint64_t stripe = t->stripe * SECTOR, all = t->w->bytes;
	uint64_t n = all / (stripe * THREADS) + 1, at, room;

	/* Often near each other, so that several threads use the same cluster. */
	if (t->hot && n > 6 && rnd(&t->rng, 4))
		n = 6;
	do
		at = (rnd(&t->rng, n) * THREADS + t->index) * stripe;
	while (at >= all);
	room = all - at < stripe ? all - at : stripe;
	at += rnd(&t->rng, room);
	room -= at % stripe;
	if (at + room > all)
		room = all - at;
	*len = rnd(&t->rng, rnd(&t->rng, 3) ? room / 8 + 1 : room) + 1;
	if (*len > room)
		*len = room;
	return at;
}

static void check_rc(int rc, const char *what, uint64_t at, uint64_t len)
{
	if (rc)
		fail("%s at %llu + %llu: %s", what, (unsigned long long)at, (unsigned long long)len,
		     strerror(-rc));
}

static void discard_own(struct worker *t, uint64_t at, uint64_t len, uint8_t *buf)
{
	uint8_t *m = t->w->mirror + at;
	uint64_t done = 0;

	check_rc(t->store->ops->discard(t->store, at, len), "discard", at, len);
	while (done < len) {
		uint64_t n = len - done < MAX_SECTORS * SECTOR ? len - done : MAX_SECTORS * SECTOR;

		check_rc(store_read(t->store, buf, at + done, n), "read", at + done, n);
		for (uint64_t i = 0; i < n; i++) {
			if (buf[i] && buf[i] != m[done + i])
				fail("discarded byte at %llu is %u, was %u",
				     (unsigned long long)(at + done + i), buf[i], m[done + i]);
			m[done + i] = buf[i];
		}
		done += n;
	}
}

static void own_op(struct worker *t, uint8_t *buf)
{
	uint64_t len, at = pick_own(t, &len);
	struct store *s = t->store;
	uint8_t *m = t->w->mirror;
	struct iovec iov[3];
	uint64_t a, b;

	if (len > MAX_SECTORS * SECTOR)
		len = MAX_SECTORS * SECTOR;
	a = rnd(&t->rng, len + 1);
	b = a + rnd(&t->rng, len - a + 1);
	iov[0] = (struct iovec){ buf, a };
	iov[1] = (struct iovec){ buf + a, b - a };
	iov[2] = (struct iovec){ buf + b, len - b };
	switch (rnd(&t->rng, 16)) {
	case 0 ... 7:
		for (uint64_t i = 0; i < len; i += 8) {
			uint64_t word = rnd64(&t->rng) | 0x0101010101010101ull;

			memcpy(buf + i, &word, len - i < 8 ? len - i : 8);
		}
		check_rc(s->ops->write(s, iov, 3, at, len), "write", at, len);
		memcpy(m + at, buf, len);
		break;
	case 8 ... 9:
		check_rc(s->ops->zero(s, at, len, rnd(&t->rng, 2)), "zero", at, len);
		memset(m + at, 0, len);
		break;
	case 10:
		discard_own(t, at, len, buf);
		break;
	case 11:
		check_rc(s->ops->flush(s), "flush", 0, 0);
		break;
	default:
		check_rc(s->ops->read(s, iov, 3, at, len), "read", at, len);
		if (memcmp(buf, m + at, len))
			fail("read at %llu + %llu is wrong", (unsigned long long)at,
			     (unsigned long long)len);
	}
}

/*
 * The host's page cache promises nothing to a reader during a write: a sector may hold words of
 * several writes, but each word must come from some write to this sector.
 */
static bool only_torn(const struct world *w, const uint8_t *buf, uint64_t sector)
{
	const uint64_t *word = (const uint64_t *)buf;
	const uint64_t *old = (const uint64_t *)(w->mirror + sector * SECTOR);
	uint64_t last = __atomic_load_n(&w->seq, __ATOMIC_RELAXED);
	bool known[SECTOR / 8];
	unsigned left = 0;

	for (unsigned i = 0; i < SECTOR / 8; i++) {
		known[i] = !word[i] || word[i] == old[i];
		left += !known[i];
	}
	for (uint64_t seq = 1; seq <= last && left; seq++) {
		uint64_t want[SECTOR / 8];

		fill_sector((uint8_t *)want, sector, seq);
		for (unsigned i = 0; i < SECTOR / 8; i++) {
			if (!known[i] && word[i] == want[i]) {
				known[i] = true;
				left--;
			}
		}
	}
	return !left;
}

/* One operation on whole sectors anywhere; a sector's content tells which operation wrote it. */
static void shared_op(struct worker *t, uint8_t *buf)
{
	uint64_t all = t->w->bytes / SECTOR;
	uint64_t n = rnd(&t->rng, rnd(&t->rng, 4) ? 24 : 300) + 1, first;
	struct store *s = t->store;
	uint64_t seq;

	n = n > all ? all : n;
	/* Mostly in the range that the other threads use. */
	first = rnd(&t->rng, rnd(&t->rng, 3) && all > n + 600 ? 600 : all - n + 1);
	switch (rnd(&t->rng, 10)) {
	case 0 ... 5:
		seq = __atomic_add_fetch(&t->w->seq, 1, __ATOMIC_RELAXED);
		for (uint64_t i = 0; i < n; i++)
			fill_sector(buf + i * SECTOR, first + i, seq);
		check_rc(store_write(s, buf, first * SECTOR, n * SECTOR), "write", first, n);
		break;
	case 6:
		check_rc(s->ops->zero(s, first * SECTOR, n * SECTOR, rnd(&t->rng, 2)), "zero",
			 first, n);
		break;
	case 7:
		check_rc(s->ops->discard(s, first * SECTOR, n * SECTOR), "discard", first, n);
		break;
	case 8:
		check_rc(s->ops->flush(s), "flush", 0, 0);
		break;
	default:
		check_rc(store_read(s, buf, first * SECTOR, n * SECTOR), "read", first, n);
		for (uint64_t i = 0; i < n; i++)
			if (sector_seq(buf + i * SECTOR, first + i) == NOT_OURS &&
			    !only_torn(t->w, buf + i * SECTOR, first + i))
				fail("sector %llu holds data that no operation wrote there",
				     (unsigned long long)(first + i));
	}
}

static void *worker_main(void *opaque)
{
	struct worker *t = opaque;
	uint8_t *buf = malloc(MAX_SECTORS * SECTOR);

	for (uint64_t i = 0; i < t->nops; i++) {
		if (t->overlap)
			shared_op(t, buf);
		else
			own_op(t, buf);
	}
	free(buf);
	return NULL;
}

/* In any order of the operations, each sector is unchanged, zeroes, or written by one operation. */
static void adopt(struct world *w, struct store *s, uint64_t before)
{
	static const uint8_t zeroes[SECTOR];
	uint8_t buf[SECTOR];

	for (uint64_t i = 0; i < w->bytes / SECTOR; i++) {
		uint64_t seq;

		check_rc(store_read(s, buf, i * SECTOR, SECTOR), "read", i, 1);
		if (!memcmp(buf, w->mirror + i * SECTOR, SECTOR))
			continue;
		seq = sector_seq(buf, i);
		if (memcmp(buf, zeroes, SECTOR) && (seq == NOT_OURS || seq <= before))
			fail("sector %llu holds data that no operation wrote",
			     (unsigned long long)i);
		memcpy(w->mirror + i * SECTOR, buf, SECTOR);
	}
}

static void threads_phase(struct world *w, uint64_t nops, bool overlap)
{
	struct store *s = must_open(w->top, STORE_QCOW2, false);
	struct worker worker[THREADS];
	pthread_t thread[THREADS];
	uint64_t before = w->seq, stripe = rnd(&w->rng, rnd(&w->rng, 3) ? 12 : 300) + 1;
	bool hot = rnd(&w->rng, 2);

	while (stripe * SECTOR * THREADS > w->bytes)
		stripe = stripe / 2 + 1;
	for (unsigned i = 0; i < THREADS; i++) {
		worker[i] = (struct worker){ .w = w,
					     .store = s,
					     .rng = { rnd64(&w->rng) },
					     .index = i,
					     .nops = nops / THREADS,
					     .overlap = overlap,
					     .hot = hot,
					     .stripe = stripe };
		if (pthread_create(&thread[i], NULL, worker_main, &worker[i]))
			fail("pthread_create");
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	if (overlap)
		adopt(w, s, before);
	store_close(s);
}

static void disk_phase(struct world *w, uint64_t nops, enum disk_engine engine, bool direct)
{
	struct driver *d = calloc(1, sizeof(*d));
	struct store *s;

	d->rng = &w->rng;
	d->seq = &w->seq;
	d->mirror = w->mirror;
	d->maybe = w->maybe;
	d->hot = rnd(&w->rng, 2);
	driver_open(d, w->top, engine, direct);
	driver_run(d, nops);
	driver_close(d);
	free(d);
	s = must_open(w->top, STORE_QCOW2, true);
	settle_discards(w, s);
	store_close(s);
}

static void phase(struct world *w, uint64_t nops)
{
	static const char *const names[] = { "threads, disjoint", "threads, overlapping",
					     "disk, io_uring", "disk, threads" };
	unsigned kind = (unsigned)rnd(&w->rng, 4);
	bool direct = kind >= 2 && w->on_disk && rnd(&w->rng, 2);
	size_t end = strcspn(context, "|");

	snprintf(context + end, sizeof(context) - end, "| phase %llu: %s%s",
		 (unsigned long long)w->phases, names[kind], direct ? ", direct" : "");
	if (kind < 2)
		threads_phase(w, nops, kind == 1);
	else
		disk_phase(w, nops, kind == 2 ? DISK_ENGINE_IO_URING : DISK_ENGINE_THREADS, direct);
	w->ops += nops;
	w->phases++;
	judge(w);
}

/* --- changes between phases ------------------------------------------------------------------ */

static void resize(struct world *w)
{
	uint64_t size = rnd(&w->rng, 2) ? w->bytes + (rnd(&w->rng, 3 * MIB / SECTOR) + 1) * SECTOR :
					  (rnd(&w->rng, w->bytes / SECTOR) + 8) * SECTOR;
	struct err err = { "" };
	struct store *s;

	if (w->nsnapshots)
		return;
	if (size > 48 * MIB)
		size = 20 * MIB;
	unmap_mirror(w);
	if (truncate("mirror", (off_t)size))
		fail("truncate");
	map_mirror(w);
	s = must_open(w->top, STORE_QCOW2, false);
	if (s->ops->resize(s, size, &err))
		fail("resize: %s", err.text);
	store_close(s);
	w->resizes++;
}

static void snapshot(struct world *w)
{
	if (!w->snapshots_ok || w->nsnapshots == SNAPSHOTS)
		return;
	must("qemu-img snapshot -c s%u %s && cp --sparse=always mirror %s.s%u", w->nsnapshots,
	     w->top, w->top, w->nsnapshots);
	w->nsnapshots++;
	w->snaps++;
}

/* Adds an overlay, made by QEMU or by us; the image below must not change any more. */
static void overlay(struct world *w)
{
	struct store_create c = { .format = STORE_QCOW2, .backing_format = STORE_QCOW2 };
	char name[32];
	struct err err = { "" };

	if (w->noverlays == 4)
		return;
	snprintf(name, sizeof(name), "over%u.qcow2", w->noverlays++);
	if (rnd(&w->rng, 2)) {
		c.path = name;
		c.backing = w->top;
		c.cluster_bytes = 512u << rnd(&w->rng, 9);
		if (store_create(&c, &err))
			fail("create: %s", err.text);
	} else {
		must("qemu-img create -f qcow2 -b %s -F qcow2 -o cluster_size=%u %s", w->top,
		     4096u << rnd(&w->rng, 6), name);
	}
	snprintf(w->base, sizeof(w->base), "%s", w->top);
	w->base_format = "qcow2";
	snprintf(w->top, sizeof(w->top), "%s", name);
	w->nsnapshots = 0;
	w->snapshots_ok = true;
	w->base_frozen = false;
	w->overlays++;
}

static void forget_snapshots(struct world *w)
{
	while (w->nsnapshots)
		must("qemu-img snapshot -d s%u %s", --w->nsnapshots, w->top);
}

static void rebase(struct world *w)
{
	if (!w->base[0])
		return;
	forget_snapshots(w);
	must("qemu-img rebase -f qcow2 -b '' %s", w->top);
	w->base[0] = 0;
	w->rebases++;
}

/* QEMU would have to grow the image below, which has a backing file itself, and version 2 cannot
 * represent zeroes over a backing file. */
static bool qemu_cannot_commit(const struct world *w)
{
	struct qcow2_header h;
	int fd = open(w->base, O_RDONLY);

	if (fd < 0 || read(fd, &h, sizeof(h)) != (ssize_t)sizeof(h))
		fail("%s", w->base);
	close(fd);
	return be32toh(h.version) == 2 && h.backing_offset && be64toh(h.size) < w->bytes;
}

/* Commits into the backing file. */
static void commit(struct world *w)
{
	struct stat st;

	if (!w->base[0] || w->base_frozen)
		return;
	forget_snapshots(w);
	if (!strcmp(w->base_format, "raw") &&
	    (stat(w->base, &st) || (uint64_t)st.st_size > w->bytes))
		return;
	if (!strcmp(w->base_format, "qcow2") && qemu_cannot_commit(w))
		return;
	must("qemu-img commit -f qcow2 %s", w->top);
	w->commits++;
}

static void foreign(struct world *w)
{
	for (unsigned i = 0; i < 3; i++) {
		uint64_t n = (rnd(&w->rng, 200) + 1) * SECTOR;
		uint64_t at = rnd(&w->rng, w->bytes / SECTOR) * SECTOR;
		unsigned value = (unsigned)rnd(&w->rng, 255) + 1;
		bool zero = !rnd(&w->rng, 3);

		if (n > w->bytes - at)
			n = w->bytes - at;
		if (zero)
			must("qemu-io -f qcow2 -c 'write -z %s %llu %llu' %s",
			     rnd(&w->rng, 2) ? "-u" : "", (unsigned long long)at,
			     (unsigned long long)n, w->top);
		else
			must("qemu-io -f qcow2 -c 'write -P %u %llu %llu' %s", value,
			     (unsigned long long)at, (unsigned long long)n, w->top);
		memset(w->mirror + at, zero ? 0 : (int)value, n);
	}
	w->foreign++;
}

static void interlude(struct world *w)
{
	switch (rnd(&w->rng, 8)) {
	case 0 ... 1:
		resize(w);
		break;
	case 2:
		snapshot(w);
		break;
	case 3:
		overlay(w);
		break;
	case 4:
		rebase(w);
		break;
	case 5:
		commit(w);
		break;
	case 6:
		foreign(w);
		break;
	default:
		return;
	}
	judge(w);
}

/* --- a campaign ----------------------------------------------------------------------------------- */

/* A sparse raw file; its size need not be a multiple of sectors. */
static void make_base(struct world *w, uint64_t bytes)
{
	int fd = open("base.raw", O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint8_t buf[16 * SECTOR];

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		fail("base.raw");
	for (uint64_t at = 0; at + sizeof(buf) <= bytes; at += sizeof(buf)) {
		if (rnd(&w->rng, 3))
			continue;
		for (unsigned i = 0; i < 16; i++)
			fill_sector(buf + i * SECTOR, at / SECTOR + i, ++w->seq);
		if (pwrite(fd, buf, sizeof(buf), (off_t)at) != sizeof(buf))
			fail("base.raw");
	}
	close(fd);
}

static void make_backing(struct world *w)
{
	uint64_t bytes = rnd(&w->rng, 3) ? w->bytes : rnd(&w->rng, 2 * w->bytes) + SECTOR;
	unsigned kind = (unsigned)rnd(&w->rng, 6);

	w->base[0] = 0;
	w->base_frozen = true;
	if (kind < 2)
		return;
	make_base(w, bytes);
	strcpy(w->base, "base.raw");
	w->base_format = "raw";
	if (kind == 2)
		return;
	/* QEMU does not compress the last cluster if the disk ends inside it. */
	must("qemu-img convert %s -f raw -O qcow2 -o cluster_size=%u,compression_type=%s base.raw "
	     "base.qcow2 && qemu-img convert -f qcow2 -O raw base.qcow2 base.raw",
	     kind > 3 ? "-c" : "", 4096u << rnd(&w->rng, 7), rnd(&w->rng, 2) ? "zlib" : "zstd");
	strcpy(w->base, "base.qcow2");
	w->base_format = "qcow2";
}

static void make_image(struct world *w)
{
	unsigned version = rnd(&w->rng, 4) ? 3 : 2;
	unsigned refcount_bits = version == 3 ? 1u << rnd(&w->rng, 7) : 16;
	bool lazy = version == 3 && !rnd(&w->rng, 4), ours = rnd(&w->rng, 3) == 0;
	static const char *const pre[] = { "off", "off", "metadata", "falloc" };
	const char *how = w->base[0] ? "off" : pre[rnd(&w->rng, 4)];
	struct store_create c = { .path = "top.qcow2",
				  .format = STORE_QCOW2,
				  .size_bytes = w->bytes,
				  .version = version,
				  .cluster_bytes = 1u << w->cluster_bits,
				  .lazy_refcounts = lazy,
				  .backing = w->base[0] ? w->base : NULL,
				  .backing_format = w->base[0] && w->base_format[0] == 'q' ?
							    STORE_QCOW2 :
							    STORE_RAW };
	struct err err = { "" };

	refcount_bits = ours ? 16 : refcount_bits;
	strcpy(w->top, "top.qcow2");
	w->snapshots_ok = refcount_bits >= 4;
	w->nsnapshots = w->noverlays = 0;
	snprintf(context + strlen(context), sizeof(context) - strlen(context),
		 "campaign %llu, %s, %llu bytes, version %u, clusters of %u, refcounts of %u bits, "
		 "preallocation %s, made by %s, on \"%s\"%s ",
		 (unsigned long long)w->campaigns, w->on_disk ? "disk" : "tmpfs",
		 (unsigned long long)w->bytes, version, 1u << w->cluster_bits, refcount_bits,
		 ours ? "off" : how, ours ? "us" : "QEMU", w->base, lazy ? ", lazy" : "");
	if (ours) {
		if (store_create(&c, &err))
			fail("create: %s", err.text);
		return;
	}
	must("qemu-img create -f qcow2 %s%s %s%s -o compat=%s,cluster_size=%u,refcount_bits=%u,"
	     "lazy_refcounts=%s,preallocation=%s top.qcow2 %llu",
	     w->base[0] ? "-b " : "", w->base, w->base[0] ? "-F " : "",
	     w->base[0] ? w->base_format : "", version == 3 ? "1.1" : "0.10", 1u << w->cluster_bits,
	     refcount_bits, lazy ? "on" : "off", how, (unsigned long long)w->bytes);
}

static void campaign(struct world *w, uint64_t left)
{
	uint64_t most;
	unsigned phases = (unsigned)rnd(&w->rng, 6) + 3;

	w->cluster_bits = 9 + (unsigned)rnd(&w->rng, 13);
	most = w->cluster_bits < 12 ? 2 * MIB : w->cluster_bits < 18 ? 8 * MIB : 32 * MIB;
	w->bytes = (rnd(&w->rng, most / SECTOR) + most / SECTOR / 2) * SECTOR;
	make_backing(w);
	make_image(w);
	must("qemu-img convert -f qcow2 -O raw top.qcow2 mirror");
	map_mirror(w);
	judge(w);
	for (unsigned i = 0; i < phases && left; i++) {
		uint64_t n = rnd(&w->rng, 3) ? rnd(&w->rng, 450) + 75 : rnd(&w->rng, 1400) + 75;

		n = n > left ? left : n;
		left -= n;
		phase(w, n);
		interlude(w);
	}
	for (unsigned i = 0; i < w->nsnapshots; i++)
		must("qemu-img convert -l snapshot.name=s%u -f qcow2 -O raw %s old && "
		     "qemu-img compare -f raw -F raw old %s.s%u",
		     i, w->top, w->top, i);
	unmap_mirror(w);
	w->campaigns++;
}

int torture_random(uint64_t seed, uint64_t nops, const char *dir)
{
	struct world w = { .rng = { seed } };

	while (w.ops < nops) {
		w.on_disk = rnd(&w.rng, 3) == 0;
		snprintf(context, sizeof(context),
			 "torture random %llu %llu %s: ", (unsigned long long)seed,
			 (unsigned long long)nops, dir);
		enter_scratch(w.on_disk ? dir : "/dev/shm");
		campaign(&w, nops - w.ops);
		leave_scratch();
	}
	printf("seed %llu: %llu operations, %llu images, %llu phases, each checked and compared; "
	       "%llu resizes, %llu overlays, %llu rebases, %llu commits, %llu snapshots, %llu times "
	       "qemu-io\n",
	       (unsigned long long)seed, (unsigned long long)w.ops, (unsigned long long)w.campaigns,
	       (unsigned long long)w.phases, (unsigned long long)w.resizes,
	       (unsigned long long)w.overlays, (unsigned long long)w.rebases,
	       (unsigned long long)w.commits, (unsigned long long)w.snaps,
	       (unsigned long long)w.foreign);
	return 0;
}
