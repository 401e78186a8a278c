/*
 * acpi: walks the tables as a guest does, and checks them with iasl: every
 * table must disassemble, compile again without a message, and give the same bytes.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/boot.h"
#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define AT LAYOUT_ACPI
#define ROOM LAYOUT_ACPI_BYTES

static uint8_t ram[2 << 20];

static struct mem guest_mem(void)
{
	struct mem mem = { 0 };

	memset(ram, 0, sizeof(ram));
	cr_assert_eq(mem_add(&mem, gpa(0), sizeof(ram), ram), 0);
	return mem;
}

/* The APIC ids are not the processors' numbers: 1, 4, 7 … */
static struct board plain_board(unsigned ncpus)
{
	struct board b = {
		.ncpus = ncpus,
		.x86.lapic = 0xfee00000,
		.x86.ioapic = 0xfec00000,
		.serial = { { true, { true, 0x3f8 }, 4 }, { true, { true, 0x2f8 }, 3 } },
		.x86.rtc_port = 0x70,
		.x86.i8042 = true,
		.sleep_control = { true, 0x600 },
		.sleep_status = { true, 0x601 },
		.reset = { true, 0x602 },
		.reset_value = 0xf,
		.ged = { true, 0x604 },
		.ged_gsi = 5,
		.pvpanic = { true, 0x505 },
		.vmgenid = 0xff000,
	};

	for (unsigned i = 0; i < ncpus; i++)
		b.x86.apic_id[i] = (uint8_t)(1 + 3 * i);
	return b;
}

static void add_pci(struct board *b)
{
	b->pci.present = true;
	b->pci.ecam = (struct board_window){ 0xe0000000, 1 << 20 };
	b->pci.config_port = 0xcf8;
	b->pci.slots = UINT32_MAX;
	b->pci.mmio32 = (struct board_window){ 0xc0000000, 0x20000000 };
	for (unsigned i = 0; i < BOARD_MAX_SLOTS; i++)
		b->pci.gsi[i] = (uint8_t)(16 + i % 8);
}

static void add_mmio(struct board *b, unsigned n)
{
	b->nmmio = n;
	for (unsigned i = 0; i < n; i++) {
		b->mmio[i].window = (struct board_window){ 0xe8000000 + i * 0x1000ull, 0x1000 };
		b->mmio[i].gsi = (uint8_t)(6 + i);
	}
}

static uint8_t sum(const uint8_t *b, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *b++);
	return s;
}

/* The RSDT names the same tables as the XSDT. */
static void check_rsdt(const uint8_t *rsdt, const uint8_t *xsdt)
{
	cr_assert_eq(memcmp(rsdt, "RSDT", 4), 0);
	cr_assert_eq(sum(rsdt, get_le32(rsdt + 4)), 0);
	cr_assert_eq(2 * (get_le32(rsdt + 4) - 36), get_le32(xsdt + 4) - 36);
	for (unsigned i = 0; i < (get_le32(rsdt + 4) - 36) / 4; i++)
		cr_assert_eq(get_le32(rsdt + 36 + 4 * i), get_le64(xsdt + 36 + 8 * i));
}

/* Builds all tables and checks their common parts. Returns the table of this signature, or NULL. */
static uint8_t *build(const struct board *b, const char *signature)
{
	struct mem mem = guest_mem();
	struct err err;
	uint8_t *rsdp = ram + AT, *xsdt, *found = NULL;
	int64_t used = acpi_build(&mem, b, gpa(AT), ROOM, &err);

	cr_assert_gt(used, 0, "%s", err.text);
	cr_assert_leq(used, (int64_t)ROOM);
	cr_assert_eq(memcmp(rsdp, "RSD PTR ", 8), 0);
	cr_assert_eq(sum(rsdp, 20), 0);
	cr_assert_eq(sum(rsdp, 36), 0);
	cr_assert_eq(get_le32(rsdp + 20), 36);
	xsdt = ram + get_le64(rsdp + 24);
	cr_assert_eq(memcmp(xsdt, "XSDT", 4), 0);
	check_rsdt(ram + get_le32(rsdp + 16), xsdt);
	for (unsigned i = 0; i <= (get_le32(xsdt + 4) - 36) / 8; i++) {
		uint8_t *t = i ? ram + get_le64(xsdt + 36 + 8 * (i - 1)) : xsdt;

		cr_assert_geq(t, ram + AT);
		cr_assert_eq((t - ram) % 16, 0);
		cr_assert_leq(t + get_le32(t + 4), ram + AT + used);
		cr_assert_eq(sum(t, get_le32(t + 4)), 0, "checksum of %.4s", (char *)t);
		if (!memcmp(t, signature, 4))
			found = t;
		if (!memcmp(t, "FACP", 4)) {
			uint8_t *dsdt = ram + get_le64(t + 140);

			cr_assert_eq(get_le32(t + 40), get_le64(t + 140));
			cr_assert_eq(sum(dsdt, get_le32(dsdt + 4)), 0);
			if (!strcmp(signature, "DSDT"))
				found = dsdt;
		}
	}
	return found;
}

