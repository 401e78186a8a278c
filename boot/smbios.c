/*
 * smbios: see smbios.h.
 *
 * Theory of operation. A structure is a formatted area, whose first bytes are type, length and
 * handle, and the strings that its fields name by number, from 1 on: 0 is "not specified". A string
 * ends with a zero byte, the set with another one. So no string can be empty. The length of all
 * structures counts on when the room is full, so that the error can say what is needed.
 *
 * There is no BIOS release date: Linux draws conclusions from the year, and there is no year that
 * would be true.
 */
#include "boot/smbios.h"

#include <errno.h>
#include <string.h>

#include "vmm/core/bytes.h"

#define ENTRY_BYTES 24u
#define TABLES_AT 32u /* from the entry point on */
#define FIXED_MAX 32u
#define STRINGS_MAX 8u
#define OEM_STRINGS_MAX 255u

/* Offsets in formatted areas (DSP0134, sections 7.1, 7.2 and 7.4). */
enum {
	BIOS_TYPE = 0,
	BIOS_BYTES = 0x1a,
	BIOS_VENDOR = 0x04,
	BIOS_CHARACTERISTICS = 0x0a,
	BIOS_EXTENSION = 0x12,
	BIOS_RELEASE = 0x14, /* of the BIOS, then of an embedded controller: 2 bytes each */
	SYSTEM_TYPE = 1,
	SYSTEM_BYTES = 0x1b,
	SYSTEM_MANUFACTURER = 0x04,
	SYSTEM_PRODUCT = 0x05,
	SYSTEM_VERSION = 0x06,
	SYSTEM_SERIAL = 0x07,
	SYSTEM_UUID = 0x08,
	SYSTEM_WAKE_UP = 0x18,
	SYSTEM_SKU = 0x19,
	SYSTEM_FAMILY = 0x1a,
	CHASSIS_TYPE = 3,
	CHASSIS_BYTES = 0x16,
	CHASSIS_MANUFACTURER = 0x04,
	CHASSIS_KIND = 0x05,
	CHASSIS_ASSET_TAG = 0x08,
	CHASSIS_STATES = 0x09, /* boot-up, power supply, thermal, security */
	OEM_TYPE = 11,
	OEM_BYTES = 5,
	OEM_COUNT = 4,
	END_TYPE = 127,
	END_BYTES = 4,
};

#define BIOS_NO_CHARACTERISTICS (1u << 3)
#define BIOS_ACPI 0x01u		   /* extension byte 1 */
#define BIOS_VIRTUAL_MACHINE 0x10u /* extension byte 2 */
#define WAKE_UP_POWER_SWITCH 6u
#define CHASSIS_OTHER 1u
#define STATE_SAFE 3u
#define STATE_NONE 3u /* security */

struct room {
	uint8_t *buf;
	uint64_t cap, len; /* len may exceed cap; then nothing more is written */
};

struct structure {
	uint8_t fixed[FIXED_MAX];
	const char *string[STRINGS_MAX];
	unsigned nstrings;
};

