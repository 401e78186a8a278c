/*
 * threads: what several threads use at once, under TSan: buses, PCI functions, consoles and disks that
 * change while others access them, HTTP exchanges, and a VM with its machines and all their threads.
 *
 * Criterion cannot place its memory under TSan, so this is a program of its own, without
 * it; the unit tests run the same. Prints TAP; 0 if all is well (TSan itself makes the status 66).
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/threads/grow.h"
#include "tests/threads/http.h"
#include "tests/unit/console_threads.h"
#include "tests/unit/plug_threads.h"
#include "tests/unit/vm_stress.h"

int __wrap_pthread_clockjoin_np(pthread_t thread, void **out, clockid_t clock,
				const struct timespec *until);

/* The TSan of gcc 12 does not know pthread_clockjoin_np, and would take the thread for one that leaks. */
int __wrap_pthread_clockjoin_np(pthread_t thread, void **out, clockid_t clock,
				const struct timespec *until)
{
	struct timespec now, real;

	clock_gettime(clock, &now);
	clock_gettime(CLOCK_REALTIME, &real);
	real.tv_sec += until->tv_sec - now.tv_sec;
	real.tv_nsec += until->tv_nsec - now.tv_nsec;
	if (real.tv_nsec < 0)
		real.tv_sec--;
	else if (real.tv_nsec >= 1000000000)
		real.tv_sec++;
	real.tv_nsec = (real.tv_nsec + 1000000000) % 1000000000;
	return pthread_timedjoin_np(thread, out, &real);
}

static int report(unsigned n, const char *what, struct plug_result r)
{
	int ok = !r.dead_calls && !r.wrong_answers && r.hits && r.removals;

	printf("%sok %u - %s: %lu removals, %lu calls, %lu of them dead, %lu wrong answers\n",
	       ok ? "" : "not ", n, what, r.removals, r.hits, r.dead_calls, r.wrong_answers);
	return !ok;
}

static int consoles(unsigned n, unsigned machines)
{
	char dir[] = "/tmp/bantam-threads-XXXXXX";
	struct console_result r = { .failed = "mkdtemp" };
	int ok;

	if (mkdtemp(dir)) {
		r = console_threads(dir, machines);
		rmdir(dir);
	}
	ok = !r.failed && !r.dead_calls && r.inputs && r.outputs;
	printf("%sok %u - consoles: %lu machines, %lu bytes in, %lu out, %lu calls dead%s%s\n",
	       ok ? "" : "not ", n, r.machines, r.inputs, r.outputs, r.dead_calls,
	       r.failed ? ", failed: " : "", r.failed ? r.failed : "");
	return !ok;
}

static int disks(unsigned n, unsigned requests)
{
	char dir[] = "/tmp/bantam-threads-XXXXXX";
	struct grow_result r = { .failed = "mkdtemp" };
	int ok;

	if (mkdtemp(dir)) {
		r = grow_threads(dir, requests);
		rmdir(dir);
	}
	ok = !r.failed && r.requests && r.times;
	printf("%sok %u - disk: %lu requests, larger %lu times%s%s\n", ok ? "" : "not ", n,
	       r.requests, r.times, r.failed ? ", failed: " : "", r.failed ? r.failed : "");
	return !ok;
}

/* The guests run on this host's own KVM. */
static int vms(unsigned n, unsigned count)
{
	char dir[] = "/tmp/bantam-threads-XXXXXX", kernel[4096];
	struct vm_stress_result r = { .failed = "no folder" };
	int ok;

	if (access("/dev/kvm", R_OK | W_OK) || !realpath("build/guest/round.elf", kernel)) {
		printf("ok %u - VMs # SKIP no KVM, or no guest\n", n);
		return 0;
	}
	if (mkdtemp(dir) && !chdir(dir)) {
		r = vm_stress(kernel, count, 20);
		rmdir(dir);
	}
	ok = !r.failed && r.boots;
	printf("%sok %u - VMs: %lu requests, %lu questions, %lu boots, %lu resets, %lu ends%s%s\n",
	       ok ? "" : "not ", n, r.requests, r.asked, r.boots, r.resets, r.ends,
	       r.failed ? ", failed: " : "", r.failed ? r.failed : "");
	return !ok;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 2000;
	int bad = report(1, "bus", plug_threads_bus(rounds));
	unsigned long answers;

	bad |= report(2, "pci", plug_threads_pci(rounds));
	bad |= consoles(3, rounds / 10);
	answers = http_threads(40);
	bad |= !answers;
	printf("%sok 4 - http: %lu answers\n", answers ? "" : "not ", answers);
	bad |= disks(5, rounds * 5);
	bad |= vms(6, 12);
	printf("1..6\n");
	return bad;
}
