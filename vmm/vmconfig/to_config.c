/*
 * vmconfig/to_config: from a normalised VmConfig to the machine's configuration.
 *
 * A field whose row names an option's key is written there as the command line would write it, and
 * the option's own table checks it again. What the other fields mean is in a function for each
 * object: one field for two keys (a rate), two fields for one key (a console's mode and file).
 * Devices are added in the order of their PCI slots.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

/* Sets a key of an option; the message of a refusal begins with where, the field's path. */
static int set(struct keyvals *kv, const char *where, const char *key, const char *value,
	       struct err *err)
{
	struct err why = { "" };
	int rc = keys_set_hidden(kv, key, value, &why);

	return rc ? err_set(err, -rc, "%s: %s", where, why.text) : 0;
}

static int set_num(struct keyvals *kv, const char *where, const char *key, uint64_t value,
		   struct err *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return set(kv, where, key, text, err);
}

static int map_texts(struct keyvals *kv, const char *where, const char *key, const json_t *list,
		     struct err *err)
{
	json_t *item;
	size_t i;
	int rc = 0;

	json_array_foreach(list, i, item)
	{
		rc = set(kv, where, key, json_string_value(item), err);
		if (rc)
			break;
	}
	return rc;
}

static bool may_be_empty(const struct keyvals *kv, const char *key)
{
	int i = keys_find(kv->table, key);

	return i >= 0 && kv->table[i].flags & KEY_EMPTY;
}

static int map_field(struct keyvals *kv, const char *where, const struct vmconfig_field *f,
		     const json_t *value, struct err *err)
{
	uint64_t n = json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
	char path[128];

	snprintf(path, sizeof(path), "%s%s%s", where, *where ? "." : "", f->key);
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
	case KIND_BYTES:
		return set_num(kv, path, f->option, f->most && n > f->most ? f->most : n, err);
	case KIND_BOOL:
		return set(kv, path, f->option, json_is_true(value) ? "on" : "off", err);
	case KIND_TEXTS:
		return map_texts(kv, path, f->option, value, err);
	default:
		/* Most options without a value would be refused; there an empty text is none. */
		return json_string_length(value) || may_be_empty(kv, f->option) ?
			       set(kv, path, f->option, json_string_value(value), err) :
			       0;
	}
}

/* Maps the fields of an object that have an option's key. */
static int map(struct keyvals *kv, const char *where, enum vmconfig_object object, const json_t *in,
	       struct err *err)
{
	int rc = 0;

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE && !rc;
	     f++) {
		const json_t *value = *f->option ? json_object_get(in, f->key) : NULL;

		if (value)
			rc = map_field(kv, where, f, value, err);
	}
	return rc;
}

/* --- devices ------------------------------------------------------------------------------------ */

static int map_chardev(struct keyvals *kv, const char *where, const json_t *c, struct err *err)
{
	const char *mode = vmconfig_text(c, "mode");
	static const char sink[][2][8] = {
		{ "Off", "off" }, { "Null", "null" }, { "Pty", "pty" }, { "Tty", "stdio" }
	};
	int rc;

	for (size_t i = 0; i < sizeof(sink) / sizeof(sink[0]); i++) {
		if (strcmp(mode, sink[i][0]) != 0)
			continue;
		rc = set(kv, where, "sink", sink[i][1], err);
		/* A service's standard input is not for the guest. */
		return rc || strcmp(mode, "Tty") != 0 ? rc : set(kv, where, "tty", "on", err);
	}
	if (!strcmp(mode, "Socket"))
		return set(kv, where, "socket", vmconfig_text(c, "socket"), err);
	rc = set(kv, where, "file", vmconfig_text(c, "file"), err);
	return rc ? rc : set(kv, where, "append", "on", err);
}

/* As ratelimit_parse reads it. */
static int map_bucket(struct keyvals *kv, const char *where, const json_t *bucket, const char *key,
		      struct err *err)
{
	uint64_t size = vmconfig_num(bucket, "size"), ms = vmconfig_num(bucket, "refill_time");
	char text[80];

