/*
 * ring: see ring.h and io_uring(7).
 *
 * Theory of operation. The ring's memory is shared with the kernel: an attacker writes a request there, and makes the one
 * system call that the loop may make, io_uring_enter. The test does the same from outside. The kernel lays the ring out
 * as struct io_rings says (io_uring/io_uring.c); the sizes that it has there are compared with each other before they are
 * believed.
 */
#include "tests/attack/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where each number is: of a kernel for several processors, where heads and tails have cache lines of their own, and for one. */
static const struct layout {
	uint32_t sq_tail, cq_tail, sq_mask, cq_mask, sq_entries, cq_entries, cqes;
} layouts[] = { { 64, 192, 256, 260, 264, 268, 320 }, { 4, 12, 16, 20, 24, 28, 64 } };

#define READ_BYTES 512
#define OUT_OFFSET 4096 /* behind what an attack writes */

struct ring {
	const struct victim *v;
	long fd;
	uint64_t rings, sqes; /* where they are */
	const struct layout *at;
	uint32_t sq_mask, cq_mask;
};

static bool get(const struct ring *r, uint64_t at, void *data, size_t len)
{
	char path[40];
	int fd;
	bool ok;

	snprintf(path, sizeof(path), "/proc/%d/mem", r->v->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ok = fd >= 0 && pread(fd, data, len, (off_t)at) == (ssize_t)len;
	if (fd >= 0)
		close(fd);
	return ok;
}

static uint32_t get32(const struct ring *r, uint64_t offset)
{
	uint32_t n = 0;

	return get(r, r->rings + offset, &n, sizeof(n)) ? n : 0;
}

static bool find(struct ring *r)
{
	char path[64], line[400], to[64];
	unsigned long low, high, offset;
	FILE *f;

	r->fd = -1;
	for (int fd = 0; fd < 400 && r->fd < 0; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", r->v->tid, fd);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = 0;
		if (strstr(to, "[io_uring]"))
			r->fd = fd;
	}
	snprintf(path, sizeof(path), "/proc/%d/maps", r->v->tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "[io_uring]") ||
		    sscanf(line, "%lx-%lx %*s %lx", &low, &high, &offset) != 3)
			continue;
		if (offset == IORING_OFF_SQES)
			r->sqes = low;
		else if (offset == IORING_OFF_SQ_RING)
			r->rings = low;
	}
	if (f)
		fclose(f);
	if (r->fd < 0 || !r->rings || !r->sqes)
		return false;
	for (unsigned i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		r->at = &layouts[i];
		r->sq_mask = get32(r, r->at->sq_mask);
		r->cq_mask = get32(r, r->at->cq_mask);
		if (r->sq_mask && r->sq_mask + 1 == get32(r, r->at->sq_entries) &&
		    r->cq_mask > r->sq_mask && r->cq_mask + 1 == get32(r, r->at->cq_entries))
			return true;
	}
	return false;
}

/* Returns the request's result; 1 << 30: the call was not made, or has not answered. */
static int request(const struct ring *r, const struct io_uring_sqe *sqe)
{
	uint32_t tail = get32(r, r->at->sq_tail), cq_tail = get32(r, r->at->cq_tail),
		 slot = tail & r->sq_mask;
	uint64_t array = r->at->cqes + (r->cq_mask + 1ull) * sizeof(struct io_uring_cqe);
	const long enter[6] = { r->fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0 };
	struct io_uring_cqe cqe = { 0 };
	struct outcome o;
	uint32_t next = tail + 1;

	if (!inject_write(r->v, r->sqes + slot * sizeof(*sqe), sqe, sizeof(*sqe)) ||
	    !inject_write(r->v, r->rings + array + slot * sizeof(slot), &slot, sizeof(slot)) ||
	    !inject_write(r->v, r->rings + r->at->sq_tail, &next, sizeof(next)))
		return 1 << 30;
	o = inject_call(r->v, INJECT_NATIVE, SYS_io_uring_enter, enter);
	if (o.verdict != INJECT_DONE || o.value != 1 || get32(r, r->at->cq_tail) != cq_tail + 1 ||
	    !get(r, r->rings + r->at->cqes + (cq_tail & r->cq_mask) * sizeof(cqe), &cqe,
		 sizeof(cqe)) ||
	    cqe.user_data != sqe->user_data)
		return 1 << 30;
	return cqe.res;
}

static bool is_the_disks(unsigned op)
{
	static const unsigned own[] = { IORING_OP_READ,	  IORING_OP_WRITE, IORING_OP_READV,
					IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] == op)
			return true;
	return false;
}

bool ring_attack(const struct victim *v, struct ring_outcome *out)
{
	struct ring r = { .v = v };
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ,
				    .flags = IOSQE_FIXED_FILE,
				    .addr = v->block + OUT_OFFSET,
				    .len = READ_BYTES,
				    .user_data = 1000 };
	int rc;

	*out = (struct ring_outcome){ 0 };
	if (!find(&r))
		return false;
	out->works = request(&r, &sqe) == READ_BYTES;
	for (unsigned op = 0; op < IORING_OP_LAST; op++) {
		/* Of the disk's operations those with a descriptor of the process. */
		sqe = (struct io_uring_sqe){ .opcode = (uint8_t)op,
					     .flags = is_the_disks(op) ? 0 : IOSQE_FIXED_FILE,
					     .fd = 0,
					     .addr = v->block + OUT_OFFSET,
					     .len = 1,
					     .user_data = op };
		rc = request(&r, &sqe);
		out->tried++;
		out->refused += rc == -EACCES;
		if (rc != -EACCES)
			printf("# OPEN: operation %u of the ring: %d\n", op, rc);
	}
	return true;
}
