/*
 * spin: what the guest spin shows to a test on the host, in guest memory at SPIN_AT. The guest
 * writes, the host reads. An element belongs to the CPU with that APIC id.
 */
#ifndef GUEST_SPIN_H
#define GUEST_SPIN_H

#include <stdint.h>

#define SPIN_AT 0x1800000ull
#define SPIN_CPUS 8

struct spin {
	struct spin_cpu {
		uint64_t count; /* rounds of its loop; a CPU that sleeps stays at 1 */
		uint64_t nmis;
		uint64_t pad[6];
	} cpu[SPIN_CPUS];
	uint64_t wrong;	  /* reads of a register that gave another value than the first one */
	uint64_t buttons; /* interrupts of the power button's device */
};

#endif
