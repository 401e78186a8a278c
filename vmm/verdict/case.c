/*
 * verdict/case: events of a test come in, one verdict goes out; see verdict.h.
 *
 * Theory of operation. Each event is noted once, with its place in the order, its time and the phase then; the
 * verdict is decided at the end (decide), since a later event may explain an earlier one:
 *
 *  - A panic explains the reset, the silence and the loss of the agent that come with it, wherever its
 *    text was read. Only a timeout or a signal that came before it is the cause: then the owner was
 *    ending the machine.
 *  - The end of the machine explains the loss of the agent.
 *  - After the command's EXIT an end or a timeout is no cause; a panic and a triple fault are.
 *  - A splat is a cause only if all else went as it should, or the command alone failed; otherwise the
 *    result names it as what came first (because).
 *
 * W or D in the kernel's taint count as a splat that no line told, unless a report was there.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/core/printable.h"
#include "vmm/verdict/verdict.h"

#define TAINT_DIE (1ull << 7)
#define TAINT_WARN (1ull << 9)
#define LAST_LINES 8

/* When something came; order 0: it did not. */
struct when {
	unsigned order;
	uint64_t usec;
	enum verdict_phase phase;
};

struct verdict_case {
	enum verdict_on_splat on_splat;
	bool decided;
	unsigned order;
	uint64_t usec;
	enum verdict_phase phase;

	struct verdict_reader reader[VERDICT_SOURCES];
	struct verdict_splats *splats;
	struct when splat[VERDICT_SPLATS_MAX];
	struct verdict_evidence last[LAST_LINES]; /* a ring of what the logs said last */
	size_t nlast;

	struct when panic, oom, restart, hello, refused, exited, bye, lost, timer, interrupted, end,
		no_test;
	struct verdict_evidence panic_line, oom_line, restart_line;
	bool panic_of_memory;
	bool exec, skip;
	int refused_code, wait_status;
	uint64_t oom_kills;
	enum verdict_timer which;
	int signo;
	enum verdict_end how;
	char text[256]; /* of refused, lost, end or no_test: the first one of them */

	struct verdict_vcpu *vcpu;
	size_t nvcpus;
	struct verdict_result r;
};

static void on_line(void *opaque, const struct verdict_line *line);

int verdict_case_create(const struct verdict_rules *rules, bool command,
			enum verdict_on_splat on_splat, struct verdict_case **out)
{
	struct verdict_case *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c || verdict_splats_create(rules, &c->splats)) {
		free(c);
		return -ENOMEM;
	}
	c->on_splat = on_splat;
	c->r.command = command;
	c->r.status = -1;
	c->r.splats = c->splats;
	for (unsigned i = 0; i < VERDICT_SOURCES; i++)
		verdict_reader_init(&c->reader[i], i, on_line, c);
	*out = c;
	return 0;
}

void verdict_case_destroy(struct verdict_case *c)
{
	if (!c)
		return;
	verdict_splats_destroy(c->splats);
	free(c->vcpu);
	free(c);
}

void verdict_case_clock(struct verdict_case *c, uint64_t usec)
{
	c->usec = usec;
}

enum verdict_phase verdict_case_phase(const struct verdict_case *c)
{
	return c->phase;
}

/* Notes that it came now, if it has not come before; true: it is the first time. */
static bool note(struct verdict_case *c, struct when *w)
{
	if (w->order)
		return false;
	*w = (struct when){ ++c->order, c->usec, c->phase };
	return true;
}

static bool before(const struct when *a, const struct when *b)
{
	return a->order && (!b->order || a->order < b->order);
}

static void set_text(struct verdict_case *c, const char *text)
{
	if (!c->text[0] && text)
		snprintf(c->text, sizeof(c->text), "%s", text);
}

/* --- lines --------------------------------------------------------------------------------- */

static void as_evidence(struct verdict_evidence *e, const struct verdict_line *line)
{
	*e = (struct verdict_evidence){ .source = line->source,
					.number = line->number,
					.level = line->level,
					.timed = line->timed,
					.usec = line->usec };
	snprintf(e->text, sizeof(e->text), "%s", line->text);
}

