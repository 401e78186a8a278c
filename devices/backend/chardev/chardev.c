/*
 * chardev: see chardev.h.
 *
 * Output has a file of its own (output.c), and so has what the loop watches for (events.c). Input is
 * read into a small queue and handed on as far as the user takes it. in_paused is set before the user
 * is asked, so that a chardev_resume in another thread is never missed.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/log.h"
#include "vmm/core/turn.h"

#define CLOSE_MS 1000
#define CLOSE_STUCK_MS 50
#define CLOSE_UNREAD_MS 250
#define LOOK_MS 2 /* whether the last output was read */

static const struct chardev_ops no_ops;

/* --- input ----------------------------------------------------------------- */

static unsigned room(const struct chardev *chr)
{
	return CHARDEV_IN_BYTES - chr->in_len;
}

static void stalled(void *opaque)
{
	struct chardev *chr = opaque;

	chr->stall_armed = false;
	chr->in_discard = !room(chr);
	chardev_update_events(chr);
}

/* Returns how many bytes the user takes. */
static size_t offer(struct chardev *chr, const uint8_t *buf, size_t len)
{
	size_t n;

	atomic_store(&chr->in_paused, true);
	n = chr->user.input(chr->user.opaque, buf, len);
	BUG_ON(n > len);
	if (n == len)
		atomic_store(&chr->in_paused, false);
	return n;
}

static void deliver(struct chardev *chr)
{
	size_t n;

	if (!chr->in_len || !chr->attached)
		return;
	n = offer(chr, chr->in + chr->in_off, chr->in_len);
	chr->in_off += (unsigned)n;
	chr->in_len -= (unsigned)n;
	if (!chr->in_len)
		chr->in_off = 0;
	if (n)
		chr->in_discard = false;
}

/* Moves the queue to its begin. Returns where the next byte goes. */
static uint8_t *make_room(struct chardev *chr)
{
	memmove(chr->in, chr->in + chr->in_off, chr->in_len);
	chr->in_off = 0;
	return chr->in + chr->in_len;
}

size_t chardev_give(struct chardev *chr, const uint8_t *buf, size_t len)
{
	size_t done = 0, rest;

	if (!chr->in_len && chr->attached && !atomic_load(&chr->in_paused))
		done = offer(chr, buf, len);
	rest = len - done < room(chr) ? len - done : room(chr);
	memcpy(make_room(chr), buf + done, rest);
	chr->in_len += (unsigned)rest;
	return done + rest;
}

/* Read once, as much as the queue takes. Returns false if nothing came. */
static bool read_in(struct chardev *chr)
{
	uint8_t scrap[64];
	uint8_t *to = scrap;
	size_t len = sizeof(scrap);
	ssize_t n;

	if (room(chr)) {
		to = make_room(chr);
		len = room(chr);
	}
	n = chr->in_shared ? fd_read_now(chr->in_fd, &(struct iovec){ to, len }, 1) :
			     fd_rw_read(chr->in_fd, to, len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		chr->in_ended = true;
		if (chr->ops->in_ended)
			chr->ops->in_ended(chr);
		return false;
	}
	if (chr->ops->filter)
		n = (ssize_t)chr->ops->filter(chr, to, (size_t)n);
	if (to != scrap)
		chr->in_len += (unsigned)n;
	return true;
}

void chardev_read_rest(struct chardev *chr)
{
	while (!chr->in_ended && room(chr) && read_in(chr))
		if (!atomic_load(&chr->in_paused))
			deliver(chr);
}

/* A regular file has no readiness: read as long as the user takes input, a turn each time. */
static void pump(struct chardev *chr)
{
	struct turn turn = { TURN_BYTES };

	while (chr->in_always && chr->in_on && !chr->in_ended && !chr->in_len &&
	       !turn_over(&turn) && read_in(chr)) {
		deliver(chr);
		turn_charge(&turn, CHARDEV_IN_BYTES);
	}
	if (turn_over(&turn))
		chardev_wake(chr);
}

static void io_ready(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;

	if (events & EPOLLOUT && chr->out_wait) {
		chr->out_wait = false;
		chardev_flush(chr);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && chr->in_watch) {
		if (!chr->in_ended && (room(chr) || chr->in_discard)) {
			if (read_in(chr) && !atomic_load(&chr->in_paused))
				deliver(chr);
		} else if (events & EPOLLHUP && chr->connected) {
			chardev_connect(chr, false);
		}
	}
	chardev_check_gone(chr);
	chardev_update_events(chr);
}

int chardev_watch_input(struct chardev *chr)
{
	int rc;

	chr->in_on = true;
	chr->in_ended = false;
	chr->in_events = EPOLLIN;
	rc = loop_watch_fd(chr->loop, chr->in_fd, EPOLLIN, io_ready, chr, &chr->in_watch);
	if (rc == -EPERM) {
		chr->in_always = true;
		chardev_wake(chr);
		rc = 0;
	}
	return rc;
}

void chardev_resume(struct chardev *chr)
{
	if (atomic_load(&chr->in_paused) && atomic_exchange(&chr->in_paused, false))
		chardev_wake(chr);
}

static void event_ready(void *opaque)
{
	struct chardev *chr = opaque;

	if (chr->attached)
		chardev_begin(chr);
	if (chr->ops->poked)
		chr->ops->poked(chr);
	if (!atomic_load(&chr->in_paused)) {
		deliver(chr);
		pump(chr);
		chardev_check_gone(chr);
		chardev_update_events(chr);
	}
	if (!chr->out_wait)
		chardev_flush(chr);
	if (chr->ops->looked)
		chr->ops->looked(chr);
}

