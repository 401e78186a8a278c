/*
 * cpuid: makes the CPUID table that the guest reads: the features that the host's KVM
 * supports, with the topology of N single-threaded cores in one package.
 *
 * Pure: changes only the table. Intel SDM volume 2 CPUID, AMD APM volume 3 appendix E.
 */
#ifndef BANTAM_CPUID_H
#define BANTAM_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define CPUID_MAX_ENTRIES 256

/* A table with room for head.entries[CPUID_MAX_ENTRIES]. */
union cpuid_table {
	struct kvm_cpuid2 head;
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     CPUID_MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

/* Call once per VM. tsc_deadline: KVM emulates that timer mode. */
void cpuid_normalise(struct kvm_cpuid2 *cpuid, unsigned ncpus, bool tsc_deadline);
/* Call then once per vCPU, on a copy of the table: sets the vCPU's APIC id. */
void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, unsigned apic_id);

#endif