static bool has(const struct verdict_line *line, const char *text)
{
	return strstr(line->text, text);
}

/* A panic because memory is out: mm/oom_kill.c's three. */
static bool is_of_memory(const struct verdict_line *line)
{
	return has(line, "not syncing: Out of memory") || has(line, "not syncing: out of memory") ||
	       has(line, "not syncing: System is deadlocked on memory");
}

static void on_splat(struct verdict_case *c, const struct verdict_splat *splat,
		     const struct verdict_line *line)
{
	struct when *w = &c->splat[verdict_splats_count(c->splats) - 1];

	note(c, w);
	if (splat->kind == VERDICT_SPLAT_OOM && note(c, &c->oom))
		as_evidence(&c->oom_line, line);
}

/* Returns true if another log has said it just before. */
static bool said(const struct verdict_case *c, const struct verdict_line *line)
{
	for (size_t i = 0; i < LAST_LINES; i++) {
		const struct verdict_evidence *e = &c->last[i];

		if (e->number && e->source != line->source && !strcmp(e->text, line->text))
			return true;
	}
	return false;
}

static void on_line(void *opaque, const struct verdict_line *line)
{
	struct verdict_case *c = opaque;
	enum verdict_phase phase = verdict_line_phase(line);
	const struct verdict_splat *splat;
	enum verdict_splat_kind kind;

	if (!said(c, line))
		as_evidence(&c->last[c->nlast++ % LAST_LINES], line);
	if (c->phase == VERDICT_LOADER && line->timed)
		c->phase = VERDICT_EARLY_KERNEL;
	if (phase > c->phase)
		c->phase = phase;
	splat = verdict_splats_line(c->splats, line, c->phase, &kind);
	if (splat)
		on_splat(c, splat, line);
	/* Also one beyond the splats that are kept. */
	if (kind == VERDICT_SPLAT_PANIC && note(c, &c->panic)) {
		as_evidence(&c->panic_line, line);
		c->panic_of_memory = is_of_memory(line);
	}
	if (!strncmp(line->text, "reboot: ", 8) && note(c, &c->restart))
		as_evidence(&c->restart_line, line);
}

void verdict_case_log(struct verdict_case *c, enum verdict_source source, const void *bytes,
		      size_t len)
{
	verdict_reader_feed(&c->reader[source], bytes, len);
}

/* --- other events -------------------------------------------------------------------------- */

void verdict_case_hello(struct verdict_case *c, const char *release, uint64_t taint)
{
	if (!note(c, &c->hello))
		return;
	if (c->phase < VERDICT_INIT)
		c->phase = VERDICT_INIT;
	c->hello.phase = c->phase;
	snprintf(c->r.release, sizeof(c->r.release), "%s", release);
	c->r.taint_before = taint;
}

void verdict_case_started(struct verdict_case *c)
{
	c->phase = VERDICT_COMMAND;
}

void verdict_case_refused(struct verdict_case *c, bool exec, int code, const char *what)
{
	if (!note(c, &c->refused))
		return;
	c->exec = exec;
	c->refused_code = code;
	set_text(c, what);
}

void verdict_case_exited(struct verdict_case *c, int wait_status, uint64_t taint,
			 uint64_t oom_kills)
{
	if (!note(c, &c->exited))
		return;
	c->wait_status = wait_status;
	c->oom_kills = oom_kills;
	c->r.taint_after = taint;
	c->r.tainted_known = c->hello.order;
	if (WIFEXITED(wait_status))
		c->r.status = WEXITSTATUS(wait_status);
	else
		c->r.signal = WTERMSIG(wait_status);
}

void verdict_case_bye(struct verdict_case *c)
{
	note(c, &c->bye);
}

void verdict_case_lost(struct verdict_case *c, const char *why)
{
	if (note(c, &c->lost))
		set_text(c, why);
}

void verdict_case_timer(struct verdict_case *c, enum verdict_timer timer)
{
	if (note(c, &c->timer))
		c->which = timer;
}

void verdict_case_interrupted(struct verdict_case *c, int signo)
{
	if (note(c, &c->interrupted))
		c->signo = signo;
}

