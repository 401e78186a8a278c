/* pci: configuration space, BARs, INTx and the ports. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/pci/pci.h"
#include "tests/unit/fake_env.h"

struct func {
	struct pci_func f;
	uint64_t off, val; /* of the last access */
	unsigned bar, size, reads, writes, config_reads, config_writes;
};

static uint64_t bar_read(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes)
{
	struct func *t = (struct func *)f;

	t->reads++;
	t->bar = bar;
	t->off = off;
	t->size = size_bytes;
	return 0x8877665544332211ull;
}

static void bar_write(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
		      uint64_t val)
{
	struct func *t = (struct func *)f;

	t->writes++;
	t->bar = bar;
	t->off = off;
	t->size = size_bytes;
	t->val = val;
}

static void config_read(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	((struct func *)f)->config_reads++;
}

static void config_written(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	((struct func *)f)->config_writes++;
}

static const struct pci_func_ops ops = { bar_read, bar_write, config_read, config_written };

static void add(struct fake_env *f, struct func *t, unsigned slot, int rc)
{
	struct err err = { "" };

	memset(t, 0, sizeof(*t));
	pci_func_init(&t->f, &ops, 0x1234, 0x5678, 0x0c0330);
	pci_func_bar(&t->f, 0, 0x1000);
	pci_func_bar(&t->f, 2, 0x4000);
	cr_assert_eq(pci_func_add(f->env.pci, &t->f, slot, &err), rc, "%s", err.text);
	cr_assert_eq(!err.text[0], !rc);
}

static uint64_t bar(struct fake_env *f, unsigned slot, unsigned n)
{
	return fake_config_read(f, slot, PCI_BAR0 + 4 * n, 4);
}

Test(pci, slots)
{
	struct func t[PCI_SLOTS + 1];
	struct fake_env f;
	struct err err;

	fake_env_init(&f, FAKE_PCI);
	cr_expect_eq(pci_host_slots(f.env.pci), 1, "the host bridge");
	add(&f, &t[0], 3, 0);
	add(&f, &t[1], 3, -EEXIST);
	for (unsigned i = 1; i < 31; i++) {
		add(&f, &t[i], 0, 0);
		cr_expect_eq(t[i].f.slot, i < 3 ? i : i + 1);
	}
	cr_expect_eq(pci_host_slots(f.env.pci), 0xffffffff);
	add(&f, &t[31], 0, -ENOSPC);
	cr_expect_eq(pci_host_gsi(f.env.pci, 9), 17);
	for (unsigned i = 0; i < 32; i++)
		pci_func_remove(&t[i].f);
	cr_expect_eq(pci_host_slots(f.env.pci), 1);
	/* The window is 1 MiB: a BAR of that size has no room any more. */
	memset(&t[0], 0, sizeof(t[0]));
	pci_func_init(&t[0].f, &ops, 1, 2, 3);
	pci_func_bar(&t[0].f, 0, 1 << 20);
	cr_expect_eq(pci_func_add(f.env.pci, &t[0].f, 0, &err), -ENOSPC);
	pci_func_remove(&t[0].f);
	fake_env_destroy(&f);
}

Test(pci, ranges_that_collide)
{
	struct pci_host_config cfg = { FAKE_ECAM, 1 << 20, FAKE_ECAM + 0x1000, 1 << 20, { 0 } };
	struct pci_host *host;
	struct fake_env f;
	struct err err = { "" };

	fake_env_init(&f, FAKE_MMIO);
	cr_expect_eq(pci_host_create(&f.env, &cfg, &host, &err), -EEXIST);
	cr_expect_null(host);
	cr_expect_str_not_empty(err.text);
	pci_host_destroy(NULL);
	fake_env_destroy(&f);
}

