/*
 * errand: see errand.h.
 *
 * Theory of operation. A lane is a thread and a list. The caller puts its errand, which lies on its stack, at the end
 * of the list, and sleeps until the thread has run it. Caller and thread meet by a mutex and two conditions only,
 * which are futexes: both calls that they need are on the shortest list.
 *
 * Errands are run one after the other. Short ones are a few calls of the kernel; what may wait for a daemon has a lane
 * of its own. Otherwise a device with a daemon would delay a disk's errand, whose caller holds the disk's lock, for
 * which the loop of all devices waits.
 */
#include "vmm/errand/errand.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "vmm/core/err.h"
#include "vmm/core/thread.h"

#define STACK_BYTES (256u << 10)

enum { SHORT, LONG, NLANES };

struct errand {
	struct errand *next;
	void (*fn)(void *opaque);
	void *opaque;
	bool done;
};

struct lane {
	pthread_t thread;
	bool runs;

	pthread_mutex_t lock; /* a leaf; protects the fields below */
	pthread_cond_t work, done;
	struct errand *first, **last;
	bool end;
};

struct errands {
	struct lane lane[NLANES];
};

static _Thread_local struct errands *mine;
static atomic_bool expect_long;

static void *lane_main(void *opaque)
{
	struct lane *lane = opaque;
	struct errand *e;

	thread_confine();
	pthread_mutex_lock(&lane->lock);
	for (;;) {
		while (!lane->first && !lane->end)
			pthread_cond_wait(&lane->work, &lane->lock);
		e = lane->first;
		if (!e)
			break;
		lane->first = e->next;
		if (!lane->first)
			lane->last = &lane->first;
		pthread_mutex_unlock(&lane->lock);
		e->fn(e->opaque);
		pthread_mutex_lock(&lane->lock);
		/* From here on e is its caller's again. */
		e->done = true;
		pthread_cond_broadcast(&lane->done);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

static int start(struct lane *lane, const char *name)
{
	int rc;

	lane->last = &lane->first;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->work, NULL);
	pthread_cond_init(&lane->done, NULL);
	rc = thread_start(&lane->thread, THREAD_MACHINE, name, STACK_BYTES, lane_main, lane);
	lane->runs = !rc;
	return rc;
}

static void end(struct lane *lane)
{
	if (!lane->runs)
		return;
	pthread_mutex_lock(&lane->lock);
	lane->end = true;
	pthread_cond_broadcast(&lane->work);
	pthread_mutex_unlock(&lane->lock);
	pthread_join(lane->thread, NULL);
	pthread_cond_destroy(&lane->done);
	pthread_cond_destroy(&lane->work);
	pthread_mutex_destroy(&lane->lock);
}

int errands_start(bool long_too, struct errands **out, struct err *err)
{
	struct errands *errands;
	int rc;

	*out = NULL;
	if (!thread_confines())
		return 0;
	errands = calloc(1, sizeof(*errands));
	if (!errands)
		return err_sys(err, ENOMEM, "cannot start a thread");
	rc = start(&errands->lane[SHORT], "machine");
	if (!rc && (long_too || atomic_load(&expect_long)))
		rc = start(&errands->lane[LONG], "daemons");
	if (rc) {
		errands_end(errands);
		return err_sys(err, -rc, "cannot start a thread");
	}
	*out = errands;
	return 0;
}

void errands_end(struct errands *errands)
{
	if (!errands)
		return;
	BUG_ON(mine && mine != errands);
	mine = NULL;
	end(&errands->lane[SHORT]);
	end(&errands->lane[LONG]);
	free(errands);
}

void errands_use(struct errands *errands)
{
	mine = errands;
}

struct errands *errands_used(void)
{
	return mine;
}

void errands_expect_long(void)
{
	atomic_store(&expect_long, true);
}

static void run(struct lane *lane, void (*fn)(void *opaque), void *opaque)
{
	struct errand e = { .fn = fn, .opaque = opaque };

	pthread_mutex_lock(&lane->lock);
	*lane->last = &e;
	lane->last = &e.next;
	pthread_cond_signal(&lane->work);
	while (!e.done)
		pthread_cond_wait(&lane->done, &lane->lock);
	pthread_mutex_unlock(&lane->lock);
}

void errand_run(void (*fn)(void *opaque), void *opaque)
{
	if (mine)
		run(&mine->lane[SHORT], fn, opaque);
	else
		fn(opaque);
}

void errand_run_long(void (*fn)(void *opaque), void *opaque)
{
	if (mine)
		run(&mine->lane[mine->lane[LONG].runs ? LONG : SHORT], fn, opaque);
	else
		fn(opaque);
}
