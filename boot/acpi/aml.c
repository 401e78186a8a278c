/* aml: see aml.h. */
#include "boot/acpi/aml.h"

#include <string.h>

#include "vmm/core/err.h"

enum {
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	WORD_PREFIX = 0x0b,
	DWORD_PREFIX = 0x0c,
	STRING_PREFIX = 0x0d,
	QWORD_PREFIX = 0x0e,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	METHOD_OP = 0x14,
	DUAL_NAME_PREFIX = 0x2e,
	MULTI_NAME_PREFIX = 0x2f,
	EXT_PREFIX = 0x5b,
	EXT_OP_REGION = 0x80,
	EXT_FIELD = 0x81,
	EXT_DEVICE = 0x82,
	IF_OP = 0xa0,
	ELSE_OP = 0xa1,
	SYSTEM_MEMORY = 0,
	SYSTEM_IO = 1,
};

void aml_init(struct aml *aml, void *buf, size_t cap)
{
	*aml = (struct aml){ .buf = buf, .cap = cap };
}

void aml_bytes(struct aml *aml, const void *src, size_t n)
{
	if (aml->full || n > aml->cap - aml->len) {
		aml->full = true;
		return;
	}
	if (n)
		memcpy(aml->buf + aml->len, src, n);
	aml->len += n;
}

void aml_u8(struct aml *aml, uint8_t val)
{
	aml_bytes(aml, &val, 1);
}

void aml_u16(struct aml *aml, uint16_t val)
{
	aml_u8(aml, (uint8_t)val);
	aml_u8(aml, (uint8_t)(val >> 8));
}

void aml_u32(struct aml *aml, uint32_t val)
{
	aml_u16(aml, (uint16_t)val);
	aml_u16(aml, (uint16_t)(val >> 16));
}

void aml_u64(struct aml *aml, uint64_t val)
{
	aml_u32(aml, (uint32_t)val);
	aml_u32(aml, (uint32_t)(val >> 32));
}

void aml_name_string(struct aml *aml, const char *name)
{
	size_t len;
	unsigned nsegs;

	if (*name == '\\') {
		aml_u8(aml, '\\');
		name++;
	}
	len = strlen(name);
	BUG_ON(len % 5 != 4 || len > 5 * 16);
	nsegs = (unsigned)(len + 1) / 5;
	if (nsegs == 2) {
		aml_u8(aml, DUAL_NAME_PREFIX);
	} else if (nsegs > 2) {
		aml_u8(aml, MULTI_NAME_PREFIX);
		aml_u8(aml, (uint8_t)nsegs);
	}
	for (unsigned i = 0; i < nsegs; i++)
		aml_bytes(aml, name + 5 * i, 4);
}

void aml_int(struct aml *aml, uint64_t val)
{
	if (val <= 1) {
		aml_u8(aml, (uint8_t)val); /* ZeroOp, OneOp */
	} else if (val <= UINT8_MAX) {
		aml_u8(aml, BYTE_PREFIX);
		aml_u8(aml, (uint8_t)val);
	} else if (val <= UINT16_MAX) {
		aml_u8(aml, WORD_PREFIX);
		aml_u16(aml, (uint16_t)val);
	} else if (val <= UINT32_MAX) {
		aml_u8(aml, DWORD_PREFIX);
		aml_u32(aml, (uint32_t)val);
	} else {
		aml_u8(aml, QWORD_PREFIX);
		aml_u64(aml, val);
	}
}

