/* test_verdict_lines: the kernel's log from a console and from /dev/kmsg, whole and in pieces. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static char seen[8000];

/* NUMBER LEVEL TIME CALLER FLAGS TEXT */
static void on_line(void *opaque, const struct verdict_line *l)
{
	size_t at = strlen(seen);
	char when[32] = "-", who[16] = "-", flags[8] = "";

	if (l->timed)
		snprintf(when, sizeof(when), "%llu", (unsigned long long)l->usec);
	if (l->caller)
		snprintf(who, sizeof(who), "%c%u", l->caller, l->caller_id);
	snprintf(flags, sizeof(flags), "%s%s", l->cut ? "c" : "", l->user ? "u" : "");
	cr_assert_eq(l->len, strlen(l->text));
	cr_assert_leq(l->len, VERDICT_LINE_MAX);
	snprintf(seen + at, sizeof(seen) - at, "%llu %d %s %s %s|%s\n",
		 (unsigned long long)l->number, l->level, when, who, flags,
		 l->len > 200 ? "LONG" : l->text);
}

static const struct {
	enum verdict_source source;
	const char *in, *want;
	uint64_t lost;
} cases[] = {
	{ VERDICT_CONSOLE, "[    1.234567] text\n", "1 -1 1234567 - |text\n" },
	{ VERDICT_CONSOLE, "[    1.234567] a\r\n\r\n[12345.000001] b\r\r\n",
	  "1 -1 1234567 - |a\n3 -1 12345000001 - |b\n" },
	{ VERDICT_CONSOLE, "[    1.234567][  T123] a\n[    1.234568][    C3] b\n",
	  "1 -1 1234567 T123 |a\n2 -1 1234568 C3 |b\n" },
	{ VERDICT_CONSOLE, "<6>[    1.234567] a\n<14>b\n<9999>c\n<x>d\n",
	  "1 6 1234567 - |a\n2 6 - - |b\n3 -1 - - |<9999>c\n4 -1 - - |<x>d\n" },
	{ VERDICT_CONSOLE, "[    1.234567][  X1] a\n[    1.234567][T99999999999] a\n",
	  "1 -1 1234567 - |[  X1] a\n2 -1 1234567 - |[T99999999999] a\n" },
	{ VERDICT_CONSOLE, "[    1.23456] a\n[ x.234567] b\n[1.2345678] c\n[\n[]\n",
	  "1 -1 - - |[    1.23456] a\n2 -1 - - |[ x.234567] b\n3 -1 - - |[1.2345678] c\n"
	  "4 -1 - - |[\n5 -1 - - |[]\n" },
	/* A number that no clock shows. */
	{ VERDICT_CONSOLE, "[99999999999999999999.000000] a\n",
	  "1 -1 - - |[99999999999999999999.000000] a\n" },
	/* A line of a program, cut by one of the kernel. */
	{ VERDICT_CONSOLE, "login: [   12.345678] BUG: x\n",
	  "1 -1 - - c|login:\n1 -1 12345678 - |BUG: x\n" },
	{ VERDICT_CONSOLE, "a<3>[   12.345678][    T1] BUG: x\n",
	  "1 -1 - - c|a\n1 3 12345678 T1 |BUG: x\n" },
	{ VERDICT_CONSOLE, "[    1.000000] x[    2.000000] y\n",
	  "1 -1 1000000 - c|x\n1 -1 2000000 - |y\n" },
	/* Not a prefix: no padding, no blank after it. */
	{ VERDICT_CONSOLE, "took [1.234567] s\nat [    1.234567]s\n",
	  "1 -1 - - |took [1.234567] s\n2 -1 - - |at [    1.234567]s\n" },
	/* Escape sequences, whole and not. */
	{ VERDICT_CONSOLE, "\033[1;31mred\033[0m \033(B\033=x\033[?25l\n", "1 -1 - - |red x\n" },
	{ VERDICT_CONSOLE, "a\033[    1.234567] BUG: x\n",
	  "1 -1 - - c|a\n1 -1 1234567 - |BUG: x\n" },
	{ VERDICT_CONSOLE, "a\033[12345.234567] BUG: x\n",
	  "1 -1 - - c|a\n1 -1 12345234567 - |BUG: x\n" },
	{ VERDICT_CONSOLE, "a\033[1;2[    1.234567] BUG: x\n",
	  "1 -1 - - c|a[1;2\n1 -1 1234567 - |BUG: x\n" },
	{ VERDICT_CONSOLE, "a\033\n\033[1\nb\033", "1 -1 - - |a\n2 -1 - - |[1\n3 -1 - - c|b\n" },
	{ VERDICT_CONSOLE, "a\tb\x01\x7f\xff\n", "1 -1 - - |a b??\xff\n" },
	{ VERDICT_CONSOLE, "[    1.234567] half", "1 -1 1234567 - c|half\n" },
	{ VERDICT_CONSOLE, "** 17 printk messages dropped **\n",
	  "1 -1 - - |** 17 printk messages dropped **\n", 17 },

	{ VERDICT_KMSG, "6,1234,5678901,-;text\n", "1 6 5678901 - |text\n" },
	{ VERDICT_KMSG, "6,1,2,-;a\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n4,2,3,c;b\n",
	  "1 6 2 - |a\n2 4 3 - |b\n" },
	{ VERDICT_KMSG, "4,7,8,-,caller=T12;a\n3,8,9,-,x=y,caller=C0;b\n12,9,9,-;u\n",
	  "1 4 8 T12 |a\n2 3 9 C0 |b\n3 4 9 - u|u\n" },
	{ VERDICT_KMSG, "6,1,2,-;a\\x0ab\\x5cn\\x09\\x1b[1m\\xc3\\xa4\n",
	  "1 6 2 - |a\n1 6 2 - |b\\n ?[1m\xc3\xa4\n" },
	{ VERDICT_KMSG, "6,1,2,-;a\\n\\x1\\xzz\\\\x41\\\n", "1 6 2 - |a\\n\\x1\\xzz\\A\\\n" },
	{ VERDICT_KMSG, "6,1,2,-;a\n6,5,9,-;b\n6,6,9,-;c\n", "1 6 2 - |a\n2 6 9 - |b\n3 6 9 - |c\n",
	  3 },
	{ VERDICT_KMSG, "6,1,2;a\nx,1,2,-;b\n99999,1,2,-;c\n6,99999999999999999999,2,-;d\nnone\n",
	  "1 -1 - - |6,1,2;a\n2 -1 - - |x,1,2,-;b\n3 -1 - - |99999,1,2,-;c\n"
	  "4 -1 - - |6,99999999999999999999,2,-;d\n5 -1 - - |none\n" },
	{ VERDICT_KMSG, "6,1,2,-;[    1.234567] BUG\n6,2,2,-;", "1 6 2 - |[    1.234567] BUG\n" },
};

