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
#define L81_ECX_PERFCTR (1u << 23 | 1u << 24 | 1u << 28) /* of a core, the northbridge, the L3 */

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

/* The bits of the APIC id below the number of the core, of the die, of the package. */
struct shifts {
	unsigned core, die, package;
};

static struct shifts shifts_of(const struct cpuid_topology *t)
{
	unsigned core = log2_up(t->threads), die = core + log2_up(t->cores);

	return (struct shifts){ core, die, die + log2_up(t->dies) };
}

unsigned cpuid_apic_id(const struct cpuid_topology *t, unsigned vcpu)
{
	struct shifts s = shifts_of(t);
	unsigned thread = vcpu % t->threads, core = vcpu / t->threads;
	unsigned die = core / t->cores, package = die / t->dies;

	return package << s.package | die % t->dies << s.die | core % t->cores << s.core | thread;
}

static unsigned per_package(const struct cpuid_topology *t)
{
	return t->threads * t->cores * t->dies;
}

static uint32_t at_most(uint32_t max, uint32_t n)
{
	return n < max ? n : max;
}

/* All cache leaves have the type in EAX[4:0], the level in [7:5], the sharing in [25:14]. */
static void share_cache(struct kvm_cpuid_entry2 *e, const struct cpuid_topology *t, bool intel)
{
	struct shifts s = shifts_of(t);
	unsigned level = e->eax >> 5 & 7;

	if (!(e->eax & 0x1f))
		return;
	/* The threads of a core share L1 and L2; the cores of a die share the caches above. */
	set_field(&e->eax, 14, 12, (1u << (level >= 3 ? s.die : s.core)) - 1);
	if (intel) /* the cores of a package */
		set_field(&e->eax, 26, 6, at_most(63, (1u << (s.package - s.core)) - 1));
}

#define LEVEL_THREAD 1u
#define LEVEL_CORE 2u
#define LEVEL_DIE 5u

/* Only leaf 0x1f knows dies: one level more. To leaf 0xb all cores are in the package. */
static bool shows_dies(uint32_t function, const struct cpuid_topology *t)
{
	return function == 0x1f && t->dies > 1;
}

/* Leaves 0xb and 0x1f: a subleaf for each level, then an empty one. */
static void topology(struct kvm_cpuid_entry2 *e, const struct cpuid_topology *t)
{
	struct shifts s = shifts_of(t);
	bool dies = shows_dies(e->function, t);

	e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax = e->ebx = 0;
	e->ecx = e->index & 0xff;
	if (e->index == 0) {
		e->eax = s.core;
		e->ebx = t->threads;
		e->ecx |= LEVEL_THREAD << 8;
	} else if (e->index == 1) {
		e->eax = dies ? s.die : s.package;
		e->ebx = dies ? t->threads * t->cores : per_package(t);
		e->ecx |= LEVEL_CORE << 8;
	} else if (e->index == 2 && dies) {
		e->eax = s.package;
		e->ebx = per_package(t);
		e->ecx |= LEVEL_DIE << 8;
	}
}

static bool is_topology(uint32_t function)
{
	return function == 0xb || function == 0x1f;
}

/* AMD has fields in ECX of leaves 0x80000001 and 0x80000008 that are reserved on Intel. */
bool cpuid_is_amd(const struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0)
			return cpuid->entries[i].ebx == 0x68747541 || /* "Auth"enticAMD */
			       cpuid->entries[i].ebx == 0x6f677948;   /* "Hygo"nGenuine */
	return false;
}

static void normalise_entry(struct kvm_cpuid_entry2 *e, const struct cpuid_topology *t,
			    bool tsc_deadline, bool amd)
{
	struct shifts s = shifts_of(t);
	unsigned n = per_package(t);

	switch (e->function) {
	case 1:
		/* The field has 8 bits: 256 would be stored as 0. */
		set_field(&e->ebx, 16, 8, at_most(255, 1u << s.package));
		e->ecx |= L1_ECX_HYPERVISOR | L1_ECX_X2APIC;
		e->ecx &= ~L1_ECX_PDCM;
		if (tsc_deadline)
			e->ecx |= L1_ECX_TSC_DEADLINE;
		if (n > 1)
			e->edx |= L1_EDX_HTT;
		else
			e->edx &= ~L1_EDX_HTT;
		break;
	case 4:
		share_cache(e, t, true);
		break;
	case 0xa:
		/* No PMU: it would show the host's counters, and the guest's probes cost exits. */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0xb:
	case 0x1f:
		topology(e, t);
		break;
	case 0x80000001:
		if (amd && n > 1)
			e->ecx |= L81_ECX_CMP_LEGACY;
		else
			e->ecx &= ~L81_ECX_CMP_LEGACY;
		if (amd)
			e->ecx &= ~L81_ECX_PERFCTR;
		break;
	case 0x80000008:
		if (!amd)
			break;
		/* AMD: threads in the package - 1, and the bits of the APIC id that number them. */
		set_field(&e->ecx, 0, 8, at_most(255, n - 1));
		set_field(&e->ecx, 12, 4, s.package);
		break;
	case 0x80000022: /* AMD's performance monitoring, version 2 */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x8000001d:
		share_cache(e, t, false);
		break;
	case 0x8000001e:
		set_field(&e->ebx, 8, 8, at_most(255, t->threads - 1));
		e->ecx = at_most(7, t->dies - 1) << 8; /* a die is a node */
		break;
	}
}

