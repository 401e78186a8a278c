/* apic: see apic.h. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define MSR_APIC_BASE 0x1b
#define LAPIC_MMIO 0xfee00000ull

static bool x2;
static volatile uint32_t aps_up;
static void (*ap_fn)(unsigned index);
extern char ap_begin[], ap_end[];
void rt_ap_start(void);

uint32_t lapic_read(unsigned reg)
{
	return x2 ? (uint32_t)rdmsr(0x800 + (reg >> 4)) : mmio_r32(LAPIC_MMIO + reg);
}

void lapic_write(unsigned reg, uint32_t v)
{
	if (x2)
		wrmsr(0x800 + (reg >> 4), v);
	else
		mmio_w32(LAPIC_MMIO + reg, v);
}

void lapic_icr(uint32_t apic_id, uint32_t low)
{
	if (x2) {
		wrmsr(0x830, (uint64_t)apic_id << 32 | low);
	} else {
		mmio_w32(LAPIC_MMIO + LAPIC_ICR + 0x10, apic_id << 24);
		mmio_w32(LAPIC_MMIO + LAPIC_ICR, low);
	}
}

uint32_t lapic_id(void)
{
	return x2 ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24;
}

void lapic_eoi(void)
{
	lapic_write(0xb0, 0);
}

bool lapic_is_x2(void)
{
	return x2;
}

void lapic_enable(void)
{
	uint32_t r[4];
	uint64_t base = rdmsr(MSR_APIC_BASE) | 0x800;

	cpuid(1, 0, r);
	if (r[2] >> 21 & 1) {
		wrmsr(MSR_APIC_BASE, base);
		wrmsr(MSR_APIC_BASE, base | 0x400);
		x2 = true;
	} else {
		wrmsr(MSR_APIC_BASE, base);
	}
	outb(0x21, 0xff); /* mask the PIC, if the board has one */
	outb(0xa1, 0xff);
	lapic_write(LAPIC_SPURIOUS, 0x100 | 0x5f);
	lapic_write(0x80, 0); /* task priority 0: accept every vector */
}

uint32_t ioapic_read(unsigned reg)
{
	mmio_w32(acpi.ioapic, reg);
	return mmio_r32(acpi.ioapic + 0x10);
}

void ioapic_write(unsigned reg, uint32_t v)
{
	mmio_w32(acpi.ioapic, reg);
	mmio_w32(acpi.ioapic + 0x10, v);
}

unsigned ioapic_pins(void)
{
	return (ioapic_read(1) >> 16 & 0xff) + 1;
}

void ioapic_route(unsigned pin, unsigned vector, uint32_t flags)
{
	ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, vector | flags);
}

void rt_ap_start(void)
{
	trap_load_idt();
	lapic_enable();
	unsigned index = __atomic_add_fetch(&aps_up, 1, __ATOMIC_SEQ_CST);
	if (ap_fn)
		ap_fn(index);
	rt_halt();
}

unsigned smp_start(void (*fn)(unsigned index))
{
	uint32_t self = lapic_id();

	ap_fn = fn;
	memcpy((void *)(uint64_t)SMP_TRAMPOLINE, ap_begin, (size_t)(ap_end - ap_begin));
	for (unsigned i = 0; i < acpi.ncpus; i++) {
		uint32_t want = aps_up + 1;
		if (acpi.apic_id[i] == self)
			continue;
		lapic_icr(acpi.apic_id[i], 0x4500); /* INIT, assert */
		lapic_icr(acpi.apic_id[i], 0x4600 | SMP_TRAMPOLINE >> 12);
		if (!wait_for(&aps_up, want, 50)) /* the second SIPI of the old algorithm */
			lapic_icr(acpi.apic_id[i], 0x4600 | SMP_TRAMPOLINE >> 12);
		wait_for(&aps_up, want, 2000);
	}
	return aps_up;
}