Test(pci, identity_at_every_width)
{
	static const uint8_t head[16] = { 0x34, 0x12, 0x78, 0x56, 0, 0, 0, 0, 1, 0x30, 3, 0xc };
	struct func t;
	struct fake_env f;

	fake_env_init(&f, FAKE_PCI);
	add(&f, &t, 5, 0);
	for (unsigned size = 1; size <= 4; size *= 2) {
		for (unsigned off = 0; off + size <= sizeof(head); off++) {
			uint32_t want = 0;

			for (unsigned i = 0; i < size; i++)
				want |= (uint32_t)head[off + i] << (i * 8);
			cr_expect_eq(fake_config_read(&f, 5, off, size), want, "%u at %u", size,
				     off);
		}
	}
	cr_expect_eq(fake_read(&f, FAKE_ECAM + (5 << 15), 8), 0x0000000056781234ull);
	cr_expect_eq(fake_config_read(&f, 0, 0, 4), 0x00081b36);
	cr_expect_eq(fake_config_read(&f, 0, 8, 4) >> 8, 0x060000);
	/* Extended space: none. Beyond a function, other functions, empty slots, other buses. */
	cr_expect_eq(fake_config_read(&f, 5, 0x100, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0xfe, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0xffe, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0x1000, 4), 0xffffffff);
	cr_expect_eq(fake_config_read(&f, 6, 0, 2), 0xffff);
	/* Read-only bytes stay. */
	for (unsigned off = 0; off < 256; off++)
		if (off != 0x3c && off / 4 != 1 && (off < 0x10 || off >= 0x28))
			fake_config_write(&f, 5, off, 1, ~fake_config_read(&f, 5, off, 1));
	for (unsigned off = 0; off < sizeof(head); off++)
		cr_expect_eq(fake_config_read(&f, 5, off, 1), head[off]);
	fake_config_write(&f, 5, PCI_COMMAND, 4, 0xffffffff);
	cr_expect_eq(fake_config_read(&f, 5, PCI_COMMAND, 4), 0x0406, "and no status bit");
	fake_config_write(&f, 5, 0x3c, 1, 0x5a);
	cr_expect_eq(fake_config_read(&f, 5, 0x3c, 2), 0x015a);
	pci_func_remove(&t.f);
	fake_env_destroy(&f);
}

