/*
 * chardev/attach: which device a chardev serves, and when it begins and ends to.
 *
 * A chardev of a pool does all of it in the pool's thread, as it does its callbacks: so none of them
 * runs when detach returns.
 */
#include "devices/backend/chardev/chardev_impl.h"

void chardev_start(struct chardev *chr)
{
	if (chr->started)
		return;
	chr->started = true;
	if (chr->ops->start)
		chr->ops->start(chr);
}

struct attach {
	struct chardev *chr;
	const struct chardev_user *user;
};

static void attach_here(void *opaque)
{
	const struct attach *a = opaque;
	struct chardev *chr = a->chr;

	chardev_start(chr);
	chr->user = *a->user;
	chr->attached = chr->reports = true;
	/* A new user, a new try: there may be room on the disk again. */
	pthread_mutex_lock(&chr->lock);
	chr->failed = false;
	chr->exact = chr->user.exact;
	pthread_mutex_unlock(&chr->lock);
	if (chr->user.connected)
		chr->user.connected(chr->user.opaque, !chr->lossy || chr->connected);
	if (chr->ops->attached)
		chr->ops->attached(chr);
	/* Begin, and hand on the input that has waited. */
	atomic_store(&chr->in_paused, false);
	if (chr->ops->begin || chr->home)
		chardev_wake(chr);
}

static void detach_here(void *opaque)
{
	struct chardev *chr = opaque;

	chr->attached = chr->reports = false;
	pthread_mutex_lock(&chr->lock);
	chr->blocked = false;
	pthread_mutex_unlock(&chr->lock);
	if (chr->ops->detached)
		chr->ops->detached(chr);
}

/* Run fn in the loop's thread; without a pool this thread is the loop's, or no loop runs. */
static void in_loop(struct chardev *chr, void (*fn)(void *opaque), void *opaque)
{
	if (chr->home)
		chr->home->call(chr->home, fn, opaque);
	else
		fn(opaque);
}

void chardev_attach(struct chardev *chr, const struct chardev_user *user)
{
	struct attach a = { chr, user };

	in_loop(chr, attach_here, &a);
}

void chardev_detach(struct chardev *chr)
{
	in_loop(chr, detach_here, chr);
}

void chardev_part(struct chardev *chr)
{
	if (chr && chr->home)
		chardev_detach(chr);
}

void chardev_release(struct chardev *chr)
{
	if (!chr || !chr->home) {
		chardev_close(chr);
		return;
	}
	chardev_detach(chr);
	chr->taken = false;
}
