/*
 * chardev/pool: chardevs that are opened before a machine and outlive it: a terminal, a socket or a
 * file that stays open over the guest's reboots and while no machine is there.
 *
 * One loop in one thread, "console", serves all chardevs of a pool. Its first chardev other than
 * null starts the thread. Or the owner lends its own loop, and there is no other thread. A device whose id is in device_env.consoles attaches to that chardev
 * instead of opening one (chardev_obtain, chardev_release).
 *
 * While no device is attached, readers come and go as usual: a pty and a socket give each new one
 * the last 64 KiB of output (but nothing of a port's). What they write waits for the next device, up to a few hundred bytes;
 * then the kernel holds it back.
 *
 * Thread: one at a time, the owner's, and never the pool's own "console"; devices may be attached meanwhile,
 * but not during chardev_pool_destroy.
 */
#ifndef BANTAM_CHARDEV_POOL_H
#define BANTAM_CHARDEV_POOL_H

#include "vmm/core/err.h"
#include "vmm/core/keys.h"

struct chardev_pool;
struct loop;

/* Creates an empty pool. 0 or -ENOMEM, with err. */
int chardev_pool_create(struct chardev_pool **out, struct err *err);
/*
 * The same without a thread of its own: the chardevs live in loop, which the calling thread runs. Only that
 * thread uses the functions here; what it does takes effect at once. Devices attach and detach in any
 * thread, which waits until the loop has served it: so the owner runs the loop until the machine's
 * thread has said that it ends, and joins it after that. loop outlives the pool. 0 or -errno, with
 * err.
 */
int chardev_pool_create_on(struct loop *loop, struct chardev_pool **out, struct err *err);
/*
 * Opens the sink that cfg (chardev_keys) names, for the device of that id. "off" opens nothing.
 * Returns 0 or -errno, with err; what was opened before stays. -EEXIST: the id is there already.
 */
int chardev_pool_open(struct chardev_pool *pool, const char *id, const struct keyvals *cfg,
		      struct err *err);
/* "/dev/pts/N" if the chardev of that id is a pty, else NULL. Valid as long as the pool. */
const char *chardev_pool_path(struct chardev_pool *pool, const char *id);
/*
 * rest: no machine runs for now. Sockets are not listened on any more, so that another process may
 * have their paths; a client stays, and so does the kept output. resume listens again. Returns 0 or
 * -errno, with err: a path is in use; the others are listened on.
 */
void chardev_pool_rest(struct chardev_pool *pool);
int chardev_pool_resume(struct chardev_pool *pool, struct err *err);
/*
 * Writes out what is left, as chardev_close does for each, and removes sockets and links. Accepts
 * NULL.
 */
void chardev_pool_destroy(struct chardev_pool *pool);

#endif
