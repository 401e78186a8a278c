/*
 * qcow2 when the host fails: no space, no memory, I/O errors, at each call that an operation makes
 * (the linker's --wrap puts our functions before libc's). After any failure the image is neither
 * corrupt nor marked so, the old data is unchanged, and the next try succeeds.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/backend/disk/disk.h"
#include "devices/backend/qcow2_image/check.h"
#include "devices/backend/store/backing.h"
#include "tests/unit/qcow2_files.h"
#include "vmm/core/log.h"

static void enter(void)
{
	log_set_level(LOG_ERROR - 1);
	signal(SIGXFSZ, SIG_IGN);
	scratch_enter();
}

TestSuite(qcow2_faults, .init = enter, .fini = scratch_leave, .timeout = 240);

/* --- calls that fail ------------------------------------------------------------------- */

enum call { CALL_SIZE, CALL_WRITE, CALL_READ, CALL_SYNC, CALL_ALLOCATE, CALL_MEMORY, NCALLS };

static struct {
	bool armed;
	enum call call;
	unsigned after; /* number of calls that succeed before */
	unsigned times; /* number of calls that fail then */
	int error;
	unsigned hits;
} fault;

static bool hit(enum call call)
{
	if (!fault.armed || fault.call != call)
		return false;
	if (fault.after) {
		fault.after--;
		return false;
	}
	if (!fault.times)
		return false;
	fault.times--;
	fault.hits++;
	errno = fault.error;
	return true;
}

static void arm(enum call call, unsigned after, unsigned times, int error)
{
	fault.call = call;
	fault.after = after;
	fault.times = times;
	fault.error = error;
	fault.hits = 0;
	fault.armed = true;
}

static void disarm(void)
{
	fault.armed = false;
}

#define WRAP(call, type, failed, name, params, ...)                                                \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		return hit(call) ? failed : __real_##name(__VA_ARGS__);                            \
	}

