/*
 * net/options: what --net's keys mean for a card: address, limits, backend, and the memory it
 * needs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/clock.h"

int nic_check_options(const struct keyvals *cfg, struct err *err)
{
	struct ratelimit_rate bucket;

	for (unsigned i = KEY_RX_RATE; i <= KEY_TX_OPS_BURST; i += 2)
		if (keys_has(cfg, i + 1) && !keys_has(cfg, i))
			return err_set(err, EINVAL, "%s: %s= needs %s=", cfg->option,
				       cfg->table[i + 1].name, cfg->table[i].name);
	for (unsigned i = KEY_RATE_BUCKET; i <= KEY_OPS_BUCKET; i++)
		if (keys_has(cfg, i) && ratelimit_parse(keys_text(cfg, i), &bucket))
			return err_set(err, EINVAL, "%s: %s=%s: not a bucket: SIZE:MS:ONCE",
				       cfg->option, cfg->table[i].name, keys_text(cfg, i));
	return 0;
}

int nic_check_daemon(const struct keyvals *cfg, struct err *err)
{
	static const uint8_t not [] = { KEY_HOSTFWD,	 KEY_IP,	KEY_MASK,   KEY_RX_RATE,
					KEY_RX_OPS,	 KEY_TX_RATE,	KEY_TX_OPS, KEY_HOST_MAC,
					KEY_RATE_BUCKET, KEY_OPS_BUCKET };

	if (!keys_has(cfg, KEY_VHOST_USER))
		return keys_num(cfg, KEY_VHOST_MODE) ?
			       err_set(err, EINVAL,
				       "%s: vhost-mode=server needs vhost-user=", cfg->option) :
			       0;
	if (keys_has(cfg, KEY_TAP) || keys_has(cfg, KEY_FD) || keys_has(cfg, KEY_STREAM) ||
	    keys_num(cfg, KEY_USER))
		return err_set(err, EINVAL,
			       "%s: give one of tap=NAME, fd=N, stream=PATH, user and "
			       "vhost-user=SOCKET",
			       cfg->option);
	for (unsigned i = 0; i < sizeof(not ); i++)
		if (keys_has(cfg, not [i]))
			return err_set(err, EINVAL,
				       "%s: %s= cannot be used with vhost-user=: the daemon "
				       "decides that",
				       cfg->option, cfg->table[not [i]].name);
	if (keys_num(cfg, KEY_VHOST) == NIC_SERVED_ON)
		return err_set(err, EINVAL,
			       "%s: vhost=on uses the kernel, vhost-user= a "
			       "daemon; give one of them",
			       cfg->option);
	return 0;
}

static int parse_mac(const struct keyvals *cfg, unsigned key, uint8_t mac[NET_MAC_BYTES],
		     struct err *err)
{
	const char *text = keys_text(cfg, key), *name = cfg->table[key].name;
	unsigned b[NET_MAC_BYTES];
	int end = 0;

	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:-") != 17 ||
	    sscanf(text, "%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%n", &b[0], &b[1],
		   &b[2], &b[3], &b[4], &b[5], &end) != 6 ||
	    end != 17)
		return err_set(err, EINVAL,
			       "%s: %s=%s: not a MAC address; write it like 02:00:00:00:00:01",
			       cfg->option, name, text);
	for (unsigned i = 0; i < NET_MAC_BYTES; i++)
		mac[i] = (uint8_t)b[i];
	if (mac[0] & 1)
		return err_set(err, EINVAL,
			       "%s: %s=%s: is a multicast address; make the first "
			       "byte even",
			       cfg->option, name, text);
	if (!(b[0] | b[1] | b[2] | b[3] | b[4] | b[5]))
		return err_set(err, EINVAL, "%s: %s=%s: all zeroes is not a card's address",
			       cfg->option, name, text);
	return 0;
}

int nic_parse_mac(const struct keyvals *cfg, uint8_t mac[NET_MAC_BYTES], struct err *err)
{
	if (keys_has(cfg, KEY_MAC))
		return parse_mac(cfg, KEY_MAC, mac, err);
	if (getrandom(mac, NET_MAC_BYTES, 0) != (ssize_t)NET_MAC_BYTES)
		return err_sys(err, errno, "%s: random address", cfg->option);
	mac[0] = 0x02; /* unicast, locally administered */
	return 0;
}

unsigned nic_offloads(const struct keyvals *cfg)
{
	unsigned offloads = NET_OFFLOADS;

	if (!keys_num(cfg, KEY_OFFLOAD) || !keys_num(cfg, KEY_OFFLOAD_CSUM))
		return 0;
	if (!keys_num(cfg, KEY_OFFLOAD_TSO))
		offloads &= ~(NET_TSO4 | NET_TSO6 | NET_ECN);
	if (!keys_num(cfg, KEY_OFFLOAD_UFO))
		offloads &= ~NET_UFO;
	return offloads;
}

