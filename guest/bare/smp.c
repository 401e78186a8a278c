/* smp: starts every CPU of the MADT by INIT and SIPI, counts the CPUs, sends each an interrupt. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x41
static volatile uint32_t hits, ready;
static uint32_t seen[8];

static void count(struct trap_frame *f)
{
	__atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
}

static void on_ap(unsigned index)
{
	uint32_t r[4], id = lapic_id();

	cpuid(1, 0, r);
	if (r[1] >> 24 == (id & 0xff)) /* CPUID agrees with the APIC */
		__atomic_or_fetch(&seen[id >> 5 & 7], 1u << (id & 31), __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	__asm__ volatile("sti");
	while (hits == 0)
		__asm__ volatile("sti; hlt");
}

void main(void)
{
	trap_set(VECTOR, count);
	lapic_enable();
	ok(lapic_id() == acpi.apic_id[0], "the boot CPU's APIC id is %u", lapic_id());
	unsigned up = smp_start(on_ap);
	ok(up + 1 == acpi.ncpus, "%u of %u CPUs are up", up + 1, acpi.ncpus);
	wait_for(&ready, up, 2000);
	unsigned good = 0;
	for (unsigned i = 0; i < acpi.ncpus; i++)
		good += seen[acpi.apic_id[i] >> 5 & 7] >> (acpi.apic_id[i] & 31) & 1;
	ok(good == up, "CPUID's APIC ids agree on %u application processors", good);
	for (unsigned i = 1; i < acpi.ncpus; i++) {
		lapic_icr(acpi.apic_id[i], 0x4000 | VECTOR);
		if (!wait_for(&hits, i, 2000))
			break;
	}
	ok(hits == up, "%u interrupts arrived out of %u sent", hits, up);
}
