/*
 * sums: the SHA-256 of files, remembered while the files stay as they are.
 *
 * A reboot of a VM finds all its files in the memory. A file counts as unchanged if its device,
 * inode, size and times are; for a qcow2 image that holds for its backing files too. Block devices
 * have no such times and are always read.
 *
 * Reading gives way: when another thread has taken the CPU away from it, it sleeps for nine times as
 * long as its last step took. The thread keeps its normal priority. One of idle priority would stop
 * the whole process for seconds on a busy host, whenever it loses the CPU inside malloc: all threads
 * share one arena.
 *
 * Thread: any; one at a time uses one struct sums, except for stop.
 */
#ifndef BANTAM_API_SUMS_H
#define BANTAM_API_SUMS_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/digest/definition.h"

#define SUMS_KEPT 64u

struct sums_entry {
	uint8_t key[32]; /* of the files' properties */
	uint8_t sum[32];
};

struct sums {
	atomic_bool stop;    /* any thread sets it: what runs returns -ECANCELED soon */
	unsigned n, next;    /* kept entries; the one that is replaced next */
	uint64_t read_bytes; /* of all files so far; for tests */
	long switches;	     /* by the kernel, of the thread that reads, as of its last step */
	uint64_t cpu_ns;     /* that it has used */
	struct sums_entry entry[SUMS_KEPT];
};

/* Returns 0 and the sum's digits, or -errno. */
int sums_of(struct sums *sums, const struct definition_file *file, char hex[DEFINITION_HEX_BYTES],
	    struct err *err);
/* The SHA-256 of a text. */
void sums_of_text(const char *text, char hex[DEFINITION_HEX_BYTES]);

#endif
