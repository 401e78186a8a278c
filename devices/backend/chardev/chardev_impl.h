/*
 * chardev/chardev_impl: what chardev.c and the sinks share. Only they include it.
 *
 * chardev.c owns the ring, the flushing and the input queue; a sink opens and closes its own
 * descriptors. A sink embeds struct chardev first. Everything here belongs to the loop's thread
 * unless a comment says otherwise.
 */
#ifndef BANTAM_CHARDEV_IMPL_H
#define BANTAM_CHARDEV_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/chardev/pool.h"

/* More output than this is held back or dropped; pages are touched only as output comes. */
#define CHARDEV_RING_BYTES (16u << 10)
#define CHARDEV_REPLAY_BYTES (64u << 10)
#define CHARDEV_PROGRAM_BYTES (64u << 10)
#define CHARDEV_IN_BYTES 512u
#define CHARDEV_LIMIT_MIN (64u << 10)

/* Index into chardev_keys. */
enum {
	CHARDEV_KEY_SINK,
	CHARDEV_KEY_FILE,
	CHARDEV_KEY_SOCKET,
	CHARDEV_KEY_APPEND,
	CHARDEV_KEY_LIMIT,
	CHARDEV_KEY_LINK,
	CHARDEV_KEY_TTY,
	CHARDEV_KEY_EOF,
	CHARDEV_KEY_WINSIZE
};

/* How to write without ever waiting. */
enum chardev_out {
	CHARDEV_OUT_WRITE, /* non-blocking, or a regular file */
	CHARDEV_OUT_SEND,  /* a socket: MSG_DONTWAIT */
	CHARDEV_OUT_POLL,  /* blocking and shared: fd_write_now */
};

/* All may be NULL. */
struct chardev_ops {
	/* Called once: watch for readers and input from now on, also while no user is attached. */
	void (*start)(struct chardev *chr);
	/*
	 * rest gives up what another process could use meanwhile (a socket's path), resume takes it
	 * again: 0 or -errno, with err.
	 */
	void (*rest)(struct chardev *chr);
	int (*resume)(struct chardev *chr, struct err *err);
	/* A user has come: tell it what the sink knows. */
	void (*attached)(struct chardev *chr);
	/* The user is gone. */
	void (*detached)(struct chardev *chr);
	/*
	 * Called once, when the loop first runs with a user or before the first byte goes out. For
	 * what must not happen if a VM is built but never runs (--dry-run, an error elsewhere).
	 */
	void (*begin)(struct chardev *chr);
	/*
	 * More is to go out than left: makes left larger, or calls chardev_fail. The loop's thread,
	 * between two writes.
	 */
	void (*full)(struct chardev *chr);
	/* Handles escapes: edits buf in place, returns the new length. */
	size_t (*filter)(struct chardev *chr, uint8_t *buf, size_t len);
	/*
	 * A write to the event fd woke the loop, perhaps from a signal handler. Both ways are served
	 * next; then looked is called.
	 */
	void (*poked)(struct chardev *chr);
	void (*looked)(struct chardev *chr);
	/*
	 * Only for a sink that is no descriptor: takes output. Returns how many bytes, or -EAGAIN. After less than
	 * len out_wait is set, and the sink clears it when it takes output again.
	 */
	ssize_t (*put)(struct chardev *chr, const uint8_t *buf, size_t len);
	/* The guest has opened or closed its end. Any thread, also with the device's lock held. */
	void (*guest_open)(struct chardev *chr, bool open);
	/* A read of in_fd hit the end or failed (errno); the sink may clear in_ended. */
	void (*in_ended)(struct chardev *chr);
	/* A lossy sink's reader is gone: close its fd and be ready for the next. */
	void (*hangup)(struct chardev *chr);
	/*
	 * Only for sinks whose close destroys what was written and not read: the bytes that the
	 * reader has not read yet.
	 */
	size_t (*unread)(const struct chardev *chr);
	/* Frees what the sink has beyond struct chardev, and closes in_fd and out_fd. */
	void (*close)(struct chardev *chr);
};

/* A pool, as its chardevs see it. */
struct chardev_home {
	/* Runs fn(opaque) in the loop's thread, and waits until it has returned. Any thread. */
	void (*call)(struct chardev_home *home, void (*fn)(void *opaque), void *opaque);
};

struct chardev {
	const struct chardev_ops *ops;
	struct loop *loop;
	struct chardev_home *home; /* NULL: not in a pool */
	bool taken;		   /* in a pool: a device has it */
	struct chardev_user user;
	bool started;
	bool attached;
	bool reports; /* user.failed may be called: also during the user's own chardev_close */
	bool begun;
	char *what;	      /* "--serial file=/x": begins every message */
	const char *describe; /* the part after the option */
	const char *terminal; /* a pty's path, or NULL */
	int event_fd;	      /* any thread and signal handlers: wakes the loop */
	struct loop_watch *event_watch;
	struct loop_watch *timer; /* writes what has been gathered */

	pthread_mutex_t lock; /* guards up to the next comment */
	uint8_t *ring;	      /* NULL: a null sink */
	uint32_t ring_bytes;  /* a power of two */
	uint64_t head, tail;  /* bytes ever put in, bytes ever taken out */
	uint64_t dropped;     /* bytes that a connected reader has missed */
	bool lossy;	      /* overwrite the oldest instead of holding back */
	bool exact;	      /* lossy, but not while connected; as the last user had it */
	bool connected;	      /* lossy: there is a reader */
	uint64_t quiet_ns;    /* output before this time is gathered */
	uint64_t paid_ns;     /* until when the writes have paid */
	bool scheduled;	      /* the loop will flush: its timer, its event or EPOLLOUT comes */
	bool urgent;	      /* woken although scheduled */
	bool flushing;	      /* the loop's thread writes now */
	bool blocked;	      /* the user waits for drained */
	bool failed;
	bool hold;     /* output goes out from the loop's thread only (a file: until begin) */
	bool bytewise; /* put: the last write was one byte of a register, so more follow */

