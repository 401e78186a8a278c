/* aml: compares encodings with bytes made by hand from ACPI 6.4, chapter 20. */
#include <criterion/criterion.h>
#include <string.h>

#include "boot/acpi/aml.h"

static uint8_t buf[1 << 21];

static struct aml fresh(void)
{
	struct aml aml;

	aml_init(&aml, buf, sizeof(buf));
	return aml;
}

static void expect(const struct aml *aml, const char *bytes, size_t n)
{
	cr_assert(!aml->full);
	cr_assert_eq(aml->len, n, "%zu bytes, not %zu", aml->len, n);
	cr_assert_eq(memcmp(aml->buf, bytes, n), 0);
}

#define EXPECT(aml, text) expect(aml, text, sizeof(text) - 1)

Test(aml, integers_take_the_shortest_form)
{
	struct aml aml = fresh();

	aml_int(&aml, 0);
	aml_int(&aml, 1);
	aml_int(&aml, 2);
	aml_int(&aml, 0xff);
	aml_int(&aml, 0x100);
	aml_int(&aml, 0xffff);
	aml_int(&aml, 0x10000);
	aml_int(&aml, 0xffffffff);
	aml_int(&aml, 0x100000000);
	EXPECT(&aml, "\x00\x01\x0a\x02\x0a\xff\x0b\x00\x01\x0b\xff\xff\x0c\x00\x00\x01\x00"
		     "\x0c\xff\xff\xff\xff\x0e\x00\x00\x00\x00\x01\x00\x00\x00");
}

Test(aml, names)
{
	struct aml aml = fresh();

	aml_name_string(&aml, "ABCD");
	aml_name_string(&aml, "\\_SB_");
	aml_name_string(&aml, "\\_SB_.PCI0");
	aml_name_string(&aml, "\\_SB_.PCI0.S000");
	EXPECT(&aml, "ABCD\\_SB_\\\x2e_SB_PCI0\\\x2f\x03_SB_PCI0S000");
}

Test(aml, eisa_ids)
{
	struct aml aml = fresh();

	aml_name_eisa(&aml, "_HID", "PNP0A08");
	aml_name_eisa(&aml, "_CID", "PNP0C0C");
	EXPECT(&aml, "\x08_HID\x0c\x41\xd0\x0a\x08\x08_CID\x0c\x41\xd0\x0c\x0c");
}

