/*
 * add: the commands add-disk, add-net, add-fs, add-vsock and remove-device.
 *
 * Theory of operation. The words are those of bantam run's options of the same devices ("FILE,ro,queues=2"),
 * the request is an object of the API (DiskConfig …), whose names and units are Cloud Hypervisor's. A table of
 * keys for each command says what the user may write, and beside each key stands where its value goes: most go
 * to one field as they are, by the key's kind; the others have a case in put_special. What no field of the API says is no
 * key here. The server checks the result as it checks any client's; it may have another working folder, so
 * paths become absolute.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/keys.h"
#include "vmm/core/parse.h"
#include "vmm/usage/usage.h"

#define QUEUES_MAX 16
#define QUEUE_SIZE_MAX 1024
#define RATE_MAX (1ull << 40)

/* "": put_special knows the key. */
struct field {
	char key[16];  /* of the command line */
	char name[20]; /* of the API */
};

#define ID                                                                                         \
	{                                                                                          \
		"id", KEY_TEXT, .meta = "NAME", .help = "name for the API; default: a number"      \
	}
#define QUEUE_SIZE(least)                                                                          \
	{                                                                                          \
		"queue-size", KEY_NUM, KEY_POWER2, .min = least, .max = QUEUE_SIZE_MAX,            \
						   .meta = "N",                                    \
						   .help = "entries of each queue, a power of two" \
	}
#define QUEUES(what)                                                                               \
	{                                                                                          \
		"queues", KEY_NUM, .min = 1, .max = QUEUES_MAX, .meta = "N", .help = what          \
	}

