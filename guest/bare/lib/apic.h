/*
 * apic: local APIC (x2APIC by MSR if the CPU has it, else by MMIO) and IOAPIC.
 */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include <stdbool.h>
#include <stdint.h>

#define LAPIC_ID 0x20
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_COUNT 0x380
#define LAPIC_TIMER_NOW 0x390
#define LAPIC_TIMER_DIVIDE 0x3e0

/* Enables this CPU's APIC, with spurious vector 0x5f. */
void lapic_enable(void);
bool lapic_is_x2(void);
uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t v);
void lapic_icr(uint32_t apic_id, uint32_t low);
uint32_t lapic_id(void);
void lapic_eoi(void);

#define IOAPIC_LEVEL (1u << 15)
#define IOAPIC_LOW (1u << 13)
#define IOAPIC_MASKED (1u << 16)
unsigned ioapic_pins(void);
/* Routes pin to vector on APIC id 0; flags are the ones above. */
void ioapic_route(unsigned pin, unsigned vector, uint32_t flags);
uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t v);

/* Starts every other CPU of the MADT at fn (may be NULL). Returns how many started in time. */
unsigned smp_start(void (*fn)(unsigned index));
#define SMP_TRAMPOLINE 0x8000u

#endif
