/*
 * chardev/program: a sink whose other end is this process: the owner of a pool gets the guest's output by a
 * call, and sends input by one.
 *
 * Nothing is lost, and nothing grows: what the owner does not take waits in the chardev (64 KiB), and
 * then the device holds the guest back. What the device does not take of the input stays with the
 * owner, but for a few hundred bytes.
 *
 * Thread: all callbacks run in the thread of the pool's loop, without a lock, and the owner calls
 * send and resume in that thread only. A callback may call both, but neither opens nor destroys
 * anything of the pool. None calls a callback before it returns.
 */
#ifndef BANTAM_CHARDEV_PROGRAM_H
#define BANTAM_CHARDEV_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

struct chardev;
struct chardev_pool;

struct chardev_program_ops {
	/*
	 * Output of the guest: takes up to len, returns how many. After less than len none comes
	 * until chardev_program_resume.
	 */
	size_t (*output)(void *opaque, const uint8_t *buf, size_t len);
	/*
	 * There is room for input again, after a chardev_program_send that took less than len. May be
	 * NULL.
	 */
	void (*room)(void *opaque);
	/*
	 * The guest has opened or closed its end: first a true, then both in turn. It comes after the
	 * output that the device had before. Virtio ports only; may be NULL.
	 */
	void (*guest_open)(void *opaque, bool open);
};

/*
 * Adds a chardev to the pool, for the device of that id (chardev_obtain). ops outlives it. *out belongs
 * to the pool: chardev_pool_destroy hands over the output that is left, as far as the owner takes it, and
 * closes it. Returns 0 or -errno, with err; -EEXIST: the id is there already.
 */
int chardev_pool_open_program(struct chardev_pool *pool, const char *id,
			      const struct chardev_program_ops *ops, void *opaque,
			      struct chardev **out, struct err *err);

/*
 * Sends input to the guest. Returns how many bytes were taken: less than len if the guest has no room,
 * or no device is there.
 */
size_t chardev_program_send(struct chardev *chr, const void *buf, size_t len);

/* The owner takes output again. More than needed does no harm. */
void chardev_program_resume(struct chardev *chr);

#endif
