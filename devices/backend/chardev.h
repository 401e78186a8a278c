/*
 * chardev: where the characters of a serial port or console go to and come from.
 *
 * Sinks: stdio (raw mode, restored on every way out), file, pty, Unix socket
 * (one client at a time; a ring replays the last output to a new client), null.
 * Output never blocks a vCPU: it is buffered, bounded, and flushed by the
 * loop's thread; a full buffer is told to the device, which holds the guest
 * back as real hardware would.
 */
#ifndef BANTAM_CHARDEV_H
#define BANTAM_CHARDEV_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/keys.h"
#include "vmm/core/loop.h"

struct chardev;

/* Called in the loop's thread. */
struct chardev_user {
	/* Bytes from the host: take up to len, return how many. Less than len: no more comes
	 * until chardev_resume. */
	size_t (*input)(void *opaque, const uint8_t *buf, size_t len);
	/* There is room for output again. */
	void (*drained)(void *opaque);
	/* The terminal's size; may be NULL. */
	void (*resized)(void *opaque, uint16_t cols, uint16_t rows);
	/* The sink failed for good (disk full): output is lost from now on. The line is logged. */
	void (*failed)(void *opaque);
	void *opaque;
};

/* The keys that every option with a sink shares (stdio, file=, pty, socket=, null …). */
extern const struct key chardev_keys[];

/* cfg is parsed with chardev_keys. Owner: chardev_close (flushes what it can; accepts NULL). */
int chardev_open(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		 struct err *err);
void chardev_attach(struct chardev *chr, const struct chardev_user *user);
void chardev_close(struct chardev *chr);

/* Any thread. Takes what fits, returns how many bytes. */
size_t chardev_write(struct chardev *chr, const void *buf, size_t len);
/* The user can take input again. Any thread. */
void chardev_resume(struct chardev *chr);
/* "pty /dev/pts/3", for --dry-run and the start message. */
const char *chardev_describe(const struct chardev *chr);

#endif
