/* cpuid: topology and features of N vCPUs over tables like those of real hosts. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/arch/x86_64/cpuid.h"

/* function, index, eax, ebx, ecx, edx */
struct leaf {
	uint32_t v[6];
};

/* Part of KVM_GET_SUPPORTED_CPUID on an Intel server with two threads per core. */
static const struct leaf intel[] = {
	{ { 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69 } },
	{ { 1, 0, 0x000606a6, 0x01200800, 0x77fafbbf, 0x1fcbfbff } },
	{ { 4, 0, 0xfc004121, 0x02c0003f, 0x3f, 0 } },
	{ { 4, 1, 0xfc004122, 0x01c0003f, 0x3f, 0 } },
	{ { 4, 2, 0xfc004143, 0x04c0003f, 0x3ff, 0 } },
	{ { 4, 3, 0xfc0fc163, 0x02c0003f, 0xdfff, 4 } },
	{ { 4, 4, 0, 0, 0, 0 } },
	{ { 6, 0, 4, 0, 0, 0 } },
	{ { 7, 0, 2, 0xf1bf27eb, 0x1b415f6e, 0xac000410 } },
	{ { 0xa, 0, 0x07300805, 0, 0, 0x8603 } },
	{ { 0xb, 0, 1, 2, 0x100, 0x21 } },
	{ { 0xb, 1, 7, 0x80, 0x201, 0x21 } },
	{ { 0xd, 0, 0x2e7, 0xa88, 0xa88, 0 } },
	{ { 0x1f, 0, 1, 2, 0x100, 0x21 } },
	{ { 0x1f, 1, 4, 16, 0x201, 0x21 } },
	{ { 0x1f, 2, 7, 0x80, 0x502, 0x21 } },
	{ { 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d } },
	{ { 0x40000001, 0, 0x01007efb, 0, 0, 0 } },
	{ { 0x80000000, 0, 0x80000008, 0, 0, 0 } },
	{ { 0x80000001, 0, 0, 0, 0x121, 0x2c100800 } },
	{ { 0x80000008, 0, 0x3934, 0x200, 0, 0 } },
};

/* The same on an AMD server. */
static const struct leaf amd[] = {
	{ { 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65 } },
	{ { 1, 0, 0x00a20f10, 0x05100800, 0xfeda3203, 0x178bfbff } },
	{ { 0xb, 0, 0, 0, 0, 0 } },
	{ { 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d } },
	{ { 0x80000000, 0, 0x80000021, 0x68747541, 0x444d4163, 0x69746e65 } },
	{ { 0x80000001, 0, 0x00a20f10, 0x20000000, 0x11c007f3, 0x2e500800 } },
	{ { 0x80000008, 0, 0x3030, 0x0100d205, 0x500f, 0 } },
	{ { 0x8000001d, 0, 0x4121, 0x01c0003f, 0x3f, 0 } },
	{ { 0x8000001d, 1, 0x4122, 0x01c0003f, 0x3f, 0 } },
	{ { 0x8000001d, 2, 0x4143, 0x01c0003f, 0x3ff, 2 } },
	{ { 0x8000001d, 3, 0x3c163, 0x03c0003f, 0x7fff, 1 } },
	{ { 0x8000001d, 4, 0, 0, 0, 0 } },
	{ { 0x8000001e, 0, 5, 0x0102, 0x0302, 0 } },
	{ { 0x80000022, 0, 1, 0x0406, 0, 0 } },
};

static struct kvm_cpuid2 *cpuid;

static void make_with(const struct leaf *leaf, size_t n, const struct cpuid_topology *topology,
		      bool tsc_deadline)
{
	free(cpuid);
	cpuid = calloc(1, sizeof(*cpuid) + CPUID_MAX_ENTRIES * sizeof(cpuid->entries[0]));
	cpuid->nent = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		cpuid->entries[i] = (struct kvm_cpuid_entry2){ .function = leaf[i].v[0],
							       .index = leaf[i].v[1],
							       .eax = leaf[i].v[2],
							       .ebx = leaf[i].v[3],
							       .ecx = leaf[i].v[4],
							       .edx = leaf[i].v[5] };
	cpuid_normalise(cpuid, topology, tsc_deadline);
}

/* Without a topology of its own, a machine has one package of cores with a thread each. */
static struct cpuid_topology cores(unsigned ncpus)
{
	return (struct cpuid_topology){ 1, ncpus, 1, 1 };
}

static void make(const struct leaf *leaf, size_t n, unsigned ncpus, bool tsc_deadline)
{
	struct cpuid_topology topology = cores(ncpus);

	make_with(leaf, n, &topology, tsc_deadline);
}