/* first: the key that is followed by a burst, and the same of frames. */
static void init_limit(struct ratelimit *limit, const struct keyvals *cfg, unsigned first)
{
	struct ratelimit_config c = {
		ratelimit_per_second(keys_num(cfg, first), keys_num(cfg, first + 1)),
		ratelimit_per_second(keys_num(cfg, first + 2), keys_num(cfg, first + 3)),
	};

	/* nic_check_options has parsed them. */
	if (keys_has(cfg, KEY_RATE_BUCKET))
		ratelimit_parse(keys_text(cfg, KEY_RATE_BUCKET), &c.bytes);
	if (keys_has(cfg, KEY_OPS_BUCKET))
		ratelimit_parse(keys_text(cfg, KEY_OPS_BUCKET), &c.ops);
	ratelimit_init(limit, &c, clock_now_ns());
}

void nic_init_limits(struct virtio_net *nic, const struct keyvals *cfg)
{
	init_limit(&nic->rx_limit, cfg, KEY_RX_RATE);
	init_limit(&nic->tx_limit, cfg, KEY_TX_RATE);
}

/*
 * Returns true if the user network's helper is to serve the queues, provided it can share guest
 * memory.
 */
static bool helper_wanted(const struct keyvals *cfg)
{
	bool limits = keys_has(cfg, KEY_RX_RATE) || keys_has(cfg, KEY_RX_OPS) ||
		      keys_has(cfg, KEY_TX_RATE) || keys_has(cfg, KEY_TX_OPS) ||
		      keys_has(cfg, KEY_RATE_BUCKET) || keys_has(cfg, KEY_OPS_BUCKET);

	return keys_num(cfg, KEY_USER) && keys_num(cfg, KEY_VHOST) != NIC_SERVED_OFF && !limits;
}

enum device_memory nic_memory(const struct keyvals *cfg)
{
	if (keys_has(cfg, KEY_VHOST_USER))
		return MEMORY_SHARED;
	return helper_wanted(cfg) ? MEMORY_HUGE_SHARED : MEMORY_ANY;
}

static void on_forwarded(void *opaque, const char *proto, const char *host, const char *guest)
{
	const struct device_env *env = opaque;

	if (env->ops->forwarded && env->id)
		env->ops->forwarded(env->vm, env->id, proto, host, guest);
}

int nic_open_backend(struct virtio_net *nic, const struct device_env *env,
		     const struct keyvals *cfg, struct err *err)
{
	struct net_config net = {
		.option = cfg->option,
		.name = nic->name,
		.tap = keys_text(cfg, KEY_TAP),
		.fds = keys_text(cfg, KEY_FD),
		.fds_dup = keys_num(cfg, KEY_FD_DUP),
		.stream = keys_text(cfg, KEY_STREAM),
		.daemon = keys_text(cfg, KEY_VHOST_USER),
		.user = keys_num(cfg, KEY_USER),
		.memory_shared = env->mem->fd > 0 && helper_wanted(cfg),
		.hostfwd = keys_text(cfg, KEY_HOSTFWD),
		.tell_answers = env->tell_answers,
		.host_loopback = keys_num(cfg, KEY_HOST_LOOPBACK),
		.queues = (unsigned)keys_num(cfg, KEY_QUEUES),
		.mtu = (unsigned)keys_num(cfg, KEY_MTU),
		.ip = keys_text(cfg, KEY_IP),
		.mask = keys_text(cfg, KEY_MASK),
		.daemon_connects = keys_num(cfg, KEY_VHOST_MODE),
		.loop = env->loop,
		.dry_run = env->dry_run,
		.keep = env->id ? env->keep : NULL,
		.id = env->id,
		.forwarded = on_forwarded,
		.opaque = (void *)env,
	};
	uint8_t host_mac[NET_MAC_BYTES];
	int rc;

	if (keys_has(cfg, KEY_HOST_MAC)) {
		rc = parse_mac(cfg, KEY_HOST_MAC, host_mac, err);
		if (rc)
			return rc;
		net.host_mac = host_mac;
	}
	snprintf(nic->name, sizeof(nic->name), "%s", env->id ? env->id : "net0");
	rc = net_open(&net, &nic->net, err);
	if (rc)
		return rc;
	if (net.mtu)
		nic->net->mtu = (uint16_t)net.mtu;
	strcpy(nic->vdev.dev.interface, nic->net->ifname);
	return 0;
}
