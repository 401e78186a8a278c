/*
 * kill: a child writes through disk.h, with flushes and durable writes in between, until SIGKILL
 * ends it at a random moment. Then qemu-img check must find at most leaks, and every sector
 * must hold its last flushed data or later data; or, if the kill tore a write, a part of each. The
 * next child continues with the same image.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/qcow2/torture.h"

#define ROUNDS 25u /* per image */
#define DISK_BYTES (12ull << 20)

static unsigned late; /* total ms of waiting for locks */

struct shared {
	uint64_t seq;
	bool started;
};

static void child(struct ledger *l, struct shared *shared, struct rng *rng, bool disk)
{
	struct driver *d = calloc(1, sizeof(*d));

	d->rng = rng;
	d->seq = &shared->seq;
	d->ledger = l;
	driver_open(d, "top.qcow2", rnd(rng, 2) ? DISK_ENGINE_IO_URING : DISK_ENGINE_THREADS,
		    disk && rnd(rng, 2));
	/* The kill may come before the first change. */
	shared->started = true;
	for (;;)
		driver_run(d, 100000);
}

static void nap(uint64_t us)
{
	struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	nanosleep(&ts, NULL);
}

static void round_of(struct ledger *l, struct shared *shared, struct rng *rng, bool disk)
{
	uint64_t us = rnd(rng, 4) ? rnd(rng, 40000) : rnd(rng, 3000);
	int status;
	pid_t pid;

	shared->started = false;
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid)
		child(l, shared, rng, disk);
	for (unsigned i = 0; !shared->started && i < 20000; i++) {
		nap(200);
		if (waitpid(pid, &status, WNOHANG) == pid)
			fail("the child ended by itself, status %#x", status);
	}
	nap(us);
	if (kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail("the child ended by itself, status %#x", status);
	/* The child used its own copy of the generator. */
	rnd64(rng);
}

/* io_uring releases the file, and with it the lock, a little after its process has ended. */
static void reopen(void)
{
	struct store_options options = { .path = "top.qcow2", .format = STORE_QCOW2 };
	struct err err = { "" };
	struct store *s;

	for (unsigned i = 0; store_open(&options, &s, &err); i++) {
		if (i == 2000)
			fail("the next process is refused: %s", err.text);
		nap(1000);
		late++;
	}
	store_close(s);
}

static void make(struct ledger *l, struct rng *rng)
{
	unsigned bits = 1u << (12 + rnd(rng, 6));
	bool v3 = rnd(rng, 4);
	const char *base = "";

	if (rnd(rng, 2)) {
		must("qemu-img create -f qcow2 base.qcow2 %llu", DISK_BYTES / 2);
		base = "-b base.qcow2 -F qcow2";
	}
	must("qemu-img create -f qcow2 %s -o cluster_size=%u,compat=%s,refcount_bits=%u top.qcow2 "
	     "%llu",
	     base, bits, v3 ? "1.1" : "0.10", v3 ? 1u << rnd(rng, 7) : 16, DISK_BYTES);
	ledger_init(l, DISK_BYTES / SECTOR);
}

int torture_kill(uint64_t seed, unsigned rounds, const char *dir)
{
	struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				     -1, 0);
	struct rng rng = { seed };
	unsigned long most = 0, leaks;
	unsigned images = 0, torn = 0;
	uint64_t ops = 0;

	if (shared == MAP_FAILED)
		fail("no memory");
	for (unsigned i = 0; i < rounds;) {
		bool disk = rnd(&rng, 4) == 0;
		struct ledger l;

		enter_scratch(disk ? dir : "/dev/shm");
		make(&l, &rng);
		l.may_tear = true;
		images++;
		shared->seq = 0;
		for (unsigned k = 0; k < ROUNDS && i < rounds; k++, i++) {
			snprintf(context, sizeof(context),
				 "torture kill %llu %u %s: round %u, %u of this image, %s",
				 (unsigned long long)seed, rounds, dir, i, k,
				 disk ? "disk" : "tmpfs");
			round_of(&l, shared, &rng, disk);
			reopen();
			leaks = check_image("top.qcow2", true);
			if (leaks > most)
				most = leaks;
			ledger_verify(&l, "top.qcow2", true);
			if (l.torn) {
				torn += l.torn;
				i++;
				break; /* a torn sector has no operation number to continue from */
			}
			if (k % 8)
				continue;
			/* QEMU must read the same. */
			must("qemu-img convert -f qcow2 -O qcow2 top.qcow2 copy.qcow2");
			ledger_verify(&l, "copy.qcow2", false);
		}
		ops += shared->seq;
		ledger_free(&l);
		leave_scratch();
	}
	munmap(shared, 4096);
	printf("seed %llu: %u rounds on %u images, %llu operations; at most %lu leaked clusters "
	       "after %u rounds without repair; %u sectors torn; waited %u ms for locks\n",
	       (unsigned long long)seed, rounds, images, (unsigned long long)ops, most, ROUNDS,
	       torn, late);
	return 0;
}
