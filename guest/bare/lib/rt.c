/* rt: see rt.h. */
#include <stdarg.h>

#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define COM1 0x3f8
#define STUB_BYTES 16
#define NVECTORS 0x60
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01

struct ram_range ram_range[MAX_RANGES];
unsigned ram_ranges;
uint64_t boot_rsdp;
const char *boot_cmdline = "";

static unsigned tap_count;
static trap_fn trap_fns[NVECTORS];
static uint64_t idt[NVECTORS * 2];
static uint32_t tss[26] __attribute__((aligned(16)));
static uint8_t trap_stack[16384] __attribute__((aligned(16)));

extern uint64_t tss_descriptor[2], page_pdpt[512];
extern char trap_stubs[];
void rt_start(void);
void trap_dispatch(struct trap_frame *f);

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n)::"memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

/* --- printing ------------------------------------------------------------------ */
void rt_putc(char c)
{
	if (c == '\n')
		rt_putc('\r');
	for (int i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
		;
	outb(COM1, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base, unsigned width)
{
	char buf[24];
	unsigned n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n < width && n < sizeof(buf))
		buf[n++] = '0';
	while (n)
		rt_putc(buf[--n]);
}

static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			rt_putc(*fmt);
			continue;
		}
		unsigned width = 0;
		bool wide = false;
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		for (; *fmt == 'l' || *fmt == 'z'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				rt_putc(*s);
			break;
		case 'c':
			rt_putc((char)va_arg(ap, int));
			break;
		case 'd': {
			int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
			if (v < 0)
				rt_putc('-');
			put_number((uint64_t)(v < 0 ? -v : v), 10, width);
			break;
		}
		case 'u':
		case 'x': {
			uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			put_number(v, *fmt == 'x' ? 16 : 10, width);
			break;
		}
		default:
			rt_putc(*fmt);
		}
	}
}

void rt_print(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

bool ok(bool cond, const char *fmt, ...)
{
	va_list ap;

	rt_print("%s %u - ", cond ? "ok" : "not ok", ++tap_count);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	rt_putc('\n');
	return cond;
}

void skip(const char *what, const char *why)
{
	rt_print("ok %u - %s # skip %s\n", ++tap_count, what, why);
}

void rt_halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

void rt_die(const char *fmt, ...)
{
	va_list ap;

	rt_print("not ok %u - ", ++tap_count);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	rt_print("\nBail out!\n");
	acpi_poweroff();
	rt_halt();
}

void rt_done(void)
{
	if (tap_count)
		rt_print("1..%u\n", tap_count);
	acpi_poweroff();
	rt_print("not ok - poweroff did nothing\n");
	rt_halt();
}

/* --- traps ----------------------------------------------------------------------- */
void trap_set(unsigned vector, trap_fn fn)
{
	trap_fns[vector] = fn;
}

void trap_dispatch(struct trap_frame *f)
{
	trap_fn fn = f->vector < NVECTORS ? trap_fns[f->vector] : NULL;

	if (!fn) {
		if (f->vector == 0x5f)
			return; /* spurious: no EOI */
		uint64_t cr2;
		__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
		rt_die("trap %lu error %lx rip %lx cs %lx rsp %lx cr2 %lx", f->vector, f->error,
		       f->rip, f->cs, f->rsp, cr2);
	}
	fn(f);
	if (f->vector >= 0x20)
		lapic_eoi();
}

void trap_load_idt(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) p = { sizeof(idt) - 1, (uint64_t)idt };

	__asm__ volatile("lidt %0" ::"m"(p));
}