WRAP(CALL_SIZE, int, -1, ftruncate, (int fd, off_t size), fd, size)
WRAP(CALL_SYNC, int, -1, fdatasync, (int fd), fd)
WRAP(CALL_ALLOCATE, int, -1, fallocate, (int fd, int mode, off_t at, off_t len), fd, mode, at, len)
WRAP(CALL_MEMORY, void *, NULL, malloc, (size_t n), n)
WRAP(CALL_MEMORY, void *, NULL, calloc, (size_t n, size_t size), n, size)
WRAP(CALL_MEMORY, void *, NULL, realloc, (void *p, size_t n), p, n)

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/*
 * vmm/core/fd_rw.h reads and writes by this function: files at an offset, wake-ups without one. Others call it with fewer
 * arguments: what is read then is not theirs.
 */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
	long arg[6];
	va_list ap;

	va_start(ap, number);
	for (unsigned i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (arg[3] != -1 && ((number == SYS_pwritev2 && hit(CALL_WRITE)) ||
			     (number == SYS_preadv2 && !arg[5] && hit(CALL_READ))))
		return -1;
	return __real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* --- growing ------------------------------------------------------------------------------ */

#define FILLED (1960 * KIB)
#define MORE (64 * KIB)

/* The refcount table of one cluster covers 2 MiB of file: the next writes need a larger one. */
static void make_nearly_full(const char *path)
{
	static uint8_t buf[FILLED];
	struct store *s;

	must("rm -f %s; qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 %s 8M",
	     path, path);
	s = must_open(path, STORE_QCOW2, false);
	pattern(buf, FILLED, 1);
	cr_assert_eq(store_write(s, buf, 0, FILLED), 0);
	store_close(s);
}

static void check_good(const char *path, const char *what)
{
	struct qcow2_check c = { .repair = QCOW2_REPAIR_NONE };
	struct err err = { "" };

	cr_assert_eq(qcow2_check(&c, path, &err), 0, "%s: %s", what, err.text);
	cr_assert_eq(c.corruptions, 0, "%s: %lu corruptions", what, c.corruptions);
	cr_assert_eq(peek64(path, 72) & 2, 0, "%s: marked corrupt", what);
}

static void check_pattern(struct store *s, uint64_t at, uint64_t n, uint64_t seed, const char *what)
{
	static uint8_t got[FILLED], want[FILLED];

	cr_assert_eq(store_read(s, got, at, n), 0, "%s", what);
	pattern(want, n, seed);
	cr_assert(!memcmp(got, want, n), "%s", what);
}

static int grow_by_writing(struct store *s)
{
	static uint8_t buf[MORE];
	int rc;

	pattern(buf, MORE, 2);
	rc = store_write(s, buf, FILLED, MORE);
	return rc ? rc : s->ops->flush(s);
}

static int grow_by_resize(struct store *s)
{
	struct err err = { "" };
	int rc = s->ops->resize(s, 300 * MIB, &err);

	cr_assert(!rc || err.text[0]);
	return rc;
}

/* Call number after fails while the image grows. Returns false if there is no such call. */
static bool try(int (*grow)(struct store *s), enum call call, unsigned after, unsigned times,
		int error)
{
	struct store *s;
	char what[64];
	int rc;

	snprintf(what, sizeof(what), "call %d, number %u, %u times", (int)call, after, times);
	must("cp full q.qcow2");
	s = must_open("q.qcow2", STORE_QCOW2, false);
	arm(call, after, times, error);
	rc = grow(s);
	disarm();
	/* A failed hole punch only means that the cluster may not be zeroes. */
	cr_assert(!rc || fault.hits, "%s: %s", what, strerror(-rc));
	check_pattern(s, 0, FILLED, 1, what);
	/* After a failed fdatasync nothing is durable; after other failures the image works. */
	if (call != CALL_SYNC)
		cr_assert_eq(grow(s), 0, "%s", what);
	store_close(s);
	check_good("q.qcow2", what);
	if (!(after % 16))
		cr_assert(qemu_check("q.qcow2") != 2, "%s", what);
	s = must_open("q.qcow2", STORE_QCOW2, false);
	check_pattern(s, 0, FILLED, 1, what);
	cr_assert_eq(grow(s), 0, "%s", what);
	store_close(s);
	check_good("q.qcow2", what);
	return fault.hits;
}

static void try_all(int (*grow)(struct store *s))
{
	static const int errors[NCALLS] = { EFBIG, ENOSPC, EIO, EIO, EOPNOTSUPP, ENOMEM };

	make_nearly_full("full");
	for (enum call call = 0; call < NCALLS; call++) {
		unsigned n = 0;

		/* Fail one call, then all calls from it on; of many similar calls try only some. */
		while (try(grow, call, n, 1, errors[call])) {
			try(grow, call, n, ~0u, errors[call]);
			n += n < 20 ? 1 : 8;
		}
		cr_log_info("about %u calls of kind %d", n, (int)call);
	}
}

Test(qcow2_faults, growing_by_writing)
{
	try_all(grow_by_writing);
}

Test(qcow2_faults, growing_by_resize)
{
	try_all(grow_by_resize);
}

static void limit_file(rlim_t bytes)
{
	struct rlimit l;

	cr_assert(!getrlimit(RLIMIT_FSIZE, &l));
	l.rlim_cur = bytes;
	cr_assert(!setrlimit(RLIMIT_FSIZE, &l));
}

/* The limit is too low for the longer L1 table; then it is raised. */
Test(qcow2_faults, resize_beyond_the_limit_of_file_sizes)
{
	struct err err = { "" };
	struct store *s;

	must("qemu-img create -q -f qcow2 -o cluster_size=4k q.qcow2 1G");
	s = must_open("q.qcow2", STORE_QCOW2, false);
	limit_file(3 * MIB);
	cr_assert_eq(s->ops->resize(s, 1ull << 40, &err), -EFBIG, "%s", err.text);
	limit_file(RLIM_INFINITY);
	store_close(s);
	check_good("q.qcow2", "refused");
	cr_assert_eq(qemu_check("q.qcow2"), 0);
	s = must_open("q.qcow2", STORE_QCOW2, false);
	cr_assert_eq(s->ops->resize(s, 1ull << 40, &err), 0, "%s", err.text);
	store_close(s);
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

/* --- flushes --------------------------------------------------------------------------------- */

struct guest {
	struct loop *loop;
	struct disk *disk;
	int result;
	unsigned done;
};

static struct guest guest;

static void wake(void *opaque)
{
	guest.disk->ops->reap(guest.disk);
}

static void guest_open(const char *path, enum disk_engine engine, bool direct)
{
	struct disk_config cfg = { .path = path, .engine = engine, .direct = direct };
	struct err err = { "" };

	if (!guest.loop)
		cr_assert_eq(loop_create(&guest.loop, &err), 0, "%s", err.text);
	cfg.loop = guest.loop;
	cr_assert_eq(disk_open(&cfg, &guest.disk, &err), 0, "%s", err.text);
	guest.disk->wake = wake;
}

static void guest_close(void)
{
	disk_close(guest.disk);
	guest.disk = NULL;
}

static void guest_done(struct disk_req *req, int result)
{
	guest.result = result;
	guest.done++;
}

static int guest_do(enum disk_op op, uint64_t offset, void *buf, uint64_t len, bool durable)
{
	struct iovec iov = { buf, len };
	struct disk_req req = { .op = op,
				.offset = offset,
				.len_bytes = len,
				.iov = &iov,
				.niov = 1,
				.done = guest_done,
				.durable = durable };

	guest.done = 0;
	guest.disk->ops->submit(guest.disk, &req);
	guest.disk->ops->commit(guest.disk);
	guest.disk->ops->drain(guest.disk);
	cr_assert_eq(guest.done, 1);
	return guest.result;
}

/* The host reports a failed flush once; the disk reports it for each later flush. */
Test(qcow2_faults, a_flush_that_failed_fails_again)
{
	static const char *const names[] = { "disk.raw", "disk.qcow2", "disk.raw" };
	void *buf = NULL;

	cr_assert(!posix_memalign(&buf, 4096, 4096));
	for (unsigned i = 0; i < 3; i++) {
		bool direct = i == 2;

		must("rm -f disk.*; qemu-img create -q -f raw disk.raw 4M; "
		     "qemu-img create -q -f qcow2 disk.qcow2 4M");
		for (unsigned durable = 0; durable < 2; durable++) {
			guest_open(names[i], DISK_ENGINE_THREADS, direct);
			pattern(buf, 4096, i);
			cr_assert_eq(guest_do(DISK_WRITE, 0, buf, 4096, false), 0);
			cr_assert_eq(guest_do(DISK_FLUSH, 0, NULL, 0, false), 0);
			cr_assert_eq(guest_do(DISK_WRITE, 0, buf, 4096, false), 0);
			arm(durable ? CALL_WRITE : CALL_SYNC, 0, 1, EIO);
			if (durable)
				cr_assert_eq(guest_do(DISK_WRITE, 0, buf, 4096, true), -EIO);
			else
				cr_assert_eq(guest_do(DISK_FLUSH, 0, NULL, 0, false), -EIO);
			disarm();
			cr_assert_eq(fault.hits, 1);
			for (unsigned k = 0; k < 3; k++) {
				int want = direct ? 0 : -EIO;

				cr_assert_eq(guest_do(DISK_FLUSH, 0, NULL, 0, false), want);
				cr_assert_eq(guest_do(DISK_WRITE, 0, buf, 4096, true), want);
				cr_assert_eq(guest_do(DISK_WRITE, 0, buf, 4096, false), 0);
			}
			guest_close();
		}
		/* Open the disk again. */
		guest_open(names[i], DISK_ENGINE_THREADS, direct);
		cr_assert_eq(guest_do(DISK_FLUSH, 0, NULL, 0, false), 0);
		guest_close();
		if (i == 1)
			check_good(names[i], "flush");
	}
	free(buf);
}

/* Fails each step of a commit, without a guest. */
Test(qcow2_faults, a_commit_whose_flush_failed)
{
	for (unsigned n = 0; n < 8; n++) {
		struct store *s;
		uint8_t buf[512];
		int rc;

		must("rm -f q.qcow2; qemu-img create -q -f qcow2 q.qcow2 4M");
		s = must_open("q.qcow2", STORE_QCOW2, false);
		pattern(buf, sizeof(buf), 1);
		cr_assert_eq(store_write(s, buf, MIB, sizeof(buf)), 0);
		arm(CALL_SYNC, n, 1, EIO);
		rc = s->ops->flush(s);
		disarm();
		cr_assert_eq(rc, fault.hits ? -EIO : 0);
		cr_assert_eq(s->ops->flush(s), rc);
		cr_assert_eq(store_write(s, buf, 2 * MIB, sizeof(buf)), 0);
		store_close(s);
		check_good("q.qcow2", "flush");
	}
}

/* store_close returns the error, so that `bantam image resize` does not report success. */
Test(qcow2_faults, a_close_that_fails_says_so)
{
	for (enum call call = CALL_SIZE; call <= CALL_SYNC; call++) {
		struct err err = { "" };
		struct store *s;

		if (call == CALL_READ)
			continue;
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 -o preallocation=full q.qcow2 4M");
		s = must_open("q.qcow2", STORE_QCOW2, false);
		cr_assert_eq(s->ops->resize(s, MIB, &err), 0, "%s", err.text);
		cr_assert_eq(store_write(s, "x", 0, 1), 0);
		cr_assert_eq(s->ops->resize(s, 300ull << 30, &err), 0, "%s", err.text);
		cr_assert_eq(store_write(s, "x", 200 * MIB, 1), 0);
		arm(call, 0, 1, EIO);
		cr_assert_eq(store_close(s), -EIO, "%d", (int)call);
		disarm();
		check_good("q.qcow2", "close");
	}
}

/* --- no room, and room again ------------------------------------------------------------------ */

#define PIECE (48 * KIB)
#define NPIECES 120u
#define STRIDE (96 * KIB)

/* Writes and flushes until three calls have failed; written tells which pieces are written. */
static unsigned fill(bool *written, uint8_t *buf)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < NPIECES && failed < 3; i++) {
		int rc;

		pattern(buf, PIECE, i);
		rc = guest_do(DISK_WRITE, i * STRIDE, buf, PIECE, i % 5 == 4);
		written[i] = !rc;
		if (rc || (i % 3 == 2 && (rc = guest_do(DISK_FLUSH, 0, NULL, 0, false))))
			failed++;
		cr_assert(!rc || rc == -ENOSPC || rc == -EFBIG, "%s", strerror(-rc));
	}
	return failed;
}

