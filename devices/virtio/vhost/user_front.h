/*
 * vhost/user_front: queues of a virtio device that a vhost-user daemon serves.
 *
 * This folder has three modules with a header each: user_front, user_device on top of it (a whole
 * device that a daemon serves), and kernel_queues (queues that the kernel serves).
 *
 * All kinds of devices share this module. The device supplies the function that refuses a request;
 * everything else is here. The queues are the device's first ones. When the daemon ends, the device
 * takes the queues back and refuses every request, old and new: the guest sees errors (a card's
 * link goes down) and the VM keeps running. Thread: the thread that runs the class function
 * exchanges messages with the daemon, with the device's lock held, for at most
 * vhost_user_timeout_ms for a whole start, stop or change of a vector.
 */
#ifndef BANTAM_VHOST_USER_FRONT_H
#define BANTAM_VHOST_USER_FRONT_H

#include "devices/backend/vhost/user.h"
#include "devices/virtio/core/virtio.h"

#define VHOST_FRONT_MAX_QUEUES 32

struct vhost_user_front {
	/* Set by the device before any call. */
	struct virtio_device *vdev;
	unsigned nqueues;
	/* Answers a request with an error after the daemon has ended. Returns the bytes written. */
	uint32_t (*refuse)(const struct chain *chain);
	struct vhost_user vu; /* fd -1: the daemon is gone */
	/* Also set by the device; each may be 0. */
	uint64_t kept; /* bit n: queue n holds buffers, which are not returned */
	void (*ended)(
		struct vhost_user_front *f); /* the daemon has ended; loop's thread, lock held */
	const char *who;  /* the socket, for the log; NULL: the backend logs the end */
	const char *loss; /* the consequence, for the log; NULL: requests fail */
	/* Private. */
	struct loop_watch *watch; /* watches the connection for its end */
	struct loop_watch *err;	  /* watches err_fd: the daemon found a broken ring */
	int err_fd;
	bool has_ended, has_err; /* to be handled when the lock is free; the loop's thread */
	const char *why;	 /* why cut shut the connection down; NULL: it did not */
	struct {
		bool running; /* the daemon serves it */
		bool disabled;
		int call_fd; /* as last sent to the daemon */
	} ring[VHOST_FRONT_MAX_QUEUES];
	struct iovec iov[VIRTQ_MAX_SIZE]; /* of the chain that is being refused */
};

/*
 * Watch the connection for its end in loop, the device's. vu is connected. 0 or -errno. Thread: the
 * builder's.
 */
int vhost_user_front_watch(struct vhost_user_front *f, struct loop *loop);
/* Accepts a half-made object. */
void vhost_user_front_close(struct vhost_user_front *f);

/* Called in activate: sends memory, features and the rings that are ready. */
void vhost_user_front_start(struct vhost_user_front *f);
/* Called in reset; when it returns, the daemon no longer touches guest memory. */
void vhost_user_front_stop(struct vhost_user_front *f);
/*
 * Switch a queue on or off at any time; it is on at first. See vhost_user_enable_ring. A daemon
 * that does not support this keeps serving.
 */
void vhost_user_front_enable(struct vhost_user_front *f, unsigned queue, bool on);
/* For class->kick, called for a queue that was taken back. */
void vhost_user_front_kick(struct vhost_user_front *f, unsigned queue);
/* For class->call_changed; queues that are not f's are ignored. */
void vhost_user_front_call_changed(struct vhost_user_front *f, unsigned queue);

#endif
