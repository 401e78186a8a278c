/*
 * affinity: binds the threads of vCPUs to host CPUs, as config_cpus asks.
 *
 * Thread: each function concerns only the calling thread.
 */
#ifndef BANTAM_MACHINE_AFFINITY_H
#define BANTAM_MACHINE_AFFINITY_H

#include <sched.h>

#include "vmm/config.h"

#define AFFINITY_MAX_CPUS 8192

/* The CPUs that a thread may run on. */
struct affinity {
	cpu_set_t set[AFFINITY_MAX_CPUS / CPU_SETSIZE];
};

/* -EINVAL if cpus asks for a vCPU beyond ncpus. */
int affinity_check(const struct config_cpus *cpus, unsigned ncpus, struct err *err);
/*
 * Binds this thread to the host CPUs of a vCPU, if cpus has any for it. Returns 0, or -EINVAL if the
 * thread may not run on all of them: the thread is then bound as before.
 */
int affinity_bind(const struct config_cpus *cpus, unsigned vcpu, struct err *err);

void affinity_get(struct affinity *a);
void affinity_set(const struct affinity *a);

#endif