static void check_written(const bool *written, uint8_t *buf)
{
	static uint8_t want[PIECE];

	for (unsigned i = 0; i < NPIECES; i++) {
		if (!written[i])
			continue;
		cr_assert_eq(guest_do(DISK_READ, i * STRIDE, buf, PIECE, false), 0);
		pattern(want, PIECE, i);
		cr_assert(!memcmp(buf, want, PIECE), "piece %u", i);
	}
}

/* The guest's writes fail and the VM continues; the image is not corrupt, nor after a kill now. */
static void no_room(const char *image, enum disk_engine engine, bool direct,
		    void (*make_room)(void))
{
	bool written[NPIECES] = { false };
	uint8_t *buf = NULL;
	int rc;

	cr_assert(!posix_memalign((void **)&buf, 4096, PIECE));
	guest_open(image, engine, direct);
	cr_assert(fill(written, buf));
	check_written(written, buf);
	/* The copy is what a kill would leave. */
	must("mkdir -p ../copy; cp %s ../copy/q.qcow2", image);
	rc = qemu_check("../copy/q.qcow2");
	cr_assert(!rc || rc == 3);
	check_good("../copy/q.qcow2", "no room");
	make_room();
	check_written(written, buf);
	cr_assert_eq(fill(written, buf), 0);
	cr_assert_eq(guest_do(DISK_FLUSH, 0, NULL, 0, false), 0);
	check_written(written, buf);
	guest_close();
	rc = qemu_check(image);
	cr_assert(!rc || rc == 3);
	check_good(image, "room again");
	guest_open(image, engine, direct);
	check_written(written, buf);
	guest_close();
	free(buf);
}

