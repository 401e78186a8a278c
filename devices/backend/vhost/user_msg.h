/*
 * vhost/user_msg: the messages of the vhost-user protocol (QEMU's docs/interop/vhost-user), as the
 * socket carries them: those that we send (vhost/user.c) or serve (tools/bantam-net-user).
 *
 * Numbers are in the host's byte order. The reader of a message checks everything in it.
 */
#ifndef BANTAM_VHOST_USER_MSG_H
#define BANTAM_VHOST_USER_MSG_H

#include <stdint.h>

#include "devices/backend/vhost/user.h"
#include "vmm/core/mem.h"

/* In flags; the lowest two bits are the version. */
#define VU_VERSION 1u
#define VU_VERSION_MASK 3u
#define VU_FLAG_REPLY 4u
#define VU_FLAG_NEED_REPLY 8u

/* Virtio feature bit between daemon and front end only: protocol features exist. */
#define VU_F_PROTOCOL_FEATURES 30

enum {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_GET_CONFIG = 24,
};

struct vhost_user_state {
	uint32_t index;
	uint32_t num;
};

/* Addresses in the front end's process. */
struct vhost_user_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc, used, avail, log;
};

/* A descriptor for each region accompanies the message. */
struct vhost_user_mem {
	uint32_t nregions;
	uint32_t padding;
	struct {
		uint64_t gpa, len_bytes, host, offset;
	} region[MEM_MAX_REGIONS];
};

struct vhost_user_config {
	uint32_t offset, len_bytes, flags;
	uint8_t data[VHOST_USER_CONFIG_MAX];
};

struct vhost_user_msg {
	uint32_t request;
	uint32_t flags;
	uint32_t len_bytes; /* of the body */
	union {
		uint64_t u64;
		struct vhost_user_state state;
		struct vhost_user_addr addr;
		struct vhost_user_mem mem;
		struct vhost_user_config config;
	} body;
} __attribute__((packed));
#define VU_HEAD_BYTES 12u

#endif
