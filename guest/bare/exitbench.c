/*
 * exitbench: measures what an access to a device costs, by way of the monitor and back.
 *
 * Each test reads or writes one register over and over. The device is the last virtio
 * function of PCI. MMIO is accessed at CPL3, hence at native speed under any
 * KVM; ports at CPL0. Command line: ms=N, each test's time (default 200). Prints one line per
 * test: NAME ns N, the time of one access.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"

#define BATCH 64u
#define ISR 0x100u
#define VIRTIO_VENDOR 0x1af4u

enum { BAR_READ, BAR_WRITE, EMPTY_READ, CONFIG_READ, PORT_READ, PORT_EMPTY, NTESTS };

static const char *const name[NTESTS] = { "bar-read",	 "bar-write", "empty-read",
					  "config-read", "port-read", "port-empty" };

static uint64_t khz, run_ms = 200, bar, ecam, empty;
static uint64_t accesses, tsc;

enum { CALL_REPORT, CALL_PORTS };

static void access_once(unsigned test)
{
	switch (test) {
	case BAR_READ:
		(void)mmio_r8(bar + ISR);
		break;
	case BAR_WRITE:
		mmio_w32(bar, 0); /* device_feature_select */
		break;
	case EMPTY_READ:
		(void)mmio_r32(empty);
		break;
	case CONFIG_READ:
		(void)mmio_r32(ecam);
		break;
	case PORT_READ:
		(void)inb(0x3ff); /* the serial port's scratch register */
		break;
	case PORT_EMPTY:
		(void)inb(0x2f0);
		break;
	}
}

static void run(unsigned test)
{
	uint64_t begin = rdtsc(), end = begin + run_ms * khz;

	for (accesses = 0; rdtsc() < end; accesses += BATCH)
		for (unsigned i = 0; i < BATCH; i++)
			access_once(test);
	tsc = rdtsc() - begin;
}

static void report(unsigned test)
{
	rt_print("%s ns %lu\n", name[test], tsc * 1000000 / khz / accesses);
}

/* At CPL3. */
static void benchmark(void)
{
	for (unsigned test = BAR_READ; test <= CONFIG_READ; test++) {
		run(test);
		user_call(CALL_REPORT, test, 0);
	}
	user_call(CALL_PORTS, 0, 0);
}

static void called(uint64_t op, uint64_t a, uint64_t unused)
{
	if (op == CALL_REPORT) {
		report((unsigned)a);
		return;
	}
	for (unsigned test = PORT_READ; test <= PORT_EMPTY; test++) {
		run(test);
		report(test);
	}
	rt_done();
}

void main(void)
{
	uint16_t bdf = 0;
	uint64_t len;

	for (const char *s = boot_cmdline; *s; s++) {
		if (memcmp(s, "ms=", 3))
			continue;
		run_ms = 0;
		for (s += 3; *s >= '0' && *s <= '9'; s++)
			run_ms = run_ms * 10 + (uint64_t)(*s - '0');
		break;
	}
	khz = tsc_khz();
	if (!khz)
		khz = 1000000;
	for (unsigned slot = 1; slot < 32; slot++)
		if (pci_read((uint16_t)(slot << 3), PCI_VENDOR, 2) == VIRTIO_VENDOR)
			bdf = (uint16_t)(slot << 3);
	if (!bdf || !pci_has_ecam())
		rt_die("no virtio function, or no ECAM");
	bar = pci_bar(bdf, 0, &len);
	pci_write(bdf, PCI_COMMAND, 2, 2);
	ecam = acpi.ecam_base + ((uint64_t)bdf << 12);
	empty = bar + len;
	user_enter(benchmark, called);
}
