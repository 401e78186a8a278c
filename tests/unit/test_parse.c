/* parse: numbers, sizes, booleans, near misses and key=value lists. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/parse.h"

struct number_case {
	const char *text;
	int rc;
	uint64_t val;
};

#define EACH(c, table)                                                                             \
	for (size_t i_ = 0; i_ < sizeof(table) / sizeof(table[0]) && (c = &table[i_]); i_++)

Test(parse, modes)
{
	static const struct {
		const char *text;
		unsigned mode; /* 0: refused */
	} cases[] = {
		{ "600", 0600 }, { "0640", 0640 }, { "777", 0777 }, { "4", 4 },	   { "", 0 },
		{ "0", 0 },	 { "1777", 0 },	   { "888", 0 },    { "u=rw", 0 }, { "-600", 0 },
		{ "00600", 0 },	 { " 600", 0 },	   { "0x1ff", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned mode = 0;

		cr_expect_eq(parse_mode(cases[i].text, &mode), cases[i].mode ? 0 : -EINVAL, "%s",
			     cases[i].text);
		cr_expect_eq(mode, cases[i].mode, "%s", cases[i].text);
	}
}

Test(parse, u64)
{
	static const struct number_case table[] = {
		{ "0", 0, 0 },
		{ "7", 0, 7 },
		{ "007", 0, 7 },
		{ "0x0", 0, 0 },
		{ "0xfF", 0, 255 },
		{ "0XAb", 0, 0xab },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "0xffffffffffffffff", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999999", -ERANGE, 0 },
		{ "0x10000000000000000", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "x1", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1\n", -EINVAL, 0 },
		{ "1k", -EINVAL, 0 },
		{ "1.0", -EINVAL, 0 },
		{ "12a", -EINVAL, 0 },
		{ "0x1g", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "\xff", -EINVAL, 0 },
	};
	const struct number_case *c;

	EACH(c, table)
	{
		uint64_t val = 42;
		int rc = parse_u64(c->text, &val);

		cr_expect_eq(rc, c->rc, "\"%s\": %d", c->text, rc);
		cr_expect_eq(val, rc ? 42 : c->val, "\"%s\": %llu", c->text,
			     (unsigned long long)val);
	}
}

Test(parse, size)
{
	static const struct number_case table[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "4096B", 0, 4096 },
		{ "64k", 0, 64 << 10 },
		{ "64K", 0, 64 << 10 },
		{ "64KiB", 0, 64 << 10 },
		{ "64Ki", 0, 64 << 10 },
		{ "64KB", 0, 64 << 10 },
		{ "512M", 0, 512 << 20 },
		{ "512MiB", 0, 512 << 20 },
		{ "2G", 0, 2ull << 30 },
		{ "1.5G", 0, 3ull << 29 },
		{ "0.5k", 0, 512 },
		{ "0.000001G", 0, 4096 },
		{ "1.1G", 0, 1181118464 },
		{ "1.1M", 0, 1155072 },
		{ "0.1P", 0, 112589990686720 },
		{ "1.000001E", 0, (1ull << 60) + 1152921505792 },
		{ "0.0000K", 0, 0 },
		{ "0.000000G", 0, 0 },
		{ "0.3k", 0, 308 },
		{ "1.0M", 0, 1 << 20 },
		{ "4T", 0, 4ull << 40 },
		{ "16777215T", 0, 16777215ull << 40 },
		{ "16777215.999999T", 0, (16777215ull << 40) + 1099510530048ull },
		{ "16777216T", -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "18446744073709551615k", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ ".5G", -EINVAL, 0 },
		{ "1.G", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "1.5B", -EINVAL, 0 },
		{ "1.1234567G", -EINVAL, 0 },
		{ "1..5G", -EINVAL, 0 },
		{ "1,5G", -EINVAL, 0 },
		{ "-1M", -EINVAL, 0 },
		{ "+1M", -EINVAL, 0 },
		{ " 1M", -EINVAL, 0 },
		{ "1 M", -EINVAL, 0 },
		{ "1MM", -EINVAL, 0 },
		{ "1Mb", -EINVAL, 0 },
		{ "1MBi", -EINVAL, 0 },
		{ "1iB", -EINVAL, 0 },
		{ "1P", 0, 1ull << 50 },
		{ "2pib", -EINVAL, 0 },
		{ "2PiB", 0, 2ull << 50 },
		{ "8E", 0, 8ull << 60 },
		{ "15.999999e", 0, (15ull << 60) + 1152920351685345280 },
		{ "16E", -ERANGE, 0 },
		{ "16384P", -ERANGE, 0 },
		{ "1Z", -EINVAL, 0 },
		{ "0x100", -EINVAL, 0 },
		{ "1\xcb", -EINVAL, 0 },
		{ "1\x0b", -EINVAL, 0 },
	};
	const struct number_case *c;

	EACH(c, table)
	{
		uint64_t val = 42;
		int rc = parse_size(c->text, &val);

		cr_expect_eq(rc, c->rc, "\"%s\": %d", c->text, rc);
		cr_expect_eq(val, rc ? 42 : c->val, "\"%s\": %llu", c->text,
			     (unsigned long long)val);
	}
}

