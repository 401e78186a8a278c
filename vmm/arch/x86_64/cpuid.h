/*
 * cpuid: the CPUID that a guest sees: what this host's KVM supports, with the
 * topology of N single-threaded cores in one package.
 *
 * Pure over the table; Intel SDM volume 2 CPUID, AMD APM volume 3 appendix E.
 */
#ifndef BANTAM_CPUID_H
#define BANTAM_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define CPUID_MAX_ENTRIES 256

/* Room for head.entries[CPUID_MAX_ENTRIES]. */
union cpuid_table {
	struct kvm_cpuid2 head;
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     CPUID_MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

/* Once per VM; tsc_deadline: KVM emulates that timer mode. */
void cpuid_normalise(struct kvm_cpuid2 *cpuid, unsigned ncpus, bool tsc_deadline);
/* Then once per vCPU: its APIC id. */
void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, unsigned apic_id);

#endif
