/*
 * vhost/kernel: virtqueues that the kernel serves (Linux, include/uapi/linux/vhost.h).
 *
 * One object is one open /dev/vhost-…: for vhost-net the queues of a pair, for vhost-vsock all
 * queues that carry data. The kernel reads rings and buffers through this process's mapping of
 * guest memory; one eventfd carries kicks to it and another carries its interrupts. It checks rings
 * as strictly as virtq does, and reports a broken ring on err_fd. Thread: any, the device's lock
 * held.
 */
#ifndef BANTAM_VHOST_KERNEL_H
#define BANTAM_VHOST_KERNEL_H

#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/mem.h"

struct vhost_kernel {
	int fd;		   /* -1: not open */
	uint64_t features; /* those that the kernel supports */
};

/* One ring of a queue, by its addresses in this process. */
struct vhost_kernel_ring {
	uint16_t size;
	void *desc, *avail, *used;
	int kick_fd, call_fd, err_fd;
};

/* path: /dev/vhost-…. Returns 0, or -errno (also if path does not exist) with nothing left open. */
int vhost_kernel_open(struct vhost_kernel *v, const char *path, const struct mem *mem);
/* Say why vhost_kernel_open failed by rc where the user wanted it: fills *err and returns rc. */
int vhost_kernel_refused(const char *option, const char *path, int rc, struct err *err);
void vhost_kernel_close(struct vhost_kernel *v);
/*
 * Call it before the rings are set. features: those that the driver accepted; v->features limits
 * them.
 */
int vhost_kernel_set_features(struct vhost_kernel *v, uint64_t features);
/* The ring starts at index 0. Only while the queue is not served. */
int vhost_kernel_set_ring(struct vhost_kernel *v, unsigned queue,
			  const struct vhost_kernel_ring *ring);
int vhost_kernel_set_call(struct vhost_kernel *v, unsigned queue, int call_fd);
/* vhost-net: serve the queue with this tap or socket; -1: stop, and wait until it has. */
int vhost_kernel_net_serve(struct vhost_kernel *v, unsigned queue, int fd);
/*
 * vhost-net: poll for more frames for us microseconds before sleeping, unless other threads want
 * the CPU. No effect before Linux 4.7.
 */
void vhost_kernel_net_poll(struct vhost_kernel *v, unsigned queue, unsigned us);
/* vhost-vsock: the guest's address. -EADDRINUSE: another VM has it. */
int vhost_kernel_vsock_set_cid(struct vhost_kernel *v, uint32_t cid);
/* vhost-vsock: serve both queues, whose rings are set; off: stop, and wait until it has. */
int vhost_kernel_vsock_serve(struct vhost_kernel *v, bool on);

#endif
