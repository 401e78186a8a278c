/* bytes: each width in both orders, at every alignment; no other byte changes. */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/core/bytes.h"

TestSuite(bytes, .timeout = 30);

static const uint8_t pattern[8] = { 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8 };

Test(bytes, get)
{
	uint8_t raw[16];

	for (unsigned off = 0; off < 8; off++) {
		memset(raw, 0x5a, sizeof(raw));
		memcpy(raw + off, pattern, sizeof(pattern));
		cr_expect_eq(get_le16(raw + off), 0x9281);
		cr_expect_eq(get_be16(raw + off), 0x8192);
		cr_expect_eq(get_le32(raw + off), 0xb4a39281);
		cr_expect_eq(get_be32(raw + off), 0x8192a3b4);
		cr_expect_eq(get_le64(raw + off), 0xf8e7d6c5b4a39281);
		cr_expect_eq(get_be64(raw + off), 0x8192a3b4c5d6e7f8);
	}
}

/* Checks that raw holds pattern's first len bytes at off, and 0x5a everywhere else. */
static void expect_only(const uint8_t *raw, unsigned off, unsigned len)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned want = i >= off && i < off + len ? pattern[i - off] : 0x5a;

		cr_expect_eq(raw[i], want, "offset %u, %u bytes: byte %u is %#x", off, len, i,
			     raw[i]);
	}
}

Test(bytes, put)
{
	uint8_t raw[16];

	for (unsigned off = 0; off < 8; off++) {
		memset(raw, 0x5a, sizeof(raw));
		put_le16(raw + off, 0x9281);
		expect_only(raw, off, 2);
		memset(raw, 0x5a, sizeof(raw));
		put_be16(raw + off, 0x8192);
		expect_only(raw, off, 2);
		memset(raw, 0x5a, sizeof(raw));
		put_le32(raw + off, 0xb4a39281);
		expect_only(raw, off, 4);
		memset(raw, 0x5a, sizeof(raw));
		put_be32(raw + off, 0x8192a3b4);
		expect_only(raw, off, 4);
		memset(raw, 0x5a, sizeof(raw));
		put_le64(raw + off, 0xf8e7d6c5b4a39281);
		expect_only(raw, off, 8);
		memset(raw, 0x5a, sizeof(raw));
		put_be64(raw + off, 0x8192a3b4c5d6e7f8);
		expect_only(raw, off, 8);
	}
}
