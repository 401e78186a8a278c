/*
 * power: tests images as the host may find them after a loss of power.
 *
 * The test records every change that the engine makes to the image's file (the linker's --wrap puts
 * our functions before libc's), with the times of its begin and end, every fdatasync, and the
 * completions that the guest got. For a random moment it makes the file as a loss of power may
 * leave it: all changes that ended before the last complete fdatasync began are in the file; of the
 * later ones, each sector has an arbitrary part, ordered only within the sector. Then it checks as
 * kill.c does. Some recordings bypass the page cache, and in some the disk changes its size.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/qcow2/torture.h"

#define DISK_BYTES (4ull << 20)
#define POINTS 20u /* moments per recording */

enum what { WROTE, SIZE, SYNC };

struct event {
	enum what what;
	uint64_t offset, len; /* SIZE: the new size is in offset */
	uint8_t *data;	      /* NULL: zeroes */
	bool dsync;
	uint64_t begin, end;
};

struct note {
	struct op op;
	bool end;
	uint64_t mark, at;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool recording;
static bool no_room; /* as a file system that cannot allocate ahead */
static ino_t inode;
static uint64_t now;
static struct event *events;
static size_t nevents, events_room;
static uint64_t resize_begin, resize_end; /* 0: none */
static struct note *notes;
static size_t nnotes, notes_room;

/* --- recording -------------------------------------------------------------------------------------- */

static bool ours(int fd)
{
	struct stat st;

	return __atomic_load_n(&recording, __ATOMIC_ACQUIRE) && !fstat(fd, &st) &&
	       st.st_ino == inode;
}

static uint64_t tick(void)
{
	return __atomic_add_fetch(&now, 1, __ATOMIC_SEQ_CST);
}

/* Takes ownership of e.data. */
static void record(struct event e)
{
	pthread_mutex_lock(&lock);
	e.end = tick();
	if (nevents == events_room) {
		events_room = events_room ? events_room * 2 : 1024;
		events = realloc(events, events_room * sizeof(*events));
	}
	if (!events)
		fail("no memory");
	events[nevents++] = e;
	pthread_mutex_unlock(&lock);
}

static void note(struct driver *d, const struct op *op, bool end, uint64_t mark)
{
	if (nnotes == notes_room) {
		notes_room = notes_room ? notes_room * 2 : 1024;
		notes = realloc(notes, notes_room * sizeof(*notes));
	}
	if (!notes)
		fail("no memory");
	notes[nnotes++] = (struct note){ *op, end, mark, tick() };
}

static uint8_t *copy_iov(const struct iovec *iov, int niov, uint64_t *len)
{
	uint8_t *data, *to;

	*len = 0;
	for (int i = 0; i < niov; i++)
		*len += iov[i].iov_len;
	data = to = malloc(*len + 1);
	if (!data)
		fail("no memory");
	for (int i = 0; i < niov; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	return data;
}

static ssize_t record_write(struct event e, ssize_t n)
{
	int error = errno;

	if (n > 0) {
		e.len = (uint64_t)n;
		record(e);
	} else {
		free(e.data);
	}
	errno = error;
	return n;
}

ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
long __real_syscall(long call, ...);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_ftruncate(int fd, off_t size);
int __real_fdatasync(int fd);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int niov, off_t offset);
ssize_t __wrap_pwritev2(int fd, const struct iovec *iov, int niov, off_t offset, int flags);
long __wrap_syscall(long call, ...);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_fdatasync(int fd);

static uint64_t size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		fail("no size");
	return (uint64_t)st.st_size;
}

/* A write behind the end, or fallocate, makes the file longer. */
static void record_size(int fd, uint64_t was, uint64_t begin)
{
	struct event e = { .what = SIZE, .offset = size_of(fd), .begin = begin };

	if (e.offset > was)
		record(e);
}

static ssize_t real_pwritev2(int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	return __real_syscall(SYS_pwritev2, (long)fd, iov, (long)niov, (long)offset, 0L,
			      (long)flags);
}

