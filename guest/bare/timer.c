/*
 * timer: kvmclock gives the TSC's rate; the local APIC's timer fires in
 * one-shot and in TSC-deadline mode, and wakes the CPU from hlt.
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x42
#define MSR_TSC_DEADLINE 0x6e0
static volatile uint32_t ticks;

static void tick(struct trap_frame *f)
{
	ticks++;
}

void main(void)
{
	uint32_t r[4];

	cpuid(0x40000000, 0, r);
	if (r[1] != 0x4b4d564b) {
		skip("kvmclock", "the CPU is not KVM's");
	} else {
		cpuid(0x40000001, 0, r);
		ok(r[0] >> 3 & 1, "CPUID offers kvmclock");
		ok(tsc_khz() > 100000 && tsc_khz() < 10000000, "kvmclock: the TSC runs at %lu kHz",
		   tsc_khz());
	}
	trap_set(VECTOR, tick);
	lapic_enable();
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	lapic_write(LAPIC_TIMER_COUNT, 1000000); /* 1 ms: KVM's bus runs at 1 GHz */
	ok(wait_for(&ticks, 1, 1000), "one-shot timer");
	cpuid(1, 0, r);
	if (!(r[2] >> 24 & 1)) {
		skip("TSC deadline timer", "not in CPUID");
		return;
	}
	lapic_write(LAPIC_LVT_TIMER, 2u << 17 | VECTOR);
	uint64_t khz = tsc_khz() ? tsc_khz() : 1000000, due = rdtsc() + 5 * khz;
	wrmsr(MSR_TSC_DEADLINE, due);
	bool fired = wait_for(&ticks, 2, 1000);
	uint64_t at = rdtsc();
	ok(fired && at >= due, "TSC deadline timer, %lu us late", (at - due) * 1000 / khz);
	ok(rdmsr(MSR_TSC_DEADLINE) == 0, "the deadline is cleared after it fired");
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 5 * khz);
	while (ticks < 3)
		__asm__ volatile("sti; hlt; cli");
	ok(true, "hlt wakes for the timer");
}
