/*
 * fuzz_verdict: any bytes in a guest's logs.
 *
 * Input: a byte, then the log. The byte's bits: 0 to 5 the size of the pieces (0: one piece), 7: records of
 * /dev/kmsg, not a console; 6: the command ends in the middle of the log. Lines are the same in pieces and
 * whole, have no control characters and no more bytes than the limit; the kernel's reports keep to their limits;
 * the documents made of all that are JSON, and one point of TAP and one case of JUnit in valid UTF-8.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct verdict_splats *splats;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_line(void *opaque, const struct verdict_line *line)
{
	uint64_t *sum = opaque;

	check(line->len && line->len <= VERDICT_LINE_MAX && strlen(line->text) == line->len);
	check(line->level >= -1 && line->level <= 7 && line->number);
	for (size_t i = 0; i < line->len; i++) {
		uint8_t c = (uint8_t)line->text[i];

		check(c >= 0x20 && c != 0x7f);
		*sum = (*sum ^ c) * 0x100000001b3u;
	}
	*sum = (*sum ^ line->number ^ line->usec ^ line->seq ^ (uint64_t)line->level) *
	       0x100000001b3u;
	if (splats) {
		enum verdict_splat_kind kind;

		verdict_splats_line(splats, line, verdict_line_phase(line), &kind);
	}
}

static uint64_t read_log(enum verdict_source source, const uint8_t *data, size_t size, size_t step)
{
	struct verdict_reader r;
	uint64_t sum = 0;

	verdict_reader_init(&r, source, on_line, &sum);
	for (size_t at = 0; at < size; at += step)
		verdict_reader_feed(&r, data + at, size - at < step ? size - at : step);
	verdict_reader_flush(&r);
	return sum ^ r.lost;
}

typedef int writer(const struct verdict_report *report, FILE *out);

static char *written(writer *write, const struct verdict_report *report)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	check(out && !write(report, out) && !fclose(out));
	check(strlen(text) == len);
	return text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

/* Valid UTF-8 without control characters but newlines. */
static void check_text(const char *text)
{
	json_t *j = json_string(text);

	check(j);
	json_decref(j);
	for (; *text; text++)
		check((uint8_t)*text >= 0x20 || *text == '\n');
}

static void check_documents(const struct verdict_result *r)
{
	struct verdict_report report = { .result = r, .name = r->reason };
	char *json = written(verdict_json, &report), *xml = written(verdict_junit, &report);
	char *tap = written(verdict_tap, &report);
	json_t *j = json_loads(json, 0, NULL);

	check(j && count(json, "\n") == 1);
	json_decref(j);
	check_text(xml);
	check(count(xml, "<testcase ") == 1 && count(xml, "</testcase>") == 1);
	check(count(xml, "<") == count(xml, ">"));
	check_text(tap);
	check(count(tap, "\nok ") + count(tap, "\nnot ok ") == 1);
	free(json);
	free(xml);
	free(tap);
}

static void judge(const struct verdict_rules *rules, enum verdict_source source,
		  const uint8_t *data, size_t size, bool ends)
{
	struct verdict_case *c;
	const struct verdict_result *r;

	check(!verdict_case_create(rules, true, VERDICT_ON_SPLAT_FAIL, &c));
	verdict_case_log(c, source, data, size / 2);
	if (ends) {
		verdict_case_hello(c, "6.1.0", 0);
		verdict_case_started(c);
		verdict_case_exited(c, size & 0xff00, 0, 0);
	}
	verdict_case_log(c, source, data + size / 2, size - size / 2);
	verdict_case_timer(c, VERDICT_TIMER_TOTAL);
	r = verdict_case_result(c);
	check(r->kind < VERDICT_KINDS && r->nevidence <= VERDICT_EVIDENCE_MAX);
	check_documents(r);
	verdict_case_destroy(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct verdict_rules *rules;
	enum verdict_source source;
	uint64_t whole;
	size_t step;

	if (!rules) {
		check(!verdict_rules_create(&rules, NULL));
		check(!verdict_rules_add(rules, "", verdict_rules_builtin,
					 strlen(verdict_rules_builtin), NULL, NULL, NULL));
	}
	if (!size)
		return 0;
	source = data[0] & 0x80 ? VERDICT_KMSG : VERDICT_CONSOLE;
	step = data[0] & 0x3f ? data[0] & 0x3f : size;
	check(!verdict_splats_create(rules, &splats));
	whole = read_log(source, data + 1, size - 1, size);
	/* The same log by the other way: pairs. */
	read_log(source ? VERDICT_CONSOLE : VERDICT_KMSG, data + 1, size - 1, size);
	verdict_splats_end(splats);
	for (size_t i = 0; i < verdict_splats_count(splats); i++) {
		const struct verdict_splat *p = verdict_splats_get(splats, i);

		check(p->done && p->heading && p->len <= VERDICT_REPORT_MAX);
		check(p->first <= p->number && p->number <= p->last);
		check(strlen(p->report) == p->len);
	}
	verdict_splats_destroy(splats);
	splats = NULL;
	check(read_log(source, data + 1, size - 1, step) == whole);
	judge(rules, source, data + 1, size - 1, data[0] & 0x40);
	return 0;
}