static void string(struct aml *aml, const char *text)
{
	aml_u8(aml, STRING_PREFIX);
	aml_bytes(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	BUG_ON(c < 'A' || c > 'F');
	return (unsigned)(c - 'A') + 10;
}

/* Packs three letters of five bits and four hex digits, most significant byte first. */
static void eisa_id(struct aml *aml, const char *id)
{
	uint32_t val = 0;

	BUG_ON(strlen(id) != 7);
	for (unsigned i = 0; i < 3; i++)
		val = val << 5 | ((uint32_t)(id[i] - 'A' + 1) & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		val = val << 4 | hex_digit(id[i]);
	/* Always a dword, as iasl writes it. */
	aml_u8(aml, DWORD_PREFIX);
	aml_u32(aml, __builtin_bswap32(val));
}

void aml_name(struct aml *aml, const char *name)
{
	aml_u8(aml, NAME_OP);
	aml_name_string(aml, name);
}

void aml_name_int(struct aml *aml, const char *name, uint64_t val)
{
	aml_name(aml, name);
	aml_int(aml, val);
}

void aml_name_string_val(struct aml *aml, const char *name, const char *text)
{
	aml_name(aml, name);
	string(aml, text);
}

void aml_name_eisa(struct aml *aml, const char *name, const char *id)
{
	aml_name(aml, name);
	eisa_id(aml, id);
}

void aml_op_region(struct aml *aml, const char *name, bool io, uint64_t at, uint64_t len_bytes)
{
	aml_u8(aml, EXT_PREFIX);
	aml_u8(aml, EXT_OP_REGION);
	aml_name_string(aml, name);
	aml_u8(aml, io ? SYSTEM_IO : SYSTEM_MEMORY);
	aml_int(aml, at);
	aml_int(aml, len_bytes);
}

/*
 * PkgLength (ACPI 6.4, section 20.2.4): one byte up to 63. Above, the first byte holds
 * the low four bits, and its top two bits count the bytes that follow.
 */
static unsigned pkg_length(uint8_t out[4], size_t val)
{
	unsigned n = val < 1u << 12 ? 1 : val < 1u << 20 ? 2 : 3;

	if (val < 64) {
		out[0] = (uint8_t)val;
		return 1;
	}
	out[0] = (uint8_t)(n << 6 | (val & 0xf));
	val >>= 4;
	for (unsigned i = 1; i <= n; i++, val >>= 8)
		out[i] = (uint8_t)val;
	return n + 1;
}

/* The length includes its own bytes, so their number depends on itself. */
static unsigned pkg_length_self(uint8_t out[4], size_t body)
{
	unsigned n = 1;

	while (pkg_length(out, body + n) > n)
		n++;
	return n;
}

static aml_mark open_term(struct aml *aml, int ext, uint8_t op)
{
	if (ext)
		aml_u8(aml, EXT_PREFIX);
	aml_u8(aml, op);
	return aml->len;
}

void aml_close(struct aml *aml, aml_mark mark)
{
	uint8_t length[4];
	size_t body = aml->len - mark;
	unsigned n = pkg_length_self(length, body);

	if (aml->full || n > aml->cap - aml->len) {
		aml->full = true;
		return;
	}
	memmove(aml->buf + mark + n, aml->buf + mark, body);
	memcpy(aml->buf + mark, length, n);
	aml->len += n;
}

aml_mark aml_scope(struct aml *aml, const char *name)
{
	aml_mark mark = open_term(aml, 0, SCOPE_OP);

	aml_name_string(aml, name);
	return mark;
}

aml_mark aml_device(struct aml *aml, const char *name)
{
	aml_mark mark = open_term(aml, 1, EXT_DEVICE);

	aml_name_string(aml, name);
	return mark;
}

aml_mark aml_method(struct aml *aml, const char *name, unsigned nargs, bool serialized)
{
	aml_mark mark = open_term(aml, 0, METHOD_OP);

	BUG_ON(nargs > 7);
	aml_name_string(aml, name);
	aml_u8(aml, (uint8_t)(nargs | (serialized ? 1u << 3 : 0)));
	return mark;
}

aml_mark aml_package(struct aml *aml, uint8_t count)
{
	aml_mark mark = open_term(aml, 0, PACKAGE_OP);

	aml_u8(aml, count);
	return mark;
}

aml_mark aml_if(struct aml *aml)
{
	return open_term(aml, 0, IF_OP);
}

aml_mark aml_else(struct aml *aml)
{
	return open_term(aml, 0, ELSE_OP);
}

void aml_op(struct aml *aml, enum aml_op op)
{
	aml_u8(aml, (uint8_t)op);
}

static void buffer(struct aml *aml, const void *src, size_t n)
{
	aml_mark mark = open_term(aml, 0, BUFFER_OP);

	aml_int(aml, n);
	aml_bytes(aml, src, n);
	aml_close(aml, mark);
}

void aml_uuid(struct aml *aml, const char *uuid)
{
	/* The position of each byte in the text aabbccdd-eeff-gghh-iijj-kkllmmnnoopp. */
	static const uint8_t at[16] = { 6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34 };
	uint8_t b[16];

	BUG_ON(strlen(uuid) != 36);
	for (unsigned i = 0; i < 16; i++)
		b[i] = (uint8_t)(hex_digit(uuid[at[i]]) << 4 | hex_digit(uuid[at[i] + 1]));
	buffer(aml, b, sizeof(b));
}

void aml_field_dword(struct aml *aml, const char *region, const char *name, uint32_t bits)
{
	uint8_t length[4];
	aml_mark mark = open_term(aml, 1, EXT_FIELD);

	aml_name_string(aml, region);
	aml_u8(aml, 3); /* DWordAcc, NoLock, Preserve */
	aml_name_string(aml, name);
	aml_bytes(aml, length, pkg_length(length, bits));
	aml_close(aml, mark);
}

void aml_fields_dword(struct aml *aml, const char *region, const char *const *names, unsigned n)
{
	uint8_t length[4];
	aml_mark mark = open_term(aml, 1, EXT_FIELD);

	aml_name_string(aml, region);
	aml_u8(aml, 3); /* DWordAcc, NoLock, Preserve */
	for (unsigned i = 0; i < n; i++) {
		aml_name_string(aml, names[i]);
		aml_bytes(aml, length, pkg_length(length, 32));
	}
	aml_close(aml, mark);
}

void aml_res_io(struct aml *res, uint16_t port, uint8_t len)
{
	aml_u8(res, 0x47); /* I/O port descriptor, 7 bytes */
	aml_u8(res, 1);	   /* decodes 16 bits */
	aml_u16(res, port);
	aml_u16(res, port);
	aml_u8(res, 0); /* alignment: fixed */
	aml_u8(res, len);
}

void aml_res_irq(struct aml *res, uint32_t gsi)
{
	aml_u8(res, 0x89); /* extended interrupt descriptor */
	aml_u16(res, 6);
	aml_u8(res, 0x03); /* consumer, edge, active high, exclusive */
	aml_u8(res, 1);
	aml_u32(res, gsi);
}

/* Writes an address space descriptor. The three widths differ in nothing else. */
static void address_space(struct aml *res, unsigned width, uint8_t type, uint8_t general,
			  uint8_t specific, uint64_t first, uint64_t last)
{
	const uint64_t field[5] = { 0, first, last, 0, last - first + 1 };

	aml_u8(res, width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a);
	aml_u16(res, (uint16_t)(3 + 5 * width));
	aml_u8(res, type);
	aml_u8(res, general);
	aml_u8(res, specific);
	for (unsigned i = 0; i < 5; i++) {
		if (width == 2)
			aml_u16(res, (uint16_t)field[i]);
		else if (width == 4)
			aml_u32(res, (uint32_t)field[i]);
		else
			aml_u64(res, field[i]);
	}
}

#define FIXED 0x0cu /* both ends are fixed, positive decode, producer */
#define CONSUMER 0x01u
#define READ_WRITE 0x01u

void aml_res_memory(struct aml *res, uint64_t base, uint64_t len_bytes)
{
	if (base + len_bytes - 1 > UINT32_MAX || len_bytes > UINT32_MAX) {
		address_space(res, 8, 0, FIXED | CONSUMER, READ_WRITE, base, base + len_bytes - 1);
		return;
	}
	aml_u8(res, 0x86); /* 32-bit fixed memory range */
	aml_u16(res, 9);
	aml_u8(res, READ_WRITE);
	aml_u32(res, (uint32_t)base);
	aml_u32(res, (uint32_t)len_bytes);
}

void aml_res_bus_window(struct aml *res, uint16_t first, uint16_t last)
{
	address_space(res, 2, 2, FIXED, 0, first, last);
}

void aml_res_memory_window(struct aml *res, uint64_t base, uint64_t len_bytes)
{
	uint64_t last = base + len_bytes - 1;

	address_space(res, last > UINT32_MAX ? 8 : 4, 0, FIXED, READ_WRITE, base, last);
}

void aml_resources(struct aml *aml, struct aml *res)
{
	aml_u8(res, 0x79); /* end tag; a checksum of 0 means: not computed */
	aml_u8(res, 0);
	aml->full = aml->full || res->full;
	aml_name(aml, "_CRS");
	buffer(aml, res->buf, res->len);
}
