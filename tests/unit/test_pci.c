/* pci: configuration space, BARs, INTx and the ports. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/pci/pci.h"
#include "devices/pci/window.h"
#include "vmm/core/bytes.h"
#include "tests/unit/fake_env.h"
#include "tests/unit/plug_threads.h"

struct func {
	struct pci_func f;
	uint64_t off, val; /* offset and value of the last access */
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

static uint32_t config_read(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	((struct func *)f)->config_reads++;
	return pci_func_get(f, off, size_bytes);
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
	pci_func_bar(&t->f, 0, 0x1000, 0);
	pci_func_bar(&t->f, 2, 0x4000, 0);
	cr_assert_eq(pci_func_add(f->env.pci, &t->f, slot, 0, &err), rc, "%s", err.text);
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
	/* The window is 1 MiB: a BAR of that size fits, because all others are freed. */
	memset(&t[0], 0, sizeof(t[0]));
	pci_func_init(&t[0].f, &ops, 1, 2, 3);
	pci_func_bar(&t[0].f, 0, 1 << 20, 0);
	cr_expect_eq(pci_func_add(f.env.pci, &t[0].f, 0, 0, &err), 0);
	cr_expect_eq(t[0].f.slot, 1);
	add(&f, &t[1], 0, -ENOSPC);
	pci_func_remove(&t[0].f);
	add(&f, &t[1], 0, 0);
	cr_expect_eq(t[1].f.slot, 1);
	pci_func_remove(&t[1].f);
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
	/* No extended space; then beyond a function: other functions, empty slots, other buses. */
	cr_expect_eq(fake_config_read(&f, 5, 0x100, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0xfe, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0xffe, 4), 0);
	cr_expect_eq(fake_config_read(&f, 5, 0x1000, 4), 0xffffffff);
	cr_expect_eq(fake_config_read(&f, 6, 0, 2), 0xffff);
	/* Writes do not change read-only bytes. */
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
	struct pci_place place;
	uint64_t at;

	fake_env_init(&f, FAKE_PCI);
	add(&f, &t[0], 0, 0);
	add(&f, &t[1], 0, 0);
	cr_expect_eq(bar(&f, 1, 0), FAKE_BARS);
	cr_expect_eq(bar(&f, 1, 2), FAKE_BARS + 0x4000, "aligned to its size");
	cr_expect_eq(bar(&f, 2, 0), FAKE_BARS + 0x1000, "the gap is filled");
	cr_expect_eq(bar(&f, 2, 2), FAKE_BARS + 0x8000);
	cr_expect_eq(bar(&f, 1, 1), 0);

	/* Sizing a BAR. */
	for (unsigned b = 0; b < 6; b++) {
		uint64_t was = bar(&f, 1, b);

		fake_config_write(&f, 1, PCI_BAR0 + 4 * b, 4, 0xffffffff);
		cr_expect_eq(bar(&f, 1, b), b == 0 ? 0xfffff000 : b == 2 ? 0xffffc000 : 0);
		fake_config_write(&f, 1, PCI_BAR0 + 4 * b, 4, (uint32_t)was);
		cr_expect_eq(bar(&f, 1, b), was);
	}
	fake_config_write(&f, 1, 0x30, 4, 0xffffffff);
	cr_expect_eq(fake_config_read(&f, 1, 0x30, 4), 0, "no ROM");

	/* Decoding off, on; a BAR moved, a BAR outside the window. */
	at = FAKE_BARS + 0x4010;
	cr_expect_eq(fake_read(&f, at, 4), 0xffffffff);
	cr_expect(!pci_func_bar_base(&t[0].f, 2, &at));
	cr_expect_eq(pci_func_place(&t[0].f, 2).bar_base, FAKE_BARS + 0x4000, "not decoded");
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
	place = pci_func_place(&t[0].f, 2);
	cr_expect(place.slot == 1 && place.function == 0);
	cr_expect(place.bar_base == FAKE_BARS + 0xa4000 && place.bar_bytes == 0x4000);
	cr_expect_eq(pci_func_place(&t[0].f, 1).bar_bytes, 0, "no such BAR");
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
	/* A narrow access to the address port does not set the address. */
	bus_write(&f.pio, 0xcf8, 2, 0);
	bus_write(&f.pio, 0xcfb, 1, 0);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0x56781234);
	cr_expect_eq(bus_read(&f.pio, 0xcf8, 1), 0xff);
	/* Write a dword byte by byte. */
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
	/* With INTx disabled, the status bit still shows the interrupt, the line does not. */
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
	cr_assert_eq(pci_func_add(f.env.pci, &t.f, 1, 0, &err), 0);
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

