/*
 * smbios: finds and walks the tables as a kernel does, and lets dmidecode read them.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/smbios.h"
#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define AT LAYOUT_SMBIOS
#define ROOM LAYOUT_SMBIOS_BYTES

static uint8_t ram[2 << 20];
static struct err err;

static int64_t build_in(const struct boot_smbios *s, uint64_t room)
{
	struct mem mem = { 0 };

	memset(ram, 0, sizeof(ram));
	memset(ram + AT + room, 0xee, 64);
	cr_assert_eq(mem_add(&mem, gpa(0), sizeof(ram), ram), 0);
	return smbios_build(&mem, s, gpa(AT), room, &err);
}

static void build(const struct boot_smbios *s)
{
	int64_t used = build_in(s, ROOM);

	cr_assert_gt(used, 0, "%s", err.text);
	cr_assert_leq(used, (int64_t)ROOM);
}

static uint8_t sum(const uint8_t *b, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *b++);
	return s;
}

/* As Linux's dmi_scan_machine. */
static const uint8_t *find_entry(void)
{
	for (uint32_t at = 0xf0000; at < 0x100000 - 16; at += 16)
		if (!memcmp(ram + at, "_SM3_", 5) && ram[at + 6] >= 24 && ram[at + 6] <= 32 &&
		    !sum(ram + at, ram[at + 6]))
			return ram + at;
	return NULL;
}

/* Returns the structure of this type, or NULL; checks that the walk ends at type 127. */
static const uint8_t *find(uint8_t type)
{
	const uint8_t *entry = find_entry(), *p, *end, *found = NULL;

	cr_assert_not_null(entry);
	p = ram + get_le64(entry + 16);
	end = p + get_le32(entry + 12);
	for (;;) {
		const uint8_t *next = p + p[1];

		cr_assert_leq(next + 2, end);
		if (p[0] == type)
			found = p;
		while (next[0] || next[1])
			cr_assert_leq(++next + 2, end);
		next += 2;
		if (p[0] == 127) {
			cr_assert_eq(next, end);
			return found;
		}
		p = next;
	}
}

/* The string that the field at off names; NULL: not specified. */
static const char *string(const uint8_t *s, unsigned off)
{
	const char *text = (const char *)s + s[1];

	if (!s[off])
		return NULL;
	for (unsigned i = 1; i < s[off]; i++)
		text += strlen(text) + 1;
	return text;
}

static const char *const oem[] = { "io.systemd.credential:a=b", "second", "third" };

static struct boot_smbios all(void)
{
	return (struct boot_smbios){
		.manufacturer = "The Makers",
		.product = "Product 1",
		.version = "7.5",
		.serial = "ds=nocloud",
		.uuid = "01234567-89ab-cdef-FEDC-ba9876543210",
		.sku = "SKU-9",
		.family = "Family",
		.asset_tag = "Rack 3, \"left\"",
		.oem_string = (char *const *)oem,
		.noem_strings = 3,
	};
}

Test(smbios, all_fields)
{
	static const uint8_t uuid[16] = { 0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd,
					  0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10 };
	struct boot_smbios s = all();
	const uint8_t *t;

	build(&s);
	t = find(1);
	cr_assert_not_null(t);
	cr_expect_str_eq(string(t, 4), s.manufacturer);
	cr_expect_str_eq(string(t, 5), s.product);
	cr_expect_str_eq(string(t, 6), s.version);
	cr_expect_str_eq(string(t, 7), s.serial);
	cr_expect_eq(memcmp(t + 8, uuid, 16), 0);
	cr_expect_str_eq(string(t, 0x19), s.sku);
	cr_expect_str_eq(string(t, 0x1a), s.family);
	t = find(3);
	cr_expect_str_eq(string(t, 8), s.asset_tag);
	t = find(11);
	cr_expect_eq(t[4], 3);
	cr_expect_str_eq((const char *)t + 5, oem[0]);
	cr_expect_str_eq((const char *)t + 5 + strlen(oem[0]) + 1, oem[1]);
	t = find(0);
	cr_expect_eq(t[0x13] & 0x10, 0x10, "a virtual machine");
	cr_expect_null(string(t, 8), "Linux draws conclusions from a date");
}

Test(smbios, one_field_alone)
{
	struct boot_smbios s = { .uuid = "", .sku = "", .asset_tag = "tag" };
	static const uint8_t none[16];
	const uint8_t *t;

	build(&s);
	t = find(1);
	cr_expect_eq(memcmp(t + 8, none, 16), 0);
	for (unsigned off = 4; off < 8; off++)
		cr_expect_null(string(t, off));
	cr_expect_null(find(11));
	cr_expect_str_eq(string(find(3), 8), "tag");
}

