/* disk_raw with both engines: data, errors, zeroing, alignment, locks, open's refusals. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/disk/disk_impl.h"
#include "tests/unit/proc.h"

#define MIB (1024u * 1024u)

struct ctx {
	struct loop *loop;
	struct disk *disk;
	unsigned done;
	int result;
	unsigned *pending; /* the loop stops at 0 */
	char dir[64];
	char path[96];
};

struct tracked {
	struct disk_req req;
	struct ctx *ctx;
	struct iovec iov[8];
	void *cookie;
};

static const enum disk_engine engines[] = { DISK_ENGINE_IO_URING, DISK_ENGINE_THREADS,
					    DISK_ENGINE_AUTO };

static void make_file(struct ctx *c, uint64_t bytes)
{
	int fd;

	/* Not /tmp, which may be a tmpfs: O_DIRECT and holes need a real file system. */
	snprintf(c->dir, sizeof(c->dir), "/var/tmp/bantam-test-XXXXXX");
	cr_assert(mkdtemp(c->dir));
	snprintf(c->path, sizeof(c->path), "%s/disk", c->dir);
	fd = open(c->path, O_RDWR | O_CREAT, 0600);
	cr_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	close(fd);
}

static void wake(void *opaque)
{
	struct ctx *c = opaque;

	c->disk->ops->reap(c->disk);
	if (c->pending && !*c->pending)
		loop_stop(c->loop);
}

static int open_disk(struct ctx *c, enum disk_engine engine, bool ro, bool direct, struct err *err)
{
	struct disk_config cfg = {
		.path = c->path,
		.engine = engine,
		.readonly = ro,
		.direct = direct,
	};
	int rc;

	if (!c->loop)
		cr_assert(loop_create(&c->loop, NULL) == 0);
	cfg.loop = c->loop;
	rc = disk_raw_open(&cfg, &c->disk, err);
	if (!rc) {
		c->disk->wake = wake;
		c->disk->wake_opaque = c;
	}
	return rc;
}

static void clean(struct ctx *c)
{
	disk_close(c->disk);
	loop_destroy(c->loop);
	unlink(c->path);
	rmdir(c->dir);
}

static void on_done(struct disk_req *req, int result)
{
	struct ctx *c = ((struct tracked *)req)->ctx;

	c->done++;
	c->result = result;
}

static int run(struct ctx *c, struct tracked *t)
{
	c->done = 0;
	t->ctx = c;
	t->req.done = on_done;
	c->disk->ops->submit(c->disk, &t->req);
	cr_assert_eq(c->done, 0, "done inside submit");
	c->disk->ops->commit(c->disk);
	c->disk->ops->drain(c->disk);
	cr_assert_eq(c->done, 1);
	return c->result;
}

static int io(struct ctx *c, enum disk_op op, uint64_t off, void *buf, size_t len)
{
	struct tracked t = { .iov = { { buf, len } } };

	t.req.op = op;
	t.req.offset = off;
	t.req.len_bytes = len;
	t.req.iov = t.iov;
	t.req.niov = buf ? 1 : 0;
	return run(c, &t);
}

static int zero(struct ctx *c, enum disk_op op, uint64_t off, uint64_t len, bool unmap)
{
	struct tracked t = { .ctx = c };

	t.req.op = op;
	t.req.unmap = unmap;
	t.req.offset = off;
	t.req.len_bytes = len;
	return run(c, &t);
}

static blkcnt_t blocks(const struct ctx *c)
{
	struct stat st;

	cr_assert(stat(c->path, &st) == 0);
	return st.st_blocks;
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * 7 + seed * 31 + (i >> 9)) | 1);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* --- data ---------------------------------------------------------------------- */

