/*
 * test/timers: the timeouts of a test, and the moments that it waits for at its end. See test_impl.h.
 *
 * A timer that is about silence is not armed anew for each byte: when it fires, it looks when the last one
 * came, and waits for the rest.
 */
#include <errno.h>

#include "vmm/core/clock.h"
#include "vmm/test/test_impl.h"

#define MS 1000000ull
#define SAMPLE_NS (100 * MS)	   /* between two samples of the vCPUs */
#define SAMPLES_NS (1000 * MS)	   /* for all of them: a stuck guest delays the verdict no longer */
#define WORDS_NS (500 * MS)	   /* a dying kernel that is silent for so long has said all */
#define WORDS_LIMIT_NS (5000 * MS) /* and in no case it may take longer */

static void arm(struct test *t, enum test_timer timer, uint64_t ns)
{
	loop_timer_arm(t->timer[timer], ns);
}

static uint64_t latest(const struct test *t, bool all)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < TEST_STREAMS; i++)
		if ((all || i == TEST_STDOUT || i == TEST_STDERR) && t->active_ns[i] > at)
			at = t->active_ns[i];
	return at;
}

/* Output of the command waits for its reader: then the guest is not to blame for silence. */
static bool waits(const struct test *t)
{
	return test_output_room(t->output, TEST_STDOUT) < TEST_OUTPUT_WINDOW ||
	       test_output_room(t->output, TEST_STDERR) < TEST_OUTPUT_WINDOW;
}

/* --- the user's timeouts ------------------------------------------------------------------- */

/* A vCPU that does not answer is asked again while there is time: a busy host may not have run it. */
static void on_sample(void *opaque)
{
	struct test *t = opaque;
	bool answered = false, late = false;

	if (t->stopping || t->gone)
		return;
	for (unsigned i = 0; i < keys_num(&t->config.vm, CONFIG_CPUS); i++) {
		struct verdict_sample sample;
		int rc;

		if (clock_now_ns() >= t->sample_end_ns)
			break;
		rc = test_vm_sample(t->vm, i, &sample);
		late |= rc == -ETIMEDOUT;
		if (rc)
			continue;
		verdict_case_sample(t->verdict, &sample);
		answered = true;
	}
	t->samples += answered;
	if ((answered || late) && t->samples < VERDICT_SAMPLES && clock_now_ns() < t->sample_end_ns)
		arm(t, TEST_TIMER_SAMPLE, SAMPLE_NS);
	else
		test_stop(t);
}

static void expire(struct test *t, enum verdict_timer which)
{
	/* Of a panic that the guest has told, the machine ends in a moment. */
	if (t->stopping || t->gone || t->sample_end_ns || (t->panicked && !t->crash_kernel))
		return;
	verdict_case_timer(test_verdict(t), which);
	t->sample_end_ns = clock_now_ns() + SAMPLES_NS;
	on_sample(t);
}

static void on_boot(void *opaque)
{
	expire(opaque, VERDICT_TIMER_BOOT);
}

static void on_total(void *opaque)
{
	struct test *t = opaque;

	expire(t, VERDICT_TIMER_TOTAL);
	/* Also when the machine is gone: waiting for the readers of the output is a part of the time. */
	test_hurry(t);
}

static void on_idle(void *opaque)
{
	struct test *t = opaque;
	uint64_t limit = t->options->timeout_idle_usec * 1000, now = clock_now_ns();
	uint64_t silent = waits(t) ? 0 : now - latest(t, t->options->idle_counts_all);

	if (silent < limit)
		arm(t, TEST_TIMER_IDLE, limit - silent);
	else
		expire(t, VERDICT_TIMER_IDLE);
}

/* --- the end ------------------------------------------------------------------------------- */

static void on_words(void *opaque)
{
	struct test *t = opaque;
	uint64_t now = clock_now_ns(), silent = now - latest(t, true);

	if (silent < WORDS_NS && now < t->words_end_ns)
		arm(t, TEST_TIMER_WORDS, WORDS_NS - silent);
	else
		test_stop(t);
}

static void on_end(void *opaque)
{
	struct test *t = opaque;
	uint64_t silent = waits(t) ? 0 : clock_now_ns() - latest(t, false);

	if (silent < t->end_ns)
		arm(t, TEST_TIMER_END, t->end_ns - silent);
	else
		test_stop(t);
}

static void on_stuck(void *opaque)
{
	struct test *t = opaque;

	if (t->gone)
		return;
	t->stuck = true;
	if (t->hurried)
		test_hurry(t);
	loop_stop(t->loop);
}

/* --- what happens -------------------------------------------------------------------------- */

void test_timers_begin(struct test *t)
{
	if (t->options->timeout_boot_usec)
		arm(t, TEST_TIMER_BOOT, t->options->timeout_boot_usec * 1000);
	if (t->options->timeout_usec)
		arm(t, TEST_TIMER_TOTAL, t->options->timeout_usec * 1000);
	if (t->options->idle_counts_all)
		test_timers_started(t);
}

void test_timers_booted(struct test *t)
{
	arm(t, TEST_TIMER_BOOT, 0);
}

void test_timers_started(struct test *t)
{
	t->active_ns[TEST_STDOUT] = clock_now_ns();
	if (t->options->timeout_idle_usec)
		arm(t, TEST_TIMER_IDLE, t->options->timeout_idle_usec * 1000);
}

void test_timers_active(struct test *t, enum test_stream stream)
{
	t->active_ns[stream] = clock_now_ns();
}

void test_timers_end(struct test *t, uint64_t ns)
{
	arm(t, TEST_TIMER_BOOT, 0);
	arm(t, TEST_TIMER_IDLE, 0);
	t->active_ns[TEST_STDOUT] = clock_now_ns();
	t->end_ns = ns;
	arm(t, TEST_TIMER_END, ns);
}

void test_look(struct test *t)
{
	/* The init of the user's own initrd says nothing to us. */
	if (t->options->initrd && !t->options->command &&
	    verdict_case_phase(t->verdict) >= VERDICT_INIT)
		test_timers_booted(t);
	/* A timeout and a signal have their own way to the end. */
	if (t->stopping || t->gone || t->sample_end_ns || t->crash_kernel || t->words_end_ns ||
	    !verdict_case_over(t->verdict))
		return;
	t->words_end_ns = clock_now_ns() + WORDS_LIMIT_NS;
	arm(t, TEST_TIMER_WORDS, WORDS_NS);
}

int test_timers_create(struct test *t, struct err *err)
{
	static const loop_fn fns[TEST_TIMERS] = {
		[TEST_TIMER_BOOT] = on_boot,   [TEST_TIMER_IDLE] = on_idle,
		[TEST_TIMER_TOTAL] = on_total, [TEST_TIMER_SAMPLE] = on_sample,
		[TEST_TIMER_WORDS] = on_words, [TEST_TIMER_END] = on_end,
		[TEST_TIMER_STOP] = on_stuck,
	};
	int rc = 0;

	for (unsigned i = 0; !rc && i < TEST_TIMERS; i++)
		rc = loop_watch_timer(t->loop, fns[i], t, &t->timer[i]);
	return rc ? err_sys(err, -rc, "timer") : 0;
}

void test_timers_destroy(struct test *t)
{
	for (unsigned i = 0; i < TEST_TIMERS; i++)
		loop_unwatch(t->timer[i]);
}
