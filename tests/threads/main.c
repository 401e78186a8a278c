/*
 * threads: what several threads use at once, under TSan: buses, PCI functions, consoles and disks that
 * change while others access them, and HTTP exchanges.
 *
 * Criterion cannot place its memory under TSan, so this is a program of its own, of the few
 * objects that it needs; the unit tests run the same without TSan. Prints TAP; 0 if all is well (TSan itself makes the status 66).
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/threads/grow.h"
#include "tests/threads/http.h"
#include "tests/unit/console_threads.h"
#include "tests/unit/plug_threads.h"

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
	printf("1..5\n");
	return bad;
}
