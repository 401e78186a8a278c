/* test_verdict_reports: JSON, JUnit and TAP of a result, and a guest's text in them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static struct verdict_rules *rules;
static struct verdict_case *c;

static const struct verdict_result *run(const char *log)
{
	struct err err;

	cr_assert_eq(verdict_rules_create(&rules, &err), 0);
	cr_assert_eq(verdict_rules_add(rules, "builtin", verdict_rules_builtin,
				       strlen(verdict_rules_builtin), NULL, NULL, &err),
		     0);
	cr_assert_eq(verdict_case_create(rules, true, VERDICT_ON_SPLAT_FAIL, &c), 0);
	verdict_case_log(c, VERDICT_CONSOLE, log, strlen(log));
	verdict_case_hello(c, "6.1.0", 1);
	verdict_case_started(c);
	verdict_case_clock(c, 1234567);
	verdict_case_exited(c, 0, 513, 0);
	verdict_case_bye(c);
	verdict_case_clock(c, 2000000);
	verdict_case_machine(c, VERDICT_END_POWER_OFF, NULL);
	return verdict_case_result(c);
}

static void end(void)
{
	verdict_case_destroy(c);
	verdict_rules_destroy(rules);
}

typedef int writer(const struct verdict_report *report, FILE *out);

static char *written(writer *write, const struct verdict_result *r, const char *name)
{
	struct verdict_report report = { .result = r, .name = name, .exit_status = 241 };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_assert_eq(write(&report, out), 0);
	fclose(out);
	return text;
}

/* Text of a guest, and what is left of it in each form. */
static const struct {
	const char *raw, *utf8, *xml;
} texts[] = {
	{ "plain", "plain", "plain" },
	{ "a\x01\x1f\x7f", "a\x01\x1f\x7f", "a\xef\xbf\xbd\xef\xbf\xbd\x7f" },
	{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
	  "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
	/* alone, cut, overlong, a surrogate, beyond U+10FFFF */
	{ "\xff", "\xef\xbf\xbd", "\xef\xbf\xbd" },
	{ "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd", "a\xef\xbf\xbd\xef\xbf\xbd" },
	{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd" },
	{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
	  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
	  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ "\xef\xbf\xbe\t\n", "\xef\xbf\xbe\t\n", "\xef\xbf\xbd\t\n" },
	{ "", "", "" },
};

Test(verdict_reports, utf8)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *utf8 = verdict_utf8(texts[i].raw, false),
		     *xml = verdict_utf8(texts[i].raw, true);

		cr_expect_str_eq(utf8, texts[i].utf8, "%zu", i);
		cr_expect_str_eq(xml, texts[i].xml, "%zu", i);
		free(utf8);
		free(xml);
	}
}

#define WARN_LINE "WARNING: CPU: 0 PID: 1 at x.c:1 <f>&\"\xff\\#"

Test(verdict_reports, json)
{
	const struct verdict_result *r = run("a\n[    1.500000] " WARN_LINE
					     "\n[    1.500001] Call Trace:\n");
	char *text = written(verdict_json, r, "n\"\n\xff");
	json_error_t error;
	json_t *j = json_loads(text, 0, &error), *splat, *evidence;

	cr_assert(j, "%s: %s", error.text, text);
	cr_assert(strchr(text, '\n') == text + strlen(text) - 1);
	cr_assert_str_eq(json_string_value(json_object_get(j, "verdict")), "splat");
	cr_assert_str_eq(json_string_value(json_object_get(j, "name")), "n\"\n\xef\xbf\xbd");
	cr_assert_eq(json_integer_value(json_object_get(j, "exit_status")), 241);
	cr_assert_eq(json_integer_value(json_object_get(j, "status")), 0);
	cr_assert(json_is_null(json_object_get(j, "signal")));
	cr_assert_str_eq(json_string_value(json_object_get(j, "phase")), "early kernel");
	cr_assert_float_eq(json_real_value(json_object_get(j, "total_time")), 2.0, 1e-9);
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(j, "taint"), "after")),
		     513);
	cr_assert_str_eq(json_string_value(json_object_get(j, "release")), "6.1.0");
	splat = json_array_get(json_object_get(j, "splats"), 0);
	cr_assert_str_eq(json_string_value(json_object_get(splat, "kind")), "warn");
	cr_assert_str_eq(json_string_value(json_object_get(splat, "report")),
			 "WARNING: CPU: 0 PID: 1 at x.c:1 <f>&\"\xef\xbf\xbd\\#\nCall Trace:\n");
	cr_assert_float_eq(json_real_value(json_object_get(splat, "time")), 1.5, 1e-9);
	evidence = json_array_get(json_object_get(j, "evidence"), 0);
	cr_assert_eq(json_integer_value(json_object_get(evidence, "line")), 2);
	cr_assert(!json_object_get(j, "vcpus"));
	json_decref(j);
	free(text);
	end();
}

