/*
 * verdict/splat: the kernel's reports of its own mistakes, whole; see verdict.h.
 *
 * Theory of operation. Each log has at most one open report. A line that a deny rule matches is its heading;
 * the lines directly before it, from "cut here" or a bar of "=", belong to it. What follows belongs to it
 * until its end mark, a heading that begins another report, or two quiet seconds of the guest's clock.
 * A report often has several lines that rules match ("BUG: unable to handle page fault", then "Oops:"):
 * joins tells which of them continue it.
 *
 * All logs carry the same reports, and each may have less of one: the console's level hides lines, and
 * /dev/kmsg ends with the agent. Another heading with the same text and time collects its lines apart, and
 * the longest report stays.
 */
#include "vmm/verdict/verdict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_USEC 2000000
#define BEFORE_LINES 8
#define BEFORE_BYTES 2048

struct entry {
	struct verdict_splat splat;
	struct verdict_splat other[VERDICT_SOURCES]; /* from other logs, until they have ended */
	unsigned logs;				     /* that have it, a bit each */
};

/* The open report of one log, or lines that may begin one. */
struct log {
	struct verdict_splat *splat; /* where lines go; NULL: no report is open */
	struct entry *entry;	     /* that splat belongs to */
	bool cut_here;		     /* it began so */
	unsigned lines;
	bool timed;
	uint64_t usec; /* of its last line */

	unsigned before_lines; /* 0: none */
	uint64_t before_first;
	size_t before_len;
	bool before_allowed; /* an allow rule matches one of them */
	char before[BEFORE_BYTES];
};

struct verdict_splats {
	const struct verdict_rules *rules;
	struct log log[VERDICT_SOURCES];
	struct entry *entry[VERDICT_SPLATS_MAX];
	size_t n;
	uint64_t more;
};

int verdict_splats_create(const struct verdict_rules *rules, struct verdict_splats **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->rules = rules;
	return 0;
}

static void clear(struct verdict_splat *splat)
{
	free(splat->heading);
	free(splat->report);
	*splat = (struct verdict_splat){ 0 };
}

void verdict_splats_destroy(struct verdict_splats *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		clear(&s->entry[i]->splat);
		for (unsigned k = 0; k < VERDICT_SOURCES; k++)
			clear(&s->entry[i]->other[k]);
		free(s->entry[i]);
	}
	free(s);
}

/* Appends text to the report as far as it fits. */
static void append(struct verdict_splat *splat, const char *text, size_t len)
{
	size_t room = VERDICT_REPORT_MAX - splat->len;
	char *report;

	if (len > room) {
		splat->shortened = true;
		return;
	}
	/* A power of two, so that a line costs no copy of all. */
	if (!splat->report || ((splat->len + len) ^ splat->len) > splat->len || splat->len < 4096) {
		size_t max = 4096;

		while (max < splat->len + len + 1)
			max *= 2;
		report = realloc(splat->report, max);
		if (!report) {
			splat->shortened = true;
			return;
		}
		splat->report = report;
	}
	memcpy(splat->report + splat->len, text, len);
	splat->len += len;
	splat->report[splat->len] = 0;
}

static void append_line(struct verdict_splat *splat, const struct verdict_line *line)
{
	char text[VERDICT_LINE_MAX + 1];

	memcpy(text, line->text, line->len);
	text[line->len] = '\n';
	append(splat, text, line->len + 1);
	splat->last = line->number;
}

static bool may_be_allowed(enum verdict_splat_kind kind)
{
	return kind != VERDICT_SPLAT_PANIC && kind != VERDICT_SPLAT_OOM;
}

bool verdict_splat_fails(const struct verdict_splat *splat)
{
	return !splat->allowed && may_be_allowed(splat->kind);
}

/* --- what lines mean ----------------------------------------------------------------------- */

static bool starts(const struct verdict_line *line, const char *with)
{
	return !strncmp(line->text, with, strlen(with));
}

static bool is_cut_here(const struct verdict_line *line)
{
	return starts(line, "------------[ cut here ]");
}

static bool is_bar(const struct verdict_line *line)
{
	return line->len >= 10 && strspn(line->text, "=") == line->len;
}

static bool is_end(const struct verdict_splat *splat, const struct verdict_line *line)
{
	if (starts(line, "---[ end "))
		return true;
	switch (splat->kind) {
	case VERDICT_SPLAT_KASAN:
	case VERDICT_SPLAT_KMSAN:
	case VERDICT_SPLAT_KCSAN:
	case VERDICT_SPLAT_KFENCE:
	case VERDICT_SPLAT_UBSAN:
		return is_bar(line);
	default:
		return false;
	}
}

/* Returns true if a line of this kind continues the open report. */
static bool joins(const struct log *log, enum verdict_splat_kind kind)
{
	enum verdict_splat_kind open = log->splat->kind;

	if (open == VERDICT_SPLAT_PANIC)
		return true; /* the dying kernel's */
	switch (kind) {
	case VERDICT_SPLAT_PANIC:
		return false;
	case VERDICT_SPLAT_OOPS:
		return log->cut_here || open == VERDICT_SPLAT_OOPS || open == VERDICT_SPLAT_BUG ||
		       open == VERDICT_SPLAT_KASAN || open == VERDICT_SPLAT_KFENCE;
	case VERDICT_SPLAT_WARN:
	case VERDICT_SPLAT_BUG:
		/* "cut here", what is wrong, then where */
		return log->cut_here && log->lines < 4;
	case VERDICT_SPLAT_RCU:
	case VERDICT_SPLAT_OOM:
		return open == kind;
	default:
		return false;
	}
}