/* --- the allocator ---------------------------------------------------------------- */

Test(pci, window_takes_first_fit_and_takes_back)
{
	/* '+': takes len as piece n, expected at this offset (-1: refused); '-': gives it back. */
	static const struct {
		char op;
		unsigned n;
		uint64_t len;
		int64_t at;
	} table[] = {
		{ '+', 0, 0x1000, 0 },	    { '+', 1, 0x4000, 0x4000 }, { '+', 2, 0x1000, 0x1000 },
		{ '+', 3, 0x4000, 0x8000 }, { '+', 4, 0x10, 0x2000 },	{ '+', 5, 0x20, 0x2020 },
		{ '+', 6, 0x10, 0x2010 },   { '+', 7, 0x10000, -1 },	{ '-', 1, 0, 0 },
		{ '+', 7, 0x8000, -1 },	    { '+', 7, 0x2000, 0x4000 }, { '+', 8, 0x4000, 0xc000 },
		{ '+', 1, 0x2000, 0x6000 }, { '+', 9, 0x1000, 0x3000 }, { '+', 10, 0x1000, -1 },
		{ '+', 10, 0x800, 0x2800 }, { '-', 0, 0, 0 },		{ '-', 0, 0, 0 },
		{ '-', 3, 0, 0 },	    { '-', 8, 0, 0 },		{ '+', 0, 0x8000, 0x8000 },
		{ '+', 3, 0x1000, 0 },	    { '-', 1, 0, 0 },		{ '-', 2, 0, 0 },
		{ '-', 3, 0, 0 },	    { '-', 4, 0, 0 },		{ '-', 5, 0, 0 },
		{ '-', 6, 0, 0 },	    { '-', 7, 0, 0 },		{ '-', 9, 0, 0 },
		{ '-', 10, 0, 0 },	    { '+', 1, 0x10000, -1 },	{ '-', 0, 0, 0 },
		{ '+', 1, 0x10000, 0 },
	};
	struct pci_window w = { 0xfe0000000ull, 0x10000 }, none = { 0 };
	struct pci_window_piece piece[11] = { 0 };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct pci_window_piece *p = &piece[table[i].n];

		if (table[i].op == '-') {
			pci_window_give_back(&none, p);
			pci_window_give_back(&w, p);
			cr_expect(!p->len_bytes && !p->base, "row %zu", i);
			continue;
		}
		cr_expect_eq(pci_window_take(&w, p, table[i].len), table[i].at < 0 ? -ENOSPC : 0,
			     "row %zu", i);
		cr_expect_eq(p->base, table[i].at < 0 ? 0 : w.base + (uint64_t)table[i].at,
			     "row %zu", i);
	}
	cr_expect_eq(pci_window_take(&none, &piece[2], 16), -ENOSPC);
	/* No multiple of the size is inside the window, or only past the last address. */
	w = (struct pci_window){ 0xfffffffffff01000ull, 0xf0000 };
	cr_expect_eq(pci_window_take(&w, &piece[2], 1ull << 52), -ENOSPC);
	cr_expect_eq(pci_window_take(&w, &piece[2], 1ull << 63), -ENOSPC);
	cr_expect_eq(pci_window_take(&w, &piece[2], 0x10000), 0);
	cr_expect_eq(piece[2].base, 0xfffffffffff10000ull);
}