void chardev_guest_open(struct chardev *chr, bool open)
{
	if (chr->ops->guest_open)
		chr->ops->guest_open(chr, open);
}

/* --- life ------------------------------------------------------------------ */

bool chardev_ignore_signal(int sig)
{
	struct sigaction old;

	if (sigaction(sig, NULL, &old) || old.sa_flags & SA_SIGINFO || old.sa_handler != SIG_DFL)
		return false;
	signal(sig, SIG_IGN);
	return true;
}

int chardev_new(const struct keyvals *cfg, struct loop *loop, const struct chardev_ops *ops,
		size_t size, uint32_t ring_bytes, struct chardev **out, struct err *err,
		const char *fmt, ...)
{
	struct chardev *chr = malloc(size + ring_bytes);
	char text[4200];
	va_list ap;
	int rc = -ENOMEM;

	*out = NULL;
	if (!chr)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	memset(chr, 0, size); /* not the ring: its pages cost nothing until they are used */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	chr->ops = ops;
	chr->loop = loop;
	chr->event_fd = chr->in_fd = chr->out_fd = -1;
	chr->left = UINT64_MAX;
	chr->ring = ring_bytes ? (uint8_t *)chr + size : NULL;
	chr->ring_bytes = ring_bytes;
	pthread_mutex_init(&chr->lock, NULL);
	if (asprintf(&chr->what, "%s %s", cfg->option, text) < 0) {
		chr->what = NULL;
		goto fail;
	}
	chr->describe = chr->what + strlen(cfg->option) + 1;
	if (ring_bytes) {
		rc = loop_watch_event(loop, event_ready, chr, &chr->event_watch, &chr->event_fd);
		if (!rc)
			rc = loop_watch_timer(loop, chardev_flush_due, chr, &chr->timer);
		if (!rc && ops->filter)
			rc = loop_watch_timer(loop, stalled, chr, &chr->stall);
		if (rc)
			goto fail;
	}
	*out = chr;
	return 0;
fail:
	err_sys(err, -rc, "%s", cfg->option);
	chr->ops = &no_ops; /* the sink has opened nothing yet */
	chardev_close(chr);
	return rc;
}

/* Returns for how long a reader may take nothing at all before it counts as one that does not read. */
static int patience_ms(const struct chardev *chr)
{
	if (!chr->lossy || chr->exact)
		return CLOSE_MS;
	/* What is in a socket can be read later; what is in a pty cannot. */
	return chr->ops->unread ? CLOSE_UNREAD_MS : CLOSE_STUCK_MS;
}

/* Waits while the reader of a sink that close empties goes on reading. Returns what it has not read. */
static size_t wait_for_reader(const struct chardev *chr, uint64_t until_ms)
{
	uint64_t moved = clock_now_ms(), now = moved;
	size_t left = chr->ops->unread(chr), before = left;

	while (left && now < until_ms && now - moved < (uint64_t)patience_ms(chr)) {
		poll(NULL, 0, LOOK_MS);
		now = clock_now_ms();
		left = chr->ops->unread(chr);
		if (left != before)
			moved = now;
		before = left;
	}
	return left;
}

/* A person needs the guest's last output most: wait for it, but not for ever. */
static void flush_last(struct chardev *chr)
{
	uint64_t until = clock_now_ms() + CLOSE_MS, now = 0, pos, left = 0;
	bool hup = false;
	uint8_t byte;

	if (chr->ops->put) { /* its owner waits for nothing, and knows what it has not taken */
		if (!chr->out_wait)
			chardev_flush(chr);
		return;
	}
	while (!hup && chr->ring && chr->out_fd >= 0 && chardev_ring_peek(chr, &byte, 1, &pos)) {
		struct pollfd pfd = { .fd = chr->out_fd, .events = POLLOUT };
		int wait_ms = patience_ms(chr);

		chr->out_wait = false;
		chardev_flush(chr);
		now = clock_now_ms();
		if (now >= until)
			break;
		if (wait_ms > (int)(until - now))
			wait_ms = (int)(until - now);
		if (chr->out_wait && !poll(&pfd, 1, wait_ms))
			break;
		hup = pfd.revents & POLLHUP;
	}
	if (chardev_ring_peek(chr, &byte, 1, &pos))
		left = chr->head - chr->tail;
	if (left) {
		log_put_for(chr->what, LOG_WARN,
			    "%s: %llu bytes of output were dropped: no process reads them",
			    chr->what, (unsigned long long)left);
		return;
	}
	left = chr->ops->unread ? wait_for_reader(chr, until) : 0;
	if (left)
		log_put_for(chr->what, LOG_WARN,
			    "%s: the last %llu bytes of output are lost: its reader is slow",
			    chr->what, (unsigned long long)left);
}

void chardev_close(struct chardev *chr)
{
	if (!chr)
		return;
	chr->attached = false;
	if (chr->ring)
		flush_last(chr);
	chardev_unwatch(chr);
	if (chr->ops->close)
		chr->ops->close(chr);
	loop_unwatch(chr->stall);
	loop_unwatch(chr->timer);
	loop_unwatch(chr->event_watch);
	pthread_mutex_destroy(&chr->lock);
	free(chr->what);
	free(chr);
}

const char *chardev_describe(const struct chardev *chr)
{
	return chr->describe;
}

const char *chardev_terminal(const struct chardev *chr)
{
	return chr->terminal;
}
