/*
 * vmconfig/from_config: what vm.info shows of a VM that bantam run's own options describe.
 *
 * The tables are read in the other direction: a field whose row names a key gets the key's value.
 * Where one field is several keys, a function for each object turns it round. The result is not
 * checked, because bantam run can do what a VmConfig cannot say (a seed= disk has no path).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

static void put(json_t *out, const char *key, json_t *value)
{
	/* Out of memory is seen at the end: the result lacks what every VmConfig has. */
	json_object_set_new(out, key, value);
}

/* A list that was joined by commas. */
static json_t *texts(const char *joined)
{
	json_t *list = json_array();

	while (*joined) {
		size_t n = strcspn(joined, ",");

		json_array_append_new(list, json_stringn(joined, n));
		joined += n + (joined[n] == ',');
	}
	return list;
}

static json_t *value_of(const struct vmconfig_field *f, const struct keyvals *kv, unsigned i)
{
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
	case KIND_BYTES:
		return json_integer((json_int_t)keys_num(kv, i));
	case KIND_BOOL:
		return json_boolean(keys_num(kv, i));
	case KIND_TEXTS:
		return texts(keys_text(kv, i));
	default:
		return json_string(keys_text(kv, i));
	}
}

static void put_mapped(json_t *out, enum vmconfig_object object, const struct keyvals *kv)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		int i = *f->option ? keys_find(kv->table, f->option) : -1;

		if (i >= 0 && keys_has(kv, (unsigned)i))
			put(out, f->key, value_of(f, kv, (unsigned)i));
	}
}

/* The defaults of what is not set, also in objects inside. */
static void put_defaults(json_t *out, enum vmconfig_object object)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		json_t *there = json_object_get(out, f->key);

		if (!there && *f->def) {
			there = json_loads(f->def, JSON_DECODE_ANY, NULL);
			put(out, f->key, there);
		}
		if (there && f->kind == KIND_OBJECT)
			put_defaults(there, (enum vmconfig_object)f->object);
	}
}

/* --- devices ------------------------------------------------------------------------------------ */

static void put_chardev(json_t *out, const struct keyvals *kv)
{
	static const char mode[][5] = { "Tty", "Pty", "Null", "Off" }; /* in the order of "sink" */
	const char *file = keys_text_of(kv, "file"), *path = keys_text_of(kv, "socket");

	if (file)
		put(out, "file", json_string(file));
	if (path)
		put(out, "socket", json_string(path));
	put(out, "mode",
	    json_string(file ? "File" :
			path ? "Socket" :
			       mode[keys_num_of(kv, "sink") & 3]));
}

/* A rate and a burst as a bucket of a size, refilled in a time. */
static void put_bucket(json_t *limiter, const char *key, uint64_t rate, uint64_t burst)
{
	if (!rate)
		return;
	if (!burst)
		burst = rate / 10 ? rate / 10 : 1;
	put(limiter, key,
	    json_pack("{sIsI}", "size", (json_int_t)burst, "refill_time",
		      (json_int_t)((unsigned __int128)burst * 1000 / rate)));
}

static void put_limiter(json_t *out, const struct keyvals *kv, const char *prefix)
{
	json_t *limiter = json_object();
	uint64_t n[4];

	for (unsigned i = 0; i < 4; i++) {
		static const char key[][10] = { "rate", "burst", "ops", "ops-burst" };
		char name[24];

		snprintf(name, sizeof(name), "%s%.9s", prefix, key[i]);
		n[i] = keys_num_of(kv, name);
	}
	put_bucket(limiter, "bandwidth", n[0], n[1]);
	put_bucket(limiter, "ops", n[2], n[3]);
	if (json_object_size(limiter))
		put(out, "rate_limiter_config", limiter);
	else
		json_decref(limiter);
}

static void put_daemon(json_t *out, const struct keyvals *kv)
{
	const char *daemon = keys_text_of(kv, "vhost-user");

	if (!daemon)
		return;
	put(out, "vhost_user", json_true());
	put(out, "vhost_socket", json_string(daemon));
}

static void put_disk(json_t *out, const struct keyvals *kv)
{
	const char *format = keys_text_of(kv, "format"), *engine = keys_text_of(kv, "engine");
	const char *block = keys_text_of(kv, "block-size");

	put_daemon(out, kv);
	put(out, "readonly", json_boolean(keys_num_of(kv, "ro") || keys_num_of(kv, "readonly")));
	if (format && strcmp(format, "auto") != 0)
		put(out, "image_type", json_string(!strcmp(format, "raw") ? "Raw" : "Qcow2"));
	if (block && strcmp(block, "auto") != 0)
		put(out, "block_size", json_integer(strtol(block, NULL, 10)));
	if (engine && !strcmp(engine, "threads"))
		put(out, "disable_io_uring", json_true());
	put_limiter(out, kv, "");
}