	int in_fd, out_fd; /* -1: none; may be equal */
	uint64_t left; /* bytes that may go out before ops->full; used by the thread that writes */
	enum chardev_out out_how;
	struct loop_watch *in_watch, *out_watch;
	bool in_on; /* the sink wants input to be read */
	bool in_ended;
	bool in_shared;		  /* blocking and shared: fd_read_now */
	bool in_always;		  /* a regular file, which epoll refuses: ready until its end */
	bool in_discard;	  /* the guest takes no input: read on, for escapes only */
	bool out_wait;		  /* waits for EPOLLOUT */
	uint32_t in_events;	  /* as set in the loop */
	struct loop_watch *stall; /* only with a filter */
	bool stall_armed;
	atomic_bool in_paused; /* the user must call chardev_resume */
	uint8_t in[CHARDEV_IN_BYTES];
	unsigned in_off, in_len;
};

/*
 * Makes a zeroed object of size bytes with its ring and wake-ups. The sink formats describe:
 * "file=/x". Returns 0 or -errno; on failure *out is NULL and err is filled.
 */
int chardev_new(const struct keyvals *cfg, struct loop *loop, const struct chardev_ops *ops,
		size_t size, uint32_t ring_bytes, struct chardev **out, struct err *err,
		const char *fmt, ...) __attribute__((format(printf, 8, 9)));

/* Lock held. Puts what fits (lossy: all; the oldest bytes go). Returns how much. */
size_t chardev_ring_put(struct chardev *chr, const void *buf, size_t len);
/* Copy up to len bytes from the tail on, without taking them; *pos is where they begin. */
size_t chardev_ring_peek(struct chardev *chr, uint8_t *buf, size_t len, uint64_t *pos);
/* The bytes up to pos are written. A writer may have overwritten some of them meanwhile. */
void chardev_ring_taken(struct chardev *chr, uint64_t pos);

/*
 * Input that the sink has: hands it to the user, and queues what fits of the rest. Returns how many bytes
 * were taken.
 */
size_t chardev_give(struct chardev *chr, const uint8_t *buf, size_t len);
/* Start reading in_fd (after attach). May be called again after chardev_unwatch. */
int chardev_watch_input(struct chardev *chr);
/* Read what a reader that is gone has written last, as far as user and queue take it. */
void chardev_read_rest(struct chardev *chr);
/* Unwatch both fds, so that the sink may close them. Input that was read stays queued. */
void chardev_unwatch(struct chardev *chr);
/*
 * Writes what the ring holds, as far as the sink takes it, and sees to the rest. May call user.drained
 * at its end.
 */
void chardev_flush(struct chardev *chr);
/* The timer's callback: chardev_flush, unless the sink is full. */
void chardev_flush_due(void *chr);
/* Calls ops->begin the first time. */
void chardev_begin(struct chardev *chr);
/* Hang up if the reader of a lossy sink has closed both ways and all its input is delivered. */
void chardev_check_gone(struct chardev *chr);
/* Any thread: the loop's thread looks at the chardev soon. */
void chardev_wake(const struct chardev *chr);
/* Call it once, before or with the first attach. */
void chardev_start(struct chardev *chr);
/* Call it after in_on or the queue has changed. */
void chardev_update_events(struct chardev *chr);
/*
 * Lossy sinks: a reader has connected (it gets the whole ring first; nothing, if the user is exact) or
 * left. Tells the user.
 */
void chardev_connect(struct chardev *chr, bool connected);
/* Logs and reports once that output is lost. */
void chardev_fail(struct chardev *chr, int error);
/* Ignore sig, which a bad sink raises (SIGPIPE), so that it does not kill; main ignores SIGXFSZ. */
bool chardev_ignore_signal(int sig);

/* Creates the pool's loop and its thread, unless they are there or the owner runs the loop. */
int chardev_pool_start(struct chardev_pool *pool, struct err *err);
/*
 * Runs fn(opaque) in the pool's thread, and waits. Without a thread, and if the caller is the owner who runs
 * the loop: at once, in the caller's.
 */
void chardev_pool_call(struct chardev_pool *pool, void (*fn)(void *opaque), void *opaque);
struct loop *chardev_pool_loop(struct chardev_pool *pool);
/* Takes chr over, also if it fails. 0 or -ENOMEM, with err. */
int chardev_pool_add(struct chardev_pool *pool, const char *id, struct chardev *chr,
		     struct err *err);
/* The pool's chardev of that id, or NULL. */
struct chardev *chardev_pool_find(struct chardev_pool *pool, const char *id);

int chardev_open_stdio(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		       struct err *err);
int chardev_open_file(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		      struct err *err);
int chardev_open_pty(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		     struct err *err);
/* Only checks the path: its length, and that no file other than a socket is there. */
int chardev_open_socket(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			struct err *err);
int chardev_open_winsize(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			 struct err *err);
/* stdio's terminal has this size now: for a winsize sink in the same loop, if there is one. */
void chardev_winsize_tell(uint16_t cols, uint16_t rows);

#endif
