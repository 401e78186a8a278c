/*
 * iothread: a loop and a thread for one device alone: one with iothread=on, and each that comes while the machine runs, because
 * only a loop that does not run yet can be given a device by another thread.
 */
#ifndef BANTAM_MACHINE_IOTHREAD_H
#define BANTAM_MACHINE_IOTHREAD_H

#include "devices/device.h"
#include "vmm/core/thread.h"

struct iothread;
struct errands;

/*
 * Creates a device of this type with a loop of its own. env is copied; env->id is the device's id meanwhile. kind: what
 * its thread will do. Returns 0, or -errno with nothing left; *out NULL: the options make no device.
 */
int iothread_create(const struct device_env *env, enum thread_kind kind,
		    const struct device_type *type, const struct keyvals *kv, struct iothread **out,
		    struct err *err);
struct device *iothread_device(const struct iothread *io);
/* Starts the thread, which has its errands run there; the device has its id. 0 or -errno. */
int iothread_start(struct iothread *io, struct errands *errands, struct err *err);
/* Calls fn with the device in its thread, soon; without memory it does not. Any thread, until iothread_destroy begins. */
void iothread_post(struct iothread *io, void (*fn)(void *dev));
/* Tells the thread to leave its loop; and waits until it has. From then on it has no errand run. Started or not. */
void iothread_stop(struct iothread *io);
void iothread_await_stop(struct iothread *io);
/*
 * Stops the thread if that has not been done, destroys the device and ends the thread. It waits for the thread's errands,
 * so it is for no errand unless the thread has been stopped. Started or not.
 */
void iothread_destroy(struct iothread *io);

/* Only for a thread that gives up the means to do it later: else the first request does it. */
void iothread_prepare(struct device *dev);

#endif
