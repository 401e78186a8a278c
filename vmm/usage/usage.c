/* usage: see usage.h. */
#include "vmm/usage/usage.h"

#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

/* Of a terminal: below this a line cannot hold an option and its value, above it the eye loses the line. */
#define NARROWEST 40
#define WIDEST 120
/* The least room for help beside a lead. */
#define BESIDE 30

int usage_columns(FILE *out)
{
	struct winsize size;
	int fd = fileno(out); /* -1: memory, no terminal either */

	if (fd < 0 || ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
		return USAGE_COLUMNS;
	return size.ws_col < NARROWEST ? NARROWEST : size.ws_col > WIDEST ? WIDEST : size.ws_col;
}

/* Characters in len bytes of UTF-8. */
static int width_of(const char *text, size_t len)
{
	int n = 0;

	for (size_t i = 0; i < len; i++)
		n += (text[i] & 0xc0) != 0x80;
	return n;
}

/* Writes a word behind what stands in the line up to column *at, or in the next line, from column rest on. */
static void put(FILE *out, int *at, int rest, const char *word, size_t len, bool blank)
{
	int width = width_of(word, len);

	if (blank && *at + 1 + width > usage_columns(out)) {
		fprintf(out, "\n%*s", rest, "");
		*at = rest;
	} else if (blank) {
		fputc(' ', out);
		++*at;
	}
	fwrite(word, 1, len, out);
	*at += width;
}

/* The words of text; returns whether there was one. */
static bool put_words(FILE *out, int *at, int rest, const char *text)
{
	bool any = false;

	for (;;) {
		size_t len;

		text += strspn(text, " \n");
		len = strcspn(text, " \n");
		if (!len)
			return any;
		put(out, at, rest, text, len, any);
		any = true;
		text += len;
	}
}

void usage_text(FILE *out, int indent, int rest, const char *text)
{
	int at = indent;

	fprintf(out, "%*s", indent, "");
	put_words(out, &at, rest, text);
	fputc('\n', out);
}

void usage_row(FILE *out, int indent, int help_at, const char *lead, const char *help,
	       const char *note)
{
	int at = indent + width_of(lead, strlen(lead));
	char last[96];
	bool any;

	if (usage_columns(out) < help_at + BESIDE)
		help_at = indent + 4;
	fprintf(out, "%*s%s", indent, "", lead);
	if (!*help && !note) {
		fputc('\n', out);
		return;
	}
	if (at + 2 > help_at) {
		fputc('\n', out);
		at = 0;
	}
	fprintf(out, "%*s", help_at - at, "");
	at = help_at;
	any = put_words(out, &at, help_at, help);
	if (note) {
		int n = snprintf(last, sizeof(last), "[%s]", note);

		put(out, &at, help_at, last,
		    (size_t)n < sizeof(last) ? (size_t)n : sizeof(last) - 1, any);
	}
	fputc('\n', out);
}