Test(aml, uuid_has_its_bytes_in_the_mixed_order)
{
	struct aml aml = fresh();

	aml_uuid(&aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	EXPECT(&aml,
	       "\x11\x13\x0a\x10\x5b\x4d\xdb\x33\xf7\x1f\x1c\x40\x96\x57\x74\x41\xc0\x3d\xd7\x66");
}

/* PkgLength counts itself: its form changes when the sum crosses 63, 4095, 2^20 - 1. */
Test(aml, package_lengths_at_every_edge)
{
	static const struct {
		size_t body;
		unsigned n;
	} edge[] = { { 0, 1 },	     { 1, 1 },	     { 62, 1 },	    { 63, 2 },
		     { 64, 2 },	     { 4093, 2 },    { 4094, 3 },   { 4095, 3 },
		     { 1048572, 3 }, { 1048573, 4 }, { 1048574, 4 } };

	for (unsigned i = 0; i < sizeof(edge) / sizeof(edge[0]); i++) {
		struct aml aml = fresh();
		aml_mark mark = aml_if(&aml);
		size_t length;

		for (size_t j = 0; j < edge[i].body; j++)
			aml_u8(&aml, (uint8_t)j);
		aml_close(&aml, mark);
		cr_assert_eq(aml.len, 1 + edge[i].n + edge[i].body, "body %zu", edge[i].body);
		length = buf[1];
		if (edge[i].n > 1) {
			cr_assert_eq(buf[1] >> 6, edge[i].n - 1);
			cr_assert_eq(buf[1] & 0x30, 0);
			length = buf[1] & 0xf;
			for (unsigned j = 1; j < edge[i].n; j++)
				length |= (size_t)buf[1 + j] << (8 * j - 4);
		}
		cr_assert_eq(length, edge[i].n + edge[i].body);
		for (size_t j = 0; j < edge[i].body; j++)
			cr_assert_eq(buf[1 + edge[i].n + j], (uint8_t)j);
	}
}

Test(aml, nesting)
{
	struct aml aml = fresh();
	aml_mark scope = aml_scope(&aml, "_SB_"), dev = aml_device(&aml, "DEV0");

	aml_name_int(&aml, "_UID", 3);
	aml_close(&aml, dev);
	aml_close(&aml, scope);
	EXPECT(&aml, "\x10\x13_SB_\x5b\x82\x0c"
		     "DEV0\x08_UID\x0a\x03");
}

Test(aml, methods_and_fields)
{
	struct aml aml = fresh();
	aml_mark m;

	aml_op_region(&aml, "REGN", true, 0x604, 4);
	aml_op_region(&aml, "REGM", false, 0x9010004, 4);
	aml_field_dword(&aml, "REGN", "FLD0", 32);
	m = aml_method(&aml, "MTHD", 1, true);
	aml_op(&aml, AML_RETURN);
	aml_op(&aml, AML_ARG0);
	aml_close(&aml, m);
	EXPECT(&aml, "\x5b\x80REGN\x01\x0b\x04\x06\x0a\x04"
		     "\x5b\x80REGM\x00\x0c\x04\x00\x01\x09\x0a\x04"
		     "\x5b\x81\x0bREGN\x03"
		     "FLD0\x20"
		     "\x14\x08MTHD\x09\xa4\x68");
}

Test(aml, several_fields)
{
	static const char *const names[] = { "FLD0", "FLD1" };
	struct aml aml = fresh();

	aml_fields_dword(&aml, "REGN", names, 2);
	EXPECT(&aml, "\x5b\x81\x10REGN\x03"
		     "FLD0\x20"
		     "FLD1\x20");
}

Test(aml, resources)
{
	uint8_t res_buf[128];
	struct aml aml = fresh(), res;

	aml_init(&res, res_buf, sizeof(res_buf));
	aml_res_io(&res, 0x3f8, 8);
	aml_res_irq(&res, 4);
	aml_res_memory(&res, 0xe0000000, 0x100000);
	aml_resources(&aml, &res);
	EXPECT(&aml, "\x08_CRS\x11\x22\x0a\x1f"
		     "\x47\x01\xf8\x03\xf8\x03\x00\x08"
		     "\x89\x06\x00\x03\x01\x04\x00\x00\x00"
		     "\x86\x09\x00\x01\x00\x00\x00\xe0\x00\x00\x10\x00"
		     "\x79\x00");
}

Test(aml, memory_above_4g_takes_the_wide_descriptor)
{
	struct aml aml = fresh();

	aml_res_memory(&aml, 0x100000000, 0x1000);
	cr_assert_eq(aml.len, 46);
	cr_assert_eq(buf[0], 0x8a);
	aml = fresh();
	aml_res_memory(&aml, 0xfffff000, 0x1000);
	cr_assert_eq(buf[0], 0x86);
	aml = fresh();
	aml_res_memory_window(&aml, 0x100000000, 0x1000);
	cr_assert_eq(buf[0], 0x8a);
}

/* With any size of buffer, nothing is written past its end, and the flag reports the overflow. */
Test(aml, running_out_of_room)
{
	struct aml aml = fresh();
	size_t all;

	for (size_t cap = SIZE_MAX;; cap--) {
		aml_mark dev;

		aml_init(&aml, buf, cap < 64 ? cap : 64);
		memset(buf, 0xee, 64);
		dev = aml_device(&aml, "DEV0");
		aml_name_string_val(&aml, "_HID", "QEMU0001");
		aml_uuid(&aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
		aml_close(&aml, dev);
		if (cap == SIZE_MAX) {
			cr_assert(!aml.full);
			all = aml.len;
			cap = all;
			continue;
		}
		cr_assert(aml.full);
		for (size_t i = cap; i < 64; i++)
			cr_assert_eq(buf[i], 0xee);
		if (!cap)
			break;
	}
}