void verdict_case_sample(struct verdict_case *c, const struct verdict_sample *sample)
{
	struct verdict_vcpu *v;

	if (sample->vcpu >= VERDICT_VCPUS_MAX)
		return;
	if (sample->vcpu >= c->nvcpus) {
		size_t n = sample->vcpu + 1;

		v = realloc(c->vcpu, n * sizeof(*v));
		if (!v)
			return;
		memset(v + c->nvcpus, 0, (n - c->nvcpus) * sizeof(*v));
		for (size_t i = c->nvcpus; i < n; i++)
			v[i].sample[0].vcpu = (unsigned)i;
		c->vcpu = v;
		c->nvcpus = n;
	}
	v = &c->vcpu[sample->vcpu];
	if (v->n == VERDICT_SAMPLES)
		memmove(v->sample, v->sample + 1, --v->n * sizeof(v->sample[0]));
	v->sample[v->n++] = *sample;
}

void verdict_case_machine(struct verdict_case *c, enum verdict_end end, const char *text)
{
	if (!note(c, &c->end))
		return;
	c->how = end;
	if (end == VERDICT_END_ERROR)
		set_text(c, text);
}

void verdict_case_no_test(struct verdict_case *c, bool skip, const char *why)
{
	if (!note(c, &c->no_test))
		return;
	c->skip = skip;
	set_text(c, why);
}

/* The first mistake of the kernel before this moment (order 0: any), or -1. */
static int first_splat(const struct verdict_case *c, const struct when *until)
{
	for (size_t i = 0; i < verdict_splats_count(c->splats); i++) {
		if (until->order && !before(&c->splat[i], until))
			break;
		if (verdict_splat_fails(verdict_splats_get(c->splats, i)))
			return (int)i;
	}
	return -1;
}

bool verdict_case_over(const struct verdict_case *c)
{
	static const struct when end = { 0 };
	int i;

	if (c->panic.order || c->timer.order || c->interrupted.order || c->end.order ||
	    c->no_test.order)
		return true;
	if (c->on_splat != VERDICT_ON_SPLAT_STOP)
		return false;
	/* A report that is not whole may still have a line that allows it. */
	i = first_splat(c, &end);
	return i >= 0 && verdict_splats_get(c->splats, (size_t)i)->done;
}

/* --- the decision -------------------------------------------------------------------------- */