/* Leaves in between that the host does not have read as 0: nothing. range: 0 or 0x80000000. */
static void raise_highest_leaf(struct kvm_cpuid2 *cpuid, uint32_t range, uint32_t highest)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == range && cpuid->entries[i].eax < highest)
			cpuid->entries[i].eax = highest;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

/* Are leaves first to last missing or empty? */
static bool are_empty(const struct kvm_cpuid2 *cpuid, uint32_t first, uint32_t last)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function >= first && e->function <= last &&
		    (e->eax | e->ebx | e->ecx | e->edx))
			return false;
	}
	return true;
}

/* The brand string's three leaves belong together, and the two of the caches. */
static const struct {
	uint32_t first, last;
} names[] = { { 0x80000002, 0x80000004 }, { 0x80000005, 0x80000006 } };

bool cpuid_lacks_names(const struct kvm_cpuid2 *cpuid)
{
	return are_empty(cpuid, names[0].first, names[0].last) ||
	       are_empty(cpuid, names[1].first, names[1].last);
}

static void fill_name(struct kvm_cpuid2 *cpuid, const struct cpuid_names *host, uint32_t function)
{
	unsigned i = function - CPUID_NAMES_FIRST;
	struct kvm_cpuid_entry2 *e = find(cpuid, function);

	if (!e) {
		if (cpuid->nent >= CPUID_MAX_ENTRIES)
			return;
		e = &cpuid->entries[cpuid->nent++];
		memset(e, 0, sizeof(*e));
		e->function = function;
	}
	e->eax = host->leaf[i].eax;
	e->ebx = host->leaf[i].ebx;
	e->ecx = host->leaf[i].ecx;
	e->edx = host->leaf[i].edx;
	raise_highest_leaf(cpuid, 0x80000000, function);
}

void cpuid_fill_names(struct kvm_cpuid2 *cpuid, const struct cpuid_names *host)
{
	/* A guest looks for these leaves only if there is this one. */
	if (!find(cpuid, 0x80000000))
		return;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!are_empty(cpuid, names[i].first, names[i].last))
			continue;
		for (uint32_t f = names[i].first; f <= names[i].last; f++)
			fill_name(cpuid, host, f);
	}
}

void cpuid_normalise(struct kvm_cpuid2 *cpuid, const struct cpuid_topology *topo, bool tsc_deadline)
{
	unsigned n = 0;
	uint32_t has[2] = { 0xb, 0x1f };
	bool found[2] = { false, false }, amd = cpuid_is_amd(cpuid);

	/* Replace the topology leaves: the guest has none of the host's levels (dies, modules). */
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		for (unsigned t = 0; t < 2; t++)
			found[t] |= e->function == has[t];
		if (is_topology(e->function))
			continue;
		normalise_entry(e, topo, tsc_deadline, amd);
		cpuid->entries[n++] = *e;
	}
	cpuid->nent = n;
	/* Intel's dies are only there, also on a host without it. (AMD's are nodes.) */
	if (n && !amd && topo->dies > 1) {
		found[1] = true;
		raise_highest_leaf(cpuid, 0, 0x1f);
	}
	for (unsigned t = 0; t < 2; t++) {
		unsigned levels = shows_dies(has[t], topo) ? 3 : 2;

		for (unsigned index = 0; found[t] && index <= levels && n < CPUID_MAX_ENTRIES;
		     index++) {
			struct kvm_cpuid_entry2 *e = &cpuid->entries[n++];

			memset(e, 0, sizeof(*e));
			e->function = has[t];
			e->index = index;
			topology(e, topo);
		}
	}
	cpuid->nent = n;
}

void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, const struct cpuid_topology *t, unsigned apic_id)
{
	struct shifts s = shifts_of(t);

	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 1)
			set_field(&e->ebx, 24, 8, apic_id);
		else if (is_topology(e->function))
			e->edx = apic_id;
		else if (e->function == 0x8000001e) {
			e->eax = apic_id;
			set_field(&e->ebx, 0, 8, apic_id >> s.core);
			set_field(&e->ecx, 0, 8, apic_id >> s.die);
		}
	}
}