static const struct {
	const char *create;
	enum disk_engine engine;
	bool direct;
} rooms[] = {
	{ "", DISK_ENGINE_THREADS, false },
	{ "", DISK_ENGINE_AUTO, false },
	{ "-o cluster_size=512,refcount_bits=64", DISK_ENGINE_THREADS, false },
	{ "-o cluster_size=4k", DISK_ENGINE_AUTO, true },
	{ "-o cluster_size=2M", DISK_ENGINE_THREADS, false },
	{ "-b ../base.qcow2 -F qcow2", DISK_ENGINE_AUTO, false },
};

static void unlimited(void)
{
	limit_file(RLIM_INFINITY);
}

Test(qcow2_faults, a_limit_of_file_sizes_under_a_running_guest)
{
	struct err err = { "" };
	struct stat st;

	cr_assert_eq(store_allow_folder("..", &err), 0, "%s", err.text);
	must("mkdir dir; qemu-img create -q -f qcow2 base.qcow2 4M; "
	     "qemu-io -f qcow2 -c 'write -P 1 0 4M' base.qcow2");
	cr_assert(!chdir("dir"));
	for (unsigned i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 16M", rooms[i].create);
		cr_assert(!stat("q.qcow2", &st));
		limit_file((rlim_t)st.st_size + 3 * MIB);
		no_room("q.qcow2", rooms[i].engine, rooms[i].direct, unlimited);
	}
	cr_assert(!chdir(".."));
}