Test(pci, bars_are_sized_moved_and_switched_off)
{
	struct func t[2];
	struct fake_env f;
	uint64_t at;

	fake_env_init(&f, FAKE_PCI);
	add(&f, &t[0], 0, 0);
	add(&f, &t[1], 0, 0);
	cr_expect_eq(bar(&f, 1, 0), FAKE_BARS);
	cr_expect_eq(bar(&f, 1, 2), FAKE_BARS + 0x4000, "aligned to its size");
	cr_expect_eq(bar(&f, 2, 0), FAKE_BARS + 0x8000);
	cr_expect_eq(bar(&f, 1, 1), 0);

	/* Sizing. */
	for (unsigned b = 0; b < 6; b++) {
		uint64_t was = bar(&f, 1, b);

		fake_config_write(&f, 1, PCI_BAR0 + 4 * b, 4, 0xffffffff);
		cr_expect_eq(bar(&f, 1, b), b == 0 ? 0xfffff000 : b == 2 ? 0xffffc000 : 0);
		fake_config_write(&f, 1, PCI_BAR0 + 4 * b, 4, (uint32_t)was);
		cr_expect_eq(bar(&f, 1, b), was);
	}
	fake_config_write(&f, 1, 0x30, 4, 0xffffffff);
	cr_expect_eq(fake_config_read(&f, 1, 0x30, 4), 0, "no ROM");

	/* Off, on, moved, outside. */
	at = FAKE_BARS + 0x4010;
	cr_expect_eq(fake_read(&f, at, 4), 0xffffffff);
	cr_expect(!pci_func_bar_base(&t[0].f, 2, &at));
	fake_config_write(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect(pci_func_bar_base(&t[0].f, 2, &at));
	cr_expect_eq(at, FAKE_BARS + 0x4000);
	cr_expect_eq(fake_read(&f, at + 0x10, 4), 0x44332211);
	cr_expect(t[0].reads == 1 && t[0].bar == 2 && t[0].off == 0x10 && t[0].size == 4);
	fake_write(&f, at + 0x3ff8, 8, 77);
	cr_expect(t[0].writes == 1 && t[0].off == 0x3ff8 && t[0].size == 8 && t[0].val == 77);
	fake_write(&f, at + 0x3ffc, 8, 77);
	cr_expect_eq(t[0].writes, 1, "over its end");
	fake_config_write(&f, 1, PCI_BAR0 + 8, 4, FAKE_BARS + 0xa4abc);
	cr_expect_eq(bar(&f, 1, 2), FAKE_BARS + 0xa4000);
	cr_expect_eq(fake_read(&f, at + 0x10, 4), 0xffffffff);
	cr_expect_eq(fake_read(&f, FAKE_BARS + 0xa4010, 1), 0x11);
	fake_config_write(&f, 1, PCI_BAR0 + 8 + 3, 1, 0xf0);
	cr_expect(!pci_func_bar_base(&t[0].f, 2, &at));
	cr_expect_eq(fake_read(&f, FAKE_BARS + 0xa4010, 1), 0xff);
	cr_expect_eq(t[1].reads + t[1].writes, 0);
	/* The first byte after a function's BARs. */
	cr_expect_eq(fake_read(&f, FAKE_BARS + 0x1000, 1), 0xff);
	cr_expect_eq(fake_read(&f, FAKE_BARS + 0xffc, 8), ~0ull);
	pci_func_remove(&t[0].f);
	pci_func_remove(&t[1].f);
	fake_env_destroy(&f);
}

Test(pci, ports)
{
	struct func t;
	struct fake_env f;

	fake_env_init(&f, FAKE_PCI);
	add(&f, &t, 7, 0);
	cr_expect_eq(bus_read(&f.pio, 0xcf8, 4), 0);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0xffffffff, "not enabled");
	bus_write(&f.pio, 0xcf8, 4, 0x80000000 | 7 << 11 | 3);
	cr_expect_eq(bus_read(&f.pio, 0xcf8, 4), 0x80000000 | 7 << 11, "dwords only");
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0x56781234);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 2), 0x1234);
	cr_expect_eq(bus_read(&f.pio, 0xcfe, 2), 0x5678);
	cr_expect_eq(bus_read(&f.pio, 0xcfd, 1), 0x12);
	cr_expect_eq(bus_read(&f.pio, 0xcff, 1), 0x56);
	cr_expect_eq(bus_read(&f.pio, 0xcfd, 2), 0x7812, "unaligned");
	cr_expect_eq(bus_read(&f.pio, 0xcfa, 4), 0xffffffff, "across both");
	/* Narrow accesses to the address port are not the address. */
	bus_write(&f.pio, 0xcf8, 2, 0);
	bus_write(&f.pio, 0xcfb, 1, 0);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0x56781234);
	cr_expect_eq(bus_read(&f.pio, 0xcf8, 1), 0xff);
	/* Byte writes of a dword. */
	bus_write(&f.pio, 0xcf8, 4, 0x80000000 | 7 << 11 | PCI_BAR0);
	bus_write(&f.pio, 0xcff, 1, 0xc0);
	bus_write(&f.pio, 0xcfd, 1, 0x70);
	bus_write(&f.pio, 0xcfe, 1, 0x05);
	cr_expect_eq(bar(&f, 7, 0), 0xc0057000);
	bus_write(&f.pio, 0xcfc, 4, 0xc0001fff);
	cr_expect_eq(bar(&f, 7, 0), 0xc0001000);
	/* The second bus and other functions are empty. */
	bus_write(&f.pio, 0xcf8, 4, 0x80010000);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0xffffffff);
	bus_write(&f.pio, 0xcf8, 4, 0x80000100);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 2), 0xffff);
	bus_write(&f.pio, 0xcfc, 4, 1);
	cr_expect_eq(f.events[VM_EVENT_RESET], 0);
	/* Reset control. */
	bus_write(&f.pio, 0xcf9, 1, 0x02);
	cr_expect_eq(bus_read(&f.pio, 0xcf9, 1), 0x02);
	cr_expect_eq(f.events[VM_EVENT_RESET], 0);
	bus_write(&f.pio, 0xcf9, 1, 0x06);
	cr_expect_eq(f.events[VM_EVENT_RESET], 1);
	pci_func_remove(&t.f);
	fake_env_destroy(&f);
}

