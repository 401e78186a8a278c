/*
 * chardev/pool: see pool.h.
 *
 * Theory of operation. A chardev belongs to the thread of its loop. All that others want of it
 * (open, attach, detach) is a call: the caller leaves a function, wakes the loop, and waits until
 * the pool's thread has run it. So a detach cannot return while a callback of the device runs: both
 * are in that thread, one after the other. The caller holds no lock that a callback takes. A call
 * allocates nothing and cannot fail, because a device that is destroyed cannot fail either.
 *
 * A pool on its owner's loop is the same, but for the thread: what the owner's thread calls runs at
 * once, whether it is inside a callback of the loop or outside.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/thread.h"

#define STACK_BYTES (128u << 10)

struct call {
	void (*fn)(void *opaque);
	void *opaque;
	bool done;
};

struct pooled {
	struct pooled *next;
	struct chardev *chr;
	char id[];
};

struct chardev_pool {
	struct chardev_home home; /* first */
	struct pooled *first;
	struct loop *loop; /* NULL: no thread either */
	pthread_t thread;  /* lent: the owner's */
	bool running;
	bool lent; /* the loop is the owner's, who runs it */

	struct loop_watch *call_watch;
	int call_fd;
	pthread_mutex_t lock; /* protects call and call->done */
	pthread_cond_t changed;
	struct call *call; /* the one that runs or will run next; NULL: none */
};

/* --- calls to the pool's thread ------------------------------------------------------- */

static void on_call(void *opaque)
{
	struct chardev_pool *pool = opaque;
	struct call *call;

	pthread_mutex_lock(&pool->lock);
	call = pool->call;
	pthread_mutex_unlock(&pool->lock);
	if (!call)
		return;
	call->fn(call->opaque);
	pthread_mutex_lock(&pool->lock);
	call->done = true;
	pool->call = NULL;
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
}