Test(parse, durations)
{
	static const struct number_case table[] = {
		{ "0", 0, 0 },
		{ "0ms", 0, 0 },
		{ "1", 0, 1000000 },
		{ "500ms", 0, 500000 },
		{ "60s", 0, 60000000 },
		{ "5m", 0, 300000000 },
		{ "2h", 0, 7200000000 },
		{ "18446744073709", 0, 18446744073709000000ull },
		{ "18446744073710", -ERANGE, 0 },
		{ "18446744073709551615ms", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "-1", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "1 s", -EINVAL, 0 },
		{ "1S", -EINVAL, 0 },
		{ "1sec", -EINVAL, 0 },
		{ "1d", -EINVAL, 0 },
		{ "1.5s", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1us", -EINVAL, 0 },
		{ "inf", -EINVAL, 0 },
	};
	const struct number_case *c;

	EACH(c, table)
	{
		uint64_t val = 42;
		int rc = parse_duration(c->text, &val);

		cr_expect_eq(rc, c->rc, "\"%s\": %d", c->text, rc);
		if (!rc)
			cr_expect_eq(val, c->val, "\"%s\": %llu", c->text, (unsigned long long)val);
	}
}

Test(parse, size_text_reads_back)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} table[] = {
		{ 0, "0" },
		{ 1, "1" },
		{ 1023, "1023" },
		{ 4097, "4097" },
		{ 1024, "1K" },
		{ 512 << 20, "512M" },
		{ 3ull << 29, "1536M" },
		{ 4ull << 40, "4T" },
		{ 3ull << 50, "3P" },
		{ 1ull << 60, "1E" },
		{ UINT64_MAX, "18446744073709551615" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char buf[32];
		uint64_t back = 0;

		cr_expect_str_eq(parse_size_text(table[i].bytes, buf, sizeof(buf)), table[i].text);
		cr_expect_eq(parse_size(buf, &back), 0);
		cr_expect_eq(back, table[i].bytes);
	}
	/* Writes never go past the buffer's end. */
	char small[4] = "xyz";

	cr_expect_str_eq(parse_size_text(UINT64_MAX, small, 3), "18");
}

Test(parse, boolean)
{
	static const char *const yes[] = { "on", "true", "yes", "1" };
	static const char *const no[] = { "off", "false", "no", "0" };
	static const char *const bad[] = { "", "On", "TRUE", "y", "2", " on", "on ", "onn", "o" };
	bool out;

	for (size_t i = 0; i < 4; i++) {
		out = false;
		cr_expect(!parse_bool(yes[i], &out) && out, "%s", yes[i]);
		cr_expect(!parse_bool(no[i], &out) && !out, "%s", no[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		out = true;
		cr_expect_eq(parse_bool(bad[i], &out), -EINVAL, "\"%s\"", bad[i]);
		cr_expect(out, "\"%s\" changed the result", bad[i]);
	}
}

Test(parse, nearest)
{
	static const char *const names[] = { "kernel", "initrd", "cmdline", "cpus",
					     "memory", "ro",	 "serial",  "transport" };
	static const struct {
		const char *text, *near;
	} table[] = {
		{ "kernel", "kernel" },
		{ "kernal", "kernel" },
		{ "kernell", "kernel" },
		{ "mem", "memory" },
		{ "memo", "memory" },
		{ "cpu", "cpus" },
		{ "vcpus", "cpus" },
		{ "intird", "initrd" },
		{ "cmd", "cmdline" },
		{ "append", NULL },
		{ "xyzzy", NULL },
		{ "", NULL },
		{ "r", "ro" },
		{ "serials", "serial" },
		{ "trnsprt", "transport" },
		{ "KERNEL", NULL },
		{ "kernelkernelkernelkernelkernelkernelkernel", "kernel" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *near = parse_nearest(table[i].text, names, 8);

		cr_expect(near == table[i].near ||
				  (near && table[i].near && !strcmp(near, table[i].near)),
			  "\"%s\" -> %s", table[i].text, near ? near : "(none)");
	}
	cr_expect_null(parse_nearest("kernel", names, 0));
}

/* Writes the pairs as "a|b=c"; a pair with value NULL has no "=". */
static void join(const struct parse_pair *pair, size_t n, char *buf, size_t len)
{
	*buf = 0;
	for (size_t i = 0; i < n; i++) {
		size_t used = strlen(buf);

		snprintf(buf + used, len - used, "%s%s%s%s", i ? "|" : "", pair[i].key,
			 pair[i].val ? "=" : "", pair[i].val ? pair[i].val : "");
	}
}

Test(parse, pairs)
{
	static const struct {
		const char *text;
		int rc;
		size_t n;
		const char *joined;
	} table[] = {
		{ "", 0, 0, "" },
		{ "a", 0, 1, "a" },
		{ "a=b", 0, 1, "a=b" },
		{ "a=", 0, 1, "a=" },
		{ "=b", 0, 1, "=b" },
		{ "a=b=c", 0, 1, "a=b=c" },
		{ "a=b,c", 0, 2, "a=b|c" },
		{ "a=b,c=d,e", 0, 3, "a=b|c=d|e" },
		{ "a=b,,c", 0, 1, "a=b,c" },
		{ "a=,,", 0, 1, "a=," },
		{ "a=b,,,c", 0, 2, "a=b,|c" },
		{ "a=b,,,,c", 0, 1, "a=b,,c" },
		{ ",,", 0, 1, "," },
		{ ",", 0, 2, "|" },
		{ "a,", 0, 2, "a|" },
		{ ",a", 0, 2, "|a" },
		{ "a,b,c,d", 0, 4, "a|b|c|d" },
		{ "a,b,c,d,e", -E2BIG, 4, "a|b|c|d" },
		{ "a,b,c,d,", -E2BIG, 4, "a|b|c|d" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct parse_pair pair[4];
		size_t n = 99;
		char *copy = NULL, joined[64];
		int rc = parse_pairs(table[i].text, pair, 4, &n, &copy);

		cr_expect_eq(rc, table[i].rc, "\"%s\": %d", table[i].text, rc);
		cr_assert_eq(n, table[i].n, "\"%s\": %zu pairs", table[i].text, n);
		join(pair, n, joined, sizeof(joined));
		cr_expect_str_eq(joined, table[i].joined, "\"%s\": %s", table[i].text, joined);
		free(copy);
	}
}
