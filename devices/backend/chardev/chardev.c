/*
 * chardev: see chardev.h.
 *
 * Theory of operation. The thread that has the first output after a pause writes it at once (so
 * that an echoed key shows without delay). That write begins a burst: further output goes into a
 * ring under a lock, and the loop flushes the ring every FLUSH_NS until it finds nothing there. So
 * a console that prints byte by byte costs a few writes for each burst, not one for each byte. A
 * ring that is half full wakes the loop at once; a sink that takes nothing now leaves everything to
 * the loop.
 *
 * Input is read into a small queue and handed on as far as the user takes it. in_paused is set
 * before the user is asked, so that a chardev_resume in another thread is never missed.
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

#define FLUSH_NS                                                                                   \
	20000000u /* the first byte goes at once; people do not notice this delay of the rest */
#define STALL_NS 1000000000ull
#define CLOSE_MS 1000
#define CLOSE_STUCK_MS 50
#define CLOSE_UNREAD_MS 250
#define LOOK_MS 2 /* whether the last output was read */
#define CHUNK_BYTES 4096u

static const struct chardev_ops no_ops;

/* --- output ---------------------------------------------------------------- */

void chardev_wake(const struct chardev *chr)
{
	uint64_t one = 1;

	if (chr->event_fd >= 0 && write(chr->event_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the counter is full, so the loop is awake already */
}

static ssize_t put_out(const struct chardev *chr, const uint8_t *buf, size_t len);

/*
 * Write the first output after a pause from the calling thread, without waiting for the loop to
 * wake up. The write begins a burst; the rest of the burst is gathered. Lock held; returns how many
 * bytes were written.
 */
static size_t put_direct(struct chardev *chr, const void *buf, size_t len)
{
	ssize_t n;

	if (chr->scheduled || chr->failed || chr->lossy || chr->hold || chr->head != chr->tail ||
	    len > chr->left)
		return 0;
	n = put_out(chr, buf, len);
	if (n <= 0)
		return 0; /* the loop meets the same error, and handles it */
	chr->left -= (size_t)n;
	chr->scheduled = true;
	loop_timer_arm(chr->timer, FLUSH_NS);
	return (size_t)n;
}

size_t chardev_write(struct chardev *chr, const void *buf, size_t len)
{
	size_t direct;
	bool wake = false;

	if (!chr->ring || !len)
		return len;
	pthread_mutex_lock(&chr->lock);
	direct = put_direct(chr, buf, len);
	buf = (const uint8_t *)buf + direct;
	len -= direct;
	if (!len) {
		pthread_mutex_unlock(&chr->lock);
		return direct;
	}
	if (chr->failed) {
		chr->dropped += len;
	} else {
		size_t took = chardev_ring_put(chr, buf, len);

		chr->blocked |= took < len;
		len = took;
	}
	if (!chr->failed && (!chr->lossy || chr->connected)) {
		bool half = chr->head - chr->tail >= chr->ring_bytes / 2;

		wake = !chr->scheduled || (half && !chr->urgent);
		chr->scheduled = true;
		chr->urgent |= half;
	}
	pthread_mutex_unlock(&chr->lock);
	if (wake)
		chardev_wake(chr);
	return direct + len;
}

/* Returns the bytes written, -EAGAIN, or another -errno, which is final. */
static ssize_t put_out(const struct chardev *chr, const uint8_t *buf, size_t len)
{
	ssize_t n;

	do {
		if (chr->out_how == CHARDEV_OUT_SEND)
			n = send(chr->out_fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (chr->out_how == CHARDEV_OUT_POLL)
			n = fd_write_now(chr->out_fd, buf, len);
		else
			n = write(chr->out_fd, buf, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return n ? n : -EIO;
}

static void io_ready(void *opaque, uint32_t events);
static void flush_burst(struct chardev *chr);

static void out_ready(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;

	loop_watch_events(chr->out_watch, 0);
	chr->out_wait = false;
	flush_burst(chr);
}

static void wait_out(struct chardev *chr)
{
	chr->out_wait = true;
	if (chr->in_fd == chr->out_fd)
		chardev_update_events(chr);
	else if (chr->out_watch)
		loop_watch_events(chr->out_watch, EPOLLOUT);
	else if (loop_watch_fd(chr->loop, chr->out_fd, EPOLLOUT, out_ready, chr, &chr->out_watch))
		chr->out_wait = false; /* the burst's timer tries again */
}

void chardev_fail(struct chardev *chr, int error)
{
	pthread_mutex_lock(&chr->lock);
	chr->failed = true;
	chr->dropped += chr->head - chr->tail;
	chr->tail = chr->head;
	pthread_mutex_unlock(&chr->lock);
	log_put_for(chr->what, LOG_ERROR, "%s: %s; output is lost from here on", chr->what,
		    strerror(error));
	if (chr->reports && chr->user.failed)
		chr->user.failed(chr->user.opaque);
}

/* Hang up if the reader of a lossy sink has closed both ways and all its input is delivered. */
static void check_gone(struct chardev *chr)
{
	if (chr->in_watch && chr->in_ended && !chr->connected && !chr->in_len && chr->ops->hangup)
		chr->ops->hangup(chr);
}

static void begin(struct chardev *chr)
{
	if (chr->begun)
		return;
	chr->begun = true;
	if (chr->ops->begin)
		chr->ops->begin(chr);
}

static void flush(struct chardev *chr)
{
	uint8_t chunk[CHUNK_BYTES];
	bool tell;

	/* Write at most one ring's worth, so that a fast writer does not keep the loop here. */
	for (uint32_t done = 0; done < chr->ring_bytes && !chr->out_wait;) {
		uint64_t pos;
		size_t len = chardev_ring_peek(chr, chunk, sizeof(chunk), &pos);
		ssize_t n;

		if (!len)
			break;
		begin(chr);
		if (len > chr->left)
			chr->ops->full(chr);
		if (chr->failed)
			break;
		n = put_out(chr, chunk, len);
		if (n == -EAGAIN) {
			wait_out(chr);
			break;
		}
		if (n < 0 && chr->lossy) {
			/* The reader's last input still counts: read on to its end. */
			chardev_connect(chr, false);
			check_gone(chr);
			break;
		}
		if (n < 0) {
			chardev_fail(chr, (int)-n);
			break;
		}
		chr->left -= (uint64_t)n;
		done += (uint32_t)n;
		chardev_ring_taken(chr, pos + (uint64_t)n);
	}
	pthread_mutex_lock(&chr->lock);
	tell = chr->blocked && chr->head - chr->tail <= chr->ring_bytes / 2;
	if (tell)
		chr->blocked = false;
	pthread_mutex_unlock(&chr->lock);
	if (tell && chr->attached)
		chr->user.drained(chr->user.opaque);
}

/* Flush, and set the timer for the next flush if a burst is on. */
static void flush_burst(struct chardev *chr)
{
	bool again;

	flush(chr);
	pthread_mutex_lock(&chr->lock);
	again = chr->scheduled;
	pthread_mutex_unlock(&chr->lock);
	if (again && !chr->out_wait)
		loop_timer_arm(chr->timer, FLUSH_NS);
}

static void burst_over(void *opaque)
{
	struct chardev *chr = opaque;
	bool empty;

	pthread_mutex_lock(&chr->lock);
	empty = chr->head == chr->tail;
	if (empty)
		chr->scheduled = false;
	pthread_mutex_unlock(&chr->lock);
	if (!empty && !chr->out_wait)
		flush_burst(chr);
}

void chardev_connect(struct chardev *chr, bool connected)
{
	uint64_t dropped;

	pthread_mutex_lock(&chr->lock);
	dropped = chr->dropped;
	chr->dropped = 0;
	chr->connected = connected;
	chr->scheduled = connected;
	chr->urgent = false;
	if (connected)
		chr->tail = chr->head > chr->ring_bytes ? chr->head - chr->ring_bytes : 0;
	pthread_mutex_unlock(&chr->lock);
	chr->out_wait = false;
	if (dropped)
		log_put_for(chr->what, LOG_WARN,
			    "%s: %llu bytes of output were dropped: the reader was slow", chr->what,
			    (unsigned long long)dropped);
	if (connected)
		flush_burst(chr);
}

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

void chardev_update_events(struct chardev *chr)
{
	bool shared = chr->in_fd == chr->out_fd;
	bool full = !room(chr);
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

static void deliver(struct chardev *chr)
{
	size_t n;

	if (!chr->in_len || !chr->attached)
		return;
	atomic_store(&chr->in_paused, true);
	n = chr->user.input(chr->user.opaque, chr->in + chr->in_off, chr->in_len);
	BUG_ON(n > chr->in_len);
	chr->in_off += (unsigned)n;
	chr->in_len -= (unsigned)n;
	if (!chr->in_len) {
		chr->in_off = 0;
		atomic_store(&chr->in_paused, false);
	}
	if (n)
		chr->in_discard = false;
}

/* Read once, as much as the queue takes. Returns false if nothing came. */
static bool read_in(struct chardev *chr)
{
	uint8_t scrap[64];
	uint8_t *to = scrap;
	size_t len = sizeof(scrap);
	ssize_t n;

	if (room(chr)) {
		memmove(chr->in, chr->in + chr->in_off, chr->in_len);
		chr->in_off = 0;
		to = chr->in + chr->in_len;
		len = room(chr);
	}
	n = read(chr->in_fd, to, len);
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

/* A regular file has no readiness: read as long as the user takes input. */
static void pump(struct chardev *chr)
{
	while (chr->in_always && chr->in_on && !chr->in_ended && !chr->in_len && read_in(chr))
		deliver(chr);
}

static void io_ready(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;

	if (events & EPOLLOUT && chr->out_wait) {
		chr->out_wait = false;
		flush_burst(chr);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && chr->in_watch) {
		if (!chr->in_ended && (room(chr) || chr->in_discard)) {
			if (read_in(chr) && !atomic_load(&chr->in_paused))
				deliver(chr);
		} else if (events & EPOLLHUP && chr->connected) {
			chardev_connect(chr, false);
		}
	}
	check_gone(chr);
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

void chardev_unwatch(struct chardev *chr)
{
	loop_unwatch(chr->in_watch);
	loop_unwatch(chr->out_watch);
	chr->in_watch = chr->out_watch = NULL;
	chr->out_wait = chr->in_discard = chr->in_on = false;
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
		begin(chr);
	if (chr->ops->poked)
		chr->ops->poked(chr);
	if (!atomic_load(&chr->in_paused)) {
		deliver(chr);
		pump(chr);
		check_gone(chr);
		chardev_update_events(chr);
	}
	if (!chr->out_wait)
		flush_burst(chr);
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
			rc = loop_watch_timer(loop, burst_over, chr, &chr->timer);
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
	if (!chr->lossy)
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

	while (!hup && chr->ring && chr->out_fd >= 0 && chardev_ring_peek(chr, &byte, 1, &pos)) {
		struct pollfd pfd = { .fd = chr->out_fd, .events = POLLOUT };
		int wait_ms = patience_ms(chr);

		chr->out_wait = false;
		flush(chr);
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
