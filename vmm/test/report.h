/*
 * test/report: the reports of a test: --verdict, --junit, --tap, and the last line on stderr.
 *
 * A place that cannot be written is an error before the boot. A file appears, or replaces an older one, only when it
 * is complete; a FIFO, a device and a descriptor (--verdict N, "-", /dev/stdout, /dev/fd/N) are written as they
 * are.
 *
 * Thread: one, at any time.
 */
#ifndef BANTAM_TEST_REPORT_H
#define BANTAM_TEST_REPORT_H

#include <stdbool.h>

#include "vmm/core/err.h"
#include "vmm/test/options.h"
#include "vmm/verdict/verdict.h"

struct test_report;

/* Of options: verdict, junit, tap, json, whose strings outlive the report. Looks at each place. 0 or -errno with err, which names the option; then no file has been changed. */
int test_report_create(const struct test_options *options, struct test_report **out,
		       struct err *err);
/*
 * Writes all reports but the last line. 0, or the first -errno, with err: the others are still written. Call it
 * once. Waits for slow readers at most limit_ms, -1: as long as it takes.
 */
int test_report_write(struct test_report *t, const struct verdict_report *report, int limit_ms,
		      struct err *err);
/* Writes the last line, "bantam: passed …" or JSON. It comes after all else that goes to stderr. limit_ms: as above. */
void test_report_last(const struct test_report *t, const struct verdict_report *report,
		      int limit_ms);
/* Leaves no half file. Accepts NULL. */
void test_report_destroy(struct test_report *t);

#endif
