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
	VERDICT_HVC,	 /* the same of a virtio console */
	VERDICT_KMSG,	 /* records as /dev/kmsg gives them, each with its newline */
	VERDICT_SOURCES,
};
const char *verdict_source_name(enum verdict_source source);

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

struct verdict_splats; /* what comes from all logs; the same report in several is one */
int verdict_splats_create(const struct verdict_rules *rules, struct verdict_splats **out);
void verdict_splats_destroy(struct verdict_splats *s); /* NULL is allowed */
/*
 * Takes a line; rules outlive s. Returns the splat that begins with it, once for all logs, NULL: none. What is
 * returned lives as long as s, and its report grows. The lines of each log come in order. *kind: what a
 * deny rule makes of the line, VERDICT_SPLAT_KINDS: nothing.
 */
const struct verdict_splat *verdict_splats_line(struct verdict_splats *s,
						const struct verdict_line *line,
						enum verdict_phase phase,
						enum verdict_splat_kind *kind);
/* The logs have ended. */
void verdict_splats_end(struct verdict_splats *s);
/* The kept splats in the order in which they began; allowed ones among them. */
size_t verdict_splats_count(const struct verdict_splats *s);
const struct verdict_splat *verdict_splats_get(const struct verdict_splats *s, size_t i);
/* How many began beyond VERDICT_SPLATS_MAX. */
uint64_t verdict_splats_more(const struct verdict_splats *s);
/* Returns true if it is a mistake of the kernel by which a test fails. */
bool verdict_splat_fails(const struct verdict_splat *splat);

/* --- the case (case.c, hang.c): events in, one result out ----------------------------------- */

enum verdict_kind {
	VERDICT_PASSED,
	VERDICT_FAILED,	   /* the command's status was not 0 */
	VERDICT_SIGNALLED, /* a signal ended the command */
	VERDICT_NOT_FOUND,
	VERDICT_NOT_EXECUTABLE,
	VERDICT_PANICKED,
	VERDICT_SPLAT,
	VERDICT_HUNG, /* the idle timeout */
	VERDICT_BOOT_TIMEOUT,
	VERDICT_TIMEOUT,	  /* of the whole test */
	VERDICT_DIED_BEFORE_INIT, /* the machine ended before PID 1 ran, and nothing told why */
	VERDICT_REBOOTED,
	VERDICT_POWERED_OFF, /* by something other than the agent */
	VERDICT_TRIPLE_FAULT,
	VERDICT_OUT_OF_MEMORY, /* the OOM killer took the command, or the kernel panicked of it */
	VERDICT_AGENT_LOST,
	VERDICT_INTERRUPTED, /* by a signal to the process on the host */
	VERDICT_SKIPPED,
	VERDICT_ERROR, /* the test could not run */
	VERDICT_KINDS,
};
const char *verdict_name(enum verdict_kind kind);

/* How the machine ended. */
enum verdict_end {
	VERDICT_END_NONE,
	VERDICT_END_POWER_OFF,
	VERDICT_END_RESET,
	VERDICT_END_PANIC, /* the guest said so by pvpanic */
	VERDICT_END_TRIPLE_FAULT,
	VERDICT_END_STOPPED, /* by its owner; the reason is another event */
	VERDICT_END_ERROR,   /* of the monitor or KVM */
};

enum verdict_timer { VERDICT_TIMER_BOOT, VERDICT_TIMER_IDLE, VERDICT_TIMER_TOTAL };
enum verdict_on_splat { VERDICT_ON_SPLAT_FAIL, VERDICT_ON_SPLAT_WARN, VERDICT_ON_SPLAT_STOP };

/* What a vCPU did at one moment. */
struct verdict_sample {
	unsigned vcpu;
	uint64_t rip;
	unsigned cpl;
	bool halted, interrupts; /* interrupts: RFLAGS.IF */
};
#define VERDICT_SAMPLES 3 /* of each vCPU, the last ones */
#define VERDICT_VCPUS_MAX 1024

enum verdict_vcpu_state {
	VERDICT_VCPU_UNKNOWN,
	VERDICT_VCPU_IDLE,     /* halted, interrupts on */
	VERDICT_VCPU_DEAD,     /* halted, interrupts off */
	VERDICT_VCPU_SPIN_OFF, /* in the kernel, interrupts off */
	VERDICT_VCPU_SPIN_ON,
	VERDICT_VCPU_USER,
	VERDICT_VCPU_BUSY, /* the samples differ */
};
struct verdict_vcpu {
	unsigned n;				       /* samples, at most VERDICT_SAMPLES */
	struct verdict_sample sample[VERDICT_SAMPLES]; /* the oldest first */
};
enum verdict_vcpu_state verdict_vcpu_state(const struct verdict_vcpu *vcpu);
/* Writes what the vCPUs do as one phrase: "all 2 vCPUs are idle". "" without samples. */
void verdict_hang_text(const struct verdict_vcpu *vcpu, size_t n, char *buf, size_t len);

#define VERDICT_EVIDENCE_MAX 12
struct verdict_evidence {
	enum verdict_source source;
	uint64_t number;
	int level; /* -1: unknown */
	bool timed;
	uint64_t usec;
	char text[256]; /* as much as fits */
};