static void remove_filler(void)
{
	cr_assert(!unlink("filler"));
}

static void leave_mount(void)
{
	/* A failed test may have left us in the folder small. */
	if (umount2("small", MNT_DETACH) && !chdir(".."))
		umount2("small", MNT_DETACH);
	scratch_leave();
}

/* The file is sparse, and the file system has no pages left for it. */
Test(qcow2_faults, a_full_file_system_under_a_running_guest, .fini = leave_mount)
{
	struct err err = { "" };

	cr_assert_eq(store_allow_folder("..", &err), 0, "%s", err.text);
	/* A private mount: no other process sees it, and it ends with this process. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mkdir("small", 0700) || mount("tmpfs", "small", "tmpfs", 0, "size=24M"))
		cr_skip_test("no file system can be mounted here");
	must("qemu-img create -q -f qcow2 base.qcow2 4M; qemu-io -f qcow2 -c 'write -P 1 0 4M' base.qcow2");
	cr_assert(!chdir("small"));
	for (unsigned i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		if (rooms[i].direct)
			continue;
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 16M", rooms[i].create);
		/* Leave 2 MiB free. */
		must("! head -c 30M /dev/zero > filler; truncate -s -2M filler");
		no_room("q.qcow2", rooms[i].engine, false, remove_filler);
	}
	cr_assert(!chdir(".."));
}

/* --- compressed clusters -------------------------------------------------------------------- */