Test(pci, intx)
{
	struct func t[2];
	struct fake_env f;

	/* Slots 2 and 10 share GSI 18. */
	fake_env_init(&f, FAKE_PCI);
	add(&f, &t[0], 2, 0);
	add(&f, &t[1], 10, 0);
	pci_func_intx(&t[0].f, true);
	pci_func_intx(&t[0].f, true);
	pci_func_intx(&t[1].f, true);
	fake_config_write(&f, 2, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(f.line_calls, 2, "each call is a system call: only when it changes");
	cr_expect_eq(f.line[18], 1u << 2 | 1u << 10);
	cr_expect_eq(f.rises[18], 1);
	cr_expect_eq(fake_config_read(&f, 2, PCI_STATUS, 2), PCI_STATUS_INTX);
	pci_func_intx(&t[1].f, false);
	cr_expect_eq(f.line[18], 1u << 2);
	cr_expect_eq(fake_config_read(&f, 10, PCI_STATUS, 2), 0);
	/* Disabled: the status bit still tells, the line does not. */
	fake_config_write(&f, 2, PCI_COMMAND, 2, PCI_COMMAND_INTX_OFF);
	cr_expect_eq(f.line[18], 0);
	cr_expect_eq(fake_config_read(&f, 2, PCI_STATUS, 2), PCI_STATUS_INTX);
	fake_config_write(&f, 2, PCI_COMMAND + 1, 1, 0);
	cr_expect_eq(f.line[18], 1u << 2);
	pci_func_remove(&t[0].f);
	cr_expect_eq(f.line[18], 0, "removal releases the line");
	pci_func_remove(&t[1].f);
	fake_env_destroy(&f);
}

Test(pci, capabilities)
{
	static const uint8_t body[5] = { 1, 2, 3, 4, 5 }, mask[5] = { 0, 0xff, 0, 0x0f, 0 };
	struct err err = { "" };
	struct fake_env f;
	struct func t;

	fake_env_init(&f, FAKE_PCI);
	memset(&t, 0, sizeof(t));
	pci_func_init(&t.f, &ops, 1, 2, 3);
	cr_expect_eq(pci_func_cap(&t.f, 0x11, body, mask, 5), 0x40);
	cr_expect_eq(pci_func_cap(&t.f, 0x09, body, NULL, 2), 0x48);
	cr_assert_eq(pci_func_add(f.env.pci, &t.f, 1, &err), 0);
	cr_expect_eq(fake_config_read(&f, 1, PCI_STATUS, 2), PCI_STATUS_CAPS);
	cr_expect_eq(fake_config_read(&f, 1, PCI_CAP_POINTER, 1), 0x40);
	cr_expect_eq(fake_config_read(&f, 1, 0x40, 4), 0x02014811);
	cr_expect_eq(fake_config_read(&f, 1, 0x48, 4), 0x02010009);
	for (unsigned i = 0; i < 8; i++)
		fake_config_write(&f, 1, 0x40 + i, 1, 0xff);
	cr_expect_eq(fake_config_read(&f, 1, 0x40, 4), 0xff014811);
	cr_expect_eq(fake_config_read(&f, 1, 0x44, 4), 0x00050f03);
	cr_expect_eq(t.config_writes, 8);
	pci_func_remove(&t.f);
	fake_env_destroy(&f);
}
