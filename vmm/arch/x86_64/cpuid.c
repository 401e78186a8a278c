/* cpuid: see cpuid.h. */
#include "vmm/arch/x86_64/cpuid.h"

#include <stdint.h>
#include <string.h>

/* Leaf 1. */
#define L1_ECX_TSC_DEADLINE (1u << 24)
#define L1_ECX_X2APIC (1u << 21)
#define L1_ECX_HYPERVISOR (1u << 31)
#define L1_ECX_PDCM (1u << 15)
#define L1_EDX_HTT (1u << 28)
/* Leaf 0x80000001, AMD. */
#define L81_ECX_CMP_LEGACY (1u << 1)

static unsigned log2_up(unsigned n)
{
	unsigned bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

static void set_field(uint32_t *reg, unsigned low, unsigned width, uint32_t val)
{
	uint32_t mask = (width == 32 ? 0 : 1u << width) - 1;

	*reg = (*reg & ~(mask << low)) | (val & mask) << low;
}

/* All cache leaves have the type in EAX[4:0], the level in [7:5], the sharing in [25:14]. */
static void share_cache(struct kvm_cpuid_entry2 *e, unsigned ncpus, bool intel)
{
	unsigned level = e->eax >> 5 & 7;

	if (!(e->eax & 0x1f))
		return;
	/* Each thread has its own L1 and L2; all threads share the caches above. */
	set_field(&e->eax, 14, 12, level >= 3 ? (1u << log2_up(ncpus)) - 1 : 0);
	if (intel)
		set_field(&e->eax, 26, 6, ncpus > 64 ? 63 : (1u << log2_up(ncpus)) - 1);
}

/* Leaves 0xb and 0x1f: subleaf 0 is the thread level, subleaf 1 the core level. */
static void topology(struct kvm_cpuid_entry2 *e, unsigned ncpus)
{
	e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax = e->ebx = 0;
	e->ecx = e->index & 0xff;
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= 1u << 8;
	} else if (e->index == 1) {
		e->eax = log2_up(ncpus);
		e->ebx = ncpus;
		e->ecx |= 2u << 8;
	}
}

static bool is_topology(uint32_t function)
{
	return function == 0xb || function == 0x1f;
}

/* AMD has fields in ECX of leaves 0x80000001 and 0x80000008 that are reserved on Intel. */
static bool is_amd(const struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0)
			return cpuid->entries[i].ebx == 0x68747541 || /* "Auth"enticAMD */
			       cpuid->entries[i].ebx == 0x6f677948;   /* "Hygo"nGenuine */
	return false;
}

static void normalise_entry(struct kvm_cpuid_entry2 *e, unsigned ncpus, bool tsc_deadline, bool amd)
{
	switch (e->function) {
	case 1:
		/* The field has 8 bits: 256 would be stored as 0. */
		set_field(&e->ebx, 16, 8, ncpus > 128 ? 255 : 1u << log2_up(ncpus));
		e->ecx |= L1_ECX_HYPERVISOR | L1_ECX_X2APIC;
		e->ecx &= ~L1_ECX_PDCM;
		if (tsc_deadline)
			e->ecx |= L1_ECX_TSC_DEADLINE;
		if (ncpus > 1)
			e->edx |= L1_EDX_HTT;
		else
			e->edx &= ~L1_EDX_HTT;
		break;
	case 4:
		share_cache(e, ncpus, true);
		break;
	case 0xa:
		/* No PMU: it would show the host's counters, and the guest's probes cost exits. */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0xb:
	case 0x1f:
		topology(e, ncpus);
		break;
	case 0x80000001:
		if (amd && ncpus > 1)
			e->ecx |= L81_ECX_CMP_LEGACY;
		else
			e->ecx &= ~L81_ECX_CMP_LEGACY;
		break;
	case 0x80000008:
		if (!amd)
			break;
		/* AMD: cores in the package - 1, and the bits of the APIC id that number them. */
		set_field(&e->ecx, 0, 8, ncpus - 1);
		set_field(&e->ecx, 12, 4, log2_up(ncpus));
		break;
	case 0x8000001d:
		share_cache(e, ncpus, false);
		break;
	case 0x8000001e:
		e->ebx &= ~0xff00u; /* one thread per core */
		e->ecx = 0;	    /* one node */
		break;
	}
}

void cpuid_normalise(struct kvm_cpuid2 *cpuid, unsigned ncpus, bool tsc_deadline)
{
	unsigned n = 0;
	uint32_t has[2] = { 0xb, 0x1f };
	bool found[2] = { false, false }, amd = is_amd(cpuid);

	/* Replace the topology leaves: the guest has none of the host's levels (dies, modules). */
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		for (unsigned t = 0; t < 2; t++)
			found[t] |= e->function == has[t];
		if (is_topology(e->function))
			continue;
		normalise_entry(e, ncpus, tsc_deadline, amd);
		cpuid->entries[n++] = *e;
	}
	for (unsigned t = 0; t < 2; t++) {
		for (unsigned index = 0; found[t] && index < 3 && n < CPUID_MAX_ENTRIES; index++) {
			struct kvm_cpuid_entry2 *e = &cpuid->entries[n++];

			memset(e, 0, sizeof(*e));
			e->function = has[t];
			e->index = index;
			topology(e, ncpus);
		}
	}
	cpuid->nent = n;
}

void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, unsigned apic_id)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 1)
			set_field(&e->ebx, 24, 8, apic_id);
		else if (is_topology(e->function))
			e->edx = apic_id;
		else if (e->function == 0x8000001e) {
			e->eax = apic_id;
			set_field(&e->ebx, 0, 8, apic_id);
		}
	}
}
