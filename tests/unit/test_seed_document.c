/* bantam-seed's judgement of the documents that a user gives: what cloud-init would ignore. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tools/bantam-seed/seed.h"

#define USER (1u << CLOUD_USER_DATA | 1u << CLOUD_VENDOR_DATA)
#define META (1u << CLOUD_META_DATA)
#define NET (1u << CLOUD_NETWORK_CONFIG)
#define BYTES(text) text, sizeof(text) - 1

static const struct row {
	unsigned kinds;
	const char *text;
	size_t len;
	const char *why; /* NULL: cloud-init takes it */
} rows[] = {
	{ USER, BYTES("#cloud-config\nusers: []\n"), NULL },
	{ USER, BYTES("#cloud-config\r\nusers: []\r\n"), NULL },
	{ USER, BYTES("#Cloud-Config\nusers: []\n"), NULL },
	{ USER, BYTES("\n\n  #cloud-config\nusers: []\n"), NULL },
	{ USER, BYTES("#cloud-config"), NULL },
	{ USER, BYTES("#cloud-config # mine\n# nothing\n"), NULL },
	{ USER, BYTES("#cloud-config\n---\n\"a b\": 1\n"), NULL },
	{ USER, BYTES("#cloud-config\n{\"a\": 1}\n"), NULL },
	{ USER, BYTES("#cloud-config\na:\n  - b\n"), NULL },
	{ USER, BYTES("#cloud-config\na: |\n \tb\n"), NULL },
	{ USER, BYTES("#!/bin/sh\necho\n"), NULL },
	{ USER, BYTES("#include\nhttp://x/\n"), NULL },
	{ USER, BYTES("#include-once\nhttp://x/\n"), NULL },
	{ USER, BYTES("#cloud-boothook\n#!/bin/sh\n"), NULL },
	{ USER, BYTES("#part-handler\nimport x\n"), NULL },
	{ USER, BYTES("#cloud-config-archive\n- type: x\n"), NULL },
	{ USER, BYTES("#cloud-config-jsonp\n[{}]\n"), NULL },
	{ USER, BYTES("## template: jinja\n#cloud-config\n{% if a %}\nb: 1\n{% endif %}\n"), NULL },
	{ USER, BYTES("## template: jinja\n#!/bin/sh\n"), NULL },
	{ USER, BYTES("Content-Type: multipart/mixed\nMIME-Version: 1.0\n\n"), NULL },
	{ USER, BYTES("mime-version: 1.0\nContent-Type: text/cloud-config\n\na: 1\n"), NULL },
	{ USER, BYTES("\x1f\x8b\x08\x00\x00\x00"), "is a damaged gzip file" },

	{ USER, BYTES(""), "is empty" },
	{ USER, BYTES(" \n\t\r\n"), "is empty" },
	{ USER, BYTES("#cloud-init\nusers: []\n"),
	  "begins with \"#cloud-init\"; did you mean #cloud-config?" },
	{ USER, BYTES("# cloud-config\nusers: []\n"), "did you mean #cloud-config?" },
	{ USER, BYTES("cloud-config\nusers: []\n"), "did you mean #cloud-config?" },
	{ USER, BYTES("#cloudconfig\nusers: []\n"), "did you mean #cloud-config?" },
	{ USER, BYTES("#cloud_config\r\nusers: []\r\n"), "begins with \"#cloud_config\"; did you" },
	{ USER, BYTES("#inclde\nhttp://x/\n"), "did you mean #include?" },
	{ USER, BYTES("users: []\n"),
	  "begins with \"users: []\"; its first line must be #cloud-config" },
	{ USER, BYTES("\xef\xbb\xbf#cloud-config\nusers: []\n"), "byte order mark" },
	{ USER, BYTES("\xff\xfe#\0c\0"), "is UTF-16" },
	{ USER, BYTES("\xfe\xff\0#\0c"), "is UTF-16" },
	{ USER, BYTES("#cloud-config\na: 1\nb: \xe4\n"), "line 3 is not UTF-8" },
	{ USER, BYTES("#!/bin/sh\necho \xe4\n"), NULL },
	{ USER, BYTES("#cloud-config\na: \0\n"), "line 2 has a control character" },
	{ USER, BYTES("#cloud-config\na: \x1b[0m\n"), "line 2 has a control character" },
	{ USER, BYTES("#cloud-config\n- a\n- b\n"), "line 2 is a list" },
	{ USER, BYTES("#cloud-config\n# x\n[a, b]\n"), "line 3 is a list" },
	{ USER, BYTES("#cloud-config\nhello\n"), "line 2 is no mapping" },
	{ USER, BYTES("#cloud-config\nhttp://x/\n"), "line 2 is no mapping" },
	{ USER, BYTES("#cloud-config\nusers:\n\t- a\n"), "line 3 is indented by a tab" },
	{ USER, BYTES("#cloud-config\na: |\n \tb\n\t\n"), "line 4 is indented by a tab" },
	{ USER, BYTES("\n \t\n#cloud-config\na: 1\n"), "line 2 is indented by a tab" },
	{ USER, BYTES("Content-Type: text/cloud-config\n\na: 1\n"), "MIME-Version" },
	{ USER, BYTES("## template: jinja\nusers: []\n"), "begins with \"users: []\"" },
	{ USER, BYTES("## template: jinja\n"), "is empty" },

	{ META, BYTES("instance-id: x\n"), NULL },
	{ META, BYTES("{\"instance-id\": \"x\"}"), NULL },
	{ META, BYTES("\xef\xbb\xbfinstance-id: x\n"), NULL },
	{ META, BYTES(""), NULL },
	{ META, BYTES("# nothing\n"), NULL },
	{ META, BYTES("x\n"), "line 1 is no mapping" },
	{ META, BYTES("instance-id=x\n"), "line 1 is no mapping" },
	{ META, BYTES("- instance-id: x\n"), "line 1 is a list" },
	{ META, BYTES("instance-id: \xff\n"), "line 1 is not UTF-8" },
	{ META, BYTES("\x1f\x8b\x08"), "is compressed" },
	{ META, BYTES("instance-id: x\n\tlocal-hostname: y\n"), "line 2 is indented by a tab" },

	{ NET, BYTES("version: 2\nethernets: {}\n"), NULL },
	{ NET, BYTES("network:\n  version: 1\n  config: []\n"), NULL },
	{ NET, BYTES("{\"version\": 2}"), NULL },
	{ NET, BYTES("network: {config: disabled}\n"), NULL },
	{ NET, BYTES(""), "is empty" },
	{ NET, BYTES("# DHCP\n"), "is empty" },
	{ NET, BYTES("ethernets:\n  eth0: {dhcp4: true}\n"), "has no \"version: 1\"" },
	{ NET, BYTES("ethernets: {}\n# version: 2\nx-version: 2\n"), "has no \"version: 1\"" },
	{ NET, BYTES("- version: 2\n"), "is a list" },
	{ NET, BYTES("auto eth0\niface eth0 inet dhcp\n"), "line 1 is no mapping" },
};

