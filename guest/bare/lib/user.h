/*
 * user: run code at CPL3, where a software KVM runs it at native speed.
 *
 * Everything below 4 GiB becomes accessible from CPL3. There, memory, MMIO and
 * rdtsc work; for anything else (printing, the end) the code calls user_call,
 * an invalid instruction that brings fn to run at CPL0.
 */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include <stdint.h>

/* Enters code at CPL3, never returns; calls of user_call(op, a, b) reach fn. */
_Noreturn void user_enter(void (*code)(void), void (*fn)(uint64_t op, uint64_t a, uint64_t b));

static inline void user_call(uint64_t op, uint64_t a, uint64_t b)
{
	__asm__ volatile("ud2" ::"D"(op), "S"(a), "d"(b) : "memory");
}

#endif
