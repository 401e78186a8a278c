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
 * Frees the remaining watches and drops posts that did not run. Closes no fd that the caller owns.
 * Accepts NULL.
 */
void loop_destroy(struct loop *loop);

/*
 * Runs until loop_stop, which may also have come before. Returns 0, or -errno if epoll itself
 * fails. May be called again later, but not inside a callback.
 */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/*
 * Forget pending posts and a pending stop, before the loop serves another owner. Not while it runs.
 */
void loop_reset(struct loop *loop);
/* Returns true if the calling thread runs the loop now. Any thread. */
bool loop_is_here(const struct loop *loop);

/*
 * Watch fd (level-triggered). The caller keeps fd open until loop_unwatch. Returns 0 or -errno;
 * -EPERM: fd is a regular file, which is always ready.
 */
int loop_watch_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *opaque,
		  struct loop_watch **out);
/*
 * Change the events of interest (0 = paused; errors and hang-ups are muted too). Other threads may
 * call it, one at a time; a callback that has begun still completes.
 */
void loop_watch_events(struct loop_watch *watch, uint32_t events);
/* Safe inside any callback, also of the same watch; accepts NULL. */
void loop_unwatch(struct loop_watch *watch);

/*
 * Creates and watches an eventfd: fn runs after one or more writes. The loop never reads the
 * counter, so an event costs one system call instead of two; only 2^64 writes would fill it. The
 * caller may give *fd_out (NULL: not wanted) to other threads and to KVM. loop_unwatch closes it.
 */
int loop_watch_event(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out,
		     int *fd_out);
/*
 * The same as a write to the event's fd, without a system call in the loop's thread: fn runs after the
 * loop has looked at its other watches and pollers. Any thread, as long as the watch is there.
 */
void loop_event_soon(struct loop_watch *event);

/* A one-shot timer, not armed at first. delay_ns 0 disarms. */
int loop_watch_timer(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out);
void loop_timer_arm(struct loop_watch *watch, uint64_t delay_ns);

/*
 * Busy polling, for work that is expected within microseconds (the next request of a guest that
 * just got its answer): sleeping and being woken would cost more than polling.
 *
 * The loop calls an armed poller's poll over and over instead of blocking; poll does the work that
 * is there and returns true if there was any. If no work came for as long as polling pays
 * (busypoll.h), the loop disarms the poller and calls idle once: idle makes sure that the next work
 * wakes the loop. So an idle VM does not spin. The loop looks at its other watches in between:
 * after a few polls that found nothing, and at least every LOOP_POLL_TURN_NS.
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

/* Returns true if the poller is armed. False: polling does not pay now; do what idle does. */
bool loop_poll_arm(struct loop *loop, struct loop_poller *poller);
/* Disarms the poller without calling idle. Accepts one that is not armed. */
void loop_poll_disarm(struct loop *loop, struct loop_poller *poller);

/* Run fn(opaque) in the loop's thread, soon. Any thread. 0 or -ENOMEM. */
int loop_post(struct loop *loop, loop_fn fn, void *opaque);

#endif