void chardev_pool_call(struct chardev_pool *pool, void (*fn)(void *opaque), void *opaque)
{
	struct call call = { fn, opaque, false };
	uint64_t one = 1;

	if (!pool->running || (pool->lent && pthread_equal(pool->thread, pthread_self()))) {
		fn(opaque);
		return;
	}
	BUG_ON(loop_is_here(pool->loop));
	pthread_mutex_lock(&pool->lock);
	while (pool->call)
		pthread_cond_wait(&pool->changed, &pool->lock);
	pool->call = &call;
	BUG_ON(fd_rw_write(pool->call_fd, &one, sizeof(one)) != sizeof(one));
	while (!call.done)
		pthread_cond_wait(&pool->changed, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

static void call_home(struct chardev_home *home, void (*fn)(void *opaque), void *opaque)
{
	chardev_pool_call((struct chardev_pool *)home, fn, opaque);
}

/* --- the thread ------------------------------------------------------------------------ */

static void *console_main(void *opaque)
{
	struct chardev_pool *pool = opaque;

	BUG_ON(loop_run(pool->loop));
	return NULL;
}

int chardev_pool_start(struct chardev_pool *pool, struct err *err)
{
	int rc = 0;

	if (!pool->loop)
		rc = loop_create(&pool->loop, err);
	if (rc || pool->running)
		return rc;
	if (!pool->call_watch)
		rc = loop_watch_event(pool->loop, on_call, pool, &pool->call_watch, &pool->call_fd);
	if (!rc)
		rc = thread_start(&pool->thread, THREAD_LOOP, "console", STACK_BYTES, console_main,
				  pool);
	if (rc)
		return err_sys(err, -rc, "cannot start the thread of the consoles");
	pool->running = true;
	return 0;
}

static void stop(struct chardev_pool *pool)
{
	if (!pool->running || pool->lent)
		return;
	loop_stop(pool->loop);
	pthread_join(pool->thread, NULL);
	pool->running = false;
}

/* --- the chardevs ---------------------------------------------------------------------- */

struct loop *chardev_pool_loop(struct chardev_pool *pool)
{
	return pool->loop;
}

struct chardev *chardev_pool_find(struct chardev_pool *pool, const char *id)
{
	struct pooled *p = pool ? pool->first : NULL;

	while (p && strcmp(p->id, id))
		p = p->next;
	return p ? p->chr : NULL;
}

static void close_chardev(void *opaque)
{
	chardev_close(opaque);
}

static void start_chardev(void *opaque)
{
	chardev_start(opaque);
}

int chardev_pool_add(struct chardev_pool *pool, const char *id, struct chardev *chr,
		     struct err *err)
{
	struct pooled *p = malloc(sizeof(*p) + strlen(id) + 1);

	if (!p) {
		chardev_pool_call(pool, close_chardev, chr);
		return err_sys(err, ENOMEM, "%s", id);
	}
	strcpy(p->id, id);
	p->chr = chr;
	p->next = pool->first;
	pool->first = p;
	chr->home = &pool->home;
	chardev_pool_call(pool, start_chardev, chr);
	return 0;
}

const char *chardev_pool_path(struct chardev_pool *pool, const char *id)
{
	struct chardev *chr = chardev_pool_find(pool, id);

	return chr ? chardev_terminal(chr) : NULL;
}

struct rest {
	struct chardev_pool *pool;
	struct err *err;
	int rc;
};

/* The pool's thread. */
static void rest(void *opaque)
{
	struct rest *r = opaque;

	for (struct pooled *p = r->pool->first; p; p = p->next)
		if (p->chr->ops->rest)
			p->chr->ops->rest(p->chr);
}

/* The pool's thread. */
static void resume(void *opaque)
{
	struct rest *r = opaque;

	for (struct pooled *p = r->pool->first; p; p = p->next) {
		struct err err;
		int rc = p->chr->ops->resume ? p->chr->ops->resume(p->chr, &err) : 0;

		if (rc && !r->rc) {
			r->rc = rc;
			*r->err = err;
		}
	}
}

void chardev_pool_rest(struct chardev_pool *pool)
{
	struct rest r = { .pool = pool };

	chardev_pool_call(pool, rest, &r);
}

int chardev_pool_resume(struct chardev_pool *pool, struct err *err)
{
	struct rest r = { pool, err, 0 };
	bool any = false;

	for (struct pooled *p = pool->first; p; p = p->next)
		any |= p->chr->ops->resume != NULL;
	if (any)
		chardev_pool_call(pool, resume, &r);
	return r.rc;
}

/* --- life ------------------------------------------------------------------------------- */

int chardev_pool_create(struct chardev_pool **out, struct err *err)
{
	struct chardev_pool *pool = calloc(1, sizeof(*pool));

	*out = pool;
	if (!pool)
		return err_sys(err, ENOMEM, "consoles");
	pool->home.call = call_home;
	pool->call_fd = -1;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->changed, NULL);
	return 0;
}

int chardev_pool_create_on(struct loop *loop, struct chardev_pool **out, struct err *err)
{
	int rc = chardev_pool_create(out, err);
	struct chardev_pool *pool = *out;

	if (rc)
		return rc;
	pool->lent = true;
	rc = loop_watch_event(loop, on_call, pool, &pool->call_watch, &pool->call_fd);
	if (rc) {
		err_sys(err, -rc, "consoles");
		chardev_pool_destroy(pool);
		*out = NULL;
		return rc;
	}
	pool->loop = loop;
	pool->thread = pthread_self();
	pool->running = true;
	return 0;
}

void chardev_pool_destroy(struct chardev_pool *pool)
{
	if (!pool)
		return;
	stop(pool);
	while (pool->first) {
		struct pooled *p = pool->first;

		pool->first = p->next;
		BUG_ON(p->chr->taken);
		chardev_close(p->chr);
		free(p);
	}
	loop_unwatch(pool->call_watch);
	if (!pool->lent)
		loop_destroy(pool->loop);
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