ssize_t __wrap_pwritev2(int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	struct event e = { .what = WROTE, .offset = (uint64_t)offset, .dsync = flags & RWF_DSYNC };

	uint64_t was;
	ssize_t n;
	int error;

	if (!ours(fd))
		return real_pwritev2(fd, iov, niov, offset, flags);
	was = size_of(fd);
	e.data = copy_iov(iov, niov, &e.len);
	e.begin = tick();
	n = record_write(e, real_pwritev2(fd, iov, niov, offset, flags));
	error = errno;
	if (n > 0 && e.offset + (uint64_t)n > was)
		record_size(fd, was, e.begin);
	errno = error;
	return n;
}

/* vmm/core/fd_rw.h writes by this function. Others call it with fewer arguments: what is read then is not theirs. */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long call, ...)
{
	long arg[6];
	va_list ap;

	va_start(ap, call);
	for (unsigned i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (call == SYS_pwritev2)
		return __wrap_pwritev2((int)arg[0], (const struct iovec *)arg[1], (int)arg[2],
				       arg[3], (int)arg[5]);
	return __real_syscall(call, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int niov, off_t offset)
{
	return __wrap_pwritev2(fd, iov, niov, offset, 0);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	struct iovec iov = { (void *)buf, len };

	return __wrap_pwritev2(fd, &iov, 1, offset, 0);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	struct event e = { .what = WROTE, .offset = (uint64_t)offset, .len = (uint64_t)len };
	bool log = ours(fd);
	uint64_t was = log ? size_of(fd) : 0;
	int rc;

	if (log && !mode && no_room) {
		errno = EOPNOTSUPP;
		return -1;
	}
	e.begin = tick();
	rc = __real_fallocate(fd, mode, offset, len);
	if (log && !rc)
		record(e);
	if (log && !rc && !(mode & FALLOC_FL_KEEP_SIZE))
		record_size(fd, was, e.begin);
	return rc;
}

int __wrap_ftruncate(int fd, off_t size)
{
	struct event e = { .what = SIZE, .offset = (uint64_t)size };
	bool log = ours(fd);
	int rc;

	e.begin = tick();
	rc = __real_ftruncate(fd, size);
	if (log && !rc)
		record(e);
	return rc;
}

int __wrap_fdatasync(int fd)
{
	struct event e = { .what = SYNC };
	bool log = ours(fd);
	int rc;

	e.begin = tick();
	rc = __real_fdatasync(fd);
	if (log && !rc)
		record(e);
	return rc;
}

/* --- the file after a loss of power --------------------------------------------------------------------- */

struct boot_file {
	uint8_t *data;
	uint64_t size, room;
};

/* Returns when unit was last written back: an arbitrary moment since the sync. */
static uint64_t moment(uint64_t salt, uint64_t unit, uint64_t from, uint64_t to)
{
	struct rng r = { salt ^ unit * 0x9e3779b97f4a7c15ull };

	switch (rnd(&r, 3)) {
	case 0:
		return from;
	case 1:
		return to;
	default:
		return from + rnd(&r, to - from + 1);
	}
}

static void apply(struct boot_file *f, const struct event *e, uint64_t at, uint64_t n)
{
	if (at + n > f->room)
		fail("a write beyond what was recorded");
	if (e->data)
		memcpy(f->data + at, e->data + (at - e->offset), n);
	else
		memset(f->data + at, 0, n);
}

/* Returns, by sector of the file, when an O_DSYNC write made it durable. */
static uint64_t *durable_times(uint64_t cut, uint64_t room)
{
	uint64_t *t = calloc(room / SECTOR + 1, sizeof(*t));

	if (!t)
		fail("no memory");
	for (size_t i = 0; i < nevents; i++) {
		const struct event *e = &events[i];

		if (e->what != WROTE || !e->dsync || e->end >= cut)
			continue;
		for (uint64_t at = e->offset / SECTOR; at * SECTOR < e->offset + e->len; at++)
			t[at] = e->end + 1;
	}
	return t;
}

static void lose_power(struct boot_file *f, uint64_t cut, struct rng *rng)
{
	uint64_t synced = 0, salt = rnd64(rng);
	/* The unit of writing back: a sector, a page, everything. */
	unsigned shift = (unsigned[]){ 0, 0, 3, 63 }[rnd(rng, 4)];
	uint64_t *durable = durable_times(cut, f->room), size_time;

	for (size_t i = 0; i < nevents; i++)
		if (events[i].what == SYNC && events[i].end < cut && events[i].begin > synced)
			synced = events[i].begin;
	size_time = moment(salt, ~0ull, synced, cut);
	for (size_t i = 0; i < nevents; i++) {
		const struct event *e = &events[i];

		if (e->what == SIZE && e->end < size_time)
			f->size = e->offset;
		if (e->what != WROTE || e->begin >= cut)
			continue;
		for (uint64_t at = e->offset, n; at < e->offset + e->len; at += n) {
			uint64_t sector = at / SECTOR;
			uint64_t when = moment(salt, sector >> shift, synced, cut);

			n = SECTOR - at % SECTOR;
			if (n > e->offset + e->len - at)
				n = e->offset + e->len - at;
			if (when < durable[sector])
				when = durable[sector];
			if (e->end < when)
				apply(f, e, at, n);
		}
	}
	free(durable);
}

static void write_file(const char *path, const struct boot_file *f)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, f->data, f->size) != (ssize_t)f->size)
		fail("%s", path);
	close(fd);
}

