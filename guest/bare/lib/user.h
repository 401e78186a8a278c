/*
 * user: runs code at CPL3, where a software KVM runs it at native speed.
 *
 * All memory below 4 GiB becomes accessible from CPL3. At CPL3, memory, MMIO and
 * rdtsc work. For anything else (printing, powering off) the code calls user_call,
 * an invalid instruction whose trap runs fn at CPL0.
 */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include <stdint.h>

/* Runs code at CPL3 and never returns; user_call(op, a, b) calls fn. */
_Noreturn void user_enter(void (*code)(void), void (*fn)(uint64_t op, uint64_t a, uint64_t b));

static inline void user_call(uint64_t op, uint64_t a, uint64_t b)
{
	__asm__ volatile("ud2" ::"D"(op), "S"(a), "d"(b) : "memory");
}

#endif