static void check_ops(enum disk_engine engine, bool direct)
{
	struct ctx c = { 0 };
	uint8_t *a = aligned_alloc(4096, MIB), *b = aligned_alloc(4096, MIB);
	blkcnt_t before;

	make_file(&c, 4 * MIB);
	cr_assert(open_disk(&c, engine, false, direct, NULL) == 0);
	cr_assert_eq(c.disk->size_bytes, 4 * MIB);
	fill(a, MIB, 1);
	cr_assert_eq(io(&c, DISK_WRITE, 512, a, MIB), 0);
	cr_assert_eq(io(&c, DISK_READ, 512, b, MIB), 0);
	cr_assert_arr_eq(a, b, MIB);
	cr_assert_eq(io(&c, DISK_FLUSH, 0, NULL, 0), 0);
	/* Past the end of the file. */
	cr_assert_eq(io(&c, DISK_READ, 4 * MIB - 512, b, 1024), -EIO);

	before = blocks(&c);
	cr_assert_eq(zero(&c, DISK_WRITE_ZEROES, 512 + 65536, 131072, true), 0);
	cr_assert_eq(io(&c, DISK_READ, 512, b, MIB), 0);
	cr_assert(all_zero(b + 65536, 131072));
	cr_assert_arr_eq(a, b, 65536);
	cr_assert_arr_eq(a + 196608, b + 196608, MIB - 196608);
	cr_assert_lt(blocks(&c), before, "unmap frees");

	before = blocks(&c);
	cr_assert_eq(zero(&c, DISK_WRITE_ZEROES, 512 + 262144, 65536, false), 0);
	cr_assert_eq(io(&c, DISK_READ, 512 + 262144, b, 65536), 0);
	cr_assert(all_zero(b, 65536));
	cr_assert_eq(blocks(&c), before, "no unmap keeps the blocks");

	cr_assert_eq(zero(&c, DISK_DISCARD, 0, 4 * MIB, true), 0);
	cr_assert_eq(blocks(&c), 0, "%ld", (long)blocks(&c));
	cr_assert_eq(c.disk->size_bytes, 4 * MIB);
	cr_assert_eq(truncate(c.path, 2 * MIB), 0);
	cr_assert_eq(c.disk->ops->refresh(c.disk, NULL), 1);
	cr_assert_eq(c.disk->size_bytes, 2 * MIB);
	cr_assert_eq(c.disk->ops->refresh(c.disk, NULL), 0);
	cr_assert_eq(truncate(c.path, 3 * MIB + 100), 0);
	cr_assert_eq(c.disk->ops->refresh(c.disk, NULL), 1);
	cr_assert_eq(c.disk->size_bytes, 3 * MIB);
	clean(&c);
	free(a);
	free(b);
}

Test(disk_raw, ops)
{
	for (unsigned i = 0; i < 3; i++)
		check_ops(engines[i], false);
}

Test(disk_raw, ops_direct)
{
	for (unsigned i = 0; i < 3; i++)
		check_ops(engines[i], true);
}

/* Buffers and offsets that O_DIRECT refuses still work, and show the same data as direct reads. */
Test(disk_raw, direct_misaligned)
{
	uint8_t *buf = aligned_alloc(4096, 65536), *ref = malloc(65536);

	for (unsigned e = 0; e < 2; e++) {
		struct ctx c = { 0 };

		make_file(&c, MIB);
		cr_assert(open_disk(&c, engines[e], false, true, NULL) == 0);
		fill(buf, 65536, e);
		memcpy(ref, buf, 65536);
		cr_assert_eq(io(&c, DISK_WRITE, 0, buf, 32768), 0);
		cr_assert_eq(io(&c, DISK_WRITE, 512, buf + 3, 1024), 0);
		memmove(ref + 512, buf + 3, 1024);
		cr_assert_eq(io(&c, DISK_READ, 0, buf, 32768), 0);
		cr_assert_arr_eq(buf, ref, 32768);
		cr_assert_eq(io(&c, DISK_READ, 0, buf + 1, 32768), 0);
		cr_assert_arr_eq(buf + 1, ref, 32768);
		clean(&c);
	}
	free(buf);
	free(ref);
}

/* A durable write of many pieces. */
Test(disk_raw, vectors)
{
	for (unsigned e = 0; e < 2; e++) {
		struct ctx c = { 0 };
		uint8_t a[4096], b[4096];
		struct tracked t = { .iov = { { a, 100 }, { a + 100, 412 }, { a + 512, 3584 } } };

		make_file(&c, MIB);
		cr_assert(open_disk(&c, engines[e], false, false, NULL) == 0);
		fill(a, sizeof(a), 3);
		t.req.op = DISK_WRITE;
		t.req.durable = true;
		t.req.len_bytes = sizeof(a);
		t.req.iov = t.iov;
		t.req.niov = 3;
		cr_assert_eq(run(&c, &t), 0);
		cr_assert_eq(io(&c, DISK_READ, 0, b, sizeof(b)), 0);
		cr_assert_arr_eq(a, b, sizeof(a));
		clean(&c);
	}
}

