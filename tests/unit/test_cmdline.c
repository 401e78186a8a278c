/* cmdline: words of the kernel's command line, which options change the board, and the warnings. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/cmdline.h"
#include "vmm/arch/arch.h"
#include "vmm/arch/cmdline.h"

/* Joins all words as "[name=value]", "[name]". */
static const char *words(const char *text)
{
	static char out[512];
	struct cmdline_word w;
	size_t n = 0;

	out[0] = 0;
	while (cmdline_next(&text, &w))
		n += (size_t)snprintf(out + n, sizeof(out) - n, w.value ? "[%.*s=%.*s]" : "[%.*s]",
				      (int)w.name_len, w.name, (int)w.value_len,
				      w.value ? w.value : "");
	return out;
}

Test(cmdline, words)
{
	static const char *const cases[][2] = {
		{ "", "" },
		{ "  \t\n", "" },
		{ "quiet", "[quiet]" },
		{ " a  b\tc\n", "[a][b][c]" },
		{ "a=b c= =d", "[a=b][c=][=d]" },
		{ "a=b=c", "[a=b=c]" },
		{ "a=\"b c\" d", "[a=b c][d]" },
		{ "\"a b=c d\" e", "[a b=c d][e]" },
		{ "a=b\"c d\"e f", "[a=b\"c d\"e][f]" },
		{ "a=\"b c", "[a=b c]" },
		{ "\"", "[]" },
		{ "a=\"", "[a=]" },
		{ "a=\"\"", "[a=]" },
		{ "a -- noapic", "[a]" },
		{ "-- a", "" },
		{ "--a -b", "[--a][-b]" },
		{ "a \"--\" b", "[a][--][b]" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(words(cases[i][0]), cases[i][1], "%s: %s", cases[i][0],
				 words(cases[i][0]));
}

Test(cmdline, names_and_lists)
{
	const char *text = "no_kvmclock pci=nomsi,noacpi,";
	struct cmdline_word w;

	cr_assert(cmdline_next(&text, &w));
	cr_expect(cmdline_is(&w, "no-kvmclock"));
	cr_expect(cmdline_is(&w, "no_kvmclock"));
	cr_expect_not(cmdline_is(&w, "no-kvmcloc"));
	cr_expect_not(cmdline_is(&w, "no-kvmclocks"));
	cr_expect_not(cmdline_lists(&w, ""));
	cr_assert(cmdline_next(&text, &w));
	cr_expect(cmdline_lists(&w, "nomsi"));
	cr_expect(cmdline_lists(&w, "noacpi"));
	cr_expect(cmdline_lists(&w, ""), "the item after the last comma");
	cr_expect_not(cmdline_lists(&w, "nomsi,noacpi"));
	cr_expect_not(cmdline_lists(&w, "noms"));
	cr_expect_not(cmdline_lists(&w, "acpi"));
}

Test(cmdline, needs_the_legacy_board)
{
	static const struct {
		const char *text;
		bool legacy, hides;
	} cases[] = {
		{ "", false, false },
		{ "console=ttyS0 quiet root=/dev/vda1", false, false },
		{ "noapic", true, false },
		{ "nolapic", true, false },
		{ "disableapic", true, false },
		{ "nosmp", true, false },
		{ "maxcpus=0", true, false },
		{ "maxcpus=1", false, false },
		{ "maxcpus", false, false },
		{ "nolapic_timer", true, false },
		{ "nolapic-timer", true, false },
		{ "noapictimer", true, false },
		{ "no-kvmclock", true, false },
		{ "nopv", true, false },
		{ "nopvspin", false, false },
		{ "acpi=noirq", true, false },
		{ "pci=noacpi", true, false },
		{ "pci=nomsi,noacpi", true, false },
		{ "pnpacpi=off", true, false },
		{ "acpi=off", false, true },
		{ "acpi=off noapic", true, true },
		{ "acpi=force", false, false },
		{ "nox2apic pci=nomsi pci=conf1 lapic noacpi", false, false },
		{ "a=noapic \"b noapic\" xnoapic noapicx", false, false },
		{ "quiet -- noapic acpi=off", false, false },
		/* Default arguments of other monitors' users. */
		{ "ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules", true, false },
		{ "noapic noacpi pci=conf1 reboot=k panic=1 i8042.direct=1", true, false },
		{ "reboot=k panic=-1 panic_print=0 nomodules console=hvc0 quiet no-kvmapf", false,
		  false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(arch_needs_legacy(cases[i].text), cases[i].legacy, "%s",
			     cases[i].text);
		cr_expect_eq(arch_hides_acpi(cases[i].text), cases[i].hides, "%s", cases[i].text);
	}
}

struct lines {
	unsigned n;
	char last[256];
};

static void take(void *opaque, const char *line)
{
	struct lines *l = opaque;

	l->n++;
	snprintf(l->last, sizeof(l->last), "%s", line);
}

Test(cmdline, warnings)
{
	static const struct {
		const char *text;
		bool legacy, pci, mmio;
		unsigned n;
		const char *has; /* in the last line */
	} cases[] = {
		{ "quiet", false, true, false, 0, "" },
		{ "noapic nosmp", true, true, false, 0, "" },
		{ "noapic", false, true, false, 1, "noapic: comes from the kernel image" },
		{ "maxcpus=0 pci=noacpi", false, true, false, 2, "pci=noacpi: " },
		{ "acpi=off", false, true, false, 1, "cannot power off" },
		{ "acpi=off pci=off", false, true, false, 2, "does not find PCI" },
		{ "acpi=off pci=nomsi,conf2", false, true, false, 2, "does not find PCI" },
		{ "pci=off", false, true, false, 0, "" },
		{ "acpi=off pci=off", false, false, true, 2, "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES" },
		{ "acpi=off noapic", true, true, false, 1, "cannot power off" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct board board = { .pci.present = cases[i].pci, .nmmio = cases[i].mmio };
		struct lines l = { 0 };

		board.x86.pic = cases[i].legacy;
		arch_check_cmdline(cases[i].text, &board, NULL, take, &l);
		cr_expect_eq(l.n, cases[i].n, "%s: %u lines, %s", cases[i].text, l.n, l.last);
		cr_expect(strstr(l.last, cases[i].has), "%s: %s", cases[i].text, l.last);
	}
}

/* Every interrupt of the legacy board is one that an 8259 has, and no two kinds share one. */
Test(cmdline, the_legacy_board)
{
	struct board plain, b;
	uint32_t taken = 1u << 0 | 1u << 2 | 1u << 8; /* timer, cascade, clock */

	arch_board_init(&plain, false);
	arch_board_init(&b, true);
	cr_assert_not(plain.x86.pic);
	cr_assert_eq(plain.pm1.control.addr, 0);
	cr_assert(b.x86.pic);
	cr_assert_neq(b.pm1.control.addr, 0);
	cr_assert_neq(b.pm1.event.addr, b.pm1.control.addr);
	for (unsigned i = 0; i < BOARD_SERIAL_PORTS; i++) {
		cr_assert_eq(b.serial[i].regs.addr, plain.serial[i].regs.addr);
		taken |= 1u << b.serial[i].gsi;
	}
	taken |= 1u << b.ged_gsi | 1u << b.pm1.gsi;
	cr_assert_eq(__builtin_popcount(taken), 7);
	for (unsigned i = 0; i < b.nmmio; i++) {
		cr_assert_lt(b.mmio[i].gsi, 16);
		cr_assert_not(taken >> b.mmio[i].gsi & 1);
		taken |= 1u << b.mmio[i].gsi;
	}
	cr_assert_geq(b.nmmio, 4);
	for (unsigned i = 0; i < BOARD_MAX_SLOTS; i++) {
		cr_assert_lt(b.pci.gsi[i], 16);
		cr_assert_not(taken >> b.pci.gsi[i] & 1);
	}
}

/* Words for the kernel come before "--", whoever adds them. */
Test(cmdline, join)
{
	static const char *const cases[][3] = {
		{ "", "", "" },
		{ "a", "", "a" },
		{ "", "b", "b" },
		{ "a b", "c d", "a b c d" },
		{ "a -- x", "b", "a b -- x" },
		{ "a", "b -- y", "a b -- y" },
		{ "a -- x", "b -- y z", "a b -- x y z" },
		{ "-- x", "b", "b -- x" },
		{ "a --", "b", "a b --" },
		{ "--", "", "--" },
		{ "a  --\tx", "b", "a b -- x" },
		{ "a \"x -- y\" c", "b", "a \"x -- y\" c b" },
		{ "a --x x-- ---", "b", "a --x x-- --- b" },
		{ "a -- x -- y", "b", "a b -- x -- y" },
		{ "a=\"unfinished -- x", "b", "a=\"unfinished -- x b" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = boot_cmdline_join(cases[i][0], cases[i][1]);

		cr_expect_str_eq(text, cases[i][2], "%s + %s", cases[i][0], cases[i][1]);
		free(text);
	}
}
