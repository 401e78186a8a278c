/*
 * machine: one VM, built forward and destroyed backward.
 *
 * Thread: the process's main thread, which becomes the first vCPU; the devices' loop has a
 * thread of its own while the VM runs.
 */
#ifndef BANTAM_MACHINE_H
#define BANTAM_MACHINE_H

#include <stdio.h>

#include "vmm/config.h"

/* How a VM ended; the exit status of bantam. A signal is 128 + its number. */
enum outcome {
	OUTCOME_POWEROFF = 0,
	OUTCOME_ERROR = 1,
	OUTCOME_USAGE = 2,
	OUTCOME_REBOOT = 3,
	OUTCOME_PANIC = 4,
	OUTCOME_EMERGENCY = 5,
	OUTCOME_TRIPLE_FAULT = 6,
	OUTCOME_KVM = 7,
	OUTCOME_SIGNAL = 128,
};

struct machine;

/* Everything but starting the vCPUs. With --dry-run, KVM is left alone. */
int machine_create(const struct config *config, struct machine **out, struct err *err);
/* The resolved machine: memory map, devices, interrupts, command line. */
void machine_describe(const struct machine *m, FILE *out);
/*
 * Run until the VM ends: the exit status, and in *why the line that explains
 * it. A negative value is an error of the host, told in *err.
 */
int machine_run(struct machine *m, struct err *why, struct err *err);
/* Exits by reason, summed over the vCPUs. */
void machine_print_stats(const struct machine *m, FILE *out);
/* Accepts NULL and half-built machines. */
void machine_destroy(struct machine *m);

#endif
