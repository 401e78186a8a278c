/*
 * chardev/chardev_impl: between chardev.c and the sinks, and for nobody else.
 *
 * chardev.c owns the ring, the flushing and the input queue; a sink owns how
 * its descriptors come to be and go away. A sink embeds struct chardev first.
 * Everything here belongs to the loop's thread unless it says otherwise.
 */
#ifndef BANTAM_CHARDEV_IMPL_H
#define BANTAM_CHARDEV_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "devices/backend/chardev/chardev.h"

/* Held back or dropped beyond this; pages are touched only as output comes. */
#define CHARDEV_RING_BYTES (16u << 10)
#define CHARDEV_REPLAY_BYTES (64u << 10)
#define CHARDEV_IN_BYTES 512u

/* Index into chardev_keys. */
enum {
	CHARDEV_KEY_SINK,
	CHARDEV_KEY_FILE,
	CHARDEV_KEY_SOCKET,
	CHARDEV_KEY_APPEND,
	CHARDEV_KEY_LINK
};

/* How to write without ever waiting. */
enum chardev_out {
	CHARDEV_OUT_WRITE, /* non-blocking, or a regular file */
	CHARDEV_OUT_SEND,  /* a socket: MSG_DONTWAIT */
	CHARDEV_OUT_POLL,  /* blocking and shared: ask poll first, write little */
};

/* All may be NULL. */
struct chardev_ops {
	void (*attached)(struct chardev *chr);
	/*
	 * Once, when the loop first runs, or before the first byte goes out: what shall not
	 * happen to a VM that is built but never runs (--dry-run, an error elsewhere).
	 */
	void (*begin)(struct chardev *chr);
	/* Escapes: edits buf in place, returns the new length. */
	size_t (*filter)(struct chardev *chr, uint8_t *buf, size_t len);
	/* The event fd was written: perhaps by a signal handler. */
	void (*poked)(struct chardev *chr);
	/* in_fd read as ended, or failed (errno); may take in_ended back. */
	void (*in_ended)(struct chardev *chr);
	/* A lossy sink's reader is gone: close its fd and be ready for the next. */
	void (*hangup)(struct chardev *chr);
	/* Frees what the sink has beyond struct chardev; fds in_fd and out_fd are its own. */
	void (*close)(struct chardev *chr);
};

struct chardev {
	const struct chardev_ops *ops;
	struct loop *loop;
	struct chardev_user user;
	bool attached;
	bool begun;
	char *what;	      /* "--serial file=/x": begins every message */
	const char *describe; /* the part after the option */
	int event_fd;	      /* any thread and signal handlers: wakes the loop */
	struct loop_watch *event_watch;
	struct loop_watch *timer; /* the next flush of a burst */

	pthread_mutex_t lock; /* guards up to the next comment */
	uint8_t *ring;	      /* NULL: a null sink */
	uint32_t ring_bytes;  /* a power of two */
	uint64_t head, tail;  /* bytes ever put in, bytes ever taken out */
	uint64_t dropped;     /* that a reader should have got */
	bool lossy;	      /* overwrite the oldest instead of holding back */
	bool connected;	      /* lossy: there is a reader */
	bool scheduled;	      /* a flush will come without a kick */
	bool urgent;	      /* kicked although scheduled */
	bool blocked;	      /* the user waits for drained */
	bool failed;
	bool hold; /* nothing goes out before begin */

	int in_fd, out_fd; /* -1: none; may be equal */
	enum chardev_out out_how;
	struct loop_watch *in_watch, *out_watch;
	bool in_on; /* the sink wants input read */
	bool in_ended;
	bool in_always;		  /* a file that epoll does not know: ready until its end */
	bool in_discard;	  /* the guest is stuck: read on, for the escapes' sake */
	bool out_wait;		  /* for EPOLLOUT */
	uint32_t in_events;	  /* as told to the loop */
	struct loop_watch *stall; /* only with a filter */
	bool stall_armed;
	atomic_bool in_paused; /* the user shall call chardev_resume */
	uint8_t in[CHARDEV_IN_BYTES];
	unsigned in_off, in_len;
};

/*
 * A zeroed object of size bytes with its ring and wake-ups. describe is formatted by the sink:
 * "file=/x". On failure *out is NULL and err is filled.
 */
int chardev_new(const struct keyvals *cfg, struct loop *loop, const struct chardev_ops *ops,
		size_t size, uint32_t ring_bytes, struct chardev **out, struct err *err,
		const char *fmt, ...) __attribute__((format(printf, 8, 9)));

/* Lock held: take what fits (lossy: all, and the oldest goes). Returns how much. */
size_t chardev_ring_put(struct chardev *chr, const void *buf, size_t len);
/* Copy up to len bytes from the tail on, without taking them; *pos is where they begin. */
size_t chardev_ring_peek(struct chardev *chr, uint8_t *buf, size_t len, uint64_t *pos);
/* The bytes up to pos are out. A writer may have overwritten some of them meanwhile. */
void chardev_ring_taken(struct chardev *chr, uint64_t pos);

/* Read in_fd from now on (after attach). May be called again after chardev_unwatch. */
int chardev_watch_input(struct chardev *chr);
/* Forget both fds' watches, so that the sink may close them. What was read stays queued. */
void chardev_unwatch(struct chardev *chr);
/* in_on or the queue has changed. */
void chardev_update_events(struct chardev *chr);
/* Lossy sinks: a reader came (it gets the whole ring first) or went. */
void chardev_connect(struct chardev *chr, bool connected);
/* Say once that output is lost. */
void chardev_fail(struct chardev *chr, int error);
/* A signal that a bad sink raises (SIGPIPE) shall not kill; main ignores SIGXFSZ. */
void chardev_ignore_signal(int sig);

int chardev_open_stdio(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		       struct err *err);
int chardev_open_file(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		      struct err *err);
int chardev_open_pty(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		     struct err *err);
/* The path alone: its length, and that nothing but a socket is there. */
int chardev_open_socket(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			struct err *err);

#endif