static void put_net(json_t *out, const struct keyvals *kv)
{
	uint64_t pairs = keys_num_of(kv, "queues");
	const char *fds = keys_text_of(kv, "fd");

	put_daemon(out, kv);
	if (pairs)
		put(out, "num_queues", json_integer((json_int_t)(2 * pairs)));
	if (keys_num_of(kv, "user")) {
		json_t *user = json_object();

		put_mapped(user, VMCONFIG_USER_NET, kv);
		put(out, "user", user);
	}
	if (fds) {
		json_t *list = json_array();

		for (const char *p = fds; *p; p += strcspn(p, ":"), p += *p == ':')
			json_array_append_new(list, json_integer(strtol(p, NULL, 10)));
		put(out, "fds", list);
	}
	for (unsigned i = 0; i < 3 && !keys_num_of(kv, "offload"); i++) {
		static const char key[][16] = { "offload_tso", "offload_ufo", "offload_csum" };

		put(out, key[i], json_false());
	}
	put_limiter(out, kv, "tx-");
}

static json_t *device_of(const struct config *config, unsigned at, enum vmconfig_object object)
{
	const struct keyvals *kv = &config->device[at].kv;
	char id[DEVICE_ID_BYTES];
	json_t *out = json_object();

	put_mapped(out, object, kv);
	if (object == VMCONFIG_CONSOLE || object == VMCONFIG_SERIAL)
		put_chardev(out, kv);
	else if (object == VMCONFIG_DISK)
		put_disk(out, kv);
	else if (object == VMCONFIG_NET)
		put_net(out, kv);
	if (vmconfig_find(object, "id")) {
		config_device_id(config, at, id);
		put(out, "id", json_string(id));
	}
	put_defaults(out, object);
	return out;
}

static const struct vmconfig_place *place_of(const char *option)
{
	for (size_t i = 0; i < VMCONFIG_PLACES; i++)
		if (!strcmp(vmconfig_places[i].option, option))
			return &vmconfig_places[i];
	return NULL;
}

static void put_devices(json_t *out, const struct config *config)
{
	for (unsigned i = 0; i < config->ndevices; i++) {
		const char *option = config->device[i].type->option + 2;
		const struct vmconfig_place *place = place_of(option);
		json_t *list = place ? json_object_get(out, place->key) : NULL;

		if (!strcmp(option, "serial") && !json_object_get(out, "serial"))
			put(out, "serial", device_of(config, i, VMCONFIG_SERIAL));
		if (!place || (list && !json_is_array(list)))
			continue; /* a second console or serial port has no field */
		if (vmconfig_find(VMCONFIG_VM, place->key)->kind == KIND_OBJECT) {
			put(out, place->key,
			    device_of(config, i, (enum vmconfig_object)place->object));
			continue;
		}
		if (!list) {
			list = json_array();
			put(out, place->key, list);
		}
		json_array_append_new(list,
				      device_of(config, i, (enum vmconfig_object)place->object));
	}
}

/* Without --serial the port is on the terminal, unless a console is. */
static void put_missing_consoles(json_t *out)
{
	const json_t *console = json_object_get(out, "console");
	bool taken = console && !strcmp(vmconfig_text(console, "mode"), "Tty");

	if (!json_object_get(out, "serial"))
		put(out, "serial", json_pack("{ss}", "mode", taken ? "Off" : "Tty"));
	if (!console)
		put(out, "console", json_pack("{ss}", "mode", "Off"));
}

int vmconfig_resolve_macs(struct config *config, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < config->ndevices; i++) {
		struct keyvals *kv = &config->device[i].kv;
		char text[18];

		if (keys_find(kv->table, "mac") < 0 || keys_text_of(kv, "mac"))
			continue;
		rc = vmconfig_random_mac(text);
		rc = rc ? err_sys(err, -rc, "random address") : keys_set(kv, "mac", text, err);
	}
	return rc;
}

/* thp is what a VmConfig has by default. */
static void put_hugepages(json_t *memory, uint64_t pages)
{
	if (pages == HUGEPAGES_OFF)
		put(memory, "thp", json_false());
	if (pages != HUGEPAGES_2M)
		return;
	put(memory, "hugepages", json_true());
	put(memory, "hugepage_size", json_integer(2 << 20));
}

int vmconfig_from_config(const struct config *config, json_t **out, struct err *err)
{
	json_t *vm = json_object(), *cpus = json_object(), *memory = json_object();
	json_t *payload = json_object();
	uint64_t n = keys_num(&config->vm, CONFIG_CPUS);

	put_mapped(payload, VMCONFIG_PAYLOAD, &config->vm);
	put_mapped(cpus, VMCONFIG_CPUS, &config->vm);
	put(cpus, "max_vcpus", json_integer((json_int_t)n));
	put_mapped(memory, VMCONFIG_MEMORY, &config->vm);
	put_hugepages(memory, keys_num(&config->vm, CONFIG_HUGEPAGES));
	put(vm, "payload", payload);
	put(vm, "cpus", cpus);
	put(vm, "memory", memory);
	put_devices(vm, config);
	put_missing_consoles(vm);
	put_defaults(vm, VMCONFIG_VM);
	vmconfig_order(VMCONFIG_VM, vm);
	*out = vm;
	if (json_object_get(vm, "cpus") && json_object_get(vm, "memory") &&
	    json_object_get(vm, "console"))
		return 0;
	json_decref(vm);
	*out = NULL;
	return err_sys(err, ENOMEM, "the configuration");
}