/* clang-format off */
static const struct key disk_keys[] = {
	{ "path", KEY_PATH, KEY_BARE | KEY_REQUIRED | KEY_UNLESS, .meta = "FILE", .help = "raw or qcow2 image, or block device" },
	{ "ro", KEY_BOOL, .def = "off", .help = "the guest cannot write" },
	{ "readonly", KEY_BOOL, .def = "off", .help = "the same as ro" },
	{ "format", KEY_CHOICE, .choices = "auto|raw|qcow2", .help = "format of the image; auto: by its name" },
	{ "backing", KEY_BOOL, .def = "off", .help = "a qcow2 image may name a backing file" },
	{ "serial", KEY_TEXT, .meta = "TEXT", .help = "serial number, at most 20 characters (/dev/disk/by-id)" },
	ID,
	{ "direct", KEY_BOOL, .def = "off", .help = "bypass the host's page cache (O_DIRECT)" },
	{ "engine", KEY_CHOICE, .choices = "auto|io_uring|threads", .help = "how the host does the I/O" },
	{ "block-size", KEY_CHOICE, .choices = "auto|512|4096", .help = "bytes of the guest's logical block; auto: as the host's device has it" },
	QUEUES("request queues"),
	QUEUE_SIZE(4),
	{ "vhost-user", KEY_PATH, KEY_INSTEAD, .meta = "SOCKET", .help = "the vhost-user daemon at SOCKET serves the disk, instead of path" },
	{ "rate", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE", .help = "limit of bytes per second, reads and writes together" },
	{ "burst", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE", .help = "bytes that may pass at once after a pause" },
	{ "ops", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N", .help = "limit of requests per second" },
	{ "ops-burst", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N", .help = "requests that may pass at once after a pause" },
	{ NULL },
};

static const struct key net_keys[] = {
	{ "tap", KEY_TEXT, .meta = "NAME", .help = "a tap of the host; created if there is none" },
	{ "fd", KEY_TEXT, .meta = "N[:N…]", .help = "an open tap, one descriptor for each pair of queues; bantam gets a copy" },
	{ "user", KEY_BOOL, .def = "off", .help = "a network without privileges: DHCP, DNS, connections to outside" },
	{ "stream", KEY_PATH, .meta = "PATH", .help = "frames on a stream socket, in QEMU's and passt's format" },
	{ "vhost-user", KEY_PATH, .meta = "SOCKET", .help = "the vhost-user daemon at SOCKET moves the frames (passt, OVS, DPDK)" },
	{ "hostfwd", KEY_TEXT, KEY_LIST, .meta = "tcp|udp:[ADDR]:PORT-PORT", .help = "with user: forward a port of the host to the guest; may be repeated" },
	{ "host-loopback", KEY_BOOL, .def = "off", .help = "with user: the guest reaches the host's loopback (at 10.0.2.2) and link-local addresses" },
	{ "mac", KEY_TEXT, .meta = "MAC", .help = "address; without it, a random one" },
	{ "mtu", KEY_NUM, .min = 68, .max = 65535, .meta = "N", .help = "longest IP packet, which the guest learns" },
	QUEUES("with tap, vhost-user: pairs of queues"),
	QUEUE_SIZE(64),
	{ "ip", KEY_TEXT, .meta = "ADDR[/BITS]", .help = "the host's address on a tap that is created" },
	{ "mask", KEY_TEXT, .meta = "MASK", .help = "the address's mask; without it, /24, of IPv6 /64" },
	{ "offload", KEY_BOOL, .def = "on", .help = "leave checksums and segmentation to the other side" },
	ID,
	{ NULL },
};

static const struct key fs_keys[] = {
	{ "tag", KEY_TEXT, KEY_REQUIRED, .meta = "TAG", .help = "what the guest mounts, at most 36 bytes" },
	{ "socket", KEY_PATH, KEY_REQUIRED, .meta = "PATH", .help = "the daemon's socket (virtiofsd --socket-path)" },
	QUEUES("request queues"),
	QUEUE_SIZE(4),
	ID,
	{ NULL },
};

static const struct key vsock_keys[] = {
	{ "cid", KEY_NUM, KEY_REQUIRED, .min = 3, .max = 0xfffffffe, .meta = "N", .help = "the guest's address, 3 or more" },
	{ "socket", KEY_PATH, KEY_REQUIRED, .meta = "PATH", .help = "where host programs connect; PATH_P is port P of the host" },
	ID,
	{ NULL },
};
/* clang-format on */

/* Of a key that is not here, put_special makes fields. */
static const struct field disk_fields[] = {
	{ "path", "path" },
	{ "ro", "readonly" },
	{ "readonly", "readonly" },
	{ "serial", "serial" },
	{ "id", "id" },
	{ "direct", "direct" },
	{ "queues", "num_queues" },
	{ "queue-size", "queue_size" },
	{ "backing", "backing_files" },
	{ "" },
};
static const struct field net_fields[] = {
	{ "tap", "tap" },   { "stream", "stream" },	    { "mac", "mac" }, { "mtu", "mtu" },
	{ "mask", "mask" }, { "queue-size", "queue_size" }, { "id", "id" },   { "" },
};
static const struct field fs_fields[] = {
	{ "tag", "tag" },
	{ "socket", "socket" },
	{ "queues", "num_queues" },
	{ "queue-size", "queue_size" },
	{ "id", "id" },
	{ "" },
};
static const struct field vsock_fields[] = { { "cid", "cid" },
					     { "socket", "socket" },
					     { "id", "id" },
					     { "" } };

static const struct kind {
	char command[12];
	const struct key *keys;
	const struct field *fields;
} kinds[] = {
	{ "add-disk", disk_keys, disk_fields },
	{ "add-net", net_keys, net_fields },
	{ "add-fs", fs_keys, fs_fields },
	{ "add-vsock", vsock_keys, vsock_fields },
};

static const struct kind *kind_of(const char *command)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].command, command))
			return &kinds[i];
	return NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

static json_t *absolute(const char *path)
{
	char *folder = *path == '/' ? NULL : getcwd(NULL, 0);
	json_t *text = folder ? json_sprintf("%s/%s", folder, path) : json_string(path);

	free(folder);
	return text;
}

static json_t *value_of(const struct keyvals *kv, unsigned i)
{
	switch (kv->table[i].kind) {
	case KEY_NUM:
	case KEY_SIZE:
		return json_integer((json_int_t)keys_num(kv, i));
	case KEY_BOOL:
		return json_boolean(keys_num(kv, i));
	case KEY_PATH:
		return absolute(keys_text(kv, i));
	default:
		return json_string(keys_text(kv, i));
	}
}

/* A rate and a burst as a bucket that is refilled in a time, of 1 ms at least. */
static void put_bucket(json_t *body, const char *name, uint64_t rate, uint64_t burst)
{
	json_t *limiter = json_object_get(body, "rate_limiter_config");
	uint64_t ms;

	if (!rate)
		return;
	if (!limiter) {
		limiter = json_object();
		json_object_set_new(body, "rate_limiter_config", limiter);
	}
	if (!burst)
		burst = rate / 10;
	if (burst < rate / 1000 + 1)
		burst = rate / 1000 + 1;
	ms = (uint64_t)((unsigned __int128)burst * 1000 / rate);
	json_object_set_new(limiter, name,
			    json_pack("{s:I,s:I}", "size", (json_int_t)burst, "refill_time",
				      (json_int_t)ms));
}

static void put_daemon(json_t *body, const struct keyvals *kv)
{
	const char *daemon = keys_text_of(kv, "vhost-user");

	if (!daemon)
		return;
	json_object_set_new(body, "vhost_user", json_true());
	json_object_set_new(body, "vhost_socket", absolute(daemon));
}

static int put_disk(struct ctl *ctl, json_t *body, const struct keyvals *kv)
{
	const char *format = keys_text_of(kv, "format"), *engine = keys_text_of(kv, "engine");
	const char *block = keys_text_of(kv, "block-size");

	if (keys_num_of(kv, "ro"))
		json_object_set_new(body, "readonly", json_true());
	if (format && strcmp(format, "auto") != 0)
		json_object_set_new(body, "image_type",
				    json_string(!strcmp(format, "raw") ? "Raw" : "Qcow2"));
	if (engine && !strcmp(engine, "threads"))
		json_object_set_new(body, "disable_io_uring", json_true());
	if (block && strcmp(block, "auto") != 0)
		json_object_set_new(body, "block_size", json_integer(strtol(block, NULL, 10)));
	put_daemon(body, kv);
	if ((keys_num_of(kv, "burst") && !keys_num_of(kv, "rate")) ||
	    (keys_num_of(kv, "ops-burst") && !keys_num_of(kv, "ops")))
		return ctl_fail(ctl, CTL_USAGE, "burst needs rate, and ops-burst needs ops");
	put_bucket(body, "bandwidth", keys_num_of(kv, "rate"), keys_num_of(kv, "burst"));
	put_bucket(body, "ops", keys_num_of(kv, "ops"), keys_num_of(kv, "ops-burst"));
	return CTL_OK;
}

static int put_user(struct ctl *ctl, json_t *body, const struct keyvals *kv)
{
	const char *ports = keys_text_of(kv, "hostfwd");
	json_t *user, *list;

	if (!keys_num_of(kv, "user"))
		return ports || keys_num_of(kv, "host-loopback") ?
			       ctl_fail(ctl, CTL_USAGE, "hostfwd and host-loopback need user") :
			       CTL_OK;
	user = json_object();
	json_object_set_new(body, "user", user);
	if (keys_num_of(kv, "host-loopback"))
		json_object_set_new(user, "host_loopback", json_true());
	if (!ports)
		return CTL_OK;
	list = json_array();
	json_object_set_new(user, "hostfwd", list);
	for (size_t n; *ports; ports += n + (ports[n] == ',')) {
		n = strcspn(ports, ",");
		json_array_append_new(list, json_stringn(ports, n));
	}
	return CTL_OK;
}

/* The API has an address and a mask. */
static int put_ip(struct ctl *ctl, json_t *body, const struct keyvals *kv)
{
	const char *ip = keys_text_of(kv, "ip"), *slash = ip ? strchr(ip, '/') : NULL;
	uint8_t mask[sizeof(struct in6_addr)] = { 0 };
	char text[INET6_ADDRSTRLEN];
	bool v6 = ip && strchr(ip, ':');
	uint64_t bits;

	if (!ip)
		return CTL_OK;
	json_object_set_new(body, "ip",
			    slash ? json_stringn(ip, (size_t)(slash - ip)) : json_string(ip));
	if (!slash)
		return CTL_OK;
	if (parse_u64(slash + 1, &bits) || bits > (v6 ? 128 : 32))
		return ctl_fail(ctl, CTL_USAGE, "ip=%s: write it like 192.168.249.1/24", ip);
	if (keys_text_of(kv, "mask"))
		return ctl_fail(ctl, CTL_USAGE, "ip=%s has a mask already; leave out mask", ip);
	for (unsigned i = 0; i < bits; i++)
		mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
	inet_ntop(v6 ? AF_INET6 : AF_INET, mask, text, sizeof(text));
	json_object_set_new(body, "mask", json_string(text));
	return CTL_OK;
}

/* The descriptors go with the request, and the card has a pair of queues for each. */
static int put_descriptors(struct ctl *ctl, json_t *body, const char *text)
{
	struct client *c = &ctl->client;

	while (text && *text) {
		size_t n = strcspn(text, ":");
		char word[12];
		uint64_t fd;

		snprintf(word, sizeof(word), "%.*s", n < sizeof(word) ? (int)n : 11, text);
		if (parse_u64(word, &fd) || fd > INT32_MAX || fcntl((int)fd, F_GETFD) < 0)
			return ctl_fail(ctl, CTL_USAGE,
					"fd=%s: no descriptor of this number is open", word);
		if (c->nfds == CLIENT_FDS_MAX)
			return ctl_fail(ctl, CTL_USAGE, "fd: at most %d descriptors",
					CLIENT_FDS_MAX);
		c->fds[c->nfds++] = (int)fd;
		text += n + (text[n] == ':');
	}
	if (c->nfds)
		json_object_set_new(body, "num_queues", json_integer(2 * (json_int_t)c->nfds));
	return CTL_OK;
}

static int put_net(struct ctl *ctl, json_t *body, const struct keyvals *kv)
{
	static const char offload[][16] = { "offload_tso", "offload_ufo", "offload_csum" };
	uint64_t pairs = keys_num_of(kv, "queues");
	int status = put_user(ctl, body, kv);

	put_daemon(body, kv);
	if (pairs)
		json_object_set_new(body, "num_queues", json_integer((json_int_t)(2 * pairs)));
	for (size_t i = 0; i < sizeof(offload) / sizeof(offload[0]); i++)
		if (!keys_num_of(kv, "offload"))
			json_object_set_new(body, offload[i], json_false());
	if (!status)
		status = put_ip(ctl, body, kv);
	return status ? status : put_descriptors(ctl, body, keys_text_of(kv, "fd"));
}

/* --- the commands ----------------------------------------------------------------------------- */

static int fill(struct ctl *ctl, const struct kind *kind, json_t *body, const struct keyvals *kv)
{
	for (const struct field *f = kind->fields; *f->key; f++) {
		int i = keys_find(kind->keys, f->key);

		/* JSON has no other text. */
		if (kv->val[i].set && json_object_set_new(body, f->name, value_of(kv, (unsigned)i)))
			return ctl_fail(ctl, CTL_USAGE, "%s: is not UTF-8 text", f->key);
	}
	if (kind->keys == disk_keys)
		return put_disk(ctl, body, kv);
	return kind->keys == net_keys ? put_net(ctl, body, kv) : CTL_OK;
}

int ctl_add_device(struct ctl *ctl)
{
	const struct kind *kind = kind_of(ctl->command->name);
	struct err err = { "" };
	struct keyvals kv;
	json_t *body = json_object();
	int status;

	/* ctl_fail names the command, too. */
	if (keys_parse(&kv, kind->command, kind->keys, ctl->arg[0], &err))
		status = ctl_fail(ctl, CTL_USAGE, "%s", strchr(err.text, ' ') + 1);
	else
		status = fill(ctl, kind, body, &kv);
	keys_clear(&kv);
	if (!status)
		return ctl_put(ctl, ctl->command->request, body);
	json_decref(body);
	return status;
}

int ctl_remove_device(struct ctl *ctl)
{
	return ctl_put(ctl, ctl->command->request, json_pack("{s:s}", "id", ctl->arg[0]));
}

void ctl_help_keys(const char *command)
{
	const struct kind *kind = kind_of(command);

	for (const struct key *k = kind ? kind->keys : NULL; k && k->name; k++) {
		const char *value = k->kind == KEY_CHOICE ? k->choices :
				    k->kind == KEY_BOOL	  ? "on|off" :
							    k->meta;
		char lead[80];

		snprintf(lead, sizeof(lead), k->flags & KEY_BARE ? "[%s=]%s" : "%s=%s", k->name,
			 value);
		usage_row(stdout, 6, 27, lead, k->help, k->def);
	}
}
