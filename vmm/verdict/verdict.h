/*
 * verdict: what happened in a test VM. Pure: bytes and events go in, one verdict comes out.
 *
 *	bytes of a log -> reader -> lines -> splats (by rules) --+
 *	the agent, the machine, timers, samples of vCPUs --------+-> case -> result -> status, reports
 *
 * Everything from the guest is hostile: lines of any length and number cost bounded memory. Nothing here
 * opens a file, looks at a clock or has a thread. Any thread, one at a time for each object. Errors of
 * users: struct err, 0/-errno.
 */
#ifndef BANTAM_VERDICT_H
#define BANTAM_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/core/err.h"

/* --- lines (lines.c) ----------------------------------------------------------------------- */

/* Bytes of text in a line; more becomes another line. The kernel's own lines are shorter. */
#define VERDICT_LINE_MAX 1024

enum verdict_source {
	VERDICT_CONSOLE, /* bytes of a serial port on which the kernel and programs write */
	VERDICT_KMSG,	 /* records as /dev/kmsg gives them, each with its newline */
	VERDICT_SOURCES,
};

/*
 * One line of a log. text has no control characters and no escape sequences, and ends with a NUL; bytes
 * from 0x80 on are as the guest sent them. It lives until the function that got it returns.
 */
struct verdict_line {
	enum verdict_source source;
	uint64_t number; /* of the line, or the record, in its source, from 1 */
	uint64_t usec;	 /* if timed: since the guest's start, by its own clock */
	uint64_t seq;	 /* if sequenced: the record's number in the kernel */
	int level;	 /* 0 (emergency) to 7 (debug); -1: unknown */
	uint32_t caller_id;
	char caller; /* 'T': caller_id is a thread; 'C': a CPU; 0: unknown */
	bool timed, sequenced;
	bool user; /* a program wrote it into /dev/kmsg */
	bool cut;  /* another line or the limit ended it, not a newline */
	size_t len;
	const char *text;
};

typedef void verdict_on_line(void *opaque, const struct verdict_line *line);

/* Of lines.c, except lost: how many messages the log itself says, or its numbers show, to be missing. */
struct verdict_reader {
	uint64_t lost;

	enum verdict_source source;
	verdict_on_line *on_line;
	void *opaque;
	uint64_t newlines;
	int state;
	unsigned count; /* of bytes in an escape sequence */
	uint8_t escape[24];
	uint8_t hex;		  /* of an escaped byte */
	struct verdict_line head; /* kmsg: what the record's head says */
	uint64_t next_seq;	  /* kmsg: 0: no record yet */
	size_t len;
	char buf[VERDICT_LINE_MAX + 1];
};

/* on_line is called by feed and flush, once for each line that is not blank. */
void verdict_reader_init(struct verdict_reader *r, enum verdict_source source,
			 verdict_on_line *on_line, void *opaque);
void verdict_reader_feed(struct verdict_reader *r, const void *bytes, size_t len);
/* The log ends here, or rests: what has come of the last line is a line. */
void verdict_reader_flush(struct verdict_reader *r);

enum verdict_phase {
	VERDICT_LOADER, /* the kernel has said nothing */
	VERDICT_EARLY_KERNEL,
	VERDICT_KERNEL,	 /* its drivers start */
	VERDICT_INIT,	 /* PID 1 runs */
	VERDICT_COMMAND, /* the command runs or has run */
	VERDICT_PHASES,
};
/* The phase that this line shows, or VERDICT_LOADER. Never VERDICT_COMMAND. */
enum verdict_phase verdict_line_phase(const struct verdict_line *line);
const char *verdict_phase_name(enum verdict_phase phase);

/* --- rules and splats (rules.c, builtin.c, splat.c) ---------------------------------------- */