	if (!size || !ms)
		return 0;
	snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64 ":%" PRIu64, size, ms,
		 vmconfig_num(bucket, "one_time_burst"));
	return set(kv, where, key, text, err);
}

static int map_limiter(struct keyvals *kv, const char *where, const json_t *limiter,
		       struct err *err)
{
	int rc = map_bucket(kv, where, json_object_get(limiter, "bandwidth"), "rate-bucket", err);

	return rc ? rc : map_bucket(kv, where, json_object_get(limiter, "ops"), "ops-bucket", err);
}

static const json_t *disk_limiter(const json_t *vm, const json_t *disk)
{
	const char *name = vmconfig_text(disk, "rate_limit_group");
	json_t *group;
	size_t i;

	json_array_foreach(json_object_get(vm, "rate_limit_groups"), i, group)
	{
		if (name && !strcmp(vmconfig_text(group, "id"), name))
			return json_object_get(group, "rate_limiter_config");
	}
	return json_object_get(disk, "rate_limiter_config");
}

static int map_disk(struct keyvals *kv, const char *where, const json_t *vm, const json_t *disk,
		    struct err *err)
{
	const char *type = vmconfig_text(disk, "image_type");
	const char *group = vmconfig_text(disk, "rate_limit_group");
	int rc = 0;

	if (type && strcmp(type, "Unknown") != 0)
		rc = set(kv, where, "format", !strcmp(type, "Raw") ? "raw" : "qcow2", err);
	if (!rc && vmconfig_bool(disk, "disable_io_uring"))
		rc = set(kv, where, "engine", "threads", err);
	if (!rc && vmconfig_num(disk, "block_size"))
		rc = set_num(kv, where, "block-size", vmconfig_num(disk, "block_size"), err);
	if (!rc && vmconfig_bool(disk, "vhost_user"))
		rc = set(kv, where, "vhost-user", vmconfig_text(disk, "vhost_socket"), err);
	if (!rc)
		rc = set(kv, where, "vmconfig", "on", err);
	if (!rc && group && *group)
		rc = set(kv, where, "rate-group", group, err);
	return rc ? rc : map_limiter(kv, where, disk_limiter(vm, disk), err);
}

static int map_descriptors(struct keyvals *kv, const char *where, const json_t *fds,
			   struct err *err)
{
	char text[2048];
	size_t i, len = 0;
	json_t *fd;

	json_array_foreach(fds, i, fd)
	{
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%d", i ? ":" : "",
					(int)json_integer_value(fd));
		if (len >= sizeof(text))
			return err_set(err, EINVAL, "%s: too many descriptors", where);
	}
	return set(kv, where, "fd", text, err);
}

/* What the card is connected to. Without any of them, it is a new tap. */
static int map_network(struct keyvals *kv, const char *where, const json_t *net, struct err *err)
{
	const json_t *fds = json_object_get(net, "fds"), *user = json_object_get(net, "user");
	bool server = vmconfig_bool(net, "vhost_user") &&
		      !strcmp(vmconfig_text(net, "vhost_mode"), "Server");
	int rc = 0;

	if (fds)
		return map_descriptors(kv, where, fds, err);
	if (user) {
		rc = set(kv, where, "user", "on", err);
		return rc ? rc : map(kv, where, VMCONFIG_USER_NET, user, err);
	}
	if (vmconfig_bool(net, "vhost_user"))
		rc = set(kv, where, "vhost-user", vmconfig_text(net, "vhost_socket"), err);
	else if (!vmconfig_text(net, "tap") && !json_object_get(net, "stream"))
		rc = set(kv, where, "tap", "vmtap%d", err);
	return rc || !server ? rc : set(kv, where, "vhost-mode", "server", err);
}

static int map_net(struct keyvals *kv, const char *where, const json_t *net, struct err *err)
{
	uint64_t pairs = vmconfig_num(net, "num_queues") / 2;
	int rc = map_network(kv, where, net, err);

	if (!rc && (keys_text_of(kv, "tap") || vmconfig_bool(net, "vhost_user")))
		rc = set_num(kv, where, "queues",
			     pairs > VMCONFIG_PAIRS_MAX ? VMCONFIG_PAIRS_MAX : pairs, err);
	return rc ? rc : map_limiter(kv, where, json_object_get(net, "rate_limiter_config"), err);
}