static void replay_notes(struct ledger *l, uint64_t cut)
{
	for (size_t i = 0; i < nnotes && notes[i].at < cut; i++) {
		const struct note *n = &notes[i];

		if (n->op.kind == DISK_FLUSH && n->end)
			ledger_flush_end(l, n->mark);
		else if (n->op.kind != DISK_FLUSH && n->end)
			ledger_done(l, &n->op);
		else if (n->op.kind != DISK_FLUSH)
			ledger_issue(l, &n->op);
	}
}

/* --- recordings ------------------------------------------------------------------------------------------- */

static void operate(struct rng *rng, uint64_t *seq, struct ledger *l, uint64_t n, bool record_it,
		    bool direct)
{
	struct driver *d = calloc(1, sizeof(*d));

	d->rng = rng;
	d->seq = seq;
	d->ledger = l;
	d->max_sectors = 300;
	d->note = record_it ? note : NULL;
	driver_open(d, "top.qcow2", DISK_ENGINE_THREADS, direct);
	driver_run(d, n);
	driver_close(d);
	free(d);
}

static void resize(uint64_t nsectors)
{
	struct store *s = must_open("top.qcow2", STORE_QCOW2, false);
	struct err err = { "" };

	resize_begin = tick();
	if (s->ops->resize(s, nsectors * SECTOR, &err))
		fail("resize: %s", err.text);
	resize_end = tick();
	if (store_close(s))
		fail("close after a resize");
}

static void load(const char *path, struct boot_file *f)
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		fail("%s", path);
	f->size = (uint64_t)st.st_size;
	f->room = f->size + (256ull << 20);
	f->data = calloc(1, f->room);
	if (!f->data || read(fd, f->data, f->size) != (ssize_t)f->size)
		fail("%s", path);
	inode = st.st_ino;
	close(fd);
}

static void forget(void)
{
	for (size_t i = 0; i < nevents; i++)
		free(events[i].data);
	nevents = nnotes = 0;
	now = resize_begin = resize_end = 0;
}

static void copy_ledger(struct ledger *to, const struct ledger *from)
{
	ledger_init(to, from->nsectors);
	memcpy(to->stable, from->stable, from->nsectors * 8);
	memcpy(to->zeroed, from->zeroed, from->nsectors * 8);
	memcpy(to->size, from->size, sizeof(to->size));
}

/* Tests one moment. resized is the new size in sectors, if resize_end. */
static void one_point(const struct boot_file *before, const struct ledger *known, struct rng *rng,
		      uint64_t seq, uint64_t resized, unsigned long *leaks)
{
	uint64_t cut = rnd(rng, now) + 2, size = before->size;
	struct boot_file f = { .size = size, .room = before->room };
	size_t end = strcspn(context, "|");
	struct ledger l;
	unsigned long n;

	for (size_t i = 0; i < nevents; i++) {
		uint64_t reach = events[i].offset + events[i].len;

		size = events[i].what == SYNC || reach < size ? size : reach;
	}
	f.room = size;
	f.data = calloc(1, f.room + 1);
	memcpy(f.data, before->data, before->size);
	snprintf(context + end, sizeof(context) - end, "| moment %llu of %llu",
		 (unsigned long long)cut, (unsigned long long)now);
	lose_power(&f, cut, rng);
	write_file("top.qcow2", &f);
	free(f.data);
	n = check_image("top.qcow2", true);
	*leaks = n > *leaks ? n : *leaks;
	copy_ledger(&l, known);
	if (resize_end && resize_begin < cut)
		l.size[1] = resized;
	if (resize_end && resize_end < cut)
		l.size[0] = resized;
	replay_notes(&l, cut);
	ledger_verify(&l, "top.qcow2", true);
	/* The image must be usable. */
	if (!rnd(rng, 4)) {
		operate(rng, &seq, &l, 60, false, false);
		check_image("top.qcow2", true);
		ledger_verify(&l, "top.qcow2", false);
	}
	ledger_free(&l);
}