Test(acpi, fadt_fields)
{
	struct board b = plain_board(1);
	uint8_t *t = build(&b, "FACP");

	cr_assert_eq(get_le32(t + 4), 276);
	cr_assert_eq(t[8], 6);
	cr_assert_eq(get_le32(t + 36), 0, "no FACS");
	cr_assert_eq(get_le16(t + 109), 0x05, "legacy devices, no VGA, an RTC, no keyboard");
	cr_assert_eq(get_le32(t + 112) >> 20 & 1, 1, "hardware-reduced");
	cr_assert_eq(get_le32(t + 112) >> 10 & 1, 1, "reset register");
	cr_assert_eq(t[116], 1);
	cr_assert_eq(get_le64(t + 120), 0x602);
	cr_assert_eq(t[128], 0xf);
	cr_assert_eq(get_le64(t + 248), 0x600);
	cr_assert_eq(get_le64(t + 260), 0x601);
	for (unsigned i = 148; i < 244; i++)
		cr_assert_eq(t[i], 0);

	b.x86.rtc_port = 0;
	t = build(&b, "FACP");
	cr_assert_eq(get_le16(t + 109), 0x25);
}

static void make_legacy(struct board *b)
{
	b->x86.pic = true;
	b->pm1.event = (struct board_reg){ true, 0x608 };
	b->pm1.control = (struct board_reg){ true, 0x60c };
	b->pm1.gsi = 9;
}

Test(acpi, fixed_hardware)
{
	struct board b = plain_board(3);
	uint8_t *t, *facs;

	make_legacy(&b);
	t = build(&b, "FACP");
	cr_assert_eq(get_le32(t + 4), 276);
	cr_assert_eq(get_le32(t + 112) >> 20 & 1, 0, "not hardware-reduced");
	cr_assert_eq(get_le32(t + 112) >> 4 & 3, 3, "no fixed buttons");
	cr_assert_eq(get_le16(t + 46), 9);
	cr_assert_eq(get_le32(t + 48), 0, "no SMI command");
	cr_assert_eq(get_le32(t + 56), 0x608);
	cr_assert_eq(get_le32(t + 64), 0x60c);
	cr_assert_eq(t[88], 4);
	cr_assert_eq(t[89], 2);
	cr_assert_eq(t[91], 0, "no timer");
	for (unsigned i = 148; i < 268; i++)
		cr_assert_eq(t[i], 0, "no register twice, and none of the hardware-reduced model");
	cr_assert_eq(get_le32(t + 36) % 64, 0);
	cr_assert_geq(get_le32(t + 36), AT);
	facs = ram + get_le32(t + 36);
	cr_assert_eq(memcmp(facs, "FACS", 4), 0);
	cr_assert_eq(get_le32(facs + 4), 64);
	cr_assert_eq(facs[32], 2);
	t = build(&b, "APIC");
	cr_assert_eq(get_le32(t + 40), 1, "8259s");
}

Test(acpi, madt_names_every_cpu)
{
	static const unsigned counts[] = { 1, 2, 64, 254 };

	for (unsigned i = 0; i < 4; i++) {
		struct board b = plain_board(counts[i]);
		uint8_t *t = build(&b, "APIC"), *e = t + 44, *end = t + get_le32(t + 4);
		unsigned cpus = 0, ioapics = 0, nmis = 0;

		cr_assert_eq(get_le32(t + 36), 0xfee00000);
		cr_assert_eq(get_le32(t + 40), 0, "no 8259");
		for (; e < end; e += e[1]) {
			cr_assert_gt(e[1], 1);
			if (e[0] == 0) {
				cr_assert_eq(e[2], cpus);
				cr_assert_eq(e[3], (uint8_t)(1 + 3 * cpus));
				cr_assert_eq(get_le32(e + 4), 1);
				cpus++;
			} else if (e[0] == 1) {
				cr_assert_eq(get_le32(e + 4), 0xfec00000);
				cr_assert_eq(get_le32(e + 8), 0);
				ioapics++;
			} else if (e[0] == 4) {
				cr_assert_eq(e[2], 0xff);
				cr_assert_eq(e[5], 1);
				nmis++;
			}
		}
		cr_assert_eq(e, end);
		cr_assert_eq(cpus, counts[i]);
		cr_assert_eq(ioapics, 1);
		cr_assert_eq(nmis, 1);
	}
}

