/*
 * verdict/case: events of a test come in, one verdict goes out; see verdict.h.
 *
 * Each event is noted once, with its place in the order, its time and the phase then (struct when); what they
 * mean together is cause.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/core/printable.h"
#include "vmm/verdict/case_impl.h"

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

static void set_text(char text[CASE_TEXT], const char *what)
{
	if (what)
		snprintf(text, CASE_TEXT, "%s", what);
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

/* What guest/agent.c says on the console before it powers off without being told to. */
static bool is_agent_giving_up(const struct verdict_line *line)
{
	static const char name[] = "bantam-agent: ";
	const char *what = line->text + strlen(name);

	if (strncmp(line->text, name, strlen(name)) != 0)
		return false;
	return !strncmp(what, "the channel is broken", 21) || !strncmp(what, "the host", 8) ||
	       !strncmp(what, "there is no channel", 19);
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
	for (size_t i = 0; i < CASE_LAST_LINES; i++) {
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
		as_evidence(&c->last[c->nlast++ % CASE_LAST_LINES], line);
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
	/* Without ACPI the kernel halts where it should power off. */
	if (!line->user && !strcmp(line->text, "reboot: System halted"))
		note(c, &c->halted);
	if (is_agent_giving_up(line) && note(c, &c->gave_up))
		as_evidence(&c->gave_up_line, line);
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
	set_text(c->text, what);
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
		set_text(c->lost_text, why);
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
		set_text(c->end_text, text);
}

void verdict_case_no_test(struct verdict_case *c, bool skip, const char *why)
{
	if (!note(c, &c->no_test))
		return;
	c->skip = skip;
	set_text(c->text, why);
}

bool verdict_case_over(const struct verdict_case *c)
{
	static const struct when end = { 0 };
	int i;

	if (c->panic.order || c->halted.order || c->timer.order || c->interrupted.order ||
	    c->end.order || c->no_test.order)
		return true;
	if (c->on_splat != VERDICT_ON_SPLAT_STOP)
		return false;
	/* A report that is not whole may still have a line that allows it. */
	i = verdict_case_first_splat(c, &end);
	return i >= 0 && verdict_splats_get(c->splats, (size_t)i)->done;
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
	verdict_case_decide(c);
	if (r->kind == VERDICT_INTERRUPTED)
		r->signal = c->signo;
	r->vcpu = c->vcpu;
	r->nvcpus = c->nvcpus;
	printable(r->reason);
	printable(r->release);
	return r;
}