static void set_apic_id(unsigned ncpus, unsigned id)
{
	struct cpuid_topology topology = cores(ncpus);

	cr_assert_eq(cpuid_apic_id(&topology, id), id);
	cpuid_set_apic_id(cpuid, &topology, id);
}
#define MAKE(table, ncpus) make(table, sizeof(table) / sizeof(table[0]), ncpus, true)

static const struct kvm_cpuid_entry2 *get(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != function || e->index != index)
			continue;
		cr_expect_null(found, "leaf 0x%x.%u is there twice", function, index);
		found = e;
	}
	cr_assert_not_null(found, "leaf 0x%x.%u", function, index);
	return found;
}

static bool has(uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return true;
	return false;
}

static void done(void)
{
	free(cpuid);
}

TestSuite(cpuid, .fini = done);

/* ids: number of addressable APIC ids, in 8 bits; bits: width of the APIC id below the package. */
static const struct {
	unsigned ncpus, ids, bits, cache_cores;
} counts[] = {
	{ 1, 1, 0, 0 },	   { 2, 2, 1, 1 },     { 3, 4, 2, 3 },	    { 6, 8, 3, 7 },
	{ 64, 64, 6, 63 }, { 65, 128, 7, 63 }, { 128, 128, 7, 63 }, { 254, 255, 8, 63 },
};
#define EACH_COUNT(i) for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)

Test(cpuid, features)
{
	EACH_COUNT(i)
	{
		const struct kvm_cpuid_entry2 *e;
		unsigned n = counts[i].ncpus;

		MAKE(intel, n);
		e = get(1, 0);
		cr_expect_eq(e->ebx >> 16 & 0xff, counts[i].ids, "%u CPUs", n);
		cr_expect_eq(e->ebx & 0xffff, 0x0800, "CLFLUSH stays");
		cr_expect_eq(e->edx >> 28 & 1, n > 1, "HTT with %u CPUs", n);
		cr_expect_eq(e->ecx & 0x80000000u, 0x80000000u, "hypervisor");
		cr_expect(e->ecx & 1u << 21, "x2APIC");
		cr_expect(e->ecx & 1u << 24, "TSC deadline");
		cr_expect_eq(e->eax, 0x000606a6);
	}
	make(amd, 2, 1, false);
	cr_expect_not(get(1, 0)->ecx & 1u << 24, "no TSC deadline where KVM has none");
}

Test(cpuid, nothing_else_changes)
{
	MAKE(intel, 4);
	for (size_t i = 0; i < sizeof(intel) / sizeof(intel[0]); i++) {
		const uint32_t *v = intel[i].v;
		const struct kvm_cpuid_entry2 *e;

		if (v[0] != 0 && v[0] != 6 && v[0] != 7 && v[0] != 0xd && v[0] >> 28 != 4 &&
		    v[0] != 0x80000001)
			continue;
		e = get(v[0], v[1]);
		cr_expect(e->eax == v[2] && e->ebx == v[3] && e->ecx == v[4] && e->edx == v[5],
			  "leaf 0x%x.%u", v[0], v[1]);
	}
}

Test(cpuid, no_pmu)
{
	const struct kvm_cpuid_entry2 *e;

	MAKE(intel, 2);
	e = get(0xa, 0);
	cr_expect_eq(e->eax | e->ebx | e->ecx | e->edx, 0);
	cr_expect_not(get(1, 0)->ecx & 1u << 15, "PDCM");
	MAKE(amd, 2);
	e = get(0x80000022, 0);
	cr_expect_eq(e->eax | e->ebx | e->ecx | e->edx, 0);
	cr_expect_eq(get(0x80000001, 0)->ecx, 0x004007f3, "only the counters' bits are gone");
}

/* --- brand string and caches -------------------------------------------------------------- */

static const struct cpuid_names host_names = {
	{ { 1, 2, 3, 4 }, { 5, 6, 7, 8 }, { 9, 10, 11, 0 }, { 13, 14, 15, 16 }, { 0, 0, 17, 18 } }
};