Test(seed_document, forms)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned kind = CLOUD_USER_DATA; kind <= CLOUD_VENDOR_DATA; kind++) {
			struct text text = { NULL, rows[i].len };
			char why[200] = "";
			bool bad;

			if (!(rows[i].kinds & 1u << kind))
				continue;
			text.data = malloc(text.len + 1);
			memcpy(text.data, rows[i].text, text.len + 1);
			bad = cloud_document_fault(kind, &text, why, sizeof(why));
			cr_expect_eq(bad, rows[i].why != NULL, "%s: %s", rows[i].text, why);
			if (rows[i].why)
				cr_expect(strstr(why, rows[i].why), "%s: %s", rows[i].text, why);
			text_clear(&text);
		}
}

static void pack(const char *data, size_t len, struct text *out)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)len };

	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	out->len = deflateBound(&z, len);
	out->data = calloc(1, out->len + 1);
	z.next_out = (Bytef *)out->data;
	z.avail_out = (uInt)out->len;
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len = z.total_out;
	deflateEnd(&z);
}

/* cloud-init unpacks user-data: a compressed document is judged as the plain one; one that is cut, as damaged. */
Test(seed_document, compressed)
{
	char why[200] = "", *large = malloc(3 << 20);
	struct text text;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!(rows[i].kinds & USER) || !strncmp(rows[i].text, "\x1f\x8b", 2))
			continue;
		pack(rows[i].text, rows[i].len, &text);
		cr_expect_eq(cloud_document_fault(CLOUD_USER_DATA, &text, why, sizeof(why)),
			     rows[i].why != NULL, "%s: %s", rows[i].text, why);
		cr_expect(!rows[i].why || strstr(why, rows[i].why), "%s: %s", rows[i].text, why);
		for (text.len--; text.len > 2; text.len -= text.len > 12 ? 5 : 1) {
			cr_expect(cloud_document_fault(CLOUD_USER_DATA, &text, why, sizeof(why)));
			cr_expect_str_eq(why, "is a damaged gzip file");
		}
		text_clear(&text);
	}
	/* Only the beginning of a large one is looked at, to a line's end; or nothing of one line. */
	for (int lines = 0; lines < 2; lines++) {
		memset(large, lines ? '\n' : 'x', 3 << 20);
		memcpy(large, "#cloud-config\na: ", 17);
		pack(large, 3 << 20, &text);
		cr_expect_not(cloud_document_fault(CLOUD_USER_DATA, &text, why, sizeof(why)), "%s",
			      why);
		text_clear(&text);
	}
	memset(large, 'x', 3 << 20);
	pack(large, 3 << 20, &text);
	cr_expect_not(cloud_document_fault(CLOUD_USER_DATA, &text, why, sizeof(why)), "%s", why);
	text_clear(&text);
	free(large);
}
