/*
 * chardev/output: from the device's thread to the sink.
 *
 * Theory of operation. A guest prints byte by byte, and a reader waits for a line; so output that waits
 * goes out soon, but a flood costs few writes. All output goes through the ring, under the lock, and
 * each write to the sink takes what is there. When the next write may happen depends on the last ones:
 *
 * - The first output after QUIET_NS goes out at once, from the thread that has it: an echoed key shows
 *   without delay.
 * - What comes within QUIET_NS is gathered, and the timer writes it. A line's end goes out at once, with
 *   all that is gathered.
 * - Each write costs a credit. CREDITS of them are there after a pause, and one comes back every
 *   PERIOD_NS: a guest that prints without a pause soon has none, and its output is written once in
 *   PERIOD_NS. paid_ns is the time until which the writes so far have paid (a virtual scheduling
 *   algorithm, ITU-T I.371 appendix I).
 *
 * A ring that is half full wakes the loop at once, with or without credits. A sink that takes nothing
 * now leaves everything to the loop, which waits until it is writable. Only one thread writes at a
 * time: a vCPU does it with the lock held, the loop without it but with flushing set.
 *
 * A sink that is no descriptor (program.c) costs no system call: it gets output as soon as the loop wakes.
 * Only single bytes, which a guest writes to a register, are gathered for QUIET_NS.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/log.h"

#define QUIET_NS 1000000ull   /* what a reader of a line without an end waits for */
#define PERIOD_NS 25000000ull /* what people do not notice */
#define CREDITS 8u
#define CHUNK_BYTES 4096u

/* --- credits (lock held) ----------------------------------------------------------------- */

static bool has_credit(const struct chardev *chr, uint64_t now)
{
	return chr->paid_ns <= now + (CREDITS - 1) * PERIOD_NS;
}

/* Something was written. */
static void charge(struct chardev *chr)
{
	uint64_t now = clock_now_ns(), most = now + CREDITS * PERIOD_NS;

	chr->quiet_ns = now + QUIET_NS;
	chr->paid_ns = (chr->paid_ns > now ? chr->paid_ns : now) + PERIOD_NS;
	if (chr->paid_ns > most)
		chr->paid_ns = most;
}

/* Returns in how many nanoseconds the next write may happen that no line's end calls for; 0: now. */
static uint64_t delay_ns(const struct chardev *chr, uint64_t now)
{
	uint64_t at = !chr->ops->put || chr->bytewise ? chr->quiet_ns : 0;

	if (!chr->ops->put && !has_credit(chr, now) &&
	    at < chr->paid_ns - (CREDITS - 1) * PERIOD_NS)
		at = chr->paid_ns - (CREDITS - 1) * PERIOD_NS;
	return at > now ? at - now : 0;
}

/* --- writing -------------------------------------------------------------------------------- */

