/*
 * events: tells the programs that watch a VM what happens to it.
 *
 * An event has two kinds of readers: the event monitor (--event-monitor, at most one), which is a
 * file, fifo, pipe, terminal or socket, and listeners in this process (GET vm.events). On the
 * monitor an event is one JSON object, followed by an empty line:
 *
 *     {"timestamp":{"secs":1,"nanos":250},"source":"vm","event":"booted","properties":null}
 *
 * The object and its empty line have at most EVENTS_BYTES_MAX bytes, and no string in it has a brace
 * (a "{" becomes "(", a "}" becomes ")"): a reader finds an object's end by counting braces in a
 * buffer of 4096 bytes. A text that is too long is cut. The time is monotonic and begins with
 * events_create.
 *
 * Whole events are dropped while the monitor's reader is too slow, or gone; when the next one can be
 * written, bantam:dropped with their count precedes it. No reader can hold up or end the process.
 * The process ignores SIGPIPE.
 */
#ifndef BANTAM_API_EVENTS_H
#define BANTAM_API_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

#define EVENTS_BYTES_MAX 4000u
/* More properties of one event than this are left out. */
#define EVENTS_PROPS_MAX 16u

/* What the monitor may write into a regular file, in bytes; then it drops events. Tests shorten it. */
extern uint64_t events_file_max;

struct events;

/* The event monitor: a path, or else an inherited descriptor. */
struct events_config {
	const char *path; /* NULL: fd */
	int fd;		  /* -1: none */
};

/*
 * Opens the monitor; cfg NULL: only listeners. Returns 0 or -errno.
 *
 * path: created with mode 0600, or truncated. A fifo may have no reader yet: up to its capacity (64
 * KiB), it keeps the events for the first one. Never waits for a reader.
 * fd: used as it is, and from now on owned: closed on exec, and by events_destroy.
 */
int events_create(const struct events_config *cfg, struct events **out, struct err *err);

/*
 * Sends an event to all readers. props: names and values in turn, ended by NULL; NULL: no
 * properties. Strings may hold any bytes. e may be NULL: nothing happens. Any thread; never waits
 * for a reader.
 */
void events_emit(struct events *e, const char *source, const char *event, const char *const *props);

/*
 * From now on calls line with each event: one JSON object without a newline, not NUL-terminated,
 * valid during the call. line runs in the thread that emits, must not wait, and must not call any
 * function of this module. Returns 0 and the listener's number, or -errno. Any thread.
 */
int events_listen(struct events *e, void (*line)(void *opaque, const char *json, size_t len),
		  void *opaque, unsigned *id);
/* When it returns, line is not running and is not called again. Accepts an unknown number. */
void events_unlisten(struct events *e, unsigned id);

/* Writes what the monitor still takes without waiting, and closes it. Accepts NULL. */
void events_destroy(struct events *e);

#endif