/* What KVM has of the five leaves: '-' not there, '0' empty, 'k' its own; then what the guest reads: h the host's. */
Test(cpuid, names)
{
	static const struct {
		const char *kvm, *guest;
	} table[] = {
		{ "-----", "hhhhh" }, { "00000", "hhhhh" }, { "kkkkk", "kkkkk" },
		{ "kkk00", "kkkhh" }, { "000kk", "hhhkk" }, { "kk0kk", "kk0kk" },
		{ "kkk0k", "kkk0k" }, { "0-000", "hhhhh" }, { "---kk", "hhhkk" },
		{ "kkk--", "kkkhh" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct leaf leaf[7] = { { { 0, 0, 0x10, 0x68747541, 0, 0 } },
					{ { 0x80000000, 0, 0x80000001, 0, 0, 0 } } };
		size_t n = 2;

		for (uint32_t at = 0; at < 5; at++)
			if (table[i].kvm[at] != '-')
				leaf[n++] = (struct leaf){ { CPUID_NAMES_FIRST + at, 0, 0, 0, 0,
							     table[i].kvm[at] == 'k' ? 77 : 0 } };
		make(leaf, n, 1, true);
		cr_expect_eq(cpuid_lacks_names(cpuid), strchr(table[i].guest, 'h') != NULL, "%s",
			     table[i].kvm);
		cpuid_fill_names(cpuid, &host_names);
		cr_expect_not(cpuid_lacks_names(cpuid), "%s", table[i].kvm);
		if (strchr(table[i].guest, 'h'))
			cr_expect_geq(get(0x80000000, 0)->eax,
				      table[i].guest[4] == 'h' ? 0x80000006 : 0x80000004);
		for (uint32_t at = 0; at < 5; at++) {
			const struct kvm_cpuid_entry2 *e = get(CPUID_NAMES_FIRST + at, 0);
			char c = table[i].guest[at];

			if (c == 'h')
				cr_expect(e->eax == host_names.leaf[at].eax &&
						  e->ebx == host_names.leaf[at].ebx &&
						  e->ecx == host_names.leaf[at].ecx &&
						  e->edx == host_names.leaf[at].edx,
					  "%s: leaf %u", table[i].kvm, at);
			else
				cr_expect(e->eax == 0 && e->edx == (c == 'k' ? 77 : 0),
					  "%s: leaf %u", table[i].kvm, at);
		}
	}
}

Test(cpuid, names_in_full_and_empty_tables)
{
	struct leaf many[CPUID_MAX_ENTRIES];

	make(NULL, 0, 1, true);
	cpuid_fill_names(cpuid, &host_names);
	cr_expect_eq(cpuid->nent, 0);
	memset(many, 0, sizeof(many));
	for (uint32_t i = 0; i < CPUID_MAX_ENTRIES; i++)
		many[i].v[0] = i ? 0x1000 + i : 0x80000000;
	make(many, CPUID_MAX_ENTRIES, 1, true);
	cpuid_fill_names(cpuid, &host_names);
	cr_expect_eq(cpuid->nent, CPUID_MAX_ENTRIES);
	/* A highest leaf above these stays. */
	MAKE(amd, 1);
	cpuid_fill_names(cpuid, &host_names);
	cr_expect_eq(get(0x80000000, 0)->eax, 0x80000021);
	cr_expect_eq(get(0x80000006, 0)->edx, 18);
}

Test(cpuid, extended_topology)
{
	EACH_COUNT(i)
	{
		unsigned n = counts[i].ncpus;

		MAKE(intel, n);
		set_apic_id(n, n - 1);
		for (uint32_t f = 0xb; f <= 0x1f; f += 0x14) {
			const struct kvm_cpuid_entry2 *smt = get(f, 0), *core = get(f, 1),
						      *end = get(f, 2);

			cr_expect_eq(smt->eax, 0);
			cr_expect_eq(smt->ebx, 1);
			cr_expect_eq(smt->ecx, 0x100);
			cr_expect_eq(core->eax, counts[i].bits, "leaf 0x%x, %u CPUs", f, n);
			cr_expect_eq(core->ebx, n);
			cr_expect_eq(core->ecx, 0x201);
			cr_expect_eq(end->eax | end->ebx, 0);
			cr_expect_eq(end->ecx, 2);
			cr_expect_eq(smt->edx, n - 1);
			cr_expect_eq(core->edx, n - 1);
			cr_expect_eq(end->edx, n - 1);
			cr_expect_eq(smt->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
			cr_expect_lt(n - 1, 1u << core->eax << (n == 1), "the id fits");
		}
	}
	MAKE(amd, 2);
	cr_expect_eq(get(0xb, 1)->ebx, 2);
	cr_expect_not(has(0x1f), "a leaf that the host does not have");
}

Test(cpuid, intel_caches)
{
	EACH_COUNT(i)
	{
		unsigned n = counts[i].ncpus;

		MAKE(intel, n);
		for (unsigned c = 0; c < 4; c++) {
			const struct kvm_cpuid_entry2 *e = get(4, c);
			unsigned sharing = c == 3 ? (1u << counts[i].bits) - 1 : 0;

			cr_expect_eq(e->eax >> 14 & 0xfff, sharing, "cache %u, %u CPUs", c, n);
			cr_expect_eq(e->eax >> 26, counts[i].cache_cores, "cache %u, %u CPUs", c,
				     n);
			cr_expect_eq(e->eax & 0x3fff, intel[2 + c].v[2] & 0x3fff);
			cr_expect_eq(e->ebx, intel[2 + c].v[3]);
		}
		cr_expect_eq(get(4, 4)->eax, 0, "the end of the list stays empty");
	}
}

Test(cpuid, amd_topology)
{
	EACH_COUNT(i)
	{
		unsigned n = counts[i].ncpus;
		const struct kvm_cpuid_entry2 *e;

		MAKE(amd, n);
		set_apic_id(n, n - 1);
		e = get(0x80000008, 0);
		cr_expect_eq(e->ecx & 0xff, n - 1);
		cr_expect_eq(e->ecx >> 12 & 0xf, counts[i].bits);
		cr_expect_eq(e->eax, 0x3030);
		e = get(0x8000001e, 0);
		cr_expect_eq(e->eax, n - 1);
		cr_expect_eq(e->ebx, n - 1, "one thread a core");
		cr_expect_eq(e->ecx, 0, "one node");
		cr_expect_eq(get(0x8000001d, 3)->eax >> 14 & 0xfff, (1u << counts[i].bits) - 1);
		cr_expect_eq(get(0x8000001d, 0)->eax, 0x121);
		cr_expect_eq(get(0x8000001d, 4)->eax, 0);
		cr_expect_eq(get(0x80000001, 0)->ecx >> 1 & 1, n > 1, "CmpLegacy, %u CPUs", n);
	}
}

/* Leaf 0x80000008 ECX is reserved on Intel. */
Test(cpuid, intel_reserved)
{
	MAKE(intel, 8);
	cr_expect_eq(get(0x80000008, 0)->ecx, 0);
	cr_expect_eq(get(0x80000001, 0)->ecx, 0x121);
}

Test(cpuid, apic_ids)
{
	for (unsigned id = 0; id < 254; id++) {
		MAKE(intel, 254);
		set_apic_id(254, id);
		cr_expect_eq(get(1, 0)->ebx, id << 24 | 255 << 16 | 0x0800);
		cr_expect_eq(get(0xb, 1)->edx, id);
	}
}

Test(cpuid, full_and_empty_tables)
{
	struct leaf many[CPUID_MAX_ENTRIES];

	make(NULL, 0, 2, true);
	cr_expect_eq(cpuid->nent, 0);
	set_apic_id(2, 1);

	memset(many, 0, sizeof(many));
	for (uint32_t i = 0; i < CPUID_MAX_ENTRIES; i++)
		many[i].v[0] = i < 255 ? 0x1000 + i : 0xb;
	make(many, CPUID_MAX_ENTRIES, 2, true);
	cr_expect_leq(cpuid->nent, CPUID_MAX_ENTRIES);
	cr_expect(has(0x1000 + 254));
}

/* --- topologies of a configuration's own ------------------------------------------------ */

static const struct topo {
	struct cpuid_topology t;
	unsigned core, die, package; /* bits of the APIC id below the number of each */
	unsigned ids[8];	     /* APIC ids of the first vCPUs */
} topos[] = {
	{ { 1, 8, 1, 1 }, 0, 3, 3, { 0, 1, 2, 3, 4, 5, 6, 7 } },
	{ { 2, 4, 1, 1 }, 1, 3, 3, { 0, 1, 2, 3, 4, 5, 6, 7 } },
	{ { 2, 2, 1, 2 }, 1, 2, 2, { 0, 1, 2, 3, 4, 5, 6, 7 } },
	{ { 1, 3, 1, 3 }, 0, 2, 2, { 0, 1, 2, 4, 5, 6, 8, 9 } },
	{ { 2, 3, 2, 2 }, 1, 3, 4, { 0, 1, 2, 3, 4, 5, 8, 9 } },
	{ { 1, 1, 1, 8 }, 0, 0, 0, { 0, 1, 2, 3, 4, 5, 6, 7 } },
	{ { 1, 2, 4, 1 }, 0, 1, 3, { 0, 1, 2, 3, 4, 5, 6, 7 } },
	{ { 3, 1, 1, 4 }, 2, 2, 2, { 0, 1, 2, 4, 5, 6, 8, 9 } },
};
#define EACH_TOPO(o)                                                                               \
	for (const struct topo *o = topos; o < topos + sizeof(topos) / sizeof(topos[0]); o++)

Test(cpuid, apic_ids_of_a_topology)
{
	EACH_TOPO(o)
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(cpuid_apic_id(&o->t, i), o->ids[i], "topology %zu, vCPU %u: %u",
			     o - topos, i, cpuid_apic_id(&o->t, i));
}

/* One level of leaf 0xb or 0x1f. */
static void expect_level(const struct topo *o, uint32_t function, unsigned index, unsigned type,
			 unsigned shift, unsigned count)
{
	const struct kvm_cpuid_entry2 *e = get(function, index);

	cr_expect(e->eax == shift && e->ebx == count && e->ecx == (type << 8 | index) &&
			  e->edx == o->ids[5],
		  "topology %zu, leaf 0x%x.%u: %x %x %x %x", o - topos, function, index, e->eax,
		  e->ebx, e->ecx, e->edx);
}

Test(cpuid, intel_topologies)
{
	EACH_TOPO(o)
	{
		unsigned per_die = o->t.threads * o->t.cores, all = per_die * o->t.dies;
		const struct kvm_cpuid_entry2 *e;

		make_with(intel, sizeof(intel) / sizeof(intel[0]), &o->t, true);
		cpuid_set_apic_id(cpuid, &o->t, o->ids[5]);
		e = get(1, 0);
		cr_expect_eq(e->ebx >> 24, o->ids[5]);
		cr_expect_eq(e->ebx >> 16 & 0xff, 1u << o->package, "ids of a package");
		cr_expect_eq(e->edx >> 28 & 1, all > 1, "HTT");
		for (unsigned c = 0; c < 4; c++) {
			e = get(4, c);
			cr_expect_eq(e->eax >> 14 & 0xfff, (1u << (c == 3 ? o->die : o->core)) - 1,
				     "topology %zu, cache %u", o - topos, c);
			cr_expect_eq(e->eax >> 26, (1u << (o->package - o->core)) - 1);
		}
		expect_level(o, 0xb, 0, 1, o->core, o->t.threads);
		expect_level(o, 0xb, 1, 2, o->package, all);
		expect_level(o, 0xb, 2, 0, 0, 0);
		expect_level(o, 0x1f, 0, 1, o->core, o->t.threads);
		expect_level(o, 0x1f, 1, 2, o->die, per_die);
		if (o->t.dies > 1)
			expect_level(o, 0x1f, 2, 5, o->package, all);
		expect_level(o, 0x1f, 2 + (o->t.dies > 1), 0, 0, 0);
		cr_expect_eq(get(0, 0)->eax, 0x1f);
	}
}

/* Intel's dies have only leaf 0x1f: the guest gets it from a host without it, too. */
Test(cpuid, dies_on_an_older_host)
{
	static const struct cpuid_topology dies = { 1, 2, 2, 1 };
	struct leaf older[sizeof(intel) / sizeof(intel[0])];
	size_t n = 0;

	for (size_t i = 0; i < sizeof(intel) / sizeof(intel[0]); i++)
		if (intel[i].v[0] != 0x1f)
			older[n++] = intel[i];
	older[0].v[2] = 0x16;
	make_with(older, n, &dies, true);
	cr_expect_eq(get(0, 0)->eax, 0x1f);
	cr_expect_eq(get(0x1f, 2)->ecx, 0x502);
	make(older, n, 4, true);
	cr_expect_eq(get(0, 0)->eax, 0x16);
	cr_expect_not(has(0x1f));
}

Test(cpuid, amd_topologies)
{
	EACH_TOPO(o)
	{
		unsigned all = o->t.threads * o->t.cores * o->t.dies;
		const struct kvm_cpuid_entry2 *e;

		make_with(amd, sizeof(amd) / sizeof(amd[0]), &o->t, true);
		cpuid_set_apic_id(cpuid, &o->t, o->ids[7]);
		e = get(0x80000008, 0);
		cr_expect_eq(e->ecx & 0xff, all - 1);
		cr_expect_eq(e->ecx >> 12 & 0xf, o->package);
		e = get(0x8000001e, 0);
		cr_expect_eq(e->eax, o->ids[7]);
		cr_expect_eq(e->ebx, (o->t.threads - 1) << 8 | o->ids[7] >> o->core, "the core");
		cr_expect_eq(e->ecx, (o->t.dies - 1) << 8 | o->ids[7] >> o->die, "the node");
		cr_expect_eq(get(0x8000001d, 3)->eax >> 14 & 0xfff, (1u << o->die) - 1);
		cr_expect_eq(get(0x8000001d, 2)->eax >> 14 & 0xfff, (1u << o->core) - 1);
		cr_expect_eq(get(0x80000001, 0)->ecx >> 1 & 1, all > 1);
		cr_expect_not(has(0x1f));
	}
}