/* Returns the bytes written, -EAGAIN, or another -errno, which is final. */
static ssize_t put_out(struct chardev *chr, const uint8_t *buf, size_t len)
{
	ssize_t n;

	if (chr->ops->put)
		return chr->ops->put(chr, buf, len);
	do {
		if (chr->out_how == CHARDEV_OUT_SEND)
			n = send(chr->out_fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (chr->out_how == CHARDEV_OUT_POLL)
			n = fd_write_now(chr->out_fd, buf, len);
		else
			n = fd_rw_write(chr->out_fd, buf, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return n ? n : -EIO;
}

/*
 * Write the ring's content from the calling thread. Lock held. What stays there, also after an error, is
 * the loop's.
 */
static void flush_here(struct chardev *chr)
{
	while (chr->head != chr->tail && chr->head - chr->tail <= CHUNK_BYTES) {
		size_t at = chr->tail & (chr->ring_bytes - 1),
		       len = (size_t)(chr->head - chr->tail);
		ssize_t n;

		if (len > chr->ring_bytes - at)
			len = chr->ring_bytes - at;
		n = len <= chr->left ? put_out(chr, chr->ring + at, len) : 0;
		if (n <= 0)
			break;
		chr->left -= (uint64_t)n;
		chr->tail += (uint64_t)n;
	}
	charge(chr);
}

/* Without the ring, whose page costs memory: it is empty. Lock held; returns how many bytes went. */
static size_t write_here(struct chardev *chr, const uint8_t *buf, size_t len)
{
	ssize_t n = len <= chr->left ? put_out(chr, buf, len) : 0;

	charge(chr);
	if (n <= 0)
		return 0;
	chr->left -= (uint64_t)n;
	return (size_t)n;
}

/* Lock held. Returns how many bytes it took; *wake: the loop must look at once. */
static size_t put(struct chardev *chr, const uint8_t *buf, size_t len, bool *wake)
{
	bool line = buf[len - 1] == '\n', look = (!chr->scheduled || line) && !chr->flushing, half;
	uint64_t now = look ? clock_now_ns() : 0, wait_ns = 0;
	size_t took = 0;

	chr->bytewise = len == 1;
	if (look && !(line && has_credit(chr, now)))
		wait_ns = delay_ns(chr, now);
	look = look && !wait_ns && !chr->hold;
	if (look && !chr->lossy && chr->head == chr->tail) {
		took = write_here(chr, buf, len);
		look = false;
	}
	if (took == len)
		return len;
	took += chardev_ring_put(chr, buf + took, len - took);
	chr->blocked |= took < len;
	if (look)
		flush_here(chr);
	if (chr->head == chr->tail)
		return took;
	half = chr->head - chr->tail >= chr->ring_bytes / 2;
	if (half && !chr->urgent) {
		chr->urgent = *wake = true;
	} else if (!chr->scheduled && !chr->flushing) {
		*wake = !wait_ns;
		if (wait_ns)
			loop_timer_arm(chr->timer, wait_ns);
	} else {
		return took;
	}
	chr->scheduled = true;
	return took;
}

static atomic_bool heard;

bool chardev_heard(void)
{
	return atomic_load_explicit(&heard, memory_order_relaxed);
}

void chardev_expect(void)
{
	atomic_store(&heard, false);
}

size_t chardev_write(struct chardev *chr, const void *buf, size_t len)
{
	bool wake = false;

	if (!chardev_heard()) /* a line that all vCPUs read is not written again */
		atomic_store_explicit(&heard, true, memory_order_relaxed);
	if (!chr->ring || !len)
		return len;
	pthread_mutex_lock(&chr->lock);
	if (chr->failed)
		chr->dropped += len;
	else if (chr->lossy && !chr->connected)
		len = chr->exact ? len : chardev_ring_put(chr, buf, len);
	else
		len = put(chr, buf, len, &wake);
	pthread_mutex_unlock(&chr->lock);
	if (wake)
		chardev_wake(chr);
	return len;
}

/* --- the loop's side ------------------------------------------------------------------------ */

static void out_ready(void *opaque, uint32_t events)
{
	struct chardev *chr = opaque;

	loop_watch_events(chr->out_watch, 0);
	chr->out_wait = false;
	chardev_flush(chr);
}

static void wait_out(struct chardev *chr)
{
	chr->out_wait = true;
	if (chr->in_fd == chr->out_fd)
		chardev_update_events(chr);
	else if (chr->out_watch)
		loop_watch_events(chr->out_watch, EPOLLOUT);
	else if (loop_watch_fd(chr->loop, chr->out_fd, EPOLLOUT, out_ready, chr, &chr->out_watch))
		chr->out_wait = false; /* the timer tries again */
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

/* Returns true if it tried to write. */
static bool write_ring(struct chardev *chr)
{
	uint8_t chunk[CHUNK_BYTES];
	bool tried = false;

	/* Write at most one ring's worth, so that a fast writer does not keep the loop here. */
	for (uint32_t done = 0; done < chr->ring_bytes && !chr->out_wait;) {
		uint64_t pos;
		size_t len = chardev_ring_peek(chr, chunk, sizeof(chunk), &pos);
		ssize_t n;

		if (!len)
			break;
		chardev_begin(chr);
		tried = true;
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
			chardev_check_gone(chr);
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
	return tried;
}

/* Lock held. There is output that the sink may take now or later. */
static bool has_output(const struct chardev *chr)
{
	return chr->head != chr->tail && !chr->failed && (!chr->lossy || chr->connected);
}

void chardev_flush(struct chardev *chr)
{
	bool tried, tell;

	pthread_mutex_lock(&chr->lock);
	chr->scheduled = false;
	chr->flushing = true;
	pthread_mutex_unlock(&chr->lock);
	tried = write_ring(chr);
	pthread_mutex_lock(&chr->lock);
	chr->flushing = false;
	if (tried)
		charge(chr);
	if (has_output(chr) && !chr->scheduled) {
		uint64_t wait_ns = delay_ns(chr, clock_now_ns());

		if (!chr->out_wait)
			loop_timer_arm(chr->timer, wait_ns ? wait_ns : 1);
		chr->scheduled = true;
	}
	tell = chr->blocked && chr->head - chr->tail <= chr->ring_bytes / 2;
	if (tell)
		chr->blocked = false;
	pthread_mutex_unlock(&chr->lock);
	if (tell && chr->attached)
		chr->user.drained(chr->user.opaque);
}

void chardev_flush_due(void *opaque)
{
	struct chardev *chr = opaque;

	if (!chr->out_wait)
		chardev_flush(chr);
}

/* Lock held: a reader has come or gone. What is for a program is for the one that was there. */
static void place_reader(struct chardev *chr, bool connected)
{
	if (chr->exact)
		chr->tail = chr->head;
	else if (connected)
		chr->tail = chr->head > chr->ring_bytes ? chr->head - chr->ring_bytes : 0;
}

void chardev_connect(struct chardev *chr, bool connected)
{
	bool tell, drained;
	uint64_t dropped;

	pthread_mutex_lock(&chr->lock);
	dropped = chr->dropped;
	chr->dropped = 0;
	tell = chr->attached && chr->connected != connected;
	chr->connected = connected;
	chr->scheduled = false;
	chr->urgent = false;
	place_reader(chr, connected);
	drained = chr->blocked && chr->head == chr->tail;
	chr->blocked &= !drained;
	pthread_mutex_unlock(&chr->lock);
	chr->out_wait = false;
	if (dropped)
		log_put_for(chr->what, LOG_WARN,
			    "%s: %llu bytes of output were dropped: the reader was slow", chr->what,
			    (unsigned long long)dropped);
	if (connected)
		chardev_flush(chr);
	if (tell && chr->user.connected)
		chr->user.connected(chr->user.opaque, connected);
	if (drained && chr->attached)
		chr->user.drained(chr->user.opaque);
}