/* --- many requests at once, compared with a shadow copy ----------------------------- */

#define QD 64
#define SLOTS 256
#define SLOT_BYTES 4096

struct storm {
	struct ctx c;
	uint8_t *shadow;
	struct tracked t[QD];
	uint8_t *buf[QD];
	int slot[QD];
	bool busy_slot[SLOTS];
	unsigned inflight, total, rnd;
};

static unsigned rnd(struct storm *s)
{
	s->rnd = s->rnd * 1103515245u + 12345u;
	return s->rnd >> 8;
}

static void storm_start(struct storm *s, unsigned i);

static void storm_done(struct disk_req *req, int result)
{
	struct tracked *t = (struct tracked *)req;
	struct storm *s = t->cookie;
	unsigned i = (unsigned)(t - s->t);
	uint8_t *shadow = s->shadow + (size_t)s->slot[i] * SLOT_BYTES;

	cr_assert_eq(result, 0);
	if (req->op == DISK_READ)
		cr_assert(memcmp(s->buf[i], shadow, SLOT_BYTES) == 0);
	else if (req->op == DISK_WRITE)
		memcpy(shadow, s->buf[i], SLOT_BYTES);
	else if (req->op != DISK_FLUSH)
		memset(shadow, 0, SLOT_BYTES);
	if (req->op != DISK_FLUSH)
		s->busy_slot[s->slot[i]] = false;
	s->inflight--;
	if (s->total)
		storm_start(s, i);
}

static void storm_start(struct storm *s, unsigned i)
{
	static const enum disk_op ops[] = {
		DISK_READ,  DISK_READ,	DISK_READ,	   DISK_WRITE,
		DISK_WRITE, DISK_FLUSH, DISK_WRITE_ZEROES, DISK_DISCARD
	};
	struct tracked *t = &s->t[i];
	unsigned slot = rnd(s) % SLOTS;

	memset(&t->req, 0, sizeof(t->req));
	t->req.op = ops[rnd(s) % 8];
	if (t->req.op != DISK_FLUSH) {
		while (s->busy_slot[slot])
			slot = (slot + 1) % SLOTS;
		s->busy_slot[slot] = true;
		s->slot[i] = (int)slot;
		t->req.offset = slot * SLOT_BYTES;
		t->req.len_bytes = SLOT_BYTES;
	}
	t->req.unmap = rnd(s) & 1;
	if (t->req.op == DISK_WRITE)
		fill(s->buf[i], SLOT_BYTES, rnd(s));
	t->iov[0] = (struct iovec){ s->buf[i], SLOT_BYTES / 2 };
	t->iov[1] = (struct iovec){ s->buf[i] + SLOT_BYTES / 2, SLOT_BYTES / 2 };
	t->req.iov = t->iov;
	t->req.niov = 2;
	t->req.done = storm_done;
	t->cookie = s;
	s->inflight++;
	s->total--;
	s->c.disk->ops->submit(s->c.disk, &t->req);
}

static void check_storm(enum disk_engine engine, bool direct)
{
	struct storm *s = calloc(1, sizeof(*s));
	uint8_t *back = malloc(SLOTS * SLOT_BYTES);

	make_file(&s->c, SLOTS * SLOT_BYTES);
	cr_assert(open_disk(&s->c, engine, false, direct, NULL) == 0);
	s->shadow = calloc(SLOTS, SLOT_BYTES);
	s->total = 6000;
	s->rnd = 42;
	for (unsigned i = 0; i < QD; i++) {
		s->buf[i] = aligned_alloc(4096, SLOT_BYTES);
		storm_start(s, i);
	}
	s->c.disk->ops->commit(s->c.disk);
	s->c.pending = &s->inflight;
	if (s->inflight)
		cr_assert(loop_run(s->c.loop) == 0);
	cr_assert_eq(s->inflight, 0);
	cr_assert_eq(s->total, 0);
	cr_assert_eq(io(&s->c, DISK_READ, 0, back, SLOTS * SLOT_BYTES), 0);
	cr_assert(memcmp(back, s->shadow, SLOTS * SLOT_BYTES) == 0);
	for (unsigned i = 0; i < QD; i++)
		free(s->buf[i]);
	clean(&s->c);
	free(s->shadow);
	free(back);
	free(s);
}