Test(acpi, mcfg_only_with_pci)
{
	struct board b = plain_board(1);
	uint8_t *t;

	cr_assert_null(build(&b, "MCFG"));
	add_pci(&b);
	t = build(&b, "MCFG");
	cr_assert(t);
	cr_assert_eq(get_le32(t + 4), 60);
	cr_assert_eq(get_le64(t + 44), 0xe0000000);
	cr_assert_eq(t[54], 0);
	cr_assert_eq(t[55], 0);
}

/* A value as the DSDT has it: 0 and 1 are operators, others have a prefix and a width. */
static size_t put_int(uint8_t *p, uint32_t val)
{
	if (val <= 1) {
		p[0] = (uint8_t)val;
		return 1;
	}
	if (val <= 0xff) {
		p[0] = 0x0a;
		p[1] = (uint8_t)val;
		return 2;
	}
	p[0] = val <= 0xffff ? 0x0b : 0x0c;
	put_le32(p + 1, val);
	return val <= 0xffff ? 3 : 5;
}

/* Hot-plug needs the number and the interrupt of a slot that is empty when the guest starts. */
Test(acpi, every_slot_has_its_number)
{
	struct board b = plain_board(1);
	uint8_t *t, *prt;
	size_t len;

	add_pci(&b);
	t = build(&b, "DSDT");
	len = get_le32(t + 4);
	for (unsigned slot = 0; slot < 32; slot++) {
		uint8_t want[64], route[16];
		size_t n, m = 0;

		n = (size_t)sprintf((char *)want, "S%03X\x08_ADR", slot);
		n += put_int(want + n, slot << 16);
		n += (size_t)sprintf((char *)want + n, "\x08_SUN");
		n += put_int(want + n, slot);
		cr_expect_eq(memmem(t, len, want, n) != NULL, slot > 0, "slot %u", slot);
		m += put_int(route, slot << 16 | 0xffff);
		m += put_int(route + m, 0);
		m += put_int(route + m, 0);
		m += put_int(route + m, 16 + slot % 8);
		cr_expect(memmem(t, len, route, m), "route of slot %u", slot);
	}
	prt = memmem(t, len, "_PRT", 4);
	cr_assert_not_null(prt);
	/* A package, two bytes of length, the number of entries. */
	cr_expect_eq(prt[4], 0x12);
	cr_expect_eq(prt[5] >> 6, 1);
	cr_expect_eq(prt[7], 32);
}

/* Each slot can be ejected by its own bit, and each event reaches its own slot. */
Test(acpi, every_slot_is_plugged_by_its_bit)
{
	struct board b = plain_board(1);
	uint8_t *t;
	size_t len;

	add_pci(&b);
	t = build(&b, "DSDT");
	len = get_le32(t + 4);
	cr_expect_null(memmem(t, len, "_EJ0", 4));
	cr_expect_null(memmem(t, len, "PHPR", 4));
	b.hotplug = (struct board_reg){ true, 0x610 };
	t = build(&b, "DSDT");
	len = get_le32(t + 4);
	cr_expect(memmem(t, len, "PHPR\x01\x0b\x10\x06\x0a\x0c", 10), "12 ports from 0x610");
	for (unsigned slot = 1; slot < 32; slot++) {
		uint8_t eject[64], notify[64];
		size_t n, m;

		n = (size_t)sprintf((char *)eject, "\x08_SUN");
		n += put_int(eject + n, slot);
		/* The method's length depends on the integer's. */
		m = put_int(notify, 1u << slot);
		eject[n++] = 0x14;
		eject[n++] = (uint8_t)(1 + 4 + 1 + 1 + m + 4);
		n += (size_t)sprintf((char *)eject + n, "_EJ0\x01\x70");
		n += put_int(eject + n, 1u << slot);
		n += (size_t)sprintf((char *)eject + n, "PHEJ");
		cr_expect(memmem(t, len, eject, n), "slot %u ejects", slot);
		n = (size_t)sprintf((char *)notify, "\x7b\x68");
		n += put_int(notify + n, 1u << slot);
		notify[n++] = 0;
		n += (size_t)sprintf((char *)notify + n, "\x86S%03X\x69", slot);
		cr_expect(memmem(t, len, notify, n), "slot %u is notified", slot);
	}
}