static uint8_t checksum(const uint8_t *b, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

static void put(struct room *r, const void *src, size_t n)
{
	if (r->len <= r->cap && n <= r->cap - r->len)
		memcpy(r->buf + r->len, src, n);
	r->len += n;
}

/* A handle may be any number that no other structure has. */
static void begin(struct structure *s, uint8_t type, uint8_t bytes)
{
	*s = (struct structure){ .fixed = { type, bytes } };
	put_le16(s->fixed + 2, (uint16_t)(type << 8));
}

static void set_string(struct structure *s, unsigned field, const char *text)
{
	if (!text || !*text)
		return;
	BUG_ON(s->nstrings == STRINGS_MAX);
	s->string[s->nstrings++] = text;
	s->fixed[field] = (uint8_t)s->nstrings;
}

static void end(struct room *r, const struct structure *s)
{
	put(r, s->fixed, s->fixed[1]);
	for (unsigned i = 0; i < s->nstrings; i++)
		put(r, s->string[i], strlen(s->string[i]) + 1);
	put(r, "\0", s->nstrings ? 1 : 2);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Section 7.2.1: the first three fields are little-endian. */
static bool parse_uuid(uint8_t out[16], const char *text)
{
	/* The position of each byte in the text aabbccdd-eeff-gghh-iijj-kkllmmnnoopp. */
	static const uint8_t at[16] = { 6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34 };

	if (strlen(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' ||
	    text[23] != '-')
		return false;
	for (unsigned i = 0; i < 16; i++) {
		int high = hex_digit(text[at[i]]), low = hex_digit(text[at[i] + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void write_bios(struct room *r)
{
	struct structure s;

	begin(&s, BIOS_TYPE, BIOS_BYTES);
	set_string(&s, BIOS_VENDOR, "bantam");
	s.fixed[BIOS_CHARACTERISTICS] = BIOS_NO_CHARACTERISTICS;
	s.fixed[BIOS_EXTENSION] = BIOS_ACPI;
	s.fixed[BIOS_EXTENSION + 1] = BIOS_VIRTUAL_MACHINE;
	memset(s.fixed + BIOS_RELEASE, 0xff, 4); /* not supported */
	end(r, &s);
}

static int write_system(struct room *r, const struct boot_smbios *smbios, struct err *err)
{
	struct structure s;

	begin(&s, SYSTEM_TYPE, SYSTEM_BYTES);
	set_string(&s, SYSTEM_MANUFACTURER, smbios->manufacturer);
	set_string(&s, SYSTEM_PRODUCT, smbios->product);
	set_string(&s, SYSTEM_VERSION, smbios->version);
	set_string(&s, SYSTEM_SERIAL, smbios->serial);
	set_string(&s, SYSTEM_SKU, smbios->sku);
	set_string(&s, SYSTEM_FAMILY, smbios->family);
	s.fixed[SYSTEM_WAKE_UP] = WAKE_UP_POWER_SWITCH;
	if (smbios->uuid && *smbios->uuid && !parse_uuid(s.fixed + SYSTEM_UUID, smbios->uuid))
		return err_set(err, EINVAL,
			       "platform: uuid \"%.64s\" is not like "
			       "01234567-89ab-cdef-0123-456789abcdef",
			       smbios->uuid);
	end(r, &s);
	return 0;
}

static void write_chassis(struct room *r, const struct boot_smbios *smbios)
{
	struct structure s;

	begin(&s, CHASSIS_TYPE, CHASSIS_BYTES);
	set_string(&s, CHASSIS_MANUFACTURER, smbios->manufacturer);
	set_string(&s, CHASSIS_ASSET_TAG, smbios->asset_tag);
	s.fixed[CHASSIS_KIND] = CHASSIS_OTHER;
	memset(s.fixed + CHASSIS_STATES, STATE_SAFE, 3);
	s.fixed[CHASSIS_STATES + 3] = STATE_NONE;
	end(r, &s);
}

static int write_oem(struct room *r, const struct boot_smbios *smbios, struct err *err)
{
	struct structure s;

	if (!smbios->noem_strings)
		return 0;
	if (smbios->noem_strings > OEM_STRINGS_MAX)
		return err_set(err, EINVAL, "platform: %u oem_strings, and SMBIOS has room for %u",
			       smbios->noem_strings, OEM_STRINGS_MAX);
	begin(&s, OEM_TYPE, OEM_BYTES);
	s.fixed[OEM_COUNT] = (uint8_t)smbios->noem_strings;
	put(r, s.fixed, OEM_BYTES);
	for (unsigned i = 0; i < smbios->noem_strings; i++) {
		const char *text = smbios->oem_string[i];

		if (!*text)
			return err_set(err, EINVAL,
				       "platform: oem_strings: number %u is empty, which SMBIOS "
				       "cannot express",
				       i + 1);
		put(r, text, strlen(text) + 1);
	}
	put(r, "", 1);
	return 0;
}

/* The 64-bit entry point (section 5.2.2). */
static void write_entry(uint8_t *p, uint64_t tables, uint64_t tables_bytes)
{
	memset(p, 0, ENTRY_BYTES);
	memcpy(p, "_SM3_", 5);
	p[6] = ENTRY_BYTES;
	p[7] = 3; /* version 3.2.0 */
	p[8] = 2;
	p[10] = 1; /* entry point revision */
	put_le32(p + 12, (uint32_t)tables_bytes);
	put_le64(p + 16, tables);
	p[5] = checksum(p, ENTRY_BYTES);
}

int64_t smbios_build(struct mem *mem, const struct boot_smbios *smbios, gpa_t base,
		     uint64_t len_bytes, struct err *err)
{
	uint8_t *buf = mem_slice(mem, base, len_bytes);
	struct structure last;
	struct room r;
	int rc;

	if (!buf || base.v % 16 || len_bytes < TABLES_AT)
		return err_set(err, EINVAL, "SMBIOS tables: no guest memory at %#llx",
			       (unsigned long long)base.v);
	r = (struct room){ .buf = buf + TABLES_AT, .cap = len_bytes - TABLES_AT };
	write_bios(&r);
	rc = write_system(&r, smbios, err);
	if (rc)
		return rc;
	write_chassis(&r, smbios);
	rc = write_oem(&r, smbios, err);
	if (rc)
		return rc;
	begin(&last, END_TYPE, END_BYTES);
	end(&r, &last);
	if (r.len > r.cap)
		return err_set(err, ENOSPC,
			       "platform: its strings need %llu bytes, and there is room for %llu",
			       (unsigned long long)r.len, (unsigned long long)r.cap);
	write_entry(buf, base.v + TABLES_AT, r.len);
	return (int64_t)(TABLES_AT + r.len);
}
