/*
 * rt: the tiny runtime of the bare-metal test guests.
 *
 * A guest defines main(); its result lines look like TAP ("ok 1 - what") and go
 * to the serial port at 0x3f8. Returning from main prints the plan and powers
 * off by ACPI. Single-threaded, CPL0, long mode, memory mapped one to one.
 */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void main(void);

/* --- the CPU ---------------------------------------------------------------- */
static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}
/* MMIO accesses; each is one instruction of the type's width. */
#define mmio_r8(p) (*(volatile uint8_t *)(p))
#define mmio_r16(p) (*(volatile uint16_t *)(p))
#define mmio_r32(p) (*(volatile uint32_t *)(p))
#define mmio_w8(p, v) (*(volatile uint8_t *)(p) = (uint8_t)(v))
#define mmio_w16(p, v) (*(volatile uint16_t *)(p) = (uint16_t)(v))
#define mmio_w32(p, v) (*(volatile uint32_t *)(p) = (uint32_t)(v))
#define barrier() __asm__ volatile("" ::: "memory")
#define fence() __asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc")
#define relax() __asm__ volatile("pause")

void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
/* Unaligned little-endian loads from firmware tables. */
static inline uint16_t load16(const void *p)
{
	uint16_t v;
	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static inline uint32_t load32(const void *p)
{
	uint32_t v;
	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static inline uint64_t load64(const void *p)
{
	uint64_t v;
	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

/* --- printing --------------------------------------------------------------- */
void rt_putc(char c);
/* Supports %s %c %u %lu %x %lx %d %%; a width with leading zeros for %x only (%08x). */
void rt_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints one TAP line. Returns cond. */
bool ok(bool cond, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void skip(const char *what, const char *why);
/* Prints the plan line ("1..N"), then enters ACPI S5. Never returns. */
_Noreturn void rt_done(void);
/* Prints the reason and stops without powering off: for guests that cannot go on. */
_Noreturn void rt_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void rt_halt(void);

/* --- boot information (rt.c fills it before main) ---------------------------- */
struct ram_range {
	uint64_t base, len;
	uint32_t type; /* 1: RAM */
};
#define MAX_RANGES 32
extern struct ram_range ram_range[MAX_RANGES];
extern unsigned ram_ranges;
extern uint64_t boot_rsdp;
extern const char *boot_cmdline;
extern uint64_t boot_kind; /* 1: Linux 64-bit entry, 2: PVH */
extern uint64_t boot_ptr;
extern char image_end[];

/* Maps [base, base + len) one to one, also above 4 GiB. */
void map_range(uint64_t base, uint64_t len);

/* --- traps ------------------------------------------------------------------- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
typedef void (*trap_fn)(struct trap_frame *f);
/* Vectors 0 … 0x5f. From 0x20 on, the trap handler sends the local APIC's EOI after fn. */
void trap_set(unsigned vector, trap_fn fn);
void trap_load_idt(void);

/* --- time --------------------------------------------------------------------- */
/* Returns the TSC's rate from kvmclock, or 0 if there is none (callers then count loops). */
uint64_t tsc_khz(void);
uint64_t now_us(void);
/* Spins with interrupts enabled. Returns true if *flag >= want within timeout_ms, else false. */
bool wait_for(const volatile uint32_t *flag, uint32_t want, unsigned timeout_ms);

#endif
