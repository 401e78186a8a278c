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

#endif
