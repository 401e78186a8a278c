/*
 * early: what an attacker tries whose bytes are read before a guest runs: a kernel image, a disk's header. There the process
 * still has all its calls, and its user's right to open files.
 */
#ifndef ATTACK_EARLY_H
#define ATTACK_EARLY_H

#include "tests/attack/inject.h"

/* The flags by which bantam opens kernels and disks: at the first such call no foreign byte has been read. */
#define EARLY_FLAGS (O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)

struct early_outcome {
	unsigned tried, refused;
	unsigned could,
		works; /* those that can do no harm where nothing is refused, and how many of them were permitted */
};

/*
 * Makes all calls in a thread that has stopped before such a call, and then leaves it there. folder: with host/ (host.h). other: a process of
 * the same user. Prints a line for each call that is not refused, with where behind it; NULL: none.
 */
bool early_attack(pid_t tid, const char *folder, pid_t other, const char *where,
		  struct early_outcome *out);

#endif
