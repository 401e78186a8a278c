/*
 * probe: tests whether this host's KVM runs the instructions of a stock guest kernel.
 *
 * A software KVM may interpret kernel mode, slowly, and refuse instructions that every
 * distribution kernel uses; it then looks like KVM until the guest dies half-way
 * through its boot. For each such instruction, the probe runs a guest of a few
 * instructions (a millisecond or two in all). Thread: the builder.
 */
#ifndef BANTAM_PROBE_H
#define BANTAM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/kvm.h"

struct probe {
	bool stock_kernels; /* KVM refused nothing and is fast enough to boot them */
	char refused[256];  /* "cmpxchg16b, int3", or "" */
	double mips;	    /* kernel-mode speed: million instructions a second */
	bool interpreted;   /* too slow for a stock kernel */
	uint64_t create_us; /* time to create a VM: tens of ms on a badly configured host */
};

/* kvm is open and has no VM yet; the probe creates a VM of its own and removes it. */
int probe_run(const struct kvm *kvm, struct probe *out, struct err *err);

#endif