/* Without hot-plug the table is shorter: only the slots in use. */
Test(acpi, only_the_slots_of_the_mask)
{
	struct board b = plain_board(1);
	uint8_t *t;
	size_t len;

	add_pci(&b);
	b.pci.slots = 1u << 5;
	t = build(&b, "DSDT");
	len = get_le32(t + 4);
	cr_expect(memmem(t, len, "S005\x08_ADR", 9));
	cr_expect_null(memmem(t, len, "S004\x08_ADR", 9));
	cr_expect_null(memmem(t, len, "S006\x08_ADR", 9));
}

static void check_too_little_room(const struct board *b)
{
	struct mem mem = guest_mem();
	struct err err;
	int64_t used = acpi_build(&mem, b, gpa(AT), ROOM, &err);

	cr_assert_gt(used, 0);
	/* The last table is padded, so up to 15 missing bytes do no harm. */
	for (int64_t room = 0; room + 16 <= used; room++) {
		mem = guest_mem();
		memset(ram + AT + room, 0xee, 4096);
		cr_assert_lt(acpi_build(&mem, b, gpa(AT), (uint64_t)room, &err), 0);
		for (unsigned i = 0; i < 4096; i++)
			cr_assert_eq(ram[AT + (uint64_t)room + i], 0xee);
	}
	cr_assert_lt(acpi_build(&mem, b, gpa(AT + 8), ROOM, &err), 0);
	cr_assert_lt(acpi_build(&mem, b, gpa(1ull << 40), ROOM, &err), 0);
}

Test(acpi, too_little_room)
{
	struct board b = plain_board(2);

	check_too_little_room(&b);
	make_legacy(&b);
	check_too_little_room(&b);
}

static char dir[64];

static void write_table(const uint8_t *t)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%.4s.aml", dir, (const char *)t);
	f = fopen(path, "w");
	cr_assert(f);
	cr_assert_eq(fwrite(t, 1, get_le32(t + 4), f), get_le32(t + 4));
	fclose(f);
}

