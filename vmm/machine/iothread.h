/*
 * iothread: a loop and a thread for one device alone: one with iothread=on, and each that comes while the machine runs, because
 * only a loop that does not run yet can be given a device by another thread.
 */
#ifndef BANTAM_MACHINE_IOTHREAD_H
#define BANTAM_MACHINE_IOTHREAD_H

#include "devices/device.h"
#include "vmm/core/thread.h"

struct iothread;

/*
 * Creates a device of this type with a loop of its own. env is copied; env->id is the device's id meanwhile. kind: what
 * its thread will do. Returns 0, or -errno with nothing left; *out NULL: the options make no device.
 */
int iothread_create(const struct device_env *env, enum thread_kind kind,
		    const struct device_type *type, const struct keyvals *kv, struct iothread **out,
		    struct err *err);
struct device *iothread_device(const struct iothread *io);
/* Starts the thread; the device has its id. 0 or -errno. */
int iothread_start(struct iothread *io, struct err *err);
/* Calls fn with the device in its thread, soon; without memory it does not. Any thread, until iothread_destroy begins. */
void iothread_post(struct iothread *io, void (*fn)(void *dev));
/* Ends the thread, which destroys the device, and waits for it. Started or not. */
void iothread_destroy(struct iothread *io);

/* Only for a thread that gives up the means to do it later: else the first request does it. */
void iothread_prepare(struct device *dev);

#endif
