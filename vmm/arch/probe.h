/*
 * probe: whether this host's KVM runs what a stock guest kernel executes.
 *
 * A software KVM may interpret kernel mode, slowly, and refuse instructions
 * that every distribution kernel uses; it then looks like KVM until the guest
 * dies half-way through its boot. The probe runs a guest of a few instructions
 * for each of them (a millisecond or two in all). Builder's thread.
 */
#ifndef BANTAM_PROBE_H
#define BANTAM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/kvm.h"

struct probe {
	bool stock_kernels; /* nothing refused, and fast enough to boot */
	char refused[256];  /* "cmpxchg16b, int3", or "" */
	double mips;	    /* kernel-mode speed: million instructions a second */
	bool interpreted;   /* too slow for a stock kernel */
	uint64_t create_us; /* what KVM_CREATE_VM took: tens of ms where the host has a trap */
};

/* kvm: opened, no VM yet; the probe makes a VM of its own and removes it. */
int probe_run(const struct kvm *kvm, struct probe *out, struct err *err);

#endif