enum verdict_splat_kind {
	VERDICT_SPLAT_OOPS,
	VERDICT_SPLAT_BUG,
	VERDICT_SPLAT_WARN,
	VERDICT_SPLAT_KASAN,
	VERDICT_SPLAT_KMSAN,
	VERDICT_SPLAT_KCSAN,
	VERDICT_SPLAT_KFENCE,
	VERDICT_SPLAT_UBSAN,
	VERDICT_SPLAT_LOCKDEP,
	VERDICT_SPLAT_RCU,
	VERDICT_SPLAT_HUNG_TASK,
	VERDICT_SPLAT_LOCKUP,
	VERDICT_SPLAT_ATOMIC, /* it sleeps where it must not */
	VERDICT_SPLAT_PAGE,   /* pages, slabs, lists: corruption, or an allocation that failed */
	VERDICT_SPLAT_OOM,    /* the OOM killer; by itself no mistake of the kernel */
	VERDICT_SPLAT_PANIC,  /* no splat: the case's end */
	VERDICT_SPLAT_OTHER,
	VERDICT_SPLAT_TAINT, /* no line matched, but the kernel has set W or D */
	VERDICT_SPLAT_KINDS,
};
const char *verdict_splat_name(enum verdict_splat_kind kind);

/*
 * Rules are lines of text:
 *
 *	# a comment, if the line begins so
 *	[release 6.1.* arch x86_64]	the rules below are for these kernels; "[]": for all again
 *	deny KIND REGEX			a line that matches begins a report of this kind
 *	allow REGEX			a report with such a line is none
 *
 * KIND is a name of verdict_splat_name. REGEX is a POSIX extended regular expression over a line's text
 * without prefix, to the end of the rule's line; it has no back references, so that no line of a
 * guest makes it slow. release and arch are patterns as the shell's. No allow hides a panic or the OOM
 * killer. Of several deny rules the first one counts.
 */
struct verdict_rules;
int verdict_rules_create(struct verdict_rules **out, struct err *err);
void verdict_rules_destroy(struct verdict_rules *rules); /* NULL is allowed */
/*
 * Adds the rules of text (len bytes) that are for this kernel. name: of the file, for errors. -EINVAL: a
 * line is wrong. release NULL: unknown, and only rules for all releases count; so for arch.
 */
int verdict_rules_add(struct verdict_rules *rules, const char *name, const char *text, size_t len,
		      const char *release, const char *arch, struct err *err);
/* The built-in set, as text of this form. */
extern const char verdict_rules_builtin[];
/* The kind that a deny rule gives this line; false: none. */
bool verdict_rules_deny(const struct verdict_rules *rules, const struct verdict_line *line,
			enum verdict_splat_kind *kind);
bool verdict_rules_allow(const struct verdict_rules *rules, const struct verdict_line *line);

#define VERDICT_SPLATS_MAX 64	 /* kept; more are only counted */
#define VERDICT_REPORT_MAX 32768 /* bytes of a report */

/* One report of the kernel, from "cut here" (or its heading) to its end. */
struct verdict_splat {
	enum verdict_splat_kind kind;
	enum verdict_source source;
	enum verdict_phase phase;
	uint64_t first, last; /* numbers of its lines */
	uint64_t number;      /* of the heading */
	bool timed;
	uint64_t usec;	/* the heading's */
	bool done;	/* its end has come */
	bool allowed;	/* an allow rule matched: it is none */
	bool shortened; /* the report was longer than VERDICT_REPORT_MAX */
	char *heading;	/* the line that matched */
	char *report;	/* its lines, each with a newline */
	size_t len;	/* of report */
};

struct verdict_splats; /* what comes from both logs; the same report in both is one */
int verdict_splats_create(const struct verdict_rules *rules, struct verdict_splats **out);
void verdict_splats_destroy(struct verdict_splats *s); /* NULL is allowed */
/*
 * Takes a line; rules outlive s. Returns the splat that begins with it, once for both logs, NULL: none. What is
 * returned lives as long as s, and its report grows. Reports come with the lines of each log in order.
 */
const struct verdict_splat *verdict_splats_line(struct verdict_splats *s,
						const struct verdict_line *line,
						enum verdict_phase phase);
/* The logs have ended. */
void verdict_splats_end(struct verdict_splats *s);
/* The kept splats in the order in which they began; allowed ones among them. */
size_t verdict_splats_count(const struct verdict_splats *s);
const struct verdict_splat *verdict_splats_get(const struct verdict_splats *s, size_t i);
/* How many began beyond VERDICT_SPLATS_MAX. */
uint64_t verdict_splats_more(const struct verdict_splats *s);
/* Returns true if it is a mistake of the kernel by which a test fails. */
bool verdict_splat_fails(const struct verdict_splat *splat);

#endif