/* If the host cannot read or zlib cannot unpack a cluster, only that cluster is lost. */
Test(qcow2_faults, a_compressed_cluster_that_cannot_be_read)
{
	static uint8_t buf[64 * KIB];
	struct store *s;
	uint64_t at;

	must("yes 'much of the same' | head -c 1M > raw");
	must("qemu-img convert -c -f raw -O qcow2 raw q.qcow2");
	s = must_open("q.qcow2", STORE_QCOW2, false);
	cr_assert_eq(store_read(s, buf, MIB / 2, 1), 0);
	arm(CALL_READ, 0, 1, EIO);
	cr_assert_eq(store_read(s, buf, 0, sizeof(buf)), -EIO);
	disarm();
	cr_assert_eq(fault.hits, 1);
	cr_assert_eq(store_read(s, buf, 0, sizeof(buf)), 0);
	cr_assert_eq(store_write(s, buf, MIB / 4, 3000), 0);
	store_close(s);
	check_good("q.qcow2", "read error");

	at = peek64("q.qcow2", peek64("q.qcow2", peek64("q.qcow2", 40)) & 0xfffffffffffe00) &
	     ((1ull << 54) - 1);
	poke("q.qcow2", at, "\xff\xff\xff\xff", 4);
	s = must_open("q.qcow2", STORE_QCOW2, false);
	cr_assert_eq(store_read(s, buf, 0, 512), -EIO);
	cr_assert_eq(store_write(s, buf, 512, 512), -EIO);
	cr_assert_eq(store_read(s, buf, 64 * KIB, sizeof(buf)), 0);
	cr_assert_eq(store_write(s, buf, 100 * KIB, 3000), 0);
	cr_assert_eq(s->ops->flush(s), 0);
	/* A write of the whole cluster repairs it. */
	cr_assert_eq(store_write(s, buf, 0, sizeof(buf)), 0);
	cr_assert_eq(store_read(s, buf, 0, sizeof(buf)), 0);
	store_close(s);
	check_good("q.qcow2", "bad stream");
	cr_assert_eq(qemu_check("q.qcow2"), 0);
}

/* --- block devices ------------------------------------------------------------------------- */

static char loop[64];

static void detach(void)
{
	if (loop[0])
		sh("losetup -d %s", loop);
	scratch_leave();
}

/* Makes a device full of bytes that are not zero, so that the test sees wrong guesses of zeroes. */
static void attach(unsigned mib)
{
	FILE *f;

	must("head -c %uM /dev/zero | tr '\\0' Z > device", mib);
	if (sh("losetup --show -f device > name") || !(f = fopen("name", "r")))
		cr_skip_test("no loop device can be had here");
	cr_assert(fscanf(f, "%63s", loop) == 1);
	fclose(f);
}

Test(qcow2_faults, a_longer_l1_table_on_a_block_device, .fini = detach)
{
	struct err err = { "" };
	struct store *s;

	attach(16);
	must("qemu-img create -q -f qcow2 -o cluster_size=4k %s 1G", loop);
	s = must_open(loop, STORE_QCOW2, false);
	cr_assert_eq(s->ops->resize(s, 20ull << 30, &err), 0, "%s", err.text);
	/* A table of 8 MiB, half of the device; then a table that does not fit. */
	cr_assert_eq(s->ops->resize(s, 2ull << 40, &err), 0, "%s", err.text);
	cr_assert_eq(s->ops->resize(s, 5ull << 40, &err), -ENOSPC);
	cr_assert_eq(grow_by_writing(s), 0);
	store_close(s);
	cr_assert_eq(qemu_check(loop), 0);
	check_good(loop, "device");
}

Test(qcow2_faults, the_refcount_table_moves_on_a_block_device, .fini = detach)
{
	static uint8_t buf[MIB];
	struct store *s;
	int rc = 0;

	attach(24);
	must("qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 %s 64M", loop);
	s = must_open(loop, STORE_QCOW2, false);
	for (uint64_t at = 0; at < 20 * MIB; at += MIB) {
		pattern(buf, MIB, at);
		cr_assert_eq(store_write(s, buf, at, MIB), 0);
		if (at % (4 * MIB) == 0)
			cr_assert_eq(s->ops->flush(s), 0);
	}
	/* Write until the device is full, which does no damage. */
	for (uint64_t at = 20 * MIB; !rc && at < 30 * MIB; at += MIB)
		rc = store_write(s, buf, at, MIB);
	cr_assert_eq(rc, -ENOSPC);
	cr_assert_eq(s->ops->discard(s, 2 * MIB, 4 * MIB), 0);
	cr_assert_eq(s->ops->flush(s), 0);
	cr_assert_eq(s->ops->flush(s), 0);
	cr_assert_eq(store_write(s, buf, 40 * MIB, MIB), 0);
	for (uint64_t at = 6 * MIB; at < 20 * MIB; at += MIB)
		check_pattern(s, at, MIB, at, "written before");
	store_close(s);
	cr_assert(qemu_check(loop) != 2);
	check_good(loop, "device");
}
