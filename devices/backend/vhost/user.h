/*
 * vhost/user: the front end's half of the vhost-user protocol (QEMU's
 * docs/interop/vhost-user): messages to a daemon that serves virtqueues.
 *
 * Each call sends its messages and waits for their answers where there are some, until the time that
 * vhost_user_limit set: all messages of a start or a stop share it, however many there are and in however
 * many pieces an answer comes. The same holds for room in the socket of a daemon that does not read. The
 * daemon is trusted with guest memory (that is its job) but not with this
 * process: every answer's length and values are checked. Errors are -errno;
 * after one, only vhost_user_close makes sense. Thread: one at a time.
 */
#ifndef BANTAM_VHOST_USER_H
#define BANTAM_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/mem.h"

/* For a whole start, stop or change of a ring: a daemon that hangs costs its own device only; 2 s. */
extern unsigned vhost_user_timeout_ms;
/* From open or accept to the first vhost_user_limit: a daemon that hangs does not hold up a boot; 2 s. */
extern unsigned vhost_user_open_ms;
#define VHOST_USER_CONFIG_MAX 256u

/* Protocol features, bit numbers. */
#define VHOST_USER_PROTOCOL_MQ 0
#define VHOST_USER_PROTOCOL_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_CONFIG 9

struct vhost_user {
	int fd;		     /* the connection; -1: none */
	bool agreed;	     /* the three fields below are valid */
	uint64_t features;   /* virtio features that the daemon offers */
	uint64_t protocol;   /* protocol features in use */
	uint64_t queues_max; /* with PROTOCOL_MQ; else 0: not reported */
	uint64_t until_ms;   /* no answer is waited for longer (clock_now_ms) */
	/* Private: answers to vhost_user_enable_ring that are still to come, and the part that has come. */
	unsigned owed, owed_bytes;
	uint8_t owed_part[20];
};

/* A ring in guest memory, as the driver set it up. */
struct vhost_user_ring {
	unsigned index;
	uint16_t size;
	gpa_t desc, avail, used;
	int kick_fd, call_fd;
	bool disabled; /* at first, if the daemon supports that */
	int err_fd;    /* the daemon writes to it when it finds the ring broken */
};

/* Connect to the daemon's socket at path and agree on protocol features. what: "--fs", for err. */
int vhost_user_open(struct vhost_user *vu, const char *path, const char *what, struct err *err);
/*
 * The same for a daemon that connects: listen at path (as unix_socket_listen does), wait at most
 * vhost_user_open_ms for its connection, and remove path.
 */
int vhost_user_accept(struct vhost_user *vu, const char *path, const char *what, struct err *err);
/* vu takes over fd, an existing connection. Nothing is sent yet. */
void vhost_user_adopt(struct vhost_user *vu, int fd);
/* From now on nothing waits longer than ms in all. */
void vhost_user_limit(struct vhost_user *vu, unsigned ms);
/* Negotiate features of both kinds. vhost_user_start calls it if it has not been called. */
int vhost_user_agree(struct vhost_user *vu);
/* Accepts a closed one. */
void vhost_user_close(struct vhost_user *vu);

/* Reads the device's configuration space, if the daemon has one (PROTOCOL_CONFIG). */
int vhost_user_get_config(struct vhost_user *vu, void *config, uint32_t len_bytes);

/* Sends guest memory (created shared) and the features that the driver accepted. */
int vhost_user_start(struct vhost_user *vu, const struct mem *mem, uint64_t acked);
int vhost_user_start_ring(struct vhost_user *vu, const struct mem *mem,
			  const struct vhost_user_ring *ring);
/*
 * Enable or disable a started ring. The daemon drops what a disabled ring holds and puts nothing
 * there. The device's loop calls it: waits at most 10 ms for the answer, and not at all if an earlier one has not
 * come either; a later call checks it. -EAGAIN: the daemon reads nothing.
 */
int vhost_user_enable_ring(struct vhost_user *vu, unsigned index, bool on);
/* Set another eventfd for the ring's interrupts. With REPLY_ACK, the daemon uses it on return. */
int vhost_user_set_call(struct vhost_user *vu, unsigned index, int call_fd);
/* On return the daemon no longer touches the ring. */
int vhost_user_stop_ring(struct vhost_user *vu, unsigned index);

#endif
