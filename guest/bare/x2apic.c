/* x2apic: CPUID offers it, it can be switched on, its registers answer, a self-IPI arrives. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x43
static volatile uint32_t hits;

static void hit(struct trap_frame *f)
{
	hits++;
}

void main(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!ok(r[2] >> 21 & 1, "CPUID offers x2APIC"))
		return;
	ok(r[1] >> 24 == acpi.apic_id[0], "initial APIC id %u", r[1] >> 24);
	trap_set(VECTOR, hit);
	lapic_enable();
	ok((rdmsr(0x1b) & 0xc00) == 0xc00, "IA32_APIC_BASE %lx", rdmsr(0x1b));
	ok(lapic_id() == acpi.apic_id[0], "x2APIC id %u", lapic_id());
	ok((lapic_read(0x30) & 0xff) >= 0x10, "version %x", lapic_read(0x30));
	cpuid(0xb, 0, r);
	ok(r[3] == lapic_id(), "CPUID 0xb: x2APIC id %u", r[3]);
	wrmsr(0x83f, VECTOR);
	ok(wait_for(&hits, 1, 1000), "self-IPI");
	lapic_icr(lapic_id(), 0x4000 | VECTOR);
	ok(wait_for(&hits, 2, 1000), "IPI to itself by ICR");
}