/* --- 64-bit BARs ------------------------------------------------------------------ */

#define HIGH 0x800000000ull
#define HIGH_BYTES (16ull << 30)

/* Makes a host with a window above 4 GiB, or without. */
static struct pci_host *create_host(struct fake_env *f, bool high)
{
	struct pci_host_config cfg = {
		FAKE_ECAM, 1 << 20, FAKE_BARS, FAKE_BARS_BYTES, { 0 }, HIGH, high ? HIGH_BYTES : 0
	};
	struct pci_host *host;
	struct err err;

	for (unsigned s = 0; s < PCI_SLOTS; s++)
		cfg.gsi[s] = (uint8_t)(16 + s % 8);
	fake_env_init(f, FAKE_MMIO);
	cr_assert_eq(pci_host_create(&f->env, &cfg, &host, &err), 0, "%s", err.text);
	return host;
}

static void build(struct func *t)
{
	memset(t, 0, sizeof(*t));
	pci_func_init(&t->f, &ops, 0x1234, 0x5678, 0x0c0330);
}

static uint64_t bar64(struct fake_env *f, unsigned slot, unsigned n)
{
	return bar(f, slot, n) | bar(f, slot, n + 1) << 32;
}

static void set_bar64(struct fake_env *f, unsigned slot, unsigned n, uint64_t at)
{
	fake_config_write(f, slot, PCI_BAR0 + 4 * n, 4, (uint32_t)at);
	fake_config_write(f, slot, PCI_BAR0 + 4 * n + 4, 4, (uint32_t)(at >> 32));
}

