/* The layout of help texts: vmm/usage. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/usage/options.h"
#include "vmm/usage/usage.h"

TestSuite(usage, .timeout = 10);

Test(usage, rows)
{
	static const struct {
		int indent;
		const char *lead, *help, *note, *is;
	} table[] = {
		{ 2, "--a X", "does", NULL, "  --a X                       does\n" },
		{ 2, "--a", "", NULL, "  --a\n" },
		{ 2, "--a", "", "1", "  --a                         [1]\n" },
		{ 2, "--a", "does", "at most 2",
		  "  --a                         does [at most 2]\n" },
		/* UTF-8: columns are characters. */
		{ 2, "--a KEY=VALUE,…", "…é", NULL, "  --a KEY=VALUE,…             …é\n" },
		/* Two blanks between lead and help, or a line for itself. */
		{ 2, "--abcdefghijklmnopqrstuvwx", "y", NULL, "  --abcdefghijklmnopqrstuvwx  y\n" },
		{ 2, "--abcdefghijklmnopqrstuvwxy", "y", NULL,
		  "  --abcdefghijklmnopqrstuvwxy\n                              y\n" },
		/* 50 columns of help are one line, a 51st begins another. */
		{ 6, "k=V", "1234567890 234567890 234567890 234567890 234567890", NULL,
		  "      k=V                     1234567890 234567890 234567890 234567890 234567890\n" },
		{ 6, "k=V", "1234567890 234567890 234567890 234567890 2345678901", NULL,
		  "      k=V                     1234567890 234567890 234567890 234567890\n"
		  "                              2345678901\n" },
		/* A note is not broken. */
		{ 2, "--a", "1234567890 234567890 234567890 23456789", "at most 15",
		  "  --a                         1234567890 234567890 234567890 23456789\n"
		  "                              [at most 15]\n" },
		/* A word that is longer than the room stays whole. */
		{ 2, "--a", "x 12345678901234567890123456789012345678901234567890123456789 y", NULL,
		  "  --a                         x\n"
		  "                              12345678901234567890123456789012345678901234567890123456789\n"
		  "                              y\n" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *text;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		usage_row(out, table[i].indent, USAGE_HELP_AT, table[i].lead, table[i].help,
			  table[i].note);
		fclose(out);
		cr_expect_str_eq(text, table[i].is, "row %zu:\n%s", i, text);
		free(text);
	}
}

Test(usage, paragraphs)
{
	static const struct {
		int indent, rest;
		const char *text, *is;
	} table[] = {
		{ 0, 0, "", "\n" },
		{ 0, 0, "one  two\nthree ", "one two three\n" },
		{ 2, 4,
		  "1234567890 234567890 234567890 234567890 234567890 234567890 234567890 2345678 x",
		  "  1234567890 234567890 234567890 234567890 234567890 234567890 234567890 2345678\n"
		  "    x\n" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *text;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		usage_text(out, table[i].indent, table[i].rest, table[i].text);
		fclose(out);
		cr_expect_str_eq(text, table[i].is, "text %zu:\n%s", i, text);
		free(text);
	}
}

/* A row on a terminal of that width. No line is wider than 120 columns. */
static void on_terminal(unsigned short columns, char *text, size_t len)
{
	struct winsize ws = { 24, columns, 0, 0 };
	int master, slave;
	FILE *out;
	ssize_t n;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &ws), 0);
	out = fdopen(slave, "w");
	cr_assert_not_null(out);
	usage_row(
		out, 2, USAGE_HELP_AT, "--a X",
		"1234567890 234567890 234567890 234567890 234567890 234567890 234567890 234567890 234567890",
		NULL);
	fflush(out);
	n = read(master, text, len - 1);
	cr_assert_gt(n, 0);
	text[n] = 0;
	fclose(out);
	close(master);
}