static void make(struct rng *rng, uint64_t nsectors)
{
	unsigned cluster = 512u << rnd(rng, 9);
	const char *base = "";

	if (rnd(rng, 2)) {
		must("qemu-img create -f qcow2 base.qcow2 %llu", DISK_BYTES / 2);
		base = "-b base.qcow2 -F qcow2";
	}
	must("qemu-img create -f qcow2 %s -o cluster_size=%u,compat=%s top.qcow2 %llu", base,
	     cluster, rnd(rng, 4) ? "1.1" : "0.10", (unsigned long long)nsectors * SECTOR);
}

/* Records operations. resized is a new size to set in the middle; 0: none. */
static void record_life(struct rng *rng, uint64_t *seq, struct ledger *l, uint64_t resized,
			bool direct)
{
	uint64_t n = rnd(rng, 300) + 20;

	__atomic_store_n(&recording, true, __ATOMIC_RELEASE);
	operate(rng, seq, l, resized ? n / 2 : n, true, direct);
	if (resized) {
		resize(resized);
		operate(rng, seq, l, n / 2, true, direct);
	}
	__atomic_store_n(&recording, false, __ATOMIC_RELEASE);
}

int torture_power(uint64_t seed, unsigned points, const char *dir)
{
	unsigned recordings = 0, directs = 0, resizes = 0;
	struct rng rng = { seed };
	unsigned long leaks = 0;
	uint64_t changes = 0;

	for (unsigned i = 0; i < points; recordings++) {
		uint64_t size = (DISK_BYTES / 2 + rnd(&rng, DISK_BYTES)) / SECTOR, resized = 0,
			 seq = 0;
		bool direct = !rnd(&rng, 4);
		struct ledger known, l;
		struct boot_file before;

		no_room = !rnd(&rng, 4);
		snprintf(context, sizeof(context), "torture power %llu %u %s: recording %u%s%s ",
			 (unsigned long long)seed, points, dir, recordings,
			 direct ? ", direct" : "", no_room ? ", no fallocate" : "");
		/* A tmpfs does not support O_DIRECT. */
		enter_scratch(direct ? dir : "/dev/shm");
		make(&rng, size);
		if (!rnd(&rng, 2))
			resized = (DISK_BYTES / 4 + rnd(&rng, 2 * DISK_BYTES)) / SECTOR;
		ledger_init(&known, size > resized ? size : resized);
		known.size[0] = known.size[1] = size;
		operate(&rng, &seq, &known, rnd(&rng, 200), false, false);
		if (rnd(&rng, 4) == 0 && !resized)
			must("qemu-img snapshot -c s top.qcow2");
		ledger_verify(&known, "top.qcow2", true);
		load("top.qcow2", &before);
		copy_ledger(&l, &known);
		record_life(&rng, &seq, &l, resized, direct);
		ledger_free(&l);
		changes += nevents;
		directs += direct;
		resizes += !!resized;
		for (unsigned k = 0; k < POINTS && i < points; k++, i++)
			one_point(&before, &known, &rng, seq, resized, &leaks);
		forget();
		free(before.data);
		ledger_free(&known);
		leave_scratch();
	}
	printf("seed %llu: %u losses of power in %u recordings (%u with O_DIRECT, %u with a resize) of "
	       "%llu changes to the file; at most %lu leaked clusters\n",
	       (unsigned long long)seed, points, recordings, directs, resizes,
	       (unsigned long long)changes, leaks);
	return 0;
}