/* --- reports ------------------------------------------------------------------------------- */

/* Of the reports of several logs the longest one stays. */
static void settle(struct entry *e)
{
	struct verdict_splat *kept = &e->splat;

	for (unsigned i = 0; kept->done && i < VERDICT_SOURCES; i++) {
		struct verdict_splat longer = e->other[i];

		if (!longer.done)
			continue;
		kept->allowed |= longer.allowed;
		if (longer.len > kept->len) {
			longer.allowed = kept->allowed;
			longer.phase = kept->phase;
			e->other[i] = *kept;
			*kept = longer;
		}
		clear(&e->other[i]);
	}
}

static void end_report(struct log *log)
{
	if (!log->splat)
		return;
	log->splat->done = true;
	log->splat = NULL;
	settle(log->entry);
}

/* The same report from another log. */
static struct entry *find_pair(struct verdict_splats *s, const struct verdict_line *line)
{
	for (size_t i = 0; i < s->n; i++) {
		struct entry *e = s->entry[i];
		const struct verdict_splat *p = &e->splat;

		if (e->logs & 1u << line->source || !p->heading ||
		    strcmp(p->heading, line->text) != 0)
			continue;
		if (!p->timed || !line->timed || p->usec == line->usec)
			return e;
	}
	return NULL;
}

static struct entry *new_entry(struct verdict_splats *s)
{
	struct entry *e = s->n < VERDICT_SPLATS_MAX ? calloc(1, sizeof(*e)) : NULL;

	if (e)
		s->entry[s->n++] = e;
	else
		s->more++;
	return e;
}

static const struct verdict_splat *begin_report(struct verdict_splats *s, struct log *log,
						const struct verdict_line *line,
						enum verdict_splat_kind kind,
						enum verdict_phase phase)
{
	struct entry *pair = find_pair(s, line), *e = pair ? pair : new_entry(s);
	unsigned before = log->before_lines;
	struct verdict_splat *splat;

	log->before_lines = 0;
	if (!e)
		return NULL;
	e->logs |= 1u << line->source;
	splat = pair ? &e->other[line->source] : &e->splat;
	log->splat = splat;
	log->entry = e;
	splat->kind = kind;
	splat->source = line->source;
	splat->phase = phase;
	splat->number = line->number;
	splat->first = before ? log->before_first : line->number;
	splat->timed = line->timed;
	splat->usec = line->usec;
	splat->heading = strdup(line->text);
	if (before)
		append(splat, log->before, log->before_len);
	log->cut_here = before && log->before[0] == '-';
	log->lines = before;
	splat->allowed = before && log->before_allowed && may_be_allowed(kind);
	return pair ? NULL : splat;
}

static void add_line(const struct verdict_rules *rules, struct log *log,
		     const struct verdict_line *line)
{
	append_line(log->splat, line);
	log->lines++;
	log->timed = line->timed;
	log->usec = line->usec;
	if (may_be_allowed(log->splat->kind) && !log->splat->allowed &&
	    verdict_rules_allow(rules, line))
		log->splat->allowed = true;
	if (is_end(log->splat, line))
		end_report(log);
}

/* A line that is in no report: it may be before a heading. */
static void keep_before(const struct verdict_rules *rules, struct log *log,
			const struct verdict_line *line)
{
	bool begins = is_cut_here(line) || is_bar(line);

	if (begins) {
		log->before_lines = 0;
		log->before_len = 0;
		log->before_allowed = false;
		log->before_first = line->number;
	} else if (!log->before_lines) {
		return;
	}
	if (log->before_lines == BEFORE_LINES ||
	    log->before_len + line->len + 1 > sizeof(log->before)) {
		log->before_lines = 0;
		return;
	}
	memcpy(log->before + log->before_len, line->text, line->len);
	log->before_len += line->len;
	log->before[log->before_len++] = '\n';
	log->before_allowed |= verdict_rules_allow(rules, line);
	log->before_lines++;
}

const struct verdict_splat *verdict_splats_line(struct verdict_splats *s,
						const struct verdict_line *line,
						enum verdict_phase phase,
						enum verdict_splat_kind *kind)
{
	struct log *log = &s->log[line->source];
	const struct verdict_splat *begun = NULL;
	bool deny = verdict_rules_deny(s->rules, line, kind);

	if (!deny)
		*kind = VERDICT_SPLAT_KINDS;
	if (log->splat && log->timed && line->timed && line->usec > log->usec &&
	    line->usec - log->usec > QUIET_USEC)
		end_report(log);
	if (log->splat && (is_cut_here(line) || (deny && !joins(log, *kind))) &&
	    log->splat->kind != VERDICT_SPLAT_PANIC)
		end_report(log);
	if (!log->splat && deny)
		begun = begin_report(s, log, line, *kind, phase);
	if (log->splat)
		add_line(s->rules, log, line);
	else if (!deny)
		keep_before(s->rules, log, line);
	return begun;
}

void verdict_splats_end(struct verdict_splats *s)
{
	for (unsigned i = 0; i < VERDICT_SOURCES; i++)
		end_report(&s->log[i]);
}

size_t verdict_splats_count(const struct verdict_splats *s)
{
	return s->n;
}

const struct verdict_splat *verdict_splats_get(const struct verdict_splats *s, size_t i)
{
	return i < s->n ? &s->entry[i]->splat : NULL;
}

uint64_t verdict_splats_more(const struct verdict_splats *s)
{
	return s->more;
}