static void because(struct verdict_case *c, enum verdict_kind kind, const struct when *w,
		    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void because(struct verdict_case *c, enum verdict_kind kind, const struct when *w,
		    const char *fmt, ...)
{
	va_list ap;

	c->r.kind = kind;
	c->r.usec = w->usec;
	c->r.phase = w->phase;
	va_start(ap, fmt);
	vsnprintf(c->r.reason, sizeof(c->r.reason), fmt, ap);
	va_end(ap);
}

static void evidence(struct verdict_case *c, const struct verdict_evidence *e)
{
	if (c->r.nevidence < VERDICT_EVIDENCE_MAX && e->number)
		c->r.evidence[c->r.nevidence++] = *e;
}

static void last_lines(struct verdict_case *c)
{
	size_t from = c->nlast > LAST_LINES ? c->nlast - LAST_LINES : 0;

	for (size_t i = from; i < c->nlast; i++)
		evidence(c, &c->last[i % LAST_LINES]);
}

static bool died(const struct verdict_case *c)
{
	return c->panic.order || c->how == VERDICT_END_PANIC;
}

static void decide_panic(struct verdict_case *c)
{
	if (!c->panic.order) {
		because(c, VERDICT_PANICKED, &c->end, "the guest told of a panic by pvpanic");
		last_lines(c);
		return;
	}
	because(c, c->panic_of_memory ? VERDICT_OUT_OF_MEMORY : VERDICT_PANICKED, &c->panic, "%s",
		c->panic_line.text);
	evidence(c, &c->panic_line);
}

static void decide_timer(struct verdict_case *c)
{
	static const enum verdict_kind kinds[] = { [VERDICT_TIMER_BOOT] = VERDICT_BOOT_TIMEOUT,
						   [VERDICT_TIMER_IDLE] = VERDICT_HUNG,
						   [VERDICT_TIMER_TOTAL] = VERDICT_TIMEOUT };
	static const char what[][40] = { [VERDICT_TIMER_BOOT] = "the boot took too long",
					 [VERDICT_TIMER_IDLE] = "no output for too long",
					 [VERDICT_TIMER_TOTAL] = "the test took too long" };
	char hang[300];

	verdict_hang_text(c->vcpu, c->nvcpus, hang, sizeof(hang));
	because(c, kinds[c->which], &c->timer, "%s%s%s", what[c->which], *hang ? ": " : "", hang);
	last_lines(c);
}

static bool took_by_oom(const struct verdict_case *c)
{
	bool killed = WIFSIGNALED(c->wait_status) ? WTERMSIG(c->wait_status) == 9 :
						    WEXITSTATUS(c->wait_status) == 128 + 9;

	return killed && (c->oom_kills || (c->oom.order && c->oom.phase == VERDICT_COMMAND));
}

static void decide_command(struct verdict_case *c)
{
	if (c->refused.order) {
		enum verdict_kind kind = !c->exec		   ? VERDICT_ERROR :
					 c->refused_code == ENOENT ? VERDICT_NOT_FOUND :
								     VERDICT_NOT_EXECUTABLE;

		because(c, kind, &c->refused, "%s%s%s", c->text, c->text[0] ? ": " : "",
			strerror(c->refused_code));
	} else if (!c->exited.order) {
		because(c, VERDICT_PASSED, &c->bye, "the kernel has booted to init");
	} else if (took_by_oom(c)) {
		because(c, VERDICT_OUT_OF_MEMORY, &c->exited, "the OOM killer ended the command");
		evidence(c, &c->oom_line);
	} else if (WIFSIGNALED(c->wait_status)) {
		because(c, VERDICT_SIGNALLED, &c->exited, "signal %d (%s) ended the command",
			c->r.signal, strsignal(c->r.signal));
	} else {
		because(c, c->r.status ? VERDICT_FAILED : VERDICT_PASSED, &c->exited,
			"the command ended with status %d", c->r.status);
	}
}

static void decide_end(struct verdict_case *c)
{
	bool early = c->end.phase < VERDICT_INIT;
	const char *how = "";
	enum verdict_kind kind = VERDICT_ERROR;

	switch (c->how) {
	case VERDICT_END_ERROR:
		because(c, VERDICT_ERROR, &c->end, "%s", c->text);
		return;
	case VERDICT_END_TRIPLE_FAULT:
		how = "the processor met a triple fault";
		kind = VERDICT_TRIPLE_FAULT;
		/* reboot=t */
		if (!c->restart.order)
			break;
		/* fall through */
	case VERDICT_END_RESET:
		how = early ? "the guest reset the machine before init" : "the guest rebooted";
		kind = early ? VERDICT_DIED_BEFORE_INIT : VERDICT_REBOOTED;
		break;
	case VERDICT_END_POWER_OFF:
		how = early ? "the guest powered off before init" : "the guest powered off";
		kind = early ? VERDICT_DIED_BEFORE_INIT : VERDICT_POWERED_OFF;
		break;
	default:
		how = "the machine was stopped for no reason";
	}
	because(c, kind, &c->end, "%s", how);
	evidence(c, &c->restart_line);
	if (!c->r.nevidence)
		last_lines(c);
}

/* The machine ended by itself in a way that explains things. */
static bool end_tells(const struct verdict_case *c)
{
	return c->end.order && c->how != VERDICT_END_STOPPED;
}

static bool in_order(const struct verdict_case *c)
{
	const struct when *done = c->refused.order ? &c->refused :
				  c->exited.order  ? &c->exited :
						     &c->bye;

	if (!done->order || (!c->r.command && !c->bye.order))
		return false;
	if (before(&c->timer, done) || before(&c->interrupted, done))
		return false;
	return c->how != VERDICT_END_ERROR &&
	       (c->how != VERDICT_END_TRIPLE_FAULT || c->restart.order);
}

static void decide_cause(struct verdict_case *c)
{
	bool late = before(&c->timer, &c->panic) || before(&c->interrupted, &c->panic);

	if (c->no_test.order)
		because(c, c->skip ? VERDICT_SKIPPED : VERDICT_ERROR, &c->no_test, "%s", c->text);
	else if (died(c) && !(late && c->panic.order))
		decide_panic(c);
	else if (in_order(c))
		decide_command(c);
	else if (before(&c->interrupted, &c->timer) && !before(&c->end, &c->interrupted))
		because(c, VERDICT_INTERRUPTED, &c->interrupted, "signal %d (%s) ended the test",
			c->signo, strsignal(c->signo));
	else if (c->timer.order && !before(&c->end, &c->timer))
		decide_timer(c);
	else if (end_tells(c))
		decide_end(c);
	else if (c->lost.order)
		because(c, VERDICT_AGENT_LOST, &c->lost, "the agent is lost: %s", c->text);
	else
		decide_end(c);
}

static void splat_evidence(struct verdict_case *c, const struct verdict_splat *p)
{
	struct verdict_evidence e = { .source = p->source,
				      .number = p->number,
				      .level = -1,
				      .timed = p->timed,
				      .usec = p->usec };

	strncat(e.text, p->heading ? p->heading : "", sizeof(e.text) - 1);
	evidence(c, &e);
}

/* A report, allowed or not, explains the kernel's taint. */
static bool has_report(const struct verdict_case *c)
{
	for (size_t i = 0; i < verdict_splats_count(c->splats); i++) {
		const struct verdict_splat *p = verdict_splats_get(c->splats, i);

		if (p->allowed || verdict_splat_fails(p))
			return true;
	}
	return false;
}

/* The kernel's own mistakes, when nothing else ended the test. */
static void decide_splat(struct verdict_case *c)
{
	enum verdict_kind kind = c->r.kind;
	bool by_command = kind <= VERDICT_NOT_EXECUTABLE;
	struct when cause = { .order = 0 };
	uint64_t taint = (c->r.taint_before | c->r.taint_after) & (TAINT_WARN | TAINT_DIE);
	int i;

	if (kind == VERDICT_PANICKED || kind == VERDICT_OUT_OF_MEMORY)
		cause = c->panic;
	i = first_splat(c, &cause);
	if (i >= 0)
		c->r.because = verdict_splats_get(c->splats, (size_t)i);
	if (c->on_splat == VERDICT_ON_SPLAT_STOP && i >= 0 && !c->no_test.order &&
	    c->how == VERDICT_END_STOPPED && !c->timer.order && !c->interrupted.order &&
	    !c->panic.order)
		by_command = true;
	if (!by_command || c->on_splat == VERDICT_ON_SPLAT_WARN)
		return;
	if (i >= 0) {
		const struct verdict_splat *p = c->r.because;

		because(c, VERDICT_SPLAT, &c->splat[i], "%s", p->heading ? p->heading : "");
		c->r.nevidence = 0;
		splat_evidence(c, p);
	} else if (taint && !has_report(c)) {
		because(c, VERDICT_SPLAT, c->exited.order ? &c->exited : &c->hello,
			"no line of the log tells it, but the kernel has the taint%s%s",
			taint & TAINT_WARN ? " W (a warning)" : "",
			taint & TAINT_DIE ? " D (an oops)" : "");
		c->r.nevidence = 0;
	}
}

const struct verdict_result *verdict_case_result(struct verdict_case *c)
{
	struct verdict_result *r = &c->r;
	const struct verdict_reader *kmsg;

	if (c->decided)
		return r;
	for (unsigned i = 0; i < VERDICT_SOURCES; i++)
		verdict_reader_flush(&c->reader[i]);
	/* All logs are of the same messages: what /dev/kmsg has is not lost. */
	kmsg = &c->reader[VERDICT_KMSG];
	r->lost = kmsg->next_seq ? kmsg->lost : c->reader[VERDICT_CONSOLE].lost;
	verdict_splats_end(c->splats);
	c->decided = true;
	r->total_usec = c->end.order ? c->end.usec : c->usec;
	decide_cause(c);
	decide_splat(c);
	if (r->kind == VERDICT_INTERRUPTED)
		r->signal = c->signo;
	r->vcpu = c->vcpu;
	r->nvcpus = c->nvcpus;
	printable(r->reason);
	printable(r->release);
	return r;
}
