/*
 * loop: one thread's event loop over epoll.
 *
 * All callbacks run in the thread that calls loop_run. Only loop_stop and
 * loop_post may be called from other threads (and loop_stop from a signal
 * handler); everything else belongs to the loop's thread, or to the builder
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
/* Whether the caller is the thread that runs the loop now. Any thread. */
bool loop_is_here(const struct loop *loop);

/*
 * Watch fd (level-triggered). The caller keeps fd open until loop_unwatch.
 * -EPERM: a regular file, which is always ready.
 */
int loop_watch_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn,
		  void *opaque, struct loop_watch **out);
/* Change the events of interest (0 = paused; errors and hang-ups are muted too). */
void loop_watch_events(struct loop_watch *watch, uint32_t events);
/* Safe inside any callback, also of the same watch; accepts NULL. */
void loop_unwatch(struct loop_watch *watch);

/*
 * An eventfd of its own, watched: fn is called after one or more writes; the
 * counter is read and cleared first. *fd_out may be given to other threads and
 * to KVM. loop_unwatch closes it.
 */
int loop_watch_event(struct loop *loop, loop_fn fn, void *opaque,
		     struct loop_watch **out, int *fd_out);

/* A one-shot timer, not armed at first. delay_ns 0 disarms. */
int loop_watch_timer(struct loop *loop, loop_fn fn, void *opaque,
		     struct loop_watch **out);
void loop_timer_arm(struct loop_watch *watch, uint64_t delay_ns);

/* Run fn(opaque) in the loop's thread, soon. Any thread. 0 or -ENOMEM. */
int loop_post(struct loop *loop, loop_fn fn, void *opaque);

#endif
