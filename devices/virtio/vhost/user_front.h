/*
 * vhost/user_front: queues of a virtio device that a vhost-user daemon serves.
 *
 * This folder has three modules with a header each: user_front, user_device on top of it (a whole
 * device that a daemon serves), and kernel_queues (queues that the kernel serves).
 *
 * Written once for every kind of device. The page of the device says how a request is refused;
 * everything else is here. The queues are the device's first ones. When the daemon is gone they
 * come back, and every request, old and new, is refused: the guest sees errors (a card's link
 * goes down) and the VM lives. Thread: the daemon is talked to with the device's lock
 * held, by whichever thread runs the class function, at most vhost_user_timeout_ms
 * for each message.
 */
#ifndef BANTAM_VHOST_USER_FRONT_H
#define BANTAM_VHOST_USER_FRONT_H

#include "devices/backend/vhost/user.h"
#include "devices/virtio/core/virtio.h"

#define VHOST_FRONT_MAX_QUEUES 32

struct vhost_user_front {
	/* The page's to set, before anything else. */
	struct virtio_device *vdev;
	unsigned nqueues;
	/* Answer a request as an error, the daemon being gone; returns the bytes written. */
	uint32_t (*refuse)(const struct chain *chain);
	struct vhost_user vu; /* fd -1: the daemon is gone */
	/* … and these, which may be 0. */
	uint64_t kept; /* bit n: queue n holds buffers, which are not given back */
	void (*ended)(
		struct vhost_user_front *f); /* the daemon is gone. Loop's thread, lock held */
	const char *who;  /* the socket, for the log; NULL: the back end logs that it ended */
	const char *loss; /* what that costs; NULL: requests fail */
	/* Private. */
	struct loop_watch *watch; /* the connection: hears its end */
	struct loop_watch *err;	  /* the daemon found a ring broken */
	int err_fd;
	const char *why; /* we have cut the connection; NULL: no */
	struct {
		bool running; /* the daemon serves it */
		bool disabled;
		int call_fd; /* as the daemon was told last */
	} ring[VHOST_FRONT_MAX_QUEUES];
	struct iovec iov[VIRTQ_MAX_SIZE]; /* of the chain that is refused */
};

/* Builder's thread, vu connected: listen for its end in that loop, the device's. 0 or -errno. */
int vhost_user_front_watch(struct vhost_user_front *f, struct loop *loop);
/* Also of one that is half made. */
void vhost_user_front_close(struct vhost_user_front *f);

/* In activate: memory, and the rings that are ready. */
void vhost_user_front_start(struct vhost_user_front *f);
/* In reset; when it returns, guest memory is not touched any more. */
void vhost_user_front_stop(struct vhost_user_front *f);
/* At any time, on at first: see vhost_user_enable_ring. A daemon that cannot do it goes on. */
void vhost_user_front_enable(struct vhost_user_front *f, unsigned queue, bool on);
/* For class->kick: a queue that came back. */
void vhost_user_front_kick(struct vhost_user_front *f, unsigned queue);
/* For class->call_changed; queues that are not f's are ignored. */
void vhost_user_front_call_changed(struct vhost_user_front *f, unsigned queue);

#endif
