/*
 * chardev: where the characters of a serial port or console go to and come from.
 *
 * Sinks: stdio (raw mode, restored on every way out), file, pty, Unix socket
 * (one client at a time; a ring replays the last output to a new client), null.
 * Output never blocks a vCPU: it is buffered, bounded, and flushed by the
 * loop's thread. A full buffer of stdio or a file is told to the device, which
 * holds the guest back as real hardware would; a pty or socket, whose reader
 * may be slow or absent, drops its oldest output instead and counts it.
 */
#ifndef BANTAM_CHARDEV_H
#define BANTAM_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/keys.h"
#include "vmm/core/loop.h"

struct chardev;

/*
 * Called in the loop's thread, with no lock of the chardev held: they may call chardev_write
 * and take the device's lock, which may be held around chardev_write and chardev_resume.
 */
struct chardev_user {
	/* Bytes from the host: take up to len, return how many. Less than len: no more comes
	 * until chardev_resume. */
	size_t (*input)(void *opaque, const uint8_t *buf, size_t len);
	/* There is room for output again: called once after a chardev_write that was cut short. */
	void (*drained)(void *opaque);
	/* The terminal's size, first after chardev_attach; may be NULL. */
	void (*resized)(void *opaque, uint16_t cols, uint16_t rows);
	/* A break was asked for (Ctrl-A b); may be NULL. */
	void (*send_break)(void *opaque);
	/* The sink failed for good (disk full): output is lost from now on. The line is logged. */
	void (*failed)(void *opaque);
	void *opaque;
};

/* The keys that every option with a sink shares (stdio, file=, pty, socket=, null …). */
extern const struct key chardev_keys[];

/* cfg says "off": there shall be no device at all. */
bool chardev_off(const struct keyvals *cfg);

/* Some open sink is stdio: there is only one. */
bool chardev_stdio_taken(void);

/*
 * cfg is parsed with chardev_keys and is not "off". With dry_run the host is only looked at: the
 * result can be described and closed, and swallows what is written. Owner: chardev_close, which flushes for at
 * most a second, restores the terminal and removes what open created; it accepts NULL. Both
 * belong to the loop's thread, or to the builder while no loop runs.
 */
int chardev_open(const struct keyvals *cfg, struct loop *loop, bool dry_run, struct chardev **out,
		 struct err *err);
void chardev_close(struct chardev *chr);
/* Input begins. Loop's thread or builder; user is copied. */
void chardev_attach(struct chardev *chr, const struct chardev_user *user);

/* Any thread. Takes what fits, returns how many bytes; less than len: drained will be called. */
size_t chardev_write(struct chardev *chr, const void *buf, size_t len);
/* The user can take input again. Any thread; cheap when nothing waits. */
void chardev_resume(struct chardev *chr);
/* "pty /dev/pts/3", for --dry-run and the start message. */
const char *chardev_describe(const struct chardev *chr);

/*
 * Puts the terminal back as it was found. Async-signal-safe, any thread, as often as one likes.
 * stdio runs it at exit and from the signals that kill by default; whoever installs handlers
 * of their own, or leaves by _exit, calls it.
 */
void chardev_restore_terminal(void);

#endif
