/* printable: see printable.h. */
#include "vmm/core/printable.h"

#include "vmm/core/parse.h"

/* Bytes of the character at text; 0: the byte there must be replaced. */
static size_t good(const char *text)
{
	const uint8_t *from = (const uint8_t *)text, *at = from;
	int32_t c = parse_utf8(&at);

	return c < ' ' || (c >= 0x7f && c < 0xa0) ? 0 : (size_t)(at - from);
}

char *printable(char *text)
{
	for (char *at = text; *at;) {
		size_t n = good(at);

		if (!n)
			*at = '?';
		at += n ? n : 1;
	}
	return text;
}

bool printable_is(const char *text)
{
	while (*text) {
		size_t n = good(text);

		if (!n)
			return false;
		text += n;
	}
	return true;
}

void printable_put(FILE *out, const char *text)
{
	while (*text) {
		size_t n = good(text);

		if (n)
			fwrite(text, 1, n, out);
		else
			putc('?', out);
		text += n ? n : 1;
	}
}