Test(verdict_lines, table)
{
	static const size_t steps[] = { 1, 2, 3, 7, 1000 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = strlen(cases[i].in);

		for (size_t k = 0; k < 5; k++) {
			struct verdict_reader r;

			seen[0] = 0;
			verdict_reader_init(&r, cases[i].source, on_line, NULL);
			for (size_t at = 0; at < len; at += steps[k])
				verdict_reader_feed(&r, cases[i].in + at,
						    len - at < steps[k] ? len - at : steps[k]);
			verdict_reader_flush(&r);
			cr_assert_str_eq(seen, cases[i].want, "case %zu, pieces of %zu:\n%s", i,
					 steps[k], seen);
			cr_assert_eq(r.lost, cases[i].lost, "case %zu", i);
		}
	}
}

/* However long a program's line is, and wherever the limit falls, the kernel's line after it is found. */
Test(verdict_lines, long_lines)
{
	static const char bug[] = "[   12.345678] BUG: x\n", want[] = "1 -1 12345678 - |BUG: x\n";

	for (size_t pad = VERDICT_LINE_MAX - 40; pad < VERDICT_LINE_MAX + 40; pad++) {
		struct verdict_reader r;

		seen[0] = 0;
		verdict_reader_init(&r, VERDICT_CONSOLE, on_line, NULL);
		for (size_t i = 0; i < pad; i++)
			verdict_reader_feed(&r, "y", 1);
		verdict_reader_feed(&r, bug, strlen(bug));
		cr_assert(strlen(seen) > strlen(want) &&
				  !strcmp(seen + strlen(seen) - strlen(want), want),
			  "%zu: %s", pad, seen);
	}
}

Test(verdict_lines, nul_bytes_are_dropped)
{
	struct verdict_reader r;

	seen[0] = 0;
	verdict_reader_init(&r, VERDICT_CONSOLE, on_line, NULL);
	verdict_reader_feed(&r, "\0[    1.0\00000000] a\0b\n", 21);
	cr_assert_str_eq(seen, "1 -1 1000000 - |ab\n");
}

Test(verdict_lines, phases)
{
	static const struct {
		const char *text;
		enum verdict_phase want;
	} table[] = {
		{ "Linux version 6.1.0-13-amd64 (debian-kernel)", VERDICT_EARLY_KERNEL },
		{ "Command line: console=ttyS0", VERDICT_EARLY_KERNEL },
		{ "devtmpfs: initialized", VERDICT_KERNEL },
		{ "smp: Brought up 1 node, 2 CPUs", VERDICT_KERNEL },
		{ "Freeing unused kernel image (initmem) memory: 2796K", VERDICT_KERNEL },
		{ "Run /init as init process", VERDICT_INIT },
		{ "Run /sbin/init as init process", VERDICT_INIT },
		{ "Run / as init", VERDICT_LOADER },
		{ "I say: Run /init as init process", VERDICT_LOADER },
		{ "Linux", VERDICT_LOADER },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct verdict_line line = { .text = table[i].text, .len = strlen(table[i].text) };

		cr_assert_eq(verdict_line_phase(&line), table[i].want, "%s", table[i].text);
	}
	cr_assert_str_eq(verdict_phase_name(VERDICT_EARLY_KERNEL), "early kernel");
	cr_assert_str_eq(verdict_phase_name(VERDICT_PHASES), "");
}
