/*
 * fuzz_verdict: any bytes in a guest's logs.
 *
 * Input: a byte, then the log. The byte's bits: 0 to 5 the size of the pieces (0: one piece), 7: records of
 * /dev/kmsg, not a console. Lines are the same in pieces and whole, have no control characters and no
 * more bytes than the limit; reports keep to their limits.
 */
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
	if (splats)
		verdict_splats_line(splats, line, verdict_line_phase(line));
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
	return 0;
}