Test(disk_raw, storm_uring, .timeout = 120)
{
	check_storm(DISK_ENGINE_IO_URING, false);
}

Test(disk_raw, storm_threads, .timeout = 120)
{
	check_storm(DISK_ENGINE_THREADS, false);
}

Test(disk_raw, storm_direct, .timeout = 120)
{
	check_storm(DISK_ENGINE_IO_URING, true);
}

/* --- locks ------------------------------------------------------------------------- */

static int try_open(struct ctx *c, bool ro, char *text)
{
	struct ctx other = *c;
	struct err err = { "" };
	int rc;

	other.loop = NULL;
	rc = open_disk(&other, DISK_ENGINE_AUTO, ro, false, &err);
	if (!rc)
		disk_close(other.disk);
	loop_destroy(other.loop);
	if (text)
		strcpy(text, err.text);
	return rc;
}

static int in_child(struct ctx *c, bool ro)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(try_open(c, ro, NULL) ? 1 : 0);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

Test(disk_raw, locks)
{
	struct ctx c = { 0 };
	char text[512];

	make_file(&c, MIB);
	cr_assert(open_disk(&c, DISK_ENGINE_AUTO, false, false, NULL) == 0);
	cr_assert_eq(try_open(&c, false, text), -EBUSY);
	cr_assert(strstr(text, "open twice in this VM"), "%s", text);
	cr_assert_eq(try_open(&c, true, text), -EBUSY);
	cr_assert_eq(in_child(&c, false), 1);
	cr_assert_eq(in_child(&c, true), 1);
	disk_close(c.disk);
	cr_assert_eq(in_child(&c, false), 0);
	cr_assert(open_disk(&c, DISK_ENGINE_AUTO, true, false, NULL) == 0);
	cr_assert_eq(in_child(&c, true), 0);
	cr_assert_eq(in_child(&c, false), 1);
	cr_assert(c.disk->readonly && !c.disk->can_discard && !c.disk->can_write_zeroes);
	clean(&c);
}

/* A process of another user locks a range of the file, which it may only read. */
static pid_t lock_as_reader(const char *path, bool ofd, off_t first, off_t n)
{
	struct flock fl = { .l_type = F_RDLCK, .l_start = first, .l_len = n };
	int ready[2], fd;
	pid_t pid;
	char byte;

	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(1);
		fd = open(path, O_RDONLY);
		if (fd < 0 || fcntl(fd, ofd ? F_OFD_SETLK : F_SETLK, &fl))
			_exit(1);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

/* A process that may only read an image can lock it; the message then says which process does. */
Test(disk_raw, locks_of_readers)
{
	static const struct {
		bool ofd;
		off_t first, n;
		bool write, read; /* is refused */
	} cases[] = {
		{ false, 0, 0, true, true },	{ true, 0, 0, true, true },
		{ false, 201, 1, true, false }, { true, 201, 1, true, false },
		{ true, 200, 1, true, true },	{ true, 101, 1, true, true },
		{ true, 0, 100, false, false }, { false, 300, 0, false, false },
		{ true, 100, 1, false, false },
	};
	struct ctx c = { 0 };
	char text[512], want[100];

	make_file(&c, MIB);
	cr_assert(!chmod(c.path, 0644) && !chmod(c.dir, 0755));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pid_t pid = lock_as_reader(c.path, cases[i].ofd, cases[i].first, cases[i].n);

		snprintf(want, sizeof(want), "process %d (test_disk_raw) of user %u has locked it",
			 (int)pid, geteuid() ? geteuid() : 65534u);
		cr_expect_eq(try_open(&c, false, text), cases[i].write ? -EBUSY : 0, "%zu", i);
		cr_expect(!cases[i].write || strstr(text, want), "%zu: %s", i, text);
		cr_expect_eq(try_open(&c, true, text), cases[i].read ? -EBUSY : 0, "%zu", i);
		cr_expect(!cases[i].read || strstr(text, want), "%zu: %s", i, text);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	clean(&c);
}

static int shell(const char *fmt, const char *path)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), fmt, path);
	return system(cmd);
}