Test(verdict_reports, json_of_a_hang)
{
	struct verdict_vcpu vcpu = { .n = 1, .sample = { { .rip = UINT64_MAX } } };
	struct verdict_result r = {
		.kind = VERDICT_HUNG, .status = -1, .vcpu = &vcpu, .nvcpus = 1
	};
	char *text = written(verdict_json, &r, NULL);

	cr_assert(
		strstr(text,
		       "\"vcpus\":[{\"vcpu\":0,\"state\":\"spins-interrupts-off\",\"rip\":[\"0xffffffffffffffff\"]}]"),
		"%s", text);
	cr_assert(strstr(text, "\"taint\":null"), "%s", text);
	free(text);
}

Test(verdict_reports, junit)
{
	const struct verdict_result *r = run("[    1.500000] " WARN_LINE "\n");
	char *text = written(verdict_junit, r, "a<b\x01\"");

	cr_assert_str_eq(
		text,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<testsuites tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"2.000\">\n"
		"  <testsuite name=\"bantam test\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"2.000\">\n"
		"    <testcase name=\"a&lt;b\xef\xbf\xbd&quot;\" classname=\"bantam.command\" time=\"2.000\">\n"
		"      <failure message=\"splat in phase early kernel: WARNING: CPU: 0 PID: 1 at x.c:1 &lt;f&gt;&amp;&quot;?\\#\" type=\"splat\">"
		"console:1: [    1.500000] WARNING: CPU: 0 PID: 1 at x.c:1 &lt;f&gt;&amp;&quot;\xef\xbf\xbd\\#\n"
		"</failure>\n"
		"      <system-err>WARNING: CPU: 0 PID: 1 at x.c:1 &lt;f&gt;&amp;&quot;\xef\xbf\xbd\\#\n</system-err>\n"
		"    </testcase>\n  </testsuite>\n</testsuites>\n",
		"%s", text);
	free(text);
	end();
}

Test(verdict_reports, tap)
{
	const struct verdict_result *r = run("[    1.500000] " WARN_LINE "\n");
	char *text = written(verdict_tap, r, "a # SKIP\nok 2\\");

	cr_assert_str_eq(
		text,
		"TAP version 13\n1..1\nnot ok 1 - a \\# SKIP ok 2\\\\\n  ---\n  verdict: splat\n"
		"  phase: early kernel\n  exit_status: 241\n  duration_ms: 2000\n"
		"  message: \"WARNING: CPU: 0 PID: 1 at x.c:1 <f>&\\\"?\\\\#\"\n"
		"  evidence:\n    - source: console\n      line: 1\n"
		"      text: \"WARNING: CPU: 0 PID: 1 at x.c:1 <f>&\\\"\xef\xbf\xbd\\\\#\"\n  ...\n",
		"%s", text);
	free(text);
	end();
}

/* Another cause names the mistake that came before it. */
Test(verdict_reports, because)
{
	const struct verdict_result *r = run(
		"[    1.000000] BUG: <x>\n[    9.000000] Kernel panic - not syncing: y\n");
	char *xml = written(verdict_junit, r, "n"), *tap = written(verdict_tap, r, "n");

	cr_assert_eq(r->kind, VERDICT_PANICKED);
	cr_expect(strstr(xml, ">first mistake of the kernel: BUG: &lt;x&gt;\n"), "%s", xml);
	cr_expect(strstr(tap, "\n  because: \"BUG: <x>\"\n"), "%s", tap);
	free(xml);
	free(tap);
	end();
}

/* How each verdict looks to a reader of the reports. */
Test(verdict_reports, kinds)
{
	for (unsigned k = 0; k < VERDICT_KINDS; k++) {
		struct verdict_result r = { .kind = k, .status = -1, .reason = "why" };
		char *xml = written(verdict_junit, &r, "n"), *tap = written(verdict_tap, &r, "n");
		bool good = k == VERDICT_PASSED, skip = k == VERDICT_SKIPPED;
		bool error = k == VERDICT_ERROR || k == VERDICT_INTERRUPTED;

		cr_expect_eq(strstr(xml, "<failure ") != NULL, !good && !skip && !error, "%s", xml);
		cr_expect_eq(strstr(xml, "<error ") != NULL, error, "%s", xml);
		cr_expect_eq(strstr(xml, "<skipped message=\"skipped in phase loader: why\"/>") !=
				     NULL,
			     skip, "%s", xml);
		cr_expect_eq(strstr(tap, "\nnot ok 1 - n\n") != NULL, !good && !skip, "%s", tap);
		cr_expect_eq(strstr(tap, "\nok 1 - n # SKIP why\n") != NULL, skip, "%s", tap);
		free(xml);
		free(tap);
	}
}

/* A stream that takes nothing. */
Test(verdict_reports, full_disk)
{
	struct verdict_result r = { .status = -1 };
	struct verdict_report report = { .result = &r, .name = "n" };
	writer *writers[] = { verdict_json, verdict_junit, verdict_tap };

	for (int i = 0; i < 3; i++) {
		FILE *out = fopen("/dev/full", "w");

		cr_assert(out);
		cr_expect_eq(writers[i](&report, out), -EIO, "%d", i);
		fclose(out);
	}
}
