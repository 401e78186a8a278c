/*
 * verdict/cause: which of a test's events is the cause; see verdict.h.
 *
 * Theory of operation. Each event is noted once, with its place in the order, its time and the phase then; the
 * verdict is decided at the end (decide), since a later event may explain an earlier one:
 *
 *  - A panic explains the reset, the silence and the loss of the agent that come with it, wherever its
 *    text was read. Only a timeout or a signal that came before it is the cause: then the owner was
 *    ending the machine.
 *  - The end of the machine explains the loss of the agent, unless the agent says on the console why
 *    it powers off.
 *  - After the command's EXIT an end or a timeout is no cause; a panic and a triple fault are.
 *  - A splat is a cause only if all else went as it should, or the command alone failed; otherwise the
 *    result names it as what came first (because).
 *
 * W or D in the kernel's taint count as a splat that no line told, unless a report was there.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/verdict/case_impl.h"

#define TAINT_DIE (1ull << 7)
#define TAINT_WARN (1ull << 9)

int verdict_case_first_splat(const struct verdict_case *c, const struct when *until)
{
	for (size_t i = 0; i < verdict_splats_count(c->splats); i++) {
		if (until->order && !before(&c->splat[i], until))
			break;
		if (verdict_splat_fails(verdict_splats_get(c->splats, i)))
			return (int)i;
	}
	return -1;
}

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
	size_t from = c->nlast > CASE_LAST_LINES ? c->nlast - CASE_LAST_LINES : 0;

	for (size_t i = from; i < c->nlast; i++)
		evidence(c, &c->last[i % CASE_LAST_LINES]);
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
		because(c, VERDICT_ERROR, &c->end, "%s", c->end_text);
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

static void decide_halted(struct verdict_case *c)
{
	bool early = c->halted.phase < VERDICT_INIT;

	because(c, early ? VERDICT_DIED_BEFORE_INIT : VERDICT_POWERED_OFF, &c->halted,
		"the guest halted%s; its kernel has no way to power off",
		early ? " before init" : "");
	evidence(c, &c->restart_line);
}

static void decide_gave_up(struct verdict_case *c)
{
	because(c, VERDICT_AGENT_LOST, &c->gave_up, "%s", c->gave_up_line.text);
	evidence(c, &c->gave_up_line);
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
	else if (before(&c->gave_up, &c->end) &&
		 (c->how == VERDICT_END_POWER_OFF || c->halted.order))
		decide_gave_up(c);
	else if (end_tells(c))
		decide_end(c);
	else if (c->halted.order)
		decide_halted(c);
	else if (c->lost.order)
		because(c, VERDICT_AGENT_LOST, &c->lost, "the agent is lost: %s", c->lost_text);
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
	i = verdict_case_first_splat(c, &cause);
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

void verdict_case_decide(struct verdict_case *c)
{
	decide_cause(c);
	decide_splat(c);
}
