/*
 * fuzz_vhost_user: any bytes as a vhost-user daemon's answers.
 *
 * Input: the first byte chooses the requests after the greeting; the rest is all that
 * the daemon sends. A simple reader of the same bytes computes what
 * each call must return; a wrong answer is an error, and the front end uses nothing of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/vhost/user.h"

#define FRONT_FEATURES                                                                             \
	(1ull << VHOST_USER_PROTOCOL_MQ | 1ull << VHOST_USER_PROTOCOL_REPLY_ACK |                  \
	 1ull << VHOST_USER_PROTOCOL_CONFIG)
#define F_PROTOCOL 30
#define CONFIG_BYTES 60u
#define MAX_INPUT 4096u

static void check(bool ok)
{
	if (!ok)
		abort();
}

static struct {
	const uint8_t *at;
	size_t left;
	bool acks; /* REPLY_ACK is negotiated */
} said;

/* Returns the body of the next answer, which must be to request and len bytes long; else NULL. */
static const uint8_t *answer(uint32_t request, uint32_t len)
{
	uint32_t head[3];
	const uint8_t *body;

	if (said.left < sizeof(head))
		return NULL;
	memcpy(head, said.at, sizeof(head));
	if (head[0] != request || (head[1] & 7) != 5 || head[2] != len ||
	    said.left < sizeof(head) + len)
		return NULL;
	body = said.at + sizeof(head);
	said.at += sizeof(head) + len;
	said.left -= sizeof(head) + len;
	return body;
}

static bool answer_u64(uint32_t request, uint64_t *val)
{
	const uint8_t *body = answer(request, sizeof(*val));

	if (body)
		memcpy(val, body, sizeof(*val));
	return body;
}

static bool acks(uint32_t request)
{
	uint64_t val = 0;

	return !said.acks || (answer_u64(request, &val) && !val);
}

static bool greeting(uint64_t *features, uint64_t *protocol, uint64_t *queues)
{
	*protocol = *queues = 0;
	said.acks = false;
	if (!answer_u64(1, features))
		return false;
	if (*features >> F_PROTOCOL & 1) {
		if (!answer_u64(15, protocol))
			return false;
		*protocol &= FRONT_FEATURES;
	}
	said.acks = *protocol >> VHOST_USER_PROTOCOL_REPLY_ACK & 1;
	if (*protocol >> VHOST_USER_PROTOCOL_MQ & 1 && !answer_u64(17, queues))
		return false;
	return acks(3);
}

/* Returns false if the daemon is lost. */
static bool get_config(struct vhost_user *vu)
{
	uint8_t config[CONFIG_BYTES], before[CONFIG_BYTES];
	const uint8_t *body = NULL;
	int rc;

	memset(config, 0xa5, sizeof(config));
	memcpy(before, config, sizeof(config));
	rc = vhost_user_get_config(vu, config, sizeof(config));
	if (vu->protocol >> VHOST_USER_PROTOCOL_CONFIG & 1)
		body = answer(24, 12 + CONFIG_BYTES);
	else
		check(rc == -EOPNOTSUPP);
	check(!rc == !!body);
	check(!memcmp(config, body ? body + 12 : before, sizeof(config)));
	return !rc || rc == -EOPNOTSUPP;
}

/* Makes one request after the greeting. Returns false if the daemon is lost. */
static bool request(struct vhost_user *vu, const struct mem *mem, unsigned what)
{
	struct vhost_user_ring ring = { .index = 1,
					.size = 8,
					.desc = gpa(0x1000),
					.avail = gpa(0x2000),
					.used = gpa(0x3000),
					.kick_fd = STDERR_FILENO,
					.call_fd = STDERR_FILENO,
					.err_fd = STDERR_FILENO };
	bool good;

	switch (what) {
	case 0:
		good = acks(2) && acks(5);
		check(!vhost_user_start(vu, mem, 1ull << 32) == good);
		return good;
	case 1:
		good = acks(8) && acks(10) && acks(9) && acks(13) && acks(14) && acks(12) &&
		       (!(vu->features >> F_PROTOCOL & 1) || acks(18));
		check(!vhost_user_start_ring(vu, mem, &ring) == good);
		return good;
	case 2:
		good = acks(13);
		check(!vhost_user_set_call(vu, 1, STDERR_FILENO) == good);
		return good;
	default:
		good = answer(11, 8);
		check(!vhost_user_stop_ring(vu, 1) == good);
		return good;
	}
}

static void session(struct vhost_user *vu, int fd, uint8_t plan)
{
	static struct mem mem;
	uint64_t features = 0, protocol, queues;
	bool good = greeting(&features, &protocol, &queues);
	struct err err;

	if (!mem.nregions)
		check(!mem_create_shared(&mem, 1 << 20, 1 << 20, 1ull << 32, &err));
	vhost_user_adopt(vu, fd);
	check(!vhost_user_agree(vu) == good);
	if (!good)
		return;
	check(vu->features == features && vu->protocol == protocol && vu->queues_max == queues);
	if (plan & 1 && !get_config(vu))
		return;
	for (unsigned i = 0; i < 4; i++, plan >>= 1)
		if (plan & 2 && !request(vu, &mem, i))
			return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhost_user vu = { .fd = -1 };
	int fd[2];

	if (!size || size > MAX_INPUT)
		return 0;
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	check(send(fd[1], data + 1, size - 1, MSG_NOSIGNAL) == (ssize_t)(size - 1));
	/* The daemon sends no more, but still receives, so no call waits. */
	check(!shutdown(fd[1], SHUT_WR));
	said.at = data + 1;
	said.left = size - 1;
	session(&vu, fd[0], data[0]);
	vhost_user_close(&vu);
	close(fd[1]);
	return 0;
}