Test(usage, terminals)
{
	static const struct {
		unsigned short columns;
		size_t longest;
		const char *begins;
	} table[] = {
		{ 0, 80, "  --a X                       1234567890 234" },
		{ 80, 80, "  --a X                       1234567890 234" },
		{ 100, 100, "  --a X                       1234567890 234" },
		{ 500, 120, "  --a X                       1234567890 234" },
		/* Too narrow for two columns. */
		{ 59, 56, "  --a X\r\n      1234567890 234" },
		{ 1, 36, "  --a X\r\n      1234567890 234" },
	};
	char text[600];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t longest = 0;

		on_terminal(table[i].columns, text, sizeof(text));
		cr_expect_eq(strncmp(text, table[i].begins, strlen(table[i].begins)), 0,
			     "%u columns:\n%s", table[i].columns, text);
		for (char *line = text; *line; line += strcspn(line, "\n") + 1)
			if (strcspn(line, "\r") > longest)
				longest = strcspn(line, "\r");
		cr_expect_eq(longest, table[i].longest, "%u columns: %zu", table[i].columns,
			     longest);
	}
}

/* --- options.h ------------------------------------------------------------------ */

static const struct usage_option few[] = {
	{ "output", 'o', "FILE", "where to" },
	{ "force", 'f', NULL, "replace" },
	{ "size", 256, "SIZE", "" },
	{ "quiet", 257, NULL, "" },
	{ 0 },
};

/* What the command line is, as "ID[=VALUE] …", operands as "=VALUE", and at the end the message. */
static void walk(char *words, char *text, size_t size)
{
	char *argv[16];
	struct usage_words w = { .argv = argv, .options = few, .see = "x --help" };
	const struct usage_option *o;
	const char *value;
	struct err err = { "" };
	size_t n = 0;
	int rc;

	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[w.argc++] = strcmp(word, "EMPTY") ? word : (char *)"";
	*text = 0;
	while ((rc = usage_next(&w, &o, &value, &err)) > 0) {
		n += (size_t)snprintf(text + n, size - n, "%s%s%s%s", n ? " " : "",
				      o ? o->name : "", value ? "=" : "", value ? value : "");
		cr_assert_lt(n, size);
	}
	cr_expect_eq(rc, err.text[0] ? -EINVAL : 0);
	snprintf(text + n, size - n, "%s%s", n && err.text[0] ? " " : "", err.text);
}

Test(usage, options)
{
	static const char *const table[][2] = {
		{ "", "" },
		{ "a", "=a" },
		{ "--output x --size=3 y", "output=x size=3 =y" },
		{ "-o x -ox -fo x -fox", "output=x output=x force output=x force output=x" },
		{ "--output= --output EMPTY", "output= output=" },
		{ "--output -f -o -f", "output=-f output=-f" },
		{ "--output -- x", "output=-- =x" },
		{ "-f -- -f -- --output", "force =-f =-- =--output" },
		{ "- EMPTY --", "=- =" },
		{ "--", "" },
		{ "-ff", "force force" },
		{ "-f=x", "force \"-f=x\": no such option; see x --help" },
		{ "-fq", "force \"-fq\": no such option; see x --help" },
		{ "-\xff", "\"-?\": no such option; see x --help" },
		{ "--outpu x", "\"--outpu\": no such option; did you mean --output?" },
		{ "--sizes=3", "\"--sizes=3\": no such option; did you mean --size?" },
		{ "--=x", "\"--=x\": no such option; see x --help" },
		{ "--force=on", "--force: takes no value" },
		{ "--force=", "--force: takes no value" },
		{ "-f --output", "force --output: needs a value; see x --help" },
		{ "-fo", "force -fo: needs a value; see x --help" },
		{ "-q", "\"-q\": no such option; see x --help" },
	};
	char words[100], text[300];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		snprintf(words, sizeof(words), "%s", table[i][0]);
		walk(words, text, sizeof(text));
		cr_expect_str_eq(text, table[i][1], "%s: %s", table[i][0], text);
	}
}

Test(usage, option_rows)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (const struct usage_option *o = few; o->name; o++)
		usage_option_row(out, 22, o);
	fclose(out);
	cr_expect_str_eq(text, "  -o, --output FILE   where to\n"
			       "  -f, --force         replace\n"
			       "  --size SIZE\n"
			       "  --quiet\n");
	free(text);
}