/* A guest that does not know the window moves a BAR below it: there it works, down to decode_base. */
Test(pci, bars_below_the_window)
{
	static const uint64_t below[] = { 0, 0x100000, FAKE_BARS + 0x4000 };

	for (unsigned i = 0; i < 3; i++) {
		bool works = below[i] == 0x100000;
		struct pci_host_config cfg = { .ecam_base = FAKE_ECAM,
					       .ecam_bytes = 1 << 20,
					       .mmio_base = FAKE_BARS,
					       .mmio_bytes = FAKE_BARS_BYTES };
		struct pci_host *host;
		struct fake_env f;
		struct func t;
		struct err err = { "" };
		uint64_t at;

		/* Above the window it is as if there were none. */
		cfg.decode_base = below[i] > FAKE_BARS ? below[i] :
				  below[i]	       ? FAKE_BARS - below[i] :
							 0;
		fake_env_init(&f, FAKE_MMIO);
		cr_assert_eq(pci_host_create(&f.env, &cfg, &host, &err), 0, "%s", err.text);
		build(&t);
		pci_func_bar(&t.f, 0, 0x1000, 0);
		cr_assert_eq(pci_func_add(host, &t.f, 1, 0, &err), 0, "%s", err.text);
		cr_expect_eq(bar(&f, 1, 0), FAKE_BARS, "it is placed in the window");
		fake_config_write(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		cr_expect_eq(fake_read(&f, FAKE_BARS, 1), 0x11);
		fake_config_write(&f, 1, PCI_BAR0, 4, FAKE_BARS - 0x1000);
		cr_expect_eq(pci_func_bar_base(&t.f, 0, &at), works);
		cr_expect_eq(fake_read(&f, FAKE_BARS - 0xff0, 1), works ? 0x11 : 0xff);
		fake_config_write(&f, 1, PCI_BAR0, 4, FAKE_BARS - 0x100000);
		cr_expect_eq(fake_read(&f, FAKE_BARS - 0x100000, 1), works ? 0x11 : 0xff);
		fake_config_write(&f, 1, PCI_BAR0, 4, FAKE_BARS - 0x101000);
		cr_expect_eq(fake_read(&f, FAKE_BARS - 0x101000, 1), 0xff);
		fake_config_write(&f, 1, PCI_BAR0, 4, FAKE_BARS);
		cr_expect_eq(fake_read(&f, FAKE_BARS, 1), 0x11);
		pci_func_remove(&t.f);
		pci_host_destroy(host);
		fake_env_destroy(&f);
	}
}

Test(pci, bars_of_64_bits)
{
	static const struct {
		unsigned n;
		uint64_t sizing; /* the value read after writing ones */
	} bars[] = {
		{ 0, 0xfffffffe0000000cull }, /* 8 GiB, prefetchable */
		{ 3, 0xfffffffffffe0004ull }, /* 128 KiB */
	};
	struct func t;
	struct fake_env f;
	struct pci_host *host = create_host(&f, true);
	uint64_t at;

	build(&t);
	pci_func_bar(&t.f, 0, 8ull << 30, PCI_BAR_64 | PCI_BAR_PREFETCH);
	pci_func_bar(&t.f, 2, 0x1000, PCI_BAR_PREFETCH);
	pci_func_bar(&t.f, 3, 0x20000, PCI_BAR_64);
	pci_func_bar(&t.f, 5, 0x1000, 0);
	cr_assert_eq(pci_func_add(host, &t.f, 1, 0, NULL), 0);
	cr_expect_eq(bar64(&f, 1, 0), HIGH | 0xc);
	cr_expect_eq(bar(&f, 1, 2), FAKE_BARS | 8);
	cr_expect_eq(bar64(&f, 1, 3), (HIGH + (8ull << 30)) | 4);
	cr_expect_eq(bar(&f, 1, 5), FAKE_BARS + 0x1000);
	for (size_t i = 0; i < 2; i++) {
		uint64_t was = bar64(&f, 1, bars[i].n);

		set_bar64(&f, 1, bars[i].n, ~0ull);
		cr_expect_eq(bar64(&f, 1, bars[i].n), bars[i].sizing);
		set_bar64(&f, 1, bars[i].n, was);
		cr_expect_eq(bar64(&f, 1, bars[i].n), was);
	}
	fake_config_write(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(fake_read(&f, HIGH + (6ull << 30), 8), 0x8877665544332211ull);
	cr_expect(t.bar == 0 && t.off == 6ull << 30);
	fake_write(&f, HIGH + (8ull << 30) + 0x1fffc, 4, 5);
	cr_expect(t.writes == 1 && t.bar == 3 && t.off == 0x1fffc);
	/* Write one half at a time: in between, the BAR is outside both windows. */
	fake_config_write(&f, 1, PCI_BAR0 + 16, 4, 0);
	cr_expect(!pci_func_bar_base(&t.f, 3, &at));
	fake_config_write(&f, 1, PCI_BAR0 + 12, 4, FAKE_BARS + 0x80000);
	cr_expect(pci_func_bar_base(&t.f, 3, &at));
	cr_expect_eq(at, FAKE_BARS + 0x80000, "into the lower window");
	cr_expect_eq(fake_read(&f, at + 4, 1), 0x11);
	cr_expect(t.bar == 3 && t.off == 4);
	cr_expect_eq(fake_read(&f, HIGH + (8ull << 30), 1), 0xff);
	/* Remove the function with the BAR moved: only the allocated range is freed. */
	pci_func_remove(&t.f);
	cr_expect_eq(fake_read(&f, at + 4, 1), 0xff);
	build(&t);
	pci_func_bar(&t.f, 0, 16ull << 30, PCI_BAR_64);
	pci_func_bar(&t.f, 2, 1 << 20, 0);
	cr_assert_eq(pci_func_add(host, &t.f, 1, 0, NULL), 0);
	cr_expect_eq(bar64(&f, 1, 0), HIGH | 4);
	cr_expect_eq(bar(&f, 1, 2), FAKE_BARS);
	pci_func_remove(&t.f);
	pci_host_destroy(host);
	fake_env_destroy(&f);
}

Test(pci, bars_of_64_bits_without_room_above)
{
	struct func t[2];
	struct fake_env f;
	struct pci_host *host = create_host(&f, false);
	struct err err = { "" };

	build(&t[0]);
	pci_func_bar(&t[0].f, 4, 0x4000, PCI_BAR_64);
	cr_assert_eq(pci_func_add(host, &t[0].f, 0, 0, NULL), 0);
	cr_expect_eq(bar64(&f, 1, 4), FAKE_BARS | 4);
	/* All BARs or none: if one has no room, the first one is freed. */
	build(&t[1]);
	pci_func_bar(&t[1].f, 0, 0x80000, PCI_BAR_64);
	pci_func_bar(&t[1].f, 2, 1 << 20, PCI_BAR_64);
	cr_expect_eq(pci_func_add(host, &t[1].f, 0, 0, &err), -ENOSPC);
	cr_expect_str_not_empty(err.text);
	cr_expect_eq(fake_config_read(&f, 2, 0, 4), 0xffffffff);
	/* The function is as it was. */
	cr_expect_eq(get_le32(t[1].f.state.config + PCI_BAR0), PCI_BAR_64);
	cr_expect_eq(get_le32(t[1].f.state.config + PCI_BAR0 + 4), 0);
	build(&t[1]);
	pci_func_bar(&t[1].f, 0, 0x80000, 0);
	cr_expect_eq(pci_func_add(host, &t[1].f, 0, 0, NULL), 0);
	cr_expect_eq(bar(&f, 2, 0), FAKE_BARS + 0x80000);
	pci_func_remove(&t[0].f);
	pci_func_remove(&t[1].f);
	pci_host_destroy(host);
	fake_env_destroy(&f);
}

/* The guest moves one BAR onto another: the first one answers until it is moved away. */
Test(pci, bars_on_top_of_each_other)
{
	const uint64_t at = FAKE_BARS + 0x40000;
	struct func t[3];
	struct fake_env f;

	fake_env_init(&f, FAKE_PCI);
	for (unsigned i = 0; i < 3; i++) {
		add(&f, &t[i], i + 1, 0);
		fake_config_write(&f, i + 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	}
	fake_config_write(&f, 3, PCI_BAR0 + 8, 4, (uint32_t)at);
	fake_config_write(&f, 1, PCI_BAR0 + 8, 4, (uint32_t)at);
	fake_config_write(&f, 2, PCI_BAR0 + 0, 4, (uint32_t)at + 0x3000);
	fake_read(&f, at + 0x3004, 4);
	cr_expect(t[2].reads == 1 && t[2].off == 0x3004 && t[0].reads + t[1].reads == 0);
	fake_config_write(&f, 3, PCI_BAR0 + 8, 4, (uint32_t)at + 0x4000);
	fake_read(&f, at + 0x3004, 4);
	cr_expect(t[0].reads == 1 && t[1].reads == 0);
	/* After decoding is off, and after a removal, the next BAR answers. */
	fake_config_write(&f, 1, PCI_COMMAND, 2, 0);
	fake_read(&f, at + 0x3004, 4);
	cr_expect(t[1].reads == 1 && t[1].off == 4 && t[1].bar == 0);
	fake_config_write(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pci_func_remove(&t[1].f);
	fake_read(&f, at + 0x3004, 4);
	cr_expect(t[0].reads == 2 && t[0].off == 0x3004);
	pci_func_remove(&t[0].f);
	cr_expect_eq(fake_read(&f, at + 0x3004, 4), 0xffffffff);
	pci_func_remove(&t[2].f);
	fake_env_destroy(&f);
}

/* --- 4 KiB of configuration space --------------------------------------------------- */

Test(pci, extended_capabilities)
{
	static const uint8_t body[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	static const uint8_t mask[9] = { 0, 0xff, 0, 0, 0x0f, 0, 0, 0, 0 };
	struct fake_env f;
	struct func t;

	fake_env_init(&f, FAKE_PCI);
	build(&t);
	cr_expect_eq(pci_func_ext_cap(&t.f, 0x0003, 1, body, NULL, 8), 0x100);
	cr_expect_eq(pci_func_ext_cap(&t.f, 0x000b, 2, body, mask, 9), 0x10c);
	cr_expect_eq(pci_func_ext_cap(&t.f, 0x0001, 15, body, NULL, 4), 0x11c);
	cr_assert_eq(pci_func_add(f.env.pci, &t.f, 4, 0, NULL), 0);
	cr_expect_eq(fake_config_read(&f, 4, 0x100, 4), 0x10c10003);
	cr_expect_eq(fake_config_read(&f, 4, 0x104, 4), 0x04030201);
	cr_expect_eq(fake_config_read(&f, 4, 0x10c, 4), 0x11c2000b);
	cr_expect_eq(fake_config_read(&f, 4, 0x11c, 4), 0x000f0001);
	cr_expect_eq(fake_config_read(&f, 4, 0x10a, 4), 0x000b0807, "unaligned");
	cr_expect_eq(fake_read(&f, FAKE_ECAM + (4 << 15) + 0x100, 8), 0x0403020110c10003ull);
	fake_write(&f, FAKE_ECAM + (4 << 15) + 0x110, 8, ~0ull);
	cr_expect_eq(fake_read(&f, FAKE_ECAM + (4 << 15) + 0x110, 8), 0x0807060f0403ff01ull);
	cr_expect_eq(t.config_writes, 2);
	/* The last bytes of the space; an access across the end reaches no function. */
	cr_expect_eq(fake_config_read(&f, 4, 0xffc, 4), 0);
	cr_expect_eq(fake_config_read(&f, 4, 0xffe, 4), 0);
	fake_config_write(&f, 4, 0xffe, 4, ~0u);
	cr_expect_eq(t.config_writes, 2);
	/* The ports reach only the first 256 bytes. */
	bus_write(&f.pio, 0xcf8, 4, 0x80000000 | 4 << 11 | 0xfc);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0);
	bus_write(&f.pio, 0xcf8, 4, 0x81000000 | 4 << 11);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0x56781234, "bits 24-27 are reserved");
	pci_func_remove(&t.f);
	fake_env_destroy(&f);
}

static uint32_t answers(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	return off << 16 | size_bytes << 8 | (pci_func_get(f, off, size_bytes) & 0xff);
}

/* A function that answers configuration reads itself, as a passed-through device does. */
Test(pci, config_read_may_answer_itself)
{
	static const struct pci_func_ops answering = { bar_read, bar_write, answers, NULL };
	struct fake_env f;
	struct func t;

	fake_env_init(&f, FAKE_PCI);
	build(&t);
	t.f.ops = &answering;
	cr_assert_eq(pci_func_add(f.env.pci, &t.f, 1, 0, NULL), 0);
	cr_expect_eq(fake_config_read(&f, 1, 2, 2), 0x0278);
	cr_expect_eq(fake_config_read(&f, 1, 0x40, 4), 0x400400);
	cr_expect_eq(fake_read(&f, FAKE_ECAM + (1 << 15), 8), 0x0004040000000434ull);
	cr_expect_eq(fake_config_read(&f, 1, 0x100, 4), 0, "it has no extended space");
	pci_func_remove(&t.f);
	fake_env_destroy(&f);
}

/* --- functions of a slot, and what removal frees -------------------------------------- */

static uint32_t function_read(struct fake_env *f, unsigned slot, unsigned function, unsigned off,
			      unsigned size_bytes)
{
	return (uint32_t)fake_read(f, FAKE_ECAM + (slot << 15) + (function << 12) + off,
				   size_bytes);
}

Test(pci, several_functions_of_a_slot)
{
	struct func t[8];
	struct fake_env f;
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	for (unsigned n = 0; n < 8; n++) {
		build(&t[n]);
		t[n].f.state.config[PCI_DEVICE_ID] = (uint8_t)n;
		pci_func_bar(&t[n].f, 0, 0x1000, 0);
		cr_assert_eq(pci_func_add(f.env.pci, &t[n].f, 6, n, NULL), 0);
		cr_expect_eq(t[n].f.function, n);
		cr_expect_eq(function_read(&f, 6, 0, PCI_HEADER_TYPE, 1), n ? 0x80 : 0);
	}
	cr_expect_eq(pci_host_slots(f.env.pci), 1 | 1 << 6);
	for (unsigned n = 0; n < 8; n++)
		cr_expect_eq(function_read(&f, 6, n, PCI_DEVICE_ID, 1), n);
	bus_write(&f.pio, 0xcf8, 4, 0x80000000 | 6 << 11 | 5 << 8);
	cr_expect_eq(bus_read(&f.pio, 0xcfc, 4), 0x56051234);
	fake_write(&f, FAKE_ECAM + (6 << 15) + (5 << 12) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_read(&f, FAKE_BARS + 0x5008, 4);
	cr_expect(t[5].reads == 1 && t[5].off == 8);

	/* The functions share a line: it is high while any of them asserts it. */
	pci_func_intx(&t[2].f, true);
	pci_func_intx(&t[7].f, true);
	cr_expect_eq(f.line_calls, 1);
	pci_func_intx(&t[2].f, false);
	cr_expect_eq(f.line[22], 1u << 6);
	cr_expect_eq(function_read(&f, 6, 7, PCI_STATUS, 1), PCI_STATUS_INTX);
	cr_expect_eq(function_read(&f, 6, 2, PCI_STATUS, 1), 0);
	pci_func_remove(&t[7].f);
	cr_expect_eq(f.line[22], 0);
	cr_expect_eq(f.line_calls, 2);

	cr_expect_eq(function_read(&f, 6, 7, 0, 4), 0xffffffff);
	build(&t[7]);
	cr_expect_eq(pci_func_add(f.env.pci, &t[7].f, 6, 6, &err), -EEXIST);
	cr_expect_str_not_empty(err.text);
	/* A slot is in use until its last function is removed, function 0 or not. */
	pci_func_remove(&t[0].f);
	for (unsigned n = 1; n < 6; n++)
		pci_func_remove(&t[n].f);
	cr_expect_eq(pci_host_slots(f.env.pci), 1 | 1 << 6);
	build(&t[0]);
	cr_assert_eq(pci_func_add(f.env.pci, &t[0].f, 6, 0, NULL), 0);
	cr_expect_eq(function_read(&f, 6, 0, PCI_HEADER_TYPE, 1), 0x80);
	pci_func_remove(&t[6].f);
	cr_expect_eq(function_read(&f, 6, 0, PCI_HEADER_TYPE, 1), 0);
	pci_func_remove(&t[0].f);
	cr_expect_eq(pci_host_slots(f.env.pci), 1);
	fake_env_destroy(&f);
}

Test(pci, removal_frees_slot_bars_and_line)
{
	struct func t[2];
	struct fake_env f;

	fake_env_init(&f, FAKE_PCI);
	for (unsigned round = 0; round < 200; round++) {
		add(&f, &t[0], 9, 0);
		add(&f, &t[1], 0, 0);
		cr_assert_eq(bar(&f, 9, 2), FAKE_BARS + 0x4000);
		cr_assert_eq(t[1].f.slot, 1);
		fake_config_write(&f, 9, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		pci_func_intx(&t[0].f, true);
		cr_assert_eq(fake_read(&f, FAKE_BARS + 0x4000, 1), 0x11);
		pci_func_remove(&t[0].f);
		cr_assert_eq(fake_read(&f, FAKE_BARS + 0x4000, 1), 0xff);
		cr_assert_eq(fake_config_read(&f, 9, 0, 4), 0xffffffff);
		cr_assert_eq(f.line[17], 0);
		pci_func_remove(&t[1].f);
	}
	cr_expect_eq(pci_host_slots(f.env.pci), 1);
	fake_env_destroy(&f);
}

Test(pci, changes_while_threads_access_it)
{
	struct plug_result r = plug_threads_pci(1000);

	cr_expect_eq(r.dead_calls, 0);
	cr_expect_eq(r.wrong_answers, 0);
	cr_expect(r.hits && r.removals >= 2000);
}