/* Returns 0 if all tables in dir pass; else the output is in the log. */
static int judge(void)
{
	char cmd[1024];
	int status;

	/* -oa: without optimisations the compiler must produce exactly our bytes. */
	snprintf(cmd, sizeof(cmd),
		 "cd %s && rm -f log && for t in *.aml; do n=${t%%.aml}; "
		 "iasl -d $t >>log 2>&1 && iasl -oa -p new-$n $n.dsl >>log 2>&1 || exit 1; "
		 "cmp -i 36 $t new-$n.aml >>log 2>&1 || exit 2; done; "
		 "grep -Eq ' (Warning|Error|Remark) ' log && exit 3; exit 0",
		 dir);
	status = system(cmd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void roundtrip(const struct board *b, const char *what)
{
	static const char *const names[] = { "FACP", "APIC", "MCFG", "DSDT", "XSDT" };
	char cmd[128];
	int status;

	if (system("command -v iasl >/dev/null 2>&1"))
		cr_skip_test("iasl (package acpica-tools) is not there");
	mkdir("build", 0777);
	snprintf(dir, sizeof(dir), "build/acpi-XXXXXX");
	cr_assert(mkdtemp(dir));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint8_t *t = build(b, names[i]);

		if (t)
			write_table(t);
	}
	status = judge();
	cr_assert_eq(status, 0, "%s: iasl says %d: see %s/log", what, status, dir);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

Test(acpi, iasl_legacy)
{
	struct board b = plain_board(2);

	add_pci(&b);
	make_legacy(&b);
	roundtrip(&b, "legacy");
}

Test(acpi, iasl_pci)
{
	static const unsigned cpus[] = { 1, 2, 64, 254 };

	for (unsigned i = 0; i < 4; i++) {
		struct board b = plain_board(cpus[i]);

		add_pci(&b);
		roundtrip(&b, "pci");
	}
}

static void add_hotplug(struct board *b)
{
	add_pci(b);
	b->hotplug = (struct board_reg){ true, 0x610 };
}

Test(acpi, iasl_hotplug)
{
	struct board b = plain_board(2);

	add_hotplug(&b);
	roundtrip(&b, "hot-plug");
	b.pci.slots = 1u << 31 | 1;
	roundtrip(&b, "hot-plug, one slot");
	b.hotplug = (struct board_reg){ false, 0x9040000 };
	roundtrip(&b, "hot-plug, registers in memory");
}

Test(acpi, iasl_mmio)
{
	static const unsigned n[] = { 0, 1, 16, 32 };

	for (unsigned i = 0; i < 4; i++) {
		struct board b = plain_board(2);

		add_mmio(&b, n[i]);
		roundtrip(&b, "mmio");
	}
}

/* As on a board without I/O ports. */
Test(acpi, iasl_registers_in_memory)
{
	struct board b = {
		.ncpus = 1,
		.serial = { { true, { false, 0x9000000 }, 33 } },
		.sleep_control = { false, 0x9010000 },
		.sleep_status = { false, 0x9010001 },
		.reset = { false, 0x9010002 },
		.ged = { false, 0x9010004 },
		.ged_gsi = 5,
		.pvpanic = { false, 0x9020000 },
	};
	uint8_t *t;

	add_pci(&b);
	b.pci.config_port = 0;
	t = build(&b, "FACP");
	cr_assert_eq(t[116], 0, "the reset register is in memory");
	cr_assert_eq(get_le64(t + 120), 0x9010002);
	cr_assert_eq(t[244], 0);
	cr_assert_eq(get_le64(t + 248), 0x9010000);
	cr_assert_eq(t[256], 0);
	cr_assert_eq(get_le64(t + 260), 0x9010001);
	roundtrip(&b, "registers in memory");
}

Test(acpi, iasl_least_and_most)
{
	struct board least = {
		.ncpus = 1,
		.sleep_control = { true, 0x600 },
		.sleep_status = { true, 0x601 },
		.reset = { true, 0x602 },
		.ged = { true, 0x604 },
		.ged_gsi = 5,
	};
	struct board most = plain_board(254);

	roundtrip(&least, "least");
	add_hotplug(&most);
	most.pci.ecam.len_bytes = 256 << 20;
	most.pci.mmio32 = (struct board_window){ 0x4000000000, 1ull << 32 };
	add_mmio(&most, 32);
	most.mmio[3].window.base = 0x5000000000;
	most.vmgenid = 0x1234567890;
	roundtrip(&most, "most");
}

/* Runs _OSC with acpiexec; answer gets the three words of the result. */
static void ask_osc(const char *uuid, unsigned revision, const char *words, uint32_t answer[3])
{
	char cmd[512], line[256];
	bool found = false;
	FILE *f;

	snprintf(
		cmd, sizeof(cmd),
		"cd %s && timeout 60 acpiexec -b 'evaluate \\_SB.PCI0._OSC (%s) %u 3 (%s)' DSDT.aml 2>&1",
		dir, uuid, revision, words);
	f = popen(cmd, "r");
	cr_assert(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned b[12];
		char *p = strstr(line, "[Buffer] Length 0C =     0000: ");

		if (!p ||
		    sscanf(p + 31, "%x %x %x %x %x %x %x %x %x %x %x %x", b, b + 1, b + 2, b + 3,
			   b + 4, b + 5, b + 6, b + 7, b + 8, b + 9, b + 10, b + 11) != 12)
			continue;
		found = true;
		for (unsigned i = 0; i < 3; i++)
			answer[i] = b[4 * i] | b[4 * i + 1] << 8 | b[4 * i + 2] << 16 |
				    (uint32_t)b[4 * i + 3] << 24;
	}
	pclose(f);
	cr_assert(found, "acpiexec gave no buffer");
}

Test(acpi, osc_grants_and_masks)
{
	const char *pci = "5B4DDB33F71F1C4096577441C03DD766";
	struct board b = plain_board(1);
	uint32_t a[3];
	char cmd[128];

	if (system("command -v acpiexec >/dev/null 2>&1"))
		cr_skip_test("acpiexec (package acpica-tools) is not there");
	mkdir("build", 0777);
	snprintf(dir, sizeof(dir), "build/acpi-XXXXXX");
	cr_assert(mkdtemp(dir));
	add_pci(&b);
	write_table(build(&b, "DSDT"));

	/* What Linux requests: all granted, nothing masked. */
	ask_osc(pci, 1, "000000001E0000003F000000", a);
	cr_assert_eq(a[0], 0);
	cr_assert_eq(a[1], 0x1e);
	cr_assert_eq(a[2], 0x3f);
	/* All bits: the method masks some, and reports it. */
	ask_osc(pci, 1, "000000001E000000FFFFFFFF", a);
	cr_assert_eq(a[0], 0x10);
	cr_assert_eq(a[2], 0xbf);
	ask_osc(pci, 2, "000000001E00000000000000", a);
	cr_assert_eq(a[0], 0x08);
	ask_osc("00000000000000000000000000000000", 1, "000000001E0000003F000000", a);
	cr_assert_eq(a[0], 0x04);
	cr_assert_eq(a[2], 0x3f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}