Test(smbios, refused)
{
	static const char *const uuids[] = {
		"0",
		"01234567-89ab-cdef-fedc-ba987654321",
		"01234567-89ab-cdef-fedc-ba98765432100",
		"01234567089ab-cdef-fedc-ba9876543210",
		"g1234567-89ab-cdef-fedc-ba9876543210",
		"01234567-89ab-cdef-fedc-ba987654321\xff",
		"{1234567-89ab-cdef-fedc-ba9876543210",
		"@1234567-89ab-cdef-fedc-ba9876543210",
		"0x234567-89ab-cdef-fedc-ba9876543210",
	};
	static char *many[256];
	struct boot_smbios s = { 0 };

	for (size_t i = 0; i < sizeof(uuids) / sizeof(uuids[0]); i++) {
		s.uuid = uuids[i];
		cr_expect_eq(build_in(&s, ROOM), -EINVAL, "%s", uuids[i]);
		cr_expect(strstr(err.text, "uuid"), "%s", err.text);
	}
	for (unsigned i = 0; i < 256; i++)
		many[i] = "x";
	s = (struct boot_smbios){ .oem_string = many, .noem_strings = 255 };
	cr_expect_gt(build_in(&s, ROOM), 0);
	s.noem_strings = 256;
	cr_expect_eq(build_in(&s, ROOM), -EINVAL);
	s.noem_strings = 2;
	many[1] = "";
	cr_expect_eq(build_in(&s, ROOM), -EINVAL);
	cr_expect(strstr(err.text, "number 2"), "%s", err.text);
}

/* With less room than needed, nothing is written beyond it, and no kernel finds an entry point. */
Test(smbios, too_little_room)
{
	struct boot_smbios s = all();
	int64_t used = build_in(&s, ROOM);

	cr_assert_gt(used, 64);
	cr_expect_eq(build_in(&s, (uint64_t)used), used);
	for (uint64_t room = 0; room < (uint64_t)used; room++) {
		cr_expect_lt(build_in(&s, room), 0);
		cr_expect_null(find_entry());
		for (unsigned i = 0; i < 64; i++)
			cr_assert_eq(ram[AT + room + i], 0xee, "room %u", (unsigned)room);
	}
}

Test(smbios, long_strings_name_the_room)
{
	static char text[ROOM + 1];
	struct boot_smbios s = { .family = text };

	memset(text, 'a', ROOM - 1024);
	cr_expect_gt(build_in(&s, ROOM), 0, "%s", err.text);
	cr_expect_str_eq(string(find(1), 0x1a), text);
	memset(text, 'a', ROOM);
	cr_expect_eq(build_in(&s, ROOM), -ENOSPC);
	cr_expect(strstr(err.text, "61408"), "%s", err.text);
}

/* vm.create takes so much: it must fit. */
Test(smbios, the_most_of_a_vmconfig)
{
	/* in all 56 KiB, without their NULs */
	static char text[(56 << 10) - 254 + 1], other[256];
	char *list[255] = { text };
	struct boot_smbios s = { other, other, other, other, "01234567-89ab-cdef-fedc-ba9876543210",
				 other, other, other, list,  1 };

	for (unsigned i = 1; i < 255; i++)
		list[i] = "c";
	memset(text, 'a', sizeof(text) - 1);
	memset(other, 'b', sizeof(other) - 1);
	cr_expect_gt(build_in(&s, ROOM), 0, "%s", err.text);
}

/* Writes a dump as dmidecode reads it: the entry point, then the tables at offset 32. */
static void write_dump(const char *path)
{
	const uint8_t *entry = find_entry();
	uint8_t head[32] = { 0 };
	FILE *f = fopen(path, "w");
	uint32_t len = get_le32(entry + 12);

	cr_assert_not_null(f);
	memcpy(head, entry, 24);
	put_le64(head + 16, sizeof(head));
	head[5] = 0;
	head[5] = (uint8_t)-sum(head, 24);
	cr_assert_eq(fwrite(head, 1, sizeof(head), f), sizeof(head));
	cr_assert_eq(fwrite(ram + get_le64(entry + 16), 1, len, f), len);
	fclose(f);
}

Test(smbios, dmidecode_reads_the_same)
{
	static const char *const lines[] = {
		"SMBIOS 3.2.0 present.\n",
		"\tVendor: bantam\n",
		"\t\tACPI is supported\n",
		"\t\tSystem is a virtual machine\n",
		"System Information\n\tManufacturer: The Makers\n\tProduct Name: Product 1\n"
		"\tVersion: 7.5\n\tSerial Number: ds=nocloud\n"
		"\tUUID: 01234567-89ab-cdef-fedc-ba9876543210\n"
		"\tWake-up Type: Power Switch\n\tSKU Number: SKU-9\n\tFamily: Family\n",
		"\tAsset Tag: Rack 3, \"left\"\n",
		"OEM Strings\n\tString 1: io.systemd.credential:a=b\n\tString 2: second\n"
		"\tString 3: third\n",
		"End Of Table\n",
	};
	static const char *const complaints[] = { "wrong",	 "Wrong",     "TRUNCATED",
						  "OUT OF SPEC", "BAD INDEX", "Invalid" };
	char path[] = "/tmp/test_smbios.XXXXXX", cmd[96];
	struct boot_smbios s = all();
	static char text[16384];
	FILE *p;

	if (system("command -v dmidecode >/dev/null 2>&1"))
		cr_skip_test("dmidecode is not there");
	build(&s);
	close(mkstemp(path));
	write_dump(path);
	snprintf(cmd, sizeof(cmd), "dmidecode --from-dump %s 2>&1", path);
	p = popen(cmd, "r");
	cr_assert_not_null(p);
	text[fread(text, 1, sizeof(text) - 1, p)] = '\0';
	cr_expect_eq(pclose(p), 0);
	unlink(path);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_expect(strstr(text, lines[i]), "no \"%s\" in:\n%s", lines[i], text);
	for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++)
		cr_expect(!strstr(text, complaints[i]), "\"%s\" in:\n%s", complaints[i], text);
}
