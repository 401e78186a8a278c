/*
 * loop: one thread's event loop over epoll.
 *
 * All callbacks run in the thread that calls loop_run. Only loop_stop, loop_post
 * and loop_watch_events may be called from other threads (and loop_stop from a
 * signal handler); everything else belongs to the loop's thread, or to the builder
 * before loop_run starts.
 */
#ifndef BANTAM_LOOP_H
#define BANTAM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"

struct loop;
struct loop_watch;

/* events: EPOLLIN | EPOLLOUT | … that are ready. */
typedef void (*loop_fd_fn)(void *opaque, uint32_t events);
typedef void (*loop_fn)(void *opaque);

int loop_create(struct loop **out, struct err *err);
/*
 * Frees watches that are still there and drops posts that did not run; accepts NULL.
 * Closes no fd of others.
 */
void loop_destroy(struct loop *loop);

/*
 * Runs until loop_stop (also one that came before); returns 0, or -errno when epoll itself
 * fails. May be called again later, but not inside a callback.
 */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Forget posts and a stop that no loop_run has taken, for a loop that is to serve another owner.
 * Not while it runs. */
void loop_reset(struct loop *loop);
/* Whether the caller is the thread that runs the loop now. Any thread. */
bool loop_is_here(const struct loop *loop);

/*
 * Watch fd (level-triggered). The caller keeps fd open until loop_unwatch.
 * -EPERM: a regular file, which is always ready.
 */
int loop_watch_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *opaque,
		  struct loop_watch **out);
/*
 * Change the events of interest (0 = paused; errors and hang-ups are muted too). From another
 * thread: one at a time; a callback that has begun goes on.
 */
void loop_watch_events(struct loop_watch *watch, uint32_t events);
/* Safe inside any callback, also of the same watch; accepts NULL. */
void loop_unwatch(struct loop_watch *watch);

/*
 * An eventfd of its own, watched: fn is called after one or more writes. The counter is
 * never read, so an event costs one system call and not two; it would take 2^64 writes to
 * fill it. *fd_out may be given to other threads and to KVM. loop_unwatch closes it.
 */
int loop_watch_event(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out,
		     int *fd_out);

/* A one-shot timer, not armed at first. delay_ns 0 disarms. */
int loop_watch_timer(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out);
void loop_timer_arm(struct loop_watch *watch, uint64_t delay_ns);

/*
 * Busy polling, for work that is expected within microseconds (the next request of a guest
 * that was just answered): sleeping and being woken would cost more than looking.
 *
 * An armed poller's poll is called over and over instead of blocking; it does what there is
 * to do and says whether there was anything. When nothing came for as long as is worth
 * while (busypoll.h), idle is called once and the poller is disarmed: it makes sure that the next
 * work wakes the loop. An idle VM does not spin. Other watches are looked at in between: after a few
 * polls that found nothing, and at least every LOOP_POLL_TURN_NS.
 */
#define LOOP_POLL_TURN_NS 200000u

struct loop_poller {
	bool (*poll)(void *opaque);
	void (*idle)(void *opaque);
	void *opaque;
	/* private */
	bool armed;
	struct loop_poller *next;
};

/* true: armed (or was already). false: not worth while now; do what idle does. */
bool loop_poll_arm(struct loop *loop, struct loop_poller *poller);
/* Without calling idle. Also when it is not armed. */
void loop_poll_disarm(struct loop *loop, struct loop_poller *poller);

/* Run fn(opaque) in the loop's thread, soon. Any thread. 0 or -ENOMEM. */
int loop_post(struct loop *loop, loop_fn fn, void *opaque);

#endif
