/* printable: replaces what a terminal would obey, and changes nothing else. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/printable.h"

TestSuite(printable, .timeout = 30);

static const struct {
	const char *text, *want; /* NULL: unchanged */
} cases[] = {
	{ "", NULL },
	{ "plain text ~!", NULL },
	{ "gr\xc3\xbc\xc3\x9f dich \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80", NULL },
	{ "\xc2\xa0", NULL },	       /* U+00A0, after the last control */
	{ "\xc4\x9b \xd0\x9b", NULL }, /* U+011B, U+041B: contain the byte 9B */
	{ "\xf4\x8f\xbf\xbf", NULL },  /* U+10FFFF */
	{ "a\nb\r\tc\x7f", "a?b??c?" },
	{ "\033[2J\033]0;title\007", "?[2J?]0;title?" },
	{ "\xc2\x80", "??" },
	{ "\xc2\x9b"
	  "31m",
	  "??31m" }, /* CSI in UTF-8 */
	{ "\xc2\x9d"
	  "0;x\xc2\x9c",
	  "??0;x??" }, /* OSC, ST */
	{ "\xc2\x9f", "??" },
	{ "\x9b"
	  "2J",
	  "?2J" }, /* CSI in Latin-1 */
	{ "caf\xe9", "caf?" },
	{ "\xc0\x9b"
	  "x",
	  "??x" }, /* overlong: ESC, U+001B */
	{ "\xc0\x8a", "??" },
	{ "\xe0\x82\x9b", "???" },	/* overlong: U+009B */
	{ "\xed\xa0\x80", "???" },	/* a surrogate */
	{ "\xf4\x90\x80\x80", "????" }, /* beyond Unicode */
	{ "\xff\xfe", "??" },
	{ "cut \xe6\x97", "cut ??" },
	{ "\xc3\033x", "??x" }, /* the second byte is no continuation byte */
};

static void judge(const char *text, const char *want)
{
	char *copy = strdup(text), *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);

	cr_assert_eq(printable(copy), copy);
	cr_expect_str_eq(copy, want);
	cr_expect(printable_is(copy), "\"%s\" is settled", copy);
	cr_expect_eq(printable_is(text), !strcmp(text, want), "%s", want);
	printable_put(f, text);
	fclose(f);
	cr_expect_str_eq(out, want);
	free(out);
	free(copy);
}

Test(printable, cases)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		judge(cases[i].text, cases[i].want ? cases[i].want : cases[i].text);
}

Test(printable, every_character_of_one_and_two_bytes)
{
	for (unsigned c = 1; c < 0x800; c++) {
		bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
		char text[3] = { (char)c };

		if (c >= 0x80) {
			text[0] = (char)(0xc0 | c >> 6);
			text[1] = (char)(0x80 | (c & 0x3f));
		}
		judge(text, !control ? text : c < 0x80 ? "?" : "??");
	}
}

Test(printable, a_byte_with_the_high_bit_alone)
{
	for (unsigned c = 0x80; c < 0x100; c++)
		judge((char[]){ (char)c, 'x', 0 }, "?x");
}
