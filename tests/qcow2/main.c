/*
 * torture: randomised tests of the qcow2 engine. Not installed.
 *
 *     torture random SEED OPERATIONS DIR   compared with a raw mirror, QEMU's tools in between
 *     torture kill SEED ROUNDS DIR         SIGKILL under load
 *     torture power SEED POINTS DIR        the host loses power: writes since the last sync
 *     torture probe IMAGE                  open, read all, write some; see probe.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/qcow2/torture.h"

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "probe"))
		return torture_probe(argv[2]);
	if (argc == 5) {
		uint64_t seed = strtoull(argv[2], NULL, 0);
		uint64_t n = strtoull(argv[3], NULL, 0);

		setvbuf(stdout, NULL, _IOLBF, 0);
		if (!strcmp(argv[1], "random"))
			return torture_random(seed, n, argv[4]);
		if (!strcmp(argv[1], "kill"))
			return torture_kill(seed, (unsigned)n, argv[4]);
		if (!strcmp(argv[1], "power"))
			return torture_power(seed, (unsigned)n, argv[4]);
	}
	fprintf(stderr, "usage: torture random|kill|power SEED N DIR, torture probe IMAGE\n");
	return 2;
}