/* QEMU's tools respect our locks and we theirs. */
Test(disk_raw, locks_of_qemu, .timeout = 60)
{
	struct ctx c = { 0 };
	FILE *qemu;
	char line[128], cmd[256];

	if (system("command -v qemu-io >/dev/null"))
		cr_skip_test("no qemu-io");
	make_file(&c, MIB);
	cr_assert(open_disk(&c, DISK_ENGINE_AUTO, false, false, NULL) == 0);
	cr_assert_neq(shell("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1", c.path), 0);
	/* qemu-img only reads, and checks that no other process writes meanwhile. */
	cr_assert_eq(shell("qemu-img convert -O raw %s /dev/null 2>&1 | "
			   "grep -q 'shared \"write\" lock'",
			   c.path),
		     0);
	disk_close(c.disk);
	cr_assert(open_disk(&c, DISK_ENGINE_AUTO, true, false, NULL) == 0);
	cr_assert_eq(shell("qemu-io -r -f raw -c 'read 0 512' %s >/dev/null 2>&1", c.path), 0);
	cr_assert_neq(shell("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1", c.path), 0);
	disk_close(c.disk);

	/* qemu-io holds the image while its standard input is open. */
	snprintf(cmd, sizeof(cmd), "qemu-io -f raw %s >%s/ready 2>&1", c.path, c.dir);
	qemu = popen(cmd, "w");
	fputs("write 0 512\n", qemu);
	fflush(qemu);
	for (int i = 0; i < 500; i++) {
		snprintf(line, sizeof(line), "grep -q wrote %s/ready", c.dir);
		if (!system(line))
			break;
		usleep(10000);
	}
	cr_assert_eq(try_open(&c, false, NULL), -EBUSY);
	cr_assert_eq(try_open(&c, true, NULL), -EBUSY);
	pclose(qemu);
	cr_assert_eq(try_open(&c, false, NULL), 0);
	shell("rm %s/ready", c.dir);
	c.disk = NULL;
	clean(&c);
}

Test(disk_raw, refusals)
{
	struct ctx c = { 0 };
	char text[512];
	char keep[96];

	make_file(&c, 1000);
	cr_assert_eq(try_open(&c, false, text), -EINVAL);
	cr_assert(strstr(text, "1000 bytes, is not a multiple of 512"), "%s", text);
	strcpy(keep, c.path);
	strcat(c.path, "-missing");
	cr_assert_eq(try_open(&c, false, text), -ENOENT);
	cr_assert(strstr(text, "No such file"), "%s", text);
	strcpy(c.path, c.dir);
	cr_assert_eq(try_open(&c, false, text), -EISDIR);
	cr_assert(strstr(text, "is a directory"), "%s", text);
	cr_assert_eq(try_open(&c, true, text), -EISDIR);
	strcpy(c.path, "/dev/null");
	cr_assert_eq(try_open(&c, true, text), -EINVAL);
	cr_assert(strstr(text, "neither a file nor a block device"), "%s", text);
	snprintf(c.path, sizeof(c.path), "%s/fifo", c.dir);
	cr_assert_eq(mkfifo(c.path, 0600), 0);
	cr_assert_eq(try_open(&c, true, text), -EINVAL);
	unlink(c.path);
	strcpy(c.path, keep);
	if (geteuid()) {
		chmod(c.path, 0400);
		cr_assert_eq(try_open(&c, false, text), -EACCES);
		cr_assert(strstr(text, "add ro"), "%s", text);
	}
	clean(&c);
}

/* No thread or ring starts before the first request; start is idempotent. */
Test(disk_raw, lazy)
{
	struct ctx c = { 0 };

	make_file(&c, MIB);
	cr_assert(open_disk(&c, DISK_ENGINE_AUTO, false, false, NULL) == 0);
	cr_assert_eq(c.disk->engine, DISK_ENGINE_AUTO);
	cr_assert_eq(c.disk->ops->start(c.disk, NULL), 0);
	cr_assert_eq(c.disk->ops->start(c.disk, NULL), 0);
	cr_assert_neq(c.disk->engine, DISK_ENGINE_AUTO);
	clean(&c);
}