static int map_device(struct keyvals *kv, const char *where, enum vmconfig_object object,
		      const json_t *vm, const json_t *device, struct err *err)
{
	int rc = map(kv, where, object, device, err);

	if (rc)
		return rc;
	switch (object) {
	case VMCONFIG_SERIAL:
	case VMCONFIG_CONSOLE:
		return map_chardev(kv, where, device, err);
	case VMCONFIG_DISK:
		return map_disk(kv, where, vm, device, err);
	case VMCONFIG_NET:
		return map_net(kv, where, device, err);
	default:
		return 0;
	}
}

/* key, a static text, names the device in messages of the machine: "serial socket=PATH: …". */
static int add_device(struct config *config, const char *option, const char *key, const char *where,
		      enum vmconfig_object object, const json_t *vm, const json_t *device,
		      struct err *err)
{
	const char *id = object == VMCONFIG_SERIAL ? "__serial" : vmconfig_text(device, "id");
	struct config_device *added;
	struct err why = { "" };
	int rc = config_add_device(config, option, &added, err);

	if (rc)
		return rc;
	snprintf(added->id, sizeof(added->id), "%s", id);
	added->slot = (unsigned)vmconfig_num(device, "pci_device_id");
	rc = map_device(&added->kv, where, object, vm, device, err);
	if (rc)
		return rc;
	rc = config_finish_device(added, &why);
	added->kv.option = key;
	return rc ? err_set(err, -rc, "%s: %s", where, why.text) : 0;
}

struct adding {
	struct config *config;
	const json_t *vm;
	struct err *err;
};

static int add_place(void *opaque, const struct vmconfig_place *place, json_t *device,
		     const char *where)
{
	struct adding *a = opaque;

	return add_device(a->config, place->option, place->key, where,
			  (enum vmconfig_object)place->object, a->vm, device, a->err);
}

/* If a device asks for a slot, each of the others gets the first that nobody asks for, in order. */
static void place_devices(struct config *config)
{
	uint32_t taken = 1; /* slot 0 is the bridge's */

	for (unsigned i = 0; i < config->ndevices; i++)
		taken |= 1u << config->device[i].slot;
	if (taken == 1)
		return;
	for (unsigned i = 0; i < config->ndevices; i++) {
		struct config_device *d = &config->device[i];
		unsigned slot = 1;

		if (d->slot || !strcmp(d->type->option, "--serial"))
			continue;
		while (slot < 32 && taken >> slot & 1)
			slot++;
		BUG_ON(slot == 32); /* vmconfig_name_devices has counted them */
		d->slot = slot;
		taken |= 1u << slot;
	}
}

static int add_devices(struct config *config, const json_t *vm, struct err *err)
{
	struct adding a = { .config = config, .vm = vm, .err = err };
	int rc = add_device(config, "serial", "serial", "serial", VMCONFIG_SERIAL, vm,
			    json_object_get(vm, "serial"), err);

	if (!rc)
		rc = vmconfig_each_device(vm, add_place, &a);
	if (!rc)
		place_devices(config);
	return rc;
}

int vmconfig_to_config(const json_t *vm, struct config *out, struct err *err)
{
	const json_t *payload = json_object_get(vm, "payload");
	const json_t *cpus = json_object_get(vm, "cpus");
	int rc;

	config_start(out);
	rc = map(&out->vm, "payload", VMCONFIG_PAYLOAD, payload, err);
	if (!rc)
		rc = map(&out->vm, "cpus", VMCONFIG_CPUS, cpus, err);
	if (!rc)
		rc = set_num(&out->vm, "memory", "memory", vmconfig_memory_bytes(vm), err);
	if (!rc)
		rc = keys_finish(&out->vm, err);
	if (!rc)
		rc = vmconfig_to_machine(vm, out, err);
	return rc ? rc : add_devices(out, vm, err);
}

int vmconfig_check_machine(const json_t *vm, struct err *err)
{
	struct config config;
	int rc = vmconfig_to_config(vm, &config, err);

	config_clear(&config);
	return rc;
}