struct verdict_result {
	enum verdict_kind kind;
	enum verdict_phase phase; /* in which the cause came */
	uint64_t usec;		  /* when it came, since the start, by the host's clock */
	uint64_t total_usec;	  /* when the machine ended */
	bool command;		  /* there was one to run */
	int status;		  /* the command's, 0 to 255; -1: none */
	int signal;		  /* that ended it, or the interrupted test; 0: none */
	char reason[512];	  /* one line, printable */
	bool tainted_known;	  /* the agent told both */
	uint64_t taint_before, taint_after;
	const struct verdict_splat *because; /* the first mistake of the kernel before the cause */
	size_t nevidence;
	struct verdict_evidence evidence[VERDICT_EVIDENCE_MAX];
	const struct verdict_splats *splats;
	const struct verdict_vcpu *vcpu; /* samples of a hang */
	size_t nvcpus;
	uint64_t lost; /* messages of the kernel that no log has */
	char release[65];
};

struct verdict_case;
/* rules outlive the case. command: there is one; else a boot is the test. */
int verdict_case_create(const struct verdict_rules *rules, bool command,
			enum verdict_on_splat on_splat, struct verdict_case **out);
void verdict_case_destroy(struct verdict_case *c); /* NULL is allowed */
/* The time of the events that follow, since the start. */
void verdict_case_clock(struct verdict_case *c, uint64_t usec);

void verdict_case_log(struct verdict_case *c, enum verdict_source source, const void *bytes,
		      size_t len);
void verdict_case_hello(struct verdict_case *c, const char *release, uint64_t taint);
void verdict_case_started(struct verdict_case *c);
/* exec: it could not be executed, with this errno; else something before that failed. */
void verdict_case_refused(struct verdict_case *c, bool exec, int code, const char *what);
/* wait_status as wait(2) gives it. */
void verdict_case_exited(struct verdict_case *c, int wait_status, uint64_t taint,
			 uint64_t oom_kills);
void verdict_case_bye(struct verdict_case *c); /* the agent powers off as it was told */
void verdict_case_lost(struct verdict_case *c, const char *why);
void verdict_case_timer(struct verdict_case *c, enum verdict_timer timer);
void verdict_case_interrupted(struct verdict_case *c, int signo);
void verdict_case_sample(struct verdict_case *c, const struct verdict_sample *sample);
/* The first end counts. text: of an error; else NULL. */
void verdict_case_machine(struct verdict_case *c, enum verdict_end end, const char *text);
/* There is no test: no KVM, and the user wants it skipped (skip) or not. */
void verdict_case_no_test(struct verdict_case *c, bool skip, const char *why);

enum verdict_phase verdict_case_phase(const struct verdict_case *c);
/*
 * Returns true if nothing good comes any more, and the owner is to stop the machine, at once or after a
 * moment for the last lines: a panic, a halt, a timeout, a signal, a splat that stops. Not the loss of the agent:
 * the end of the machine may come after it and tell more.
 */
bool verdict_case_over(const struct verdict_case *c);
/* Ends the logs and decides; no event comes after it. Lives as long as the case. */
const struct verdict_result *verdict_case_result(struct verdict_case *c);

/* --- the exit status (exit.c) -------------------------------------------------------------- */

struct verdict_policy {
	enum { VERDICT_EXIT_DEFAULT, VERDICT_EXIT_STRICT, VERDICT_EXIT_BISECT } mode;
	uint32_t bad, skip; /* of bisect: bit n is the verdict n */
};
/* "default", "strict" or "bisect". */
int verdict_policy_mode(struct verdict_policy *policy, const char *text, struct err *err);
/* "panicked,hung": names of verdicts. option: "--bad", for errors. */
int verdict_policy_list(const char *option, const char *text, uint32_t *mask, struct err *err);
/* -EINVAL: a list without bisect, or a verdict in both lists. */
int verdict_policy_check(const struct verdict_policy *policy, struct err *err);
/*
 * default: the command's own status, 128 + its signal, or that of the table in exit.c. strict: 0, 1 (the
 * kernel or the test did wrong), 125 (it could not run). bisect, for git bisect run: 0 passed; 1 is in
 * bad, or without a list of bad ones what strict calls wrong; 125 is in skip, could not run, or
 * is in no list; interrupted: 128 + the signal, at which git bisect stops.
 */
int verdict_exit_status(const struct verdict_policy *policy, const struct verdict_result *r);

/* --- reports (text.c, json.c, junit.c, tap.c) ---------------------------------------------- */

/* What a report names beside the result. */
struct verdict_report {
	const struct verdict_result *result;
	const char *name; /* of the test */
	int exit_status;  /* of the process */
};
/*
 * Copies text as valid UTF-8: what is none becomes U+FFFD; with xml also what XML 1.0 (2.2) does not
 * have. Returns a string that the caller frees; NULL: no memory.
 */
char *verdict_utf8(const char *text, bool xml);
/* The last line for people: "panicked in kernel after 1.2 s: …", without newline. */
void verdict_line_text(const struct verdict_result *r, char *buf, size_t len);
/* One line. 0, -ENOMEM, or -EIO: the stream has an error. */
int verdict_json(const struct verdict_report *report, FILE *out);
int verdict_junit(const struct verdict_report *report, FILE *out);
int verdict_tap(const struct verdict_report *report, FILE *out); /* TAP 13 */

#endif