/* A file grows without taking room; the caller's size is the caller's to set. */
Test(disk_raw, grow)
{
	struct ctx c = { 0 };
	struct err err = { "" };
	struct stat st;
	uint64_t now = MIB;
	uint8_t buf[512];

	make_file(&c, MIB);
	cr_assert_eq(open_disk(&c, DISK_ENGINE_AUTO, false, false, &err), 0);
	cr_assert_eq(c.disk->ops->grow(c.disk, 1ull << 40, &now, &err), 0, "%s", err.text);
	cr_expect_eq(now, 1ull << 40);
	cr_expect_eq(c.disk->size_bytes, MIB);
	c.disk->size_bytes = now;
	cr_assert(!stat(c.path, &st));
	cr_expect(st.st_size == (off_t)(1ull << 40) && st.st_blocks < 64);
	memset(buf, 7, sizeof(buf));
	cr_expect_eq(io(&c, DISK_READ, (1ull << 40) - 512, buf, 512), 0);
	cr_expect(all_zero(buf, 512));
	cr_expect_eq(io(&c, DISK_WRITE, (1ull << 40) - 512, buf, 512), 0);
	/* Another process was faster. */
	shell("truncate -s 2T %s", c.path);
	cr_expect_eq(c.disk->ops->grow(c.disk, 3ull << 39, &now, &err), -EINVAL);
	cr_expect_str_eq(err.text, "its file has 2199023255552 bytes already");
	cr_expect_eq(now, 2ull << 40);
	cr_expect_eq(c.disk->ops->grow(c.disk, 2ull << 40, &now, &err), 0);
	/* Larger than any file. */
	cr_expect_lt(c.disk->ops->grow(c.disk, (1ull << 63) - 512, &now, &err), 0);
	cr_expect(strstr(err.text, "cannot make its file 9223372036854775296 bytes long"), "%s",
		  err.text);
	cr_expect_eq(now, 2ull << 40);
	clean(&c);
}

/* --- other kinds of hosts ------------------------------------------------------------ */

/* If the host forbids io_uring, auto uses threads, and io_uring reports what to do. */
static int without_uring(struct ctx *c)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct err err = { "" };
	uint8_t buf[512] = { 7 };

	if (!filter ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0) ||
	    seccomp_load(filter))
		return 1;
	if (open_disk(c, DISK_ENGINE_IO_URING, false, false, &err) != -EPERM ||
	    !strstr(err.text, "engine=threads"))
		return 2;
	if (open_disk(c, DISK_ENGINE_AUTO, false, false, NULL))
		return 3;
	if (io(c, DISK_WRITE, 512, buf, 512) || io(c, DISK_FLUSH, 0, NULL, 0))
		return 4;
	return c->disk->engine != DISK_ENGINE_THREADS ? 5 : 0;
}

Test(disk_raw, without_uring)
{
	struct ctx c = { 0 };
	int status;
	pid_t pid;

	make_file(&c, MIB);
	pid = fork();
	if (!pid)
		_exit(without_uring(&c));
	waitpid(pid, &status, 0);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
	clean(&c);
}

/* After prepare, no request makes a thread or a descriptor. */
Test(disk_raw, prepared)
{
	struct tracked t[16] = { 0 };
	uint8_t buf[4096] = { 7 };
	unsigned threads, fds;

	for (unsigned e = 0; e < sizeof(engines) / sizeof(engines[0]); e++) {
		struct ctx c = { 0 };

		make_file(&c, MIB);
		cr_assert_eq(open_disk(&c, engines[e], false, false, NULL), 0);
		c.disk->ops->prepare(c.disk);
		threads = proc_threads();
		fds = proc_fds(0);
		cr_expect(c.disk->engine != DISK_ENGINE_THREADS || threads > 1);
		for (unsigned i = 0; i < 16; i++) {
			t[i] = (struct tracked){ .ctx = &c };
			t[i].iov[0] = (struct iovec){ buf, sizeof(buf) };
			t[i].req = (struct disk_req){ .op = DISK_WRITE,
						      .offset = i * sizeof(buf),
						      .len_bytes = sizeof(buf),
						      .iov = t[i].iov,
						      .niov = 1,
						      .durable = true,
						      .done = on_done };
			c.disk->ops->submit(c.disk, &t[i].req);
		}
		c.disk->ops->commit(c.disk);
		c.disk->ops->drain(c.disk);
		cr_expect_eq(c.done, 16);
		cr_expect(proc_threads_are(threads));
		cr_expect_eq(proc_fds(0), fds);
		clean(&c);
	}
}

