/*
 * cpuid: makes the CPUID table that the guest reads: the features that the host's KVM
 * supports, with the guest's own topology of packages, dies, cores and threads.
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

/* How many there are of each, all at least 1. The guest may have fewer vCPUs than that makes. */
struct cpuid_topology {
	unsigned threads; /* per core */
	unsigned cores;	  /* per die */
	unsigned dies;	  /* per package */
	unsigned packages;
};

/*
 * The APIC id of a vCPU: its numbers of package, die, core and thread, each in a field of as many
 * bits as it needs. vCPUs are numbered in this order.
 */
unsigned cpuid_apic_id(const struct cpuid_topology *t, unsigned vcpu);

/* What a host's processor calls itself and says of its caches: leaves 0x80000002 to 0x80000006. */
#define CPUID_NAMES_FIRST 0x80000002u
#define CPUID_NAMES 5u
struct cpuid_names {
	struct {
		uint32_t eax, ebx, ecx, edx;
	} leaf[CPUID_NAMES];
};

/* Is the processor of AMD's kind? (From leaf 0; not if the table has none.) */
bool cpuid_is_amd(const struct kvm_cpuid2 *cpuid);

/*
 * Some KVMs leave these leaves empty: does the table lack the brand string or both cache leaves? Then
 * cpuid_fill_names puts the host's there; a leaf that KVM filled stays. Before cpuid_normalise.
 */
bool cpuid_lacks_names(const struct kvm_cpuid2 *cpuid);
void cpuid_fill_names(struct kvm_cpuid2 *cpuid, const struct cpuid_names *host);

/* Call once per VM. tsc_deadline: KVM emulates that timer mode. */
void cpuid_normalise(struct kvm_cpuid2 *cpuid, const struct cpuid_topology *t, bool tsc_deadline);
/* Call then once per vCPU, on a copy of the table. */
void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, const struct cpuid_topology *t, unsigned apic_id);

#endif