static void traps_init(void)
{
	uint64_t base = (uint64_t)tss, top = (uint64_t)(trap_stack + sizeof(trap_stack));

	for (unsigned i = 0; i < NVECTORS; i++) {
		uint64_t a = (uint64_t)trap_stubs + i * STUB_BYTES;
		idt[2 * i] = (a & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 |
			     (a >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = a >> 32;
	}
	trap_load_idt();
	/* The CPU reads the TSS only for a trap from CPL3, to load RSP0. */
	__builtin_memcpy(&tss[1], &top, sizeof(top));
	tss_descriptor[0] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
			    (base >> 24 & 0xff) << 56;
	tss_descriptor[1] = base >> 32;
	__asm__ volatile("ltr %w0" ::"r"(0x20));
}

/* --- boot information --------------------------------------------------------------- */
static void add_range(uint64_t base, uint64_t len, uint32_t type)
{
	if (ram_ranges < MAX_RANGES)
		ram_range[ram_ranges++] = (struct ram_range){ base, len, type };
}

static void read_boot_params(const uint8_t *bp)
{
	boot_rsdp = load64(bp + 0x70);
	boot_cmdline = (const char *)(uint64_t)load32(bp + 0x228);
	for (unsigned i = 0; i < bp[0x1e8]; i++) {
		const uint8_t *e = bp + 0x2d0 + 20 * i;
		add_range(load64(e), load64(e + 8), load32(e + 16));
	}
}

static void read_start_info(const uint8_t *si)
{
	boot_cmdline = (const char *)load64(si + 24);
	boot_rsdp = load64(si + 32);
	if (load32(si + 4) < 1)
		return;
	const uint8_t *map = (const uint8_t *)load64(si + 40);
	for (unsigned i = 0; i < load32(si + 48); i++)
		add_range(load64(map + 24 * i), load64(map + 24 * i + 8),
			  load32(map + 24 * i + 16));
}

void rt_start(void)
{
	traps_init();
	if (boot_kind == 1)
		read_boot_params((const uint8_t *)boot_ptr);
	else
		read_start_info((const uint8_t *)boot_ptr);
	if (!boot_cmdline)
		boot_cmdline = "";
	acpi_init();
	main();
	rt_done();
}

void map_range(uint64_t base, uint64_t len)
{
	static uint64_t pool[16][512] __attribute__((aligned(4096)));
	static unsigned used;

	for (uint64_t g = base >> 30; g <= (base + len - 1) >> 30; g++) {
		if (g >= 512)
			rt_die("address %lx is above 512 GiB", base);
		if (page_pdpt[g] & 1)
			continue;
		if (used == 16)
			rt_die("no page directory left for %lx", base);
		uint64_t *pd = pool[used++];
		for (uint64_t i = 0; i < 512; i++)
			pd[i] = (g << 30 | i << 21) | 0x83;
		page_pdpt[g] = (uint64_t)pd | 7;
	}
}

/* --- time ------------------------------------------------------------------------------ */
uint64_t tsc_khz(void)
{
	static struct {
		uint32_t version, pad;
		uint64_t tsc, system_time;
		uint32_t mul;
		int8_t shift;
		uint8_t flags, pad2[2];
	} clock __attribute__((aligned(64)));
	static uint64_t khz;
	uint32_t r[4];

	if (khz)
		return khz;
	cpuid(0x40000000, 0, r);
	if (r[1] != 0x4b4d564b) /* "KVMK" */
		return 0;
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uint64_t)&clock | 1);
	for (int i = 0; i < 1000 && !*(volatile uint32_t *)&clock.mul; i++)
		relax();
	if (!clock.mul)
		return 0;
	khz = (1000000ull << 32) / clock.mul;
	khz = clock.shift < 0 ? khz << -clock.shift : khz >> clock.shift;
	return khz;
}

uint64_t now_us(void)
{
	uint64_t khz = tsc_khz();

	return rdtsc() / ((khz ? khz : 1000000) / 1000);
}

bool wait_for(const volatile uint32_t *flag, uint32_t want, unsigned timeout_ms)
{
	uint64_t end = now_us() + 1000ull * timeout_ms;

	__asm__ volatile("sti");
	while ((int32_t)(*flag - want) < 0 && now_us() < end)
		relax();
	__asm__ volatile("cli");
	return (int32_t)(*flag - want) >= 0;
}