/* If prepare fails, the requests fail, too: none tries again. */
static int prepare_in_vain(struct ctx *c)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	uint8_t buf[512] = { 7 };

	if (open_disk(c, DISK_ENGINE_AUTO, false, false, NULL))
		return 1;
	if (!filter ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0) ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EMFILE), SCMP_SYS(eventfd2), 0) ||
	    seccomp_load(filter))
		return 2;
	c->disk->ops->prepare(c->disk);
	seccomp_reset(filter, SCMP_ACT_ALLOW);
	if (seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(io_uring_setup), 0) ||
	    seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(eventfd2), 0) ||
	    seccomp_load(filter))
		return 3;
	return io(c, DISK_READ, 0, buf, 512) == -EMFILE ? 0 : 4;
}

Test(disk_raw, prepared_in_vain)
{
	struct ctx c = { 0 };
	int status;
	pid_t pid;

	make_file(&c, MIB);
	pid = fork();
	if (!pid)
		_exit(prepare_in_vain(&c));
	waitpid(pid, &status, 0);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
	clean(&c);
}

/* A block device: its size, discards of whole blocks, zeroes, exclusive writers. */
Test(disk_raw, block_device, .timeout = 60)
{
	uint8_t *buf = aligned_alloc(4096, 65536);
	struct ctx c = { 0 };
	char file[96], cmd[160], loopdev[64] = "";
	struct err err;
	FILE *losetup;
	int fd;

	make_file(&c, MIB);
	strcpy(file, c.path);
	snprintf(cmd, sizeof(cmd), "losetup -f --show %s 2>/dev/null", file);
	losetup = popen(cmd, "r");
	if (!fgets(loopdev, sizeof(loopdev), losetup))
		loopdev[0] = 0;
	pclose(losetup);
	if (!loopdev[0]) {
		clean(&c);
		cr_skip_test("no loop devices");
	}
	loopdev[strcspn(loopdev, "\n")] = 0;
	strcpy(c.path, loopdev);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(open_disk(&c, engines[i % 2], false, i & 2, &err), 0, "%s", err.text);
		cr_assert_eq(c.disk->size_bytes, MIB);
		fill(buf, 65536, i);
		cr_assert_eq(io(&c, DISK_WRITE, 65536, buf, 65536), 0);
		cr_assert_eq(zero(&c, DISK_WRITE_ZEROES, 65536, 512, true), 0);
		cr_assert_eq(zero(&c, DISK_WRITE_ZEROES, 65536 + 512, 512, false), 0);
		cr_assert_eq(zero(&c, DISK_DISCARD, 65536 + 4096, 4096, true), 0);
		cr_assert_eq(zero(&c, DISK_DISCARD, 65536 + 1536, 512, true), 0);
		cr_assert_eq(io(&c, DISK_FLUSH, 0, NULL, 0), 0);
		cr_assert_eq(io(&c, DISK_READ, 65536, buf, 65536), 0);
		cr_assert(all_zero(buf, 1024));
		cr_assert_neq(buf[1024], 0);
		cr_assert_neq(buf[8192], 0);
		disk_close(c.disk);
	}
	/* Only the host can make it larger. */
	{
		uint64_t now = MIB;

		cr_assert_eq(open_disk(&c, DISK_ENGINE_AUTO, false, false, &err), 0);
		cr_expect_eq(c.disk->ops->grow(c.disk, 2 * MIB, &now, &err), -EINVAL);
		cr_expect_str_eq(
			err.text,
			"the block device has 1048576 bytes; make it larger on the host first");
		shell("truncate -s 3M %s", file);
		shell("losetup -c %s", loopdev);
		cr_expect_eq(c.disk->ops->grow(c.disk, 2 * MIB, &now, &err), 0, "%s", err.text);
		cr_expect_eq(now, 3 * MIB);
		disk_close(c.disk);
	}
	fd = open(loopdev, O_RDWR | O_EXCL);
	cr_assert_eq(open_disk(&c, DISK_ENGINE_AUTO, false, false, &err), -EBUSY);
	cr_assert(strstr(err.text, "mounted or in use"), "%s", err.text);
	cr_assert_eq(open_disk(&c, DISK_ENGINE_AUTO, true, false, &err), 0, "%s", err.text);
	disk_close(c.disk);
	c.disk = NULL;
	close(fd);
	shell("losetup -d %s", loopdev);
	strcpy(c.path, file);
	clean(&c);
	free(buf);
}
