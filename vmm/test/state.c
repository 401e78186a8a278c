/* test/state: what every part of a test may ask for at any time. See test_impl.h. */
#include "vmm/core/clock.h"
#include "vmm/test/test_impl.h"

uint64_t test_stop_ns = 20 * CLOCK_NS_PER_S;

uint64_t test_hurry_ns = CLOCK_NS_PER_S;

struct verdict_case *test_verdict_at(struct test *t, uint64_t now_ns)
{
	verdict_case_clock(t->verdict, now_ns > t->start_ns ? (now_ns - t->start_ns) / 1000 : 0);
	return t->verdict;
}

struct verdict_case *test_verdict(struct test *t)
{
	return test_verdict_at(t, clock_now_ns());
}

void test_stop(struct test *t)
{
	if (!t->stopping && !t->gone) {
		test_vm_stop(t->vm);
		loop_timer_arm(t->timer[TEST_TIMER_STOP], test_stop_ns);
	}
	t->stopping = true;
}

void test_hurry(struct test *t)
{
	t->hurried = true;
	if (t->gone || t->stuck)
		test_output_hurry(t->output, test_hurry_ns);
}

void test_drain(struct test *t)
{
	if (t->drain)
		loop_event_soon(t->drain);
}

void test_pump(struct test *t)
{
	if (t->pump)
		loop_event_soon(t->pump);
}
