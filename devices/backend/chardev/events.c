/*
 * chardev/events: what the loop watches for, and what follows from the state of both directions.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"

#define STALL_NS 1000000000ull

void chardev_wake(const struct chardev *chr)
{
	if (chr->event_fd >= 0)
		fd_rw_wake(chr->event_fd);
}

void chardev_check_gone(struct chardev *chr)
{
	if (chr->in_watch && chr->in_ended && !chr->connected && !chr->in_len && chr->ops->hangup)
		chr->ops->hangup(chr);
}

void chardev_begin(struct chardev *chr)
{
	if (chr->begun)
		return;
	chr->begun = true;
	if (chr->ops->begin)
		chr->ops->begin(chr);
}

void chardev_update_events(struct chardev *chr)
{
	bool shared = chr->in_fd == chr->out_fd;
	bool full = chr->in_len == CHARDEV_IN_BYTES;
	uint32_t want = 0;

	if (!chr->in_watch)
		return;
	if (chr->in_on && !chr->in_ended && (!full || chr->in_discard))
		want |= EPOLLIN;
	/* No input is read now, but the peer may still read output: learn when it is gone. */
	if (shared && chr->connected && !(want & EPOLLIN))
		want |= EPOLLHUP;
	if (shared && chr->out_wait)
		want |= EPOLLOUT;
	if (want != chr->in_events)
		loop_watch_events(chr->in_watch, want);
	chr->in_events = want;
	if (chr->stall && full && !chr->in_discard && !chr->stall_armed) {
		chr->stall_armed = true;
		loop_timer_arm(chr->stall, STALL_NS);
	}
}

void chardev_unwatch(struct chardev *chr)
{
	loop_unwatch(chr->in_watch);
	loop_unwatch(chr->out_watch);
	chr->in_watch = chr->out_watch = NULL;
	chr->out_wait = chr->in_discard = chr->in_on = false;
}
