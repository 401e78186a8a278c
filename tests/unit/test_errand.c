/*
 * errand: who runs an errand, that its caller waits for it, that one which lasts delays no short one, and many callers
 * at once.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/errand/errand.h"
#include "vmm/core/thread.h"

TestSuite(errand, .timeout = 60);

#define CALLERS 8u
#define TIMES 2000u

static atomic_uint confined;

static int confine(enum thread_kind kind)
{
	cr_expect_eq(kind, THREAD_MACHINE);
	confined++;
	return 0;
}

struct seen {
	pthread_t thread;
	enum thread_kind kind;
	struct errands *used;
};

static void look(void *opaque)
{
	*(struct seen *)opaque = (struct seen){ pthread_self(), thread_kind(), errands_used() };
}

/* A process that does not confine its threads has no thread for errands. */
Test(errand, not_confined)
{
	struct errands *errands = (struct errands *)&errands;
	struct err err = { "" };
	struct seen seen;

	cr_assert_eq(errands_start(true, &errands, &err), 0);
	cr_assert_null(errands);
	errands_use(errands);
	errand_run(look, &seen);
	cr_expect(pthread_equal(seen.thread, pthread_self()));
	errand_run_long(look, &seen);
	cr_expect(pthread_equal(seen.thread, pthread_self()));
	errands_end(errands);
}

/* An errand of an errand runs where it is: that thread has all that it needs. */
Test(errand, in_their_threads)
{
	struct errands *errands;
	struct seen brief, lasting;
	struct err err = { "" };

	thread_set_confine(confine);
	cr_assert_eq(errands_start(true, &errands, &err), 0);
	errand_run(look, &brief);
	cr_expect(pthread_equal(brief.thread, pthread_self()), "before errands_use");
	errands_use(errands);
	cr_expect_eq(errands_used(), errands);
	errand_run(look, &brief);
	errand_run_long(look, &lasting);
	cr_expect_not(pthread_equal(brief.thread, pthread_self()));
	cr_expect_not(pthread_equal(brief.thread, lasting.thread));
	cr_expect(brief.kind == THREAD_MACHINE && lasting.kind == THREAD_MACHINE);
	cr_expect(!brief.used && !lasting.used);
	errands_end(errands);
	cr_expect_null(errands_used());
	cr_expect_eq(confined, 2);
}

/* Without a thread of their own, lasting errands are done with the others. */
Test(errand, one_thread)
{
	struct errands *errands;
	struct seen brief, lasting;
	struct err err = { "" };

	thread_set_confine(confine);
	cr_assert_eq(errands_start(false, &errands, &err), 0);
	errands_use(errands);
	errand_run(look, &brief);
	errand_run_long(look, &lasting);
	cr_expect(pthread_equal(brief.thread, lasting.thread));
	errands_end(errands);
	errands_expect_long();
	cr_assert_eq(errands_start(false, &errands, &err), 0);
	errands_use(errands);
	errand_run(look, &brief);
	errand_run_long(look, &lasting);
	cr_expect_not(pthread_equal(brief.thread, lasting.thread));
	errands_end(errands);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool begun, may_end;

static void last(void *opaque)
{
	pthread_mutex_lock(&lock);
	begun = true;
	pthread_cond_broadcast(&cond);
	while (!may_end)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

static void *have_it_last(void *opaque)
{
	errands_use(opaque);
	errand_run_long(last, NULL);
	return NULL;
}

/* A daemon that does not answer: other devices' errands are done meanwhile. */
Test(errand, long_delays_no_short)
{
	struct errands *errands;
	struct seen seen;
	pthread_t thread;
	struct err err = { "" };

	thread_set_confine(confine);
	cr_assert_eq(errands_start(true, &errands, &err), 0);
	cr_assert_eq(pthread_create(&thread, NULL, have_it_last, errands), 0);
	pthread_mutex_lock(&lock);
	while (!begun)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	errands_use(errands);
	errand_run(look, &seen);
	pthread_mutex_lock(&lock);
	may_end = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	errands_end(errands);
}

static unsigned sum; /* of the errands' one thread */

static void add(void *opaque)
{
	unsigned *mine = opaque;

	sum++;
	++*mine;
}

static void *call(void *opaque)
{
	unsigned done = 0;

	errands_use(opaque);
	for (unsigned i = 0; i < TIMES; i++) {
		errand_run(add, &done);
		cr_assert_eq(done, i + 1, "it has run when errand_run returns");
	}
	return NULL;
}

Test(errand, many_callers)
{
	struct errands *errands;
	pthread_t thread[CALLERS];
	struct err err = { "" };

	thread_set_confine(confine);
	cr_assert_eq(errands_start(false, &errands, &err), 0);
	for (unsigned i = 0; i < CALLERS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, call, errands), 0);
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(thread[i], NULL);
	errands_end(errands);
	cr_expect_eq(sum, CALLERS * TIMES);
}
