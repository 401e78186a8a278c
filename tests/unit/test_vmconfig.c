/*
 * vmconfig: a VmConfig against the tables of fields: what each field refuses, what it means, how it
 * comes back, and the machine that it becomes. The cases for each field are made from the tables.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/vmconfig/vmconfig_impl.h"

static struct err err;
static char warnings[8192];
static unsigned nwarnings;

static void on_warning(void *opaque, const char *text)
{
	size_t len = strlen(warnings);

	snprintf(warnings + len, sizeof(warnings) - len, "%s\n", text);
	nwarnings++;
}

static const struct vmconfig_notes notes = { .warn = on_warning };

static json_t *json(const char *text)
{
	json_t *out;
	int rc = vmconfig_parse_json(text, strlen(text), &out, &err);

	cr_assert_eq(rc, 0, "%s: %s", text, err.text);
	return out;
}

/* Normalises; the result is NULL after an error. */
static int normalise(const json_t *in, json_t **out)
{
	warnings[0] = 0;
	nwarnings = 0;
	memset(&err, 0, sizeof(err));
	return vmconfig_normalise(in, &notes, out, &err);
}

static int normalise_text(const char *text, json_t **out)
{
	json_t *in = json(text);
	int rc = normalise(in, out);

	json_decref(in);
	return rc;
}

static json_t *must(const char *text)
{
	json_t *out;

	cr_assert_eq(normalise_text(text, &out), 0, "%s: %s", text, err.text);
	return out;
}

/* The value at a path such as "disks.0.id", as JSON. The caller frees it. */
static char *at(const json_t *in, const char *path)
{
	char *copy = strdup(path), *rest = copy, *key, *text;

	while (in && (key = strsep(&rest, ".")))
		in = json_is_array(in) ? json_array_get(in, (size_t)atoi(key)) :
					 json_object_get(in, key);
	text = in ? json_dumps(in, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : strdup("-");
	free(copy);
	return text;
}

static void expect_at(const json_t *in, const char *path, const char *want)
{
	char *is = at(in, path);

	cr_expect_str_eq(is, want, "%s is %s, not %s", path, is, want);
	free(is);
}

/* The key of an option of the config's device of that option and number, or "-". */
static const char *key_of(const struct config *config, const char *option, unsigned n,
			  const char *key)
{
	const char *text;

	for (unsigned i = 0; i < config->ndevices; i++) {
		if (strcmp(config->device[i].type->option + 2, option) || n--)
			continue;
		text = keys_text_of(&config->device[i].kv, key);
		return text ? text : "-";
	}
	return "no device";
}

#define SEQUENCE_A                                                                                 \
	"{\"memory\":{\"size\":1073741824,\"shared\":true},"                                       \
	"\"payload\":{\"kernel\":\"/k\",\"initramfs\":\"/i\",\"cmdline\":\"console=ttyS0\"},"      \
	"\"disks\":[{\"path\":\"/root.img\",\"readonly\":false,\"direct\":true},"                  \
	"{\"path\":\"/cidata.img\",\"readonly\":true,\"direct\":true},"                            \
	"{\"path\":\"/data.qcow2\",\"readonly\":false,\"direct\":true},"                           \
	"{\"path\":\"/service.img\",\"readonly\":true,\"direct\":true}],"                          \
	"\"serial\":{\"mode\":\"File\",\"file\":\"/log\"},\"console\":{\"mode\":\"Off\"},"         \
	"\"vsock\":{\"cid\":7,\"socket\":\"/v\"},"                                                 \
	"\"net\":[{\"tap\":\"tap-tngl-4\",\"ip\":\"192.168.100.1\"}]}"

/* Where a console's characters go, in the machine's own keys. */
Test(vmconfig, consoles_are_mapped)
{
	static const struct {
		const char *console, *sink, *tty, *file, *append, *socket;
	} row[] = {
		{ "{\"mode\":\"Tty\"}", "stdio", "on", "-", "-", "-" },
		{ "{\"mode\":\"Null\"}", "null", "-", "-", "-", "-" },
		{ "{\"mode\":\"Pty\"}", "pty", "-", "-", "-", "-" },
		{ "{\"mode\":\"File\",\"file\":\"/f\"}", "-", "-", "/f", "on", "-" },
		{ "{\"mode\":\"Socket\",\"socket\":\"/s\"}", "-", "-", "-", "-", "/s" },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct config config;
		char text[200];
		json_t *vm;

		snprintf(text, sizeof(text), "{\"payload\":{\"kernel\":\"/k\"},\"console\":%s}",
			 row[i].console);
		vm = must(text);
		cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
		cr_expect_str_eq(key_of(&config, "console", 0, "sink"), row[i].sink);
		cr_expect_str_eq(key_of(&config, "console", 0, "tty"), row[i].tty);
		cr_expect_str_eq(key_of(&config, "console", 0, "file"), row[i].file);
		cr_expect_str_eq(key_of(&config, "console", 0, "append"), row[i].append);
		cr_expect_str_eq(key_of(&config, "console", 0, "socket"), row[i].socket);
		config_clear(&config);
		json_decref(vm);
	}
}

Test(vmconfig, sequence_a)
{
	json_t *vm = must(SEQUENCE_A);
	struct config config;

	cr_expect_eq(nwarnings, 0, "%s", warnings);
	expect_at(vm, "cpus", "{\"boot_vcpus\":1,\"kvm_hyperv\":false,\"max_vcpus\":1}");
	expect_at(vm, "memory.size", "1073741824");
	expect_at(vm, "memory.shared", "true");
	expect_at(vm, "disks.0.id", "\"_disk0\"");
	expect_at(vm, "disks.3.id", "\"_disk3\"");
	expect_at(vm, "net.0.id", "\"_net4\"");
	expect_at(vm, "net.0.mask", "\"255.255.255.0\"");
	expect_at(vm, "net.0.num_queues", "2");
	expect_at(vm, "vsock.id", "\"_vsock5\"");
	expect_at(vm, "rng", "{\"id\":\"__rng\",\"iommu\":false,\"src\":\"/dev/urandom\"}");
	expect_at(vm, "serial", "{\"file\":\"/log\",\"mode\":\"File\"}");
	expect_at(vm, "console.mode", "\"Off\"");
	cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "/k");
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_INITRD), "/i");
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_CMDLINE), "console=ttyS0");
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 1 << 30);
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 1);
	cr_expect_str_eq(key_of(&config, "serial", 0, "file"), "/log");
	cr_expect_str_eq(key_of(&config, "serial", 0, "append"), "on");
	cr_expect_str_eq(key_of(&config, "console", 0, "sink"), "no device");
	cr_expect_str_eq(key_of(&config, "disk", 1, "path"), "/cidata.img");
	cr_expect_str_eq(key_of(&config, "disk", 1, "ro"), "on");
	cr_expect_str_eq(key_of(&config, "disk", 0, "direct"), "on");
	cr_expect_str_eq(key_of(&config, "disk", 0, "queue-size"), "128");
	cr_expect_str_eq(key_of(&config, "net", 0, "tap"), "tap-tngl-4");
	cr_expect_str_eq(key_of(&config, "net", 0, "ip"), "192.168.100.1");
	cr_expect_str_eq(key_of(&config, "vsock", 0, "cid"), "7");
	cr_expect_str_eq(key_of(&config, "rng", 0, "source"), "/dev/urandom");
	cr_expect_str_eq(config.device[0].id, "__serial");
	cr_expect_str_eq(config.device[4].id, "_disk3");
	cr_expect_str_eq(config.device[5].id, "_net4");
	cr_expect(config.memory.shared);
	config_clear(&config);
	json_decref(vm);
}

/* --- each field, from its table ----------------------------------------------------------------- */

/* A value that the field accepts, for the objects below; NULL: no single one. */
static json_t *good_value(const struct vmconfig_field *f)
{
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
	case KIND_BYTES:
		return json_integer(f->flags & FIELD_PAGES  ? 64 << 20 :
				    f->min		    ? (json_int_t)f->min :
				    f->flags & FIELD_POWER2 ? 2 << 20 :
							      0);
	case KIND_BOOL:
		return json_false();
	case KIND_ENUM:
		return json_stringn(f->choices, strcspn(f->choices, "|"));
	case KIND_UUID:
		return json_string("123e4567-e89b-12d3-a456-426614174000");
	case KIND_IP:
		return json_string("10.0.0.1");
	case KIND_MAC:
		return json_string("02:00:00:00:00:01");
	case KIND_TEXTS:
	case KIND_OBJECTS:
	case KIND_LIST:
		return json_array();
	case KIND_UINTS:
		return json_pack("[i]", 0);
	case KIND_ANY:
		return json_object();
	case KIND_OBJECT:
	case KIND_NONE:
		return NULL;
	default:
		return json_string("x");
	}
}

/* An object with all of its required fields. */
static json_t *required(enum vmconfig_object object)
{
	json_t *out = json_object();

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++)
		if (f->flags & FIELD_REQUIRED)
			json_object_set_new(out, f->key,
					    f->kind == KIND_OBJECT ? json_object() : good_value(f));
	if (object == VMCONFIG_DISK)
		json_object_set_new(out, "path", json_string("/disk"));
	if (object == VMCONFIG_VM)
		json_object_set_new(out, "payload", json_pack("{ss}", "kernel", "/k"));
	return out;
}

static int check(enum vmconfig_object object, const json_t *in, json_t **out)
{
	if (object == VMCONFIG_VM)
		return normalise(in, out);
	memset(&err, 0, sizeof(err));
	return vmconfig_check_object(object, in, &notes, out, &err);
}

/* Checks that the field refuses the value, with a line that begins with its name. Frees value. */
static void refuses(enum vmconfig_object object, const struct vmconfig_field *f, json_t *value)
{
	json_t *in = required(object), *out;
	char *text = json_dumps(value, JSON_ENCODE_ANY);
	int rc;

	json_object_set_new(in, f->key, value);
	rc = check(object, in, &out);
	cr_expect_eq(rc, -EINVAL, "%s.%s: %s: %d: %s", vmconfig_object_name(object), f->key, text,
		     rc, err.text);
	cr_expect_null(out);
	cr_expect_eq(strncmp(err.text, f->key, strlen(f->key)), 0, "%s.%s: %s",
		     vmconfig_object_name(object), f->key, err.text);
	json_decref(in);
	free(text);
}

static bool is_text(const struct vmconfig_field *f)
{
	return f->kind >= KIND_TEXT && f->kind <= KIND_ENUM;
}

static void try_field(enum vmconfig_object object, const struct vmconfig_field *f)
{
	bool number = f->kind == KIND_UINT || f->kind == KIND_BYTES;

	if (f->kind == KIND_ANY)
		return;
	if (!is_text(f)) {
		refuses(object, f, json_string("1"));
		refuses(object, f, json_string(""));
	}
	if (!number) {
		refuses(object, f, json_integer(-1));
		refuses(object, f, json_integer(77));
	}
	if (f->kind != KIND_OBJECT)
		refuses(object, f, json_object());
	if (f->kind < KIND_OBJECTS)
		refuses(object, f, json_array());
	if (f->kind != KIND_BOOL) {
		refuses(object, f, json_true());
		refuses(object, f, json_false());
	}
	refuses(object, f, json_real(1.0));
	if (number) {
		refuses(object, f, json_integer(-1));
		refuses(object, f, json_integer(INT64_MIN));
		if (f->max && f->max < INT64_MAX)
			refuses(object, f, json_integer((json_int_t)f->max + 1));
		if (f->min)
			refuses(object, f, json_integer((json_int_t)f->min - 1));
		if (f->flags & FIELD_POWER2)
			refuses(object, f, json_integer((json_int_t)(f->min ? f->min : 4) * 3));
	}
	if (is_text(f) && f->kind != KIND_TEXT)
		refuses(object, f, json_string(""));
	if (f->kind == KIND_ENUM)
		refuses(object, f, json_string("Raw|Qcow2"));
	if (is_text(f) && f->max) {
		char *text = calloc(1, f->max + 2);

		memset(text, 'x', f->max + 1);
		refuses(object, f, json_string(text));
		free(text);
	}
}

/* Null is as absent. */
static void try_null(enum vmconfig_object object, const struct vmconfig_field *f)
{
	json_t *in = required(object), *out, *plain;
	bool needed = json_object_get(in, f->key);

	if (f->flags & FIELD_REQUIRED) {
		refuses(object, f, json_null());
	} else if (!needed && object != VMCONFIG_NET) { /* a card's address is random */
		cr_expect_eq(check(object, in, &plain), 0, "%s", err.text);
		json_object_set_new(in, f->key, json_null());
		cr_expect_eq(check(object, in, &out), 0, "%s", err.text);
		cr_expect(json_equal(out, plain), "%s.%s: null", vmconfig_object_name(object),
			  f->key);
		json_decref(out);
		json_decref(plain);
	}
	json_decref(in);
}

Test(vmconfig, each_field)
{
	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++) {
		for (const struct vmconfig_field *f = vmconfig_fields(o); f->kind != KIND_NONE;
		     f++) {
			try_field(o, f);
			try_null(o, f);
		}
	}
}

/* A default passes its own field's check and comes back as the table has it. */
Test(vmconfig, defaults)
{
	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++) {
		json_t *in = required(o), *out;

		cr_assert_eq(check(o, in, &out), 0, "%s: %s", vmconfig_object_name(o), err.text);
		for (const struct vmconfig_field *f = vmconfig_fields(o); f->kind != KIND_NONE;
		     f++) {
			if (!*f->def || !strcmp(f->def, "{}") || json_object_get(in, f->key))
				continue;
			expect_at(out, f->key, f->def);
		}
		json_decref(in);
		json_decref(out);
	}
}

/* A field that is ignored warns with its path, once; a refused one is refused. */
Test(vmconfig, no_effect)
{
	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++) {
		for (const struct vmconfig_field *f = vmconfig_fields(o); f->kind != KIND_NONE;
		     f++) {
			json_t *in, *out, *value = NULL;

			if (!(f->flags & (FIELD_IGNORED | FIELD_REFUSED)) ||
			    f->kind == KIND_OBJECTS)
				continue;
			if (f->kind == KIND_BOOL)
				value = json_true();
			else if (f->kind == KIND_LIST)
				value = json_pack("[{}]");
			else if (f->kind == KIND_ANY)
				value = json_pack("{sb}", "x", 1);
			else if (f->kind == KIND_ENUM)
				value = json_string(strrchr(f->choices, '|') + 1);
			else if (is_text(f))
				value = json_string("x");
			else
				value = json_integer(f->min ? (json_int_t)f->min : 7);
			in = required(o);
			json_object_set_new(in, f->key, value);
			warnings[0] = 0;
			nwarnings = 0;
			if (f->flags & FIELD_REFUSED) {
				cr_expect_eq(check(o, in, &out), -ENOTSUP, "%s", err.text);
				cr_expect(strstr(err.text, f->help), "%s", err.text);
			} else {
				bool needs_file = f->kind == KIND_ENUM && !strcmp(f->key, "mode");

				cr_expect_eq(check(o, in, &out), 0, "%s: %s", f->key, err.text);
				cr_expect(needs_file || nwarnings == 1, "%s: %s", f->key, warnings);
				cr_expect_eq(strncmp(warnings, f->key, strlen(f->key)), 0, "%s",
					     warnings);
				cr_expect(json_equal(json_object_get(out, f->key), value));
				json_decref(out);
			}
			json_decref(in);
		}
	}
}

/* --- whole configurations ------------------------------------------------------------------------ */

#define K "\"payload\":{\"kernel\":\"/k\"}"

static const struct bad {
	const char *json;
	int rc;
	const char *says; /* a part of the line */
} bad[] = {
	{ "[]", -EINVAL, "a list: must be an object" },
	{ "null", -EINVAL, "null: must be an object" },
	{ "{}", -EINVAL, "payload.kernel: is missing, and there is no disk to boot from" },
	{ "{\"payload\":{\"kernel\":5}}", -EINVAL, "payload.kernel: 5: must be a text" },
	{ "{\"payload\":{\"firmware\":\"/f\"}}", -ENOTSUP,
	  "payload.firmware: \"/f\": bantam does not have this: boot a kernel" },
	{ "{\"payload\":{\"initramfs\":\"/i\"},\"disks\":[{\"path\":\"/d\"}]}", -EINVAL,
	  "payload.initramfs: needs payload.kernel" },
	{ "{\"kernel\":{\"path\":\"/a\"}," K "}", -EINVAL, "kernel: differs from payload.kernel" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":1}}", -EINVAL,
	  "cpus.boot_vcpus: 2: max_vcpus is only 1" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":255}}", -EINVAL,
	  "cpus.boot_vcpus: 255: must be a whole number from 1 to 254" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":1.5}}", -EINVAL, "cpus.boot_vcpus: 1.5: must be" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":4,\"topology\":{\"threads_per_core\":2}}}", -EINVAL,
	  "cpus.topology: its numbers multiply to 2; max_vcpus is 4" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":2,\"affinity\":[{\"vcpu\":2,\"host_cpus\":[0]}]}}",
	  -EINVAL, "cpus.affinity[0].vcpu: 2: max_vcpus is 2" },
	{ "{" K
	  ",\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[0]},{\"vcpu\":0,\"host_cpus\":[1]}]}}",
	  -EINVAL, "cpus.affinity[1].vcpu: 0: is twice" },
	{ "{" K ",\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[]}]}}", -EINVAL, "is empty" },
	{ "{" K ",\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[0,\"1\"]}]}}", -EINVAL,
	  "cpus.affinity[0].host_cpus[1]: \"1\": must be a whole number from 0 to 8191" },
	{ "{" K ",\"memory\":{\"size\":1000}}", -EINVAL,
	  "memory.size: 1000: must be a multiple of 4096 bytes (a page)" },
	{ "{" K ",\"memory\":{\"size\":0}}", -EINVAL,
	  "memory.size: 0 bytes: must be from 4194304 to" },
	{ "{" K ",\"memory\":{\"size\":4096}}", -EINVAL, "memory.size: 4096 bytes: must be from" },
	{ "{" K ",\"memory\":{\"size\":9223372036854775807}}", -EINVAL,
	  "memory.size: 9223372036854775807: must be a whole number from 0 to 4398046511104" },
	{ "{" K ",\"memory\":{\"size\":8388608,\"zones\":[{\"id\":\"a\",\"size\":8388608}]}}",
	  -EINVAL, "memory.size: 8388608: must be 0 with zones" },
	{ "{" K
	  ",\"memory\":{\"zones\":[{\"id\":\"a\",\"size\":8388608},{\"id\":\"a\",\"size\":8388608}]}}",
	  -EEXIST, "memory.zones[1].id: \"a\": another zone has this id" },
	{ "{" K ",\"memory\":{\"hugepage_size\":2097152}}", -EINVAL, "needs hugepages" },
	{ "{" K ",\"memory\":{\"size\":5242880,\"hugepages\":true,\"hugepage_size\":2097152}}",
	  -EINVAL, "must be a multiple of hugepage_size" },
	{ "{" K ",\"disks\":[{}]}", -EINVAL, "disks[0].path: is missing" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\"},5]}", -EINVAL, "disks[1]: 5: must be an object" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"serial\":\"123456789012345678901\"}]}", -EINVAL,
	  "disks[0].serial: \"123456789012345678901\": must be a text of at most 20 bytes" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"image_type\":\"Vhdx\"}]}", -ENOTSUP,
	  "disks[0].image_type: Vhdx" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"queue_size\":100}]}", -EINVAL,
	  "disks[0].queue_size: 100: must be a power of two" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"block_size\":1024}]}", -EINVAL,
	  "disks[0].block_size: 1024: must be 512 or 4096" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"iommu\":true}]}", -ENOTSUP,
	  "disks[0].iommu: true: bantam does not have this" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"vhost_user\":true,\"vhost_socket\":\"/s\"}]}",
	  -EINVAL, "disks[0].path: goes without vhost_user" },
	{ "{" K ",\"disks\":[{\"vhost_user\":true}]}", -EINVAL,
	  "disks[0].vhost_socket: is missing" },
	{ "{" K ",\"disks\":[{\"vhost_user\":true,\"vhost_socket\":\"/s\",\"readonly\":true}]}",
	  -EINVAL,
	  "disks[0]: --disk: serial, ro, direct and block-size cannot be used with vhost-user" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"rate_limit_group\":\"g\"}]}", -EINVAL,
	  "disks[0].rate_limit_group: \"g\": rate_limit_groups has no such id" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"rate_limiter_config\":{\"ops\":{\"size\":5}}}]}",
	  -EINVAL, "disks[0].rate_limiter_config.ops.refill_time: is missing" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"pci_segment\":1}]}", -EINVAL,
	  "disks[0].pci_segment: 1: platform.num_pci_segments is 1" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"id\":\"x\"},{\"path\":\"/b\",\"id\":\"x\"}]}",
	  -EEXIST, "disks[1].id: \"x\": another device has this id" },
	{ "{" K
	  ",\"disks\":[{\"path\":\"/a\",\"id\":\"x\"}],\"vsock\":{\"id\":\"x\",\"cid\":3,\"socket\":\"/s\"}}",
	  -EEXIST, "vsock.id: \"x\": another device" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"id\":\"__rng\"}]}", -EINVAL,
	  "disks[0].id: \"__rng\": names that begin with __" },
	{ "{" K
	  ",\"disks\":[{\"path\":\"/a\",\"pci_device_id\":3},{\"path\":\"/b\",\"pci_device_id\":3}]}",
	  -EEXIST, "disks[1].pci_device_id: 3: another device has this slot" },
	{ "{" K ",\"rng\":{\"id\":\"__balloon\"}}", -EINVAL, "rng.id: \"__balloon\": names" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"id\":\"a b\"}]}", -EINVAL, "disks[0].id: \"a b\"" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"id\":\"{\"}]}", -EINVAL, "disks[0].id: \"{\"" },
	{ "{" K ",\"net\":[{\"mask\":\"255.255.0.0\"}]}", -EINVAL,
	  "net[0].mask: \"255.255.0.0\": needs ip" },
	{ "{" K ",\"net\":[{\"ip\":\"10.0.0.1\",\"mask\":\"255.0.255.0\"}]}", -EINVAL,
	  "net[0].mask: \"255.0.255.0\": is no mask of 10.0.0.1" },
	{ "{" K ",\"net\":[{\"ip\":\"fd00::1\",\"mask\":\"255.0.0.0\"}]}", -EINVAL,
	  "is no mask of fd00::1" },
	{ "{" K ",\"net\":[{\"ip\":\"10.0.0.1/24\"}]}", -EINVAL,
	  "net[0].ip: \"10.0.0.1/24\": must be an address" },
	{ "{" K ",\"net\":[{\"mac\":\"01:00:00:00:00:01\"}]}", -EINVAL, "net[0].mac" },
	{ "{" K ",\"net\":[{\"mac\":\"00:00:00:00:00:00\"}]}", -EINVAL, "net[0].mac" },
	{ "{" K ",\"net\":[{\"mac\":\"02:00:00:00:00\"}]}", -EINVAL, "net[0].mac" },
	{ "{" K ",\"net\":[{\"tap\":\"x%d\"}]}", -EINVAL, "net[0].tap: \"x%d\": not the name" },
	{ "{" K ",\"memory\":{\"size\":9223372036854775808}}", -EINVAL,
	  "memory.size: 9.2233720368547758e+18: must be" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":1000000000000000000000000000000}}", -EINVAL,
	  "cpus.boot_vcpus: 1e+30: must be" },
	{ "{" K ",\"metadata\":9223372036854775807,\"memory\":{\"size\":-9223372036854775809}}",
	  -EINVAL, "memory.size: -9.2233720368547758e+18" },
	{ "{" K ",\"net\":[{\"num_queues\":3}]}", -EINVAL, "net[0].num_queues: 3: must be even" },
	{ "{" K ",\"net\":[{\"tap\":\"sixteen-letters.\"}]}", -EINVAL, "net[0].tap" },
	{ "{" K ",\"net\":[{\"tap\":\"a/b\"}]}", -EINVAL, "net[0].tap: \"a/b\"" },
	{ "{" K ",\"net\":[{\"tap\":\"..\"}]}", -EINVAL, "net[0].tap: \"..\"" },
	{ "{" K ",\"net\":[{\"tap\":\"a b\"}]}", -EINVAL, "net[0].tap: \"a b\"" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"stream\":\"/s\"}]}", -EINVAL,
	  "net[0].stream: a card has one network; it has tap already" },
	{ "{" K ",\"net\":[{\"user\":{},\"ip\":\"10.0.0.1\"}]}", -EINVAL,
	  "net[0].ip: is an address on a tap" },
	{ "{" K ",\"platform\":{\"oem_strings\":[\"a\",\"\"]}}", -EINVAL,
	  "platform.oem_strings[1]: \"\"" },
	{ "{" K ",\"balloon\":{\"size\":1073741824}}", -EINVAL,
	  "balloon.size: 1073741824: the guest has only 536870912 bytes" },
	{ "{" K ",\"fs\":[{\"tag\":\"t\"}]}", -EINVAL, "fs[0].socket: is missing" },
	{ "{" K ",\"vsock\":{\"cid\":2,\"socket\":\"/s\"}}", -EINVAL,
	  "vsock.cid: 2: must be a whole number from 3" },
	{ "{" K ",\"vsock\":{\"cid\":4294967295,\"socket\":\"/s\"}}", -EINVAL,
	  "vsock.cid: 4294967295" },
	{ "{" K ",\"vsock\":{\"cid\":3}}", -EINVAL, "vsock.socket: is missing" },
	{ "{" K ",\"serial\":{\"mode\":\"File\"}}", -EINVAL, "serial.file: is missing" },
	{ "{" K ",\"console\":{\"mode\":\"Socket\"}}", -EINVAL, "console.socket: is missing" },
	{ "{" K ",\"serial\":{\"mode\":\"Tty\"}}", -EINVAL, "set console.mode to Off" },
	{ "{" K ",\"serial\":{\"mode\":\"tty\"}}", -EINVAL,
	  "serial.mode: \"tty\": must be one of Off|Null|Pty|Tty|File|Socket" },
	{ "{" K ",\"platform\":{\"uuid\":\"x\"}}", -EINVAL,
	  "platform.uuid: \"x\": must be a UUID" },
	{ "{" K ",\"platform\":{\"serial_number\":\"a\",\"system_serial_number\":\"b\"}}", -EINVAL,
	  "platform.system_serial_number: differs from serial_number" },
	{ "{" K ",\"pmem\":[{\"file\":\"/p\"}]}", -ENOTSUP,
	  "pmem: a list: bantam does not have this" },
	{ "{" K ",\"devices\":[{\"path\":\"/p\"}]}", -ENOTSUP, "devices" },
	{ "{" K ",\"tpm\":{\"socket\":\"/p\"}}", -ENOTSUP, "tpm" },
	{ "{" K
	  ",\"rate_limit_groups\":[{\"id\":\"a\",\"rate_limiter_config\":{}},{\"id\":\"a\",\"rate_limiter_config\":{}}]}",
	  -EEXIST, "rate_limit_groups[1].id: \"a\": another group" },
};

Test(vmconfig, bad)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *out;
		int rc = normalise_text(bad[i].json, &out);

		cr_expect_eq(rc, bad[i].rc, "%s: %d, not %d: %s", bad[i].json, rc, bad[i].rc,
			     err.text);
		cr_expect_null(out);
		json_decref(out);
		cr_expect(strstr(err.text, bad[i].says), "%s: %s", bad[i].json, err.text);
	}
}

static const struct good {
	const char *json;
	const char *path, *value; /* of the result */
	const char *warns;	  /* a part of the only warning, or NULL: none */
} good[] = {
	{ "{" K "}", "memory.size", "536870912" },
	{ "{" K "}", "memory.thp", "true" },
	{ "{" K "}", "console.mode", "\"Tty\"" },
	{ "{" K "}", "console.id", "\"__console\"" },
	{ "{" K "}", "serial.mode", "\"Null\"" },
	{ "{" K "}", "disks", "[]" },
	{ "{" K "}", "net", "[]" },
	{ "{" K "}", "pvpanic", "false" },
	{ "{" K "}", "balloon", "-" },
	{ "{\"disks\":[{\"path\":\"/d\"}]}", "disks.0.num_queues", "1" },
	{ "{\"kernel\":{\"path\":\"/a\"},\"cmdline\":{\"args\":\"x\"},\"initramfs\":{\"path\":\"/b\"}}",
	  "payload", "{\"cmdline\":\"x\",\"initramfs\":\"/b\",\"kernel\":\"/a\"}" },
	{ "{\"kernel\":{\"path\":\"/a\"},\"initramfs\":null,\"cmdline\":{\"args\":\"\"}}", "kernel",
	  "-" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":3}}", "cpus.max_vcpus", "3" },
	{ "{" K ",\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":4}}", "cpus.max_vcpus", "4",
	  "cpus.max_vcpus: 4: has no effect" },
	{ "{" K
	  ",\"cpus\":{\"boot_vcpus\":8,\"topology\":{\"threads_per_core\":2,\"cores_per_die\":2,\"dies_per_package\":1,\"packages\":2}}}",
	  "cpus.topology.packages", "2" },
	{ "{" K ",\"cpus\":{\"nested\":true}}", "cpus.nested", "true",
	  "cpus.nested: true: has no effect" },
	{ "{" K ",\"memory\":{\"hotplug_size\":1073741824}}", "memory.hotplug_size", "1073741824",
	  "memory.hotplug_size: 1073741824: has no effect" },
	{ "{" K
	  ",\"memory\":{\"size\":0,\"zones\":[{\"id\":\"a\",\"size\":8388608},{\"id\":\"b\",\"size\":4096}]}}",
	  "memory.zones.1.size", "4096" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"image_type\":\"Unknown\"}]}", "disks.0.image_type",
	  "\"Unknown\"" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"num_queues\":64}]}", "disks.0.num_queues", "64",
	  "disks[0].num_queues: 64: the device gets 16" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"foo\":1}]}", "disks.0.foo", "-",
	  "disks[0].foo: unknown field" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"read_only\":true}]}", "disks.0.readonly", "false",
	  "disks[0].read_only: unknown field, ignored; did you mean \"readonly\"?" },
	{ "{" K ",\"x\":{\"y\":[1,2]}}", "x", "-", "x: unknown field" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"ip\":\"10.1.2.3\"}]}", "net.0.mask",
	  "\"255.255.255.0\"" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"ip\":\"fd00::1\"}]}", "net.0.mask",
	  "\"ffff:ffff:ffff:ffff::\"" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"ip\":\"10.1.2.3\",\"mask\":\"255.0.0.0\"}]}",
	  "net.0.mask", "\"255.0.0.0\"" },
	{ "{" K ",\"net\":[{\"mac\":\"52:54:00:AB:cd:ef\",\"tap\":\"t\"}]}", "net.0.mac",
	  "\"52:54:00:AB:cd:ef\"" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"fds\":[3,4]}]}", "net.0.fds", "-",
	  "net[0].fds: ignored" },
	{ "{" K ",\"net\":[{\"tap\":\"t\",\"fds\":[]}]}", "net.0.fds", "-" },
	{ "{" K
	  ",\"disks\":[{\"path\":\"/a\",\"id\":\"_disk1\"},{\"path\":\"/b\"}],\"net\":[{\"tap\":\"t\"}]}",
	  "net.0.id", "\"_net1\"" },
	{ "{" K ",\"disks\":[{\"path\":\"/a\",\"id\":\"_disk0\"},{\"path\":\"/b\"}]}", "disks.1.id",
	  "\"_disk1\"" },
	{ "{" K
	  ",\"rng\":{\"id\":\"__rng\"},\"balloon\":{\"id\":\"__balloon\"},\"console\":{\"id\":\"__console\"}}",
	  "balloon.id", "\"__balloon\"" },
	{ "{" K
	  ",\"platform\":{\"num_pci_segments\":2},\"net\":[{\"tap\":\"t\",\"pci_segment\":1}]}",
	  "net.0.pci_segment", "1", "net[0].pci_segment: 1: the device is on segment 0" },
	{ "{" K ",\"serial\":{\"mode\":\"Pty\",\"file\":\"/dev/pts/3\"}}", "serial.file", "-" },
	{ "{" K ",\"serial\":{\"mode\":\"Tty\"},\"console\":{\"mode\":\"Off\"}}", "console.id",
	  "-" },
	{ "{" K ",\"pmem\":[],\"devices\":null,\"iommu\":false}", "iommu", "false" },
	{ "{" K ",\"metadata\":{\"a\":[1,2.5,null]}}", "metadata", "{\"a\":[1,2.5,null]}" },
	{ "{" K ",\"debug_console\":{\"mode\":\"Off\"}}", "debug_console.mode", "\"Off\"" },
	{ "{" K
	  ",\"rate_limit_groups\":[{\"id\":\"g\",\"rate_limiter_config\":{\"ops\":{\"size\":5,\"refill_time\":100}}}],"
	  "\"disks\":[{\"path\":\"/a\",\"rate_limit_group\":\"g\"}]}",
	  "disks.0.rate_limit_group", "\"g\"" },
};

/* The order is the same, too. */
static void expect_same_bytes(const json_t *a, const json_t *b)
{
	char *one = json_dumps(a, JSON_COMPACT), *two = json_dumps(b, JSON_COMPACT);

	cr_expect_str_eq(one, two);
	free(one);
	free(two);
}

/* What vm.info shows makes the same machine: a second pass changes nothing and warns of the same. */
static void expect_same_again(const json_t *vm, unsigned most_warnings)
{
	json_t *again;

	cr_assert_eq(normalise(vm, &again), 0, "%s", err.text);
	expect_same_bytes(vm, again);
	cr_expect_leq(nwarnings, most_warnings, "%s", warnings);
	json_decref(again);
}

Test(vmconfig, good)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		json_t *vm = must(good[i].json);

		expect_at(vm, good[i].path, good[i].value);
		cr_expect_eq(nwarnings, good[i].warns != NULL, "%s: %s", good[i].json, warnings);
		cr_expect(!good[i].warns || strstr(warnings, good[i].warns), "%s: %s", good[i].json,
			  warnings);
		expect_same_again(vm, nwarnings);
		json_decref(vm);
	}
}

/* What has no option of bantam run. */
Test(vmconfig, machine)
{
	json_t *vm = must(
		"{" K
		",\"cpus\":{\"boot_vcpus\":4,\"topology\":{\"threads_per_core\":2,\"packages\":2},"
		"\"affinity\":[{\"vcpu\":3,\"host_cpus\":[1,5]}]},"
		"\"memory\":{\"thp\":false,\"zones\":[{\"id\":\"a\",\"size\":8388608,\"shared\":true},"
		"{\"id\":\"b\",\"size\":4194304,\"mergeable\":true,\"hugepages\":true,\"hugepage_size\":2097152}]},"
		"\"platform\":{\"system_serial_number\":\"s\",\"uuid\":\"123e4567-e89b-12d3-a456-426614174000\","
		"\"oem_strings\":[\"a\",\"b\"],\"chassis_asset_tag\":\"t\",\"system_family\":\"\"}}");
	struct config c;

	cr_assert_eq(vmconfig_to_config(vm, &c, &err), 0, "%s", err.text);
	cr_expect_eq(keys_num(&c.vm, CONFIG_MEMORY), 12 << 20);
	cr_expect_eq(keys_num(&c.vm, CONFIG_CPUS), 4);
	cr_expect(c.memory.shared && c.memory.mergeable && c.memory.hugepages && c.memory.no_thp);
	cr_expect_eq(c.memory.hugepage_bytes, 2 << 20);
	cr_expect_not(c.memory.prefault);
	cr_expect_eq(c.cpus.threads_per_core, 2);
	cr_expect_eq(c.cpus.dies_per_package, 1);
	cr_expect_eq(c.cpus.packages, 2);
	cr_assert_eq(c.cpus.naffinity, 1);
	cr_expect_eq(c.cpus.affinity[0].vcpu, 3);
	cr_expect_eq(c.cpus.affinity[0].nhost_cpus, 2);
	cr_expect_eq(c.cpus.affinity[0].host_cpu[1], 5);
	cr_expect_str_eq(c.platform.serial_number, "s");
	cr_expect_str_eq(c.platform.uuid, "123e4567-e89b-12d3-a456-426614174000");
	cr_expect_str_eq(c.platform.chassis_asset_tag, "t");
	cr_expect_null(c.platform.family);
	cr_assert_eq(c.platform.noem_strings, 2);
	cr_expect_str_eq(c.platform.oem_string[1], "b");
	config_clear(&c);
	json_decref(vm);
}

/* --- where values go ----------------------------------------------------------------------------- */

#define DAEMON "\"vhost_user\":true,\"vhost_socket\":\"/s\""
#define BYTES(size, ms)                                                                            \
	"\"rate_limiter_config\":{\"bandwidth\":{\"size\":" size ",\"refill_time\":" ms "}}"
#define OPS(size, ms) "\"rate_limiter_config\":{\"ops\":{\"size\":" size ",\"refill_time\":" ms "}}"

static const struct {
	const char *list, *device; /* of a VmConfig */
	const char *option, *key, *value;
} mapped[] = {
	{ "net", "{}", "net", "tap", "vmtap%d" },
	{ "net", "{}", "net", "queues", "1" },
	{ "net", "{\"tap\":\"t\",\"num_queues\":64}", "net", "queues", "16" },
	{ "net", "{\"tap\":\"t\",\"host_mac\":\"02:00:00:00:00:09\"}", "net", "host-mac",
	  "02:00:00:00:00:09" },
	{ "net", "{\"tap\":\"t\",\"offload_tso\":false}", "net", "offload-tso", "off" },
	{ "net", "{\"tap\":\"t\",\"offload_tso\":false}", "net", "offload-csum", "on" },
	{ "net", "{\"tap\":\"t\",\"mtu\":9000,\"queue_size\":4096}", "net", "mtu", "9000" },
	{ "net", "{\"tap\":\"t\",\"queue_size\":4096}", "net", "queue-size", "1024" },
	{ "net", "{" DAEMON ",\"vhost_mode\":\"Server\"}", "net", "vhost-mode", "server" },
	{ "net", "{" DAEMON ",\"num_queues\":4}", "net", "vhost-user", "/s" },
	{ "net", "{" DAEMON ",\"num_queues\":4}", "net", "queues", "2" },
	{ "net", "{\"stream\":\"/s\"}", "net", "stream", "/s" },
	{ "net", "{\"stream\":\"/s\"}", "net", "queues", "-" },
	{ "net", "{\"stream\":\"/s\"}", "net", "tap", "-" },
	{ "net", "{\"vhost_mode\":\"Server\"}", "net", "vhost-mode", "client" },
	{ "net", "{\"ip\":\"10.0.0.1\"}", "net", "tap", "vmtap%d" },
	{ "net", "{\"offload_ufo\":false}", "net", "offload-ufo", "off" },
	{ "net", "{\"offload_csum\":false}", "net", "offload-csum", "off" },
	{ "net", "{\"user\":{\"hostfwd\":[\"tcp::1-2\",\"tcp::3-4\"]}}", "net", "hostfwd",
	  "tcp::1-2,tcp::3-4" },
	{ "net", "{\"user\":{}}", "net", "user", "on" },
	{ "net", "{\"user\":{}}", "net", "host-loopback", "off" },
	{ "net", "{\"user\":{\"host_loopback\":true}}", "net", "host-loopback", "on" },
	{ "net", "{\"tap\":\"t\"," BYTES("1000", "100") "}", "net", "rate-bucket", "1000:100:0" },
	{ "net", "{\"tap\":\"t\"," OPS("1000", "100") "}", "net", "ops-bucket", "1000:100:0" },
	{ "disks", "{\"path\":\"/a\",\"image_type\":\"Raw\"}", "disk", "format", "raw" },
	{ "disks", "{\"path\":\"/a\",\"image_type\":\"Unknown\"}", "disk", "format", "auto" },
	{ "disks", "{\"path\":\"/a\",\"disable_io_uring\":true}", "disk", "engine", "threads" },
	{ "disks", "{\"path\":\"/a\",\"serial\":\"\"}", "disk", "serial", "-" },
	{ "disks", "{\"path\":\"/a\",\"num_queues\":65535}", "disk", "queues", "16" },
	{ "disks", "{" DAEMON "}", "disk", "vhost-user", "/s" },
	{ "disks", "{\"path\":\"/a\"," BYTES("1", "100000") "}", "disk", "rate-bucket",
	  "1:100000:0" },
	{ "disks",
	  "{\"path\":\"/a\",\"rate_limiter_config\":{\"ops\":{\"size\":5,\"refill_time\":7,"
	  "\"one_time_burst\":9}}}",
	  "disk", "ops-bucket", "5:7:9" },
	{ "disks", "{\"path\":\"/a\"," BYTES("0", "100") "}", "disk", "rate-bucket", "-" },
	{ "disks", "{\"path\":\"/a\"," BYTES("9223372036854775807", "1") "}", "disk", "rate-bucket",
	  "9223372036854775807:1:0" },
	{ "disks",
	  "{\"path\":\"/a\",\"rate_limit_group\":\"g\"}],\"rate_limit_groups\":[{\"id\":\"g\"," OPS(
		  "5", "7") "}",
	  "disk", "rate-group", "g" },
	{ "disks",
	  "{\"path\":\"/a\",\"rate_limit_group\":\"g\"}],\"rate_limit_groups\":[{\"id\":\"g\"," OPS(
		  "5", "7") "}",
	  "disk", "ops-bucket", "5:7:0" },
	{ "disks", "{\"path\":\"/a\"}", "disk", "backing", "off" },
	{ "disks", "{\"path\":\"/a\",\"backing_files\":true}", "disk", "backing", "on" },
	{ "disks", "{\"path\":\"/a\",\"block_size\":4096}", "disk", "block-size", "4096" },
	{ "disks", "{\"path\":\"/a\",\"block_size\":512}", "disk", "block-size", "512" },
	{ "disks", "{\"path\":\"/a\"}", "disk", "block-size", "auto" },
	{ "disks", "{\"path\":\"/a\"}", "disk", "vmconfig", "on" },
	{ "fs", "{\"tag\":\"t\",\"socket\":\"/s\",\"queue_size\":64}", "fs", "queue-size", "64" },
};

Test(vmconfig, mapped)
{
	for (size_t i = 0; i < sizeof(mapped) / sizeof(mapped[0]); i++) {
		struct config config;
		const char *is;
		char text[512];
		json_t *vm;

		snprintf(text, sizeof(text), "{" K ",\"%s\":[%s]}", mapped[i].list,
			 mapped[i].device);
		vm = must(text);
		cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
		is = key_of(&config, mapped[i].option, 0, mapped[i].key);
		cr_expect_str_eq(is, mapped[i].value, "%s: %s=%s", text, mapped[i].key, is);
		config_clear(&config);
		json_decref(vm);
	}
}

Test(vmconfig, slots)
{
	json_t *vm = must("{" K ",\"console\":{\"mode\":\"Null\"},\"disks\":[{\"path\":\"/a\"},"
			  "{\"path\":\"/b\",\"pci_device_id\":2}],"
			  "\"net\":[{\"pci_device_id\":9},{\"tap\":\"t\"}]}");
	static const unsigned want[] = { 0, 1, 3, 2, 9, 4, 5 }; /* serial, console … rng */
	struct config config;

	cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
	cr_assert_eq(config.ndevices, sizeof(want) / sizeof(want[0]));
	for (unsigned i = 0; i < config.ndevices; i++)
		cr_expect_eq(config.device[i].slot, want[i], "%u: %u", i, config.device[i].slot);
	config_clear(&config);
	json_decref(vm);
}

/* Each field that names an option's key names one that the option has. */
Test(vmconfig, options_exist)
{
	for (size_t i = 0; i < VMCONFIG_PLACES; i++) {
		const struct vmconfig_place *place = &vmconfig_places[i];
		struct config_device *device;
		struct config config;

		config_start(&config);
		cr_assert_eq(config_add_device(&config, place->option, &device, &err), 0);
		for (const struct vmconfig_field *f =
			     vmconfig_fields((enum vmconfig_object)place->object);
		     f->kind != KIND_NONE; f++)
			cr_expect(!*f->option || keys_find(device->kv.table, f->option) >= 0,
				  "%s: %s", place->key, f->option);
		config_clear(&config);
	}
}

/* --- devices that come and go ------------------------------------------------------------------- */

static int add(json_t *vm, const char *list, const char *text, const char **id)
{
	json_t *device = json(text);
	int rc;

	warnings[0] = 0;
	nwarnings = 0;
	memset(&err, 0, sizeof(err));
	rc = vmconfig_add_device(vm, list, device, &notes, id, &err);
	json_decref(device);
	return rc;
}

Test(vmconfig, add_and_remove)
{
	static const struct {
		const char *list, *device;
		int rc;
		const char *says; /* the id, or a part of the error */
	} steps[] = {
		{ "net", "{\"tap\":\"t\",\"pci_segment\":1}", 0, "_net2" },
		{ "disks", "{\"path\":\"/c\"}", 0, "_disk3" },
		{ "disks", "{\"path\":\"/c\",\"id\":\"_disk3\"}", -EEXIST,
		  "disks[2].id: \"_disk3\": another" },
		{ "disks", "{\"path\":\"/c\",\"id\":\"__x\"}", -EINVAL,
		  "disks[2].id: \"__x\": names" },
		{ "disks", "{}", -EINVAL, "path: is missing" },
		{ "disks", "7", -EINVAL, "7: must be an object" },
		{ "disks", "{\"path\":\"/c\",\"pci_segment\":2}", -EINVAL,
		  "disks[2].pci_segment: 2" },
		{ "disks", "{\"path\":\"/c\",\"rate_limit_group\":\"g\"}", -EINVAL,
		  "disks[2].rate_limit_group: \"g\"" },
		{ "disks", "{\"vhost_user\":true,\"vhost_socket\":\"/s\",\"direct\":true}", -EINVAL,
		  "disks[2]: --disk" },
		{ "fs", "{\"tag\":\"t\",\"socket\":\"/s\"}", 0, "_fs4" },
		{ "vsock", "{\"cid\":3,\"socket\":\"/s\"}", -EEXIST,
		  "vsock: the VM has one already: \"_vsock1\"" },
	};
	json_t *vm = must("{" K
			  ",\"disks\":[{\"path\":\"/a\"}],\"vsock\":{\"cid\":3,\"socket\":\"/v\"},"
			  "\"platform\":{\"num_pci_segments\":2}}");
	const char *list, *id;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		json_t *before = json_deep_copy(vm);
		int rc = add(vm, steps[i].list, steps[i].device, &id);

		cr_expect_eq(rc, steps[i].rc, "%s: %d: %s", steps[i].device, rc, err.text);
		if (rc) {
			cr_expect(strstr(err.text, steps[i].says), "%s", err.text);
			cr_expect(json_equal(vm, before), "%s", steps[i].device);
		} else {
			cr_expect_str_eq(id, steps[i].says);
			cr_expect_not(json_equal(vm, before));
			cr_expect_eq(vmconfig_text(vmconfig_find_device(vm, id, &list), "id"), id);
			cr_expect_str_eq(list, steps[i].list);
		}
		cr_expect_eq(nwarnings, !i, "%s", warnings);
		json_decref(before);
	}
	expect_same_again(vm, 1);
	cr_expect_eq(vmconfig_remove_device(vm, "_disk0", &err), 0);
	expect_at(vm, "disks.0.id", "\"_disk3\"");
	cr_expect_eq(vmconfig_remove_device(vm, "_disk0", &err), -ENODEV);
	cr_expect_str_eq(err.text, "id: \"_disk0\": no device has this id");
	cr_expect_eq(vmconfig_remove_device(vm, "_vsock1", &err), 0);
	expect_at(vm, "vsock", "-");
	cr_expect_eq(add(vm, "vsock", "{\"cid\":3,\"socket\":\"/s\"}", &id), 0, "%s", err.text);
	cr_expect_str_eq(id, "_vsock5");
	cr_expect_eq(vmconfig_remove_device(vm, "__rng", &err), -EINVAL);
	cr_expect_null(vmconfig_find_device(vm, "__balloon", NULL));
	json_decref(vm);
}

Test(vmconfig, too_many_devices)
{
	json_t *vm = must("{" K "}");
	const char *id;

	for (unsigned i = 0; i < 29; i++) /* beside console and rng */
		cr_assert_eq(add(vm, i % 2 ? "disks" : "net",
				 i % 2 ? "{\"path\":\"/d\"}" : "{\"tap\":\"t\"}", &id),
			     0, "%u: %s", i, err.text);
	cr_expect_eq(add(vm, "fs", "{\"tag\":\"t\",\"socket\":\"/s\"}", &id), -EINVAL);
	cr_expect(strstr(err.text, "is one device too many; the machine has 31 slots"), "%s",
		  err.text);
	json_decref(vm);
}

/* --- descriptors ---------------------------------------------------------------------------------- */

static int add_net(json_t *vm, const char *text, int *fd, unsigned n)
{
	const struct vmconfig_notes with = { .warn = on_warning, .fd = fd, .nfds = n };
	json_t *device = json(text);
	const char *id;
	int rc;

	memset(&err, 0, sizeof(err));
	rc = vmconfig_add_device(vm, "net", device, &with, &id, &err);
	json_decref(device);
	return rc;
}

Test(vmconfig, descriptors_that_are_no_taps)
{
	json_t *vm = must("{" K "}");
	int pipes[2], fd[2];

	cr_assert_eq(pipe(pipes), 0);
	memcpy(fd, pipes, sizeof(fd));
	cr_expect_eq(add_net(vm, "{\"num_queues\":2}", fd, 2), -EINVAL);
	cr_expect_str_eq(err.text, "fds: descriptor 0 of the request is a pipe, not a tap");
	cr_expect_eq(add_net(vm, "{\"num_queues\":6}", fd, 2), -EINVAL);
	cr_expect_str_eq(err.text,
			 "num_queues: 6: two for each descriptor; 2 came with the request");
	cr_expect_arr_eq(fd, pipes, sizeof(fd), "they stay the caller's");
	expect_at(vm, "net", "[]");
	close(pipes[0]);
	close(pipes[1]);
	json_decref(vm);
}

static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		cr_skip_test("no tap can be made here");
	return fd;
}

Test(vmconfig, descriptors)
{
	int fd[3] = { make_tap(), make_tap(), make_tap() }, keep[3];
	const struct vmconfig_notes with = { .warn = on_warning, .fd = fd, .nfds = 3 };
	json_t *in = json(
		"{" K
		",\"net\":[{\"tap\":\"t\"},{\"fds\":[7,8],\"ip\":\"192.168.249.1\",\"tap\":\"x\"}]}");
	struct config config;
	char want[64];
	json_t *vm;

	memcpy(keep, fd, sizeof(fd));
	cr_assert_eq(vmconfig_normalise(in, &with, &vm, &err), 0, "%s", err.text);
	snprintf(want, sizeof(want), "[%d,%d]", keep[0], keep[1]);
	expect_at(vm, "net.1.fds", want);
	expect_at(vm, "net.1.num_queues", "4");
	expect_at(vm, "net.1.ip", "-");
	expect_at(vm, "net.1.tap", "-");
	expect_at(vm, "net.0.fds", "-");
	cr_expect(fd[0] == -1 && fd[1] == -1 && fd[2] == keep[2]);
	cr_expect_eq(add_net(vm, "{\"num_queues\":1,\"mac\":\"02:00:00:00:00:01\"}", fd, 3), 0,
		     "%s", err.text);
	snprintf(want, sizeof(want), "[%d]", keep[2]);
	expect_at(vm, "net.2.fds", want);
	expect_at(vm, "net.2.num_queues", "2");
	cr_expect_eq(fd[2], -1);
	cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
	snprintf(want, sizeof(want), "%d:%d", keep[0], keep[1]);
	cr_expect_str_eq(key_of(&config, "net", 1, "fd"), want);
	cr_expect_str_eq(key_of(&config, "net", 1, "queues"), "-");
	config_clear(&config);
	json_decref(vm);
	json_decref(in);
	for (unsigned i = 0; i < 3; i++)
		close(keep[i]);
}

Test(vmconfig, fewer_descriptors_than_listed)
{
	int fd = make_tap(), keep = fd;
	const struct vmconfig_notes with = { .warn = on_warning, .fd = &fd, .nfds = 1 };
	json_t *in = json("{" K ",\"net\":[{\"fds\":[7,8]}]}"), *vm;

	warnings[0] = 0;
	cr_assert_eq(vmconfig_normalise(in, &with, &vm, &err), 0, "%s", err.text);
	cr_expect_str_eq(warnings, "net[0].fds: 2 are listed, but only 1 came with the request\n");
	expect_at(vm, "net.0.num_queues", "2");
	json_decref(vm);
	json_decref(in);
	close(keep);
}

/* A card takes what it can use; the rest stays the caller's. */
Test(vmconfig, too_many_descriptors)
{
	json_t *vm = must("{" K "}");
	int fd[20], keep[20];

	for (unsigned i = 0; i < 20; i++)
		fd[i] = make_tap();
	memcpy(keep, fd, sizeof(fd));
	cr_assert_eq(add_net(vm, "{\"num_queues\":40}", fd, 20), 0, "%s", err.text);
	expect_at(vm, "net.0.num_queues", "32");
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_eq(fd[i], i < 16 ? -1 : keep[i], "%u", i);
		close(keep[i]);
	}
	json_decref(vm);
}

/* --- files --------------------------------------------------------------------------------------- */

static int look(const char *text)
{
	json_t *vm = must(text);
	int rc;

	warnings[0] = 0;
	nwarnings = 0;
	memset(&err, 0, sizeof(err));
	rc = vmconfig_check_files(vm, &notes, &err);
	json_decref(vm);
	return rc;
}

/* Adds a disk to one with the paths a (written) and missing, and looks at its file. */
static int look_at_added(const char *disk)
{
	json_t *vm = must("{" K ",\"disks\":[{\"path\":\"a\"},{\"path\":\"missing\"}]}");
	json_t *device = json(disk);
	const char *id;
	int rc;

	cr_assert_eq(vmconfig_add_device(vm, "disks", device, &notes, &id, &err), 0, "%s",
		     err.text);
	warnings[0] = 0;
	rc = vmconfig_check_device_files(vm, id, &notes, &err);
	json_decref(device);
	json_decref(vm);
	return rc;
}

Test(vmconfig, files_of_an_added_device)
{
	char dir[] = "/tmp/test_vmconfig.XXXXXX";

	cr_assert(mkdtemp(dir) && !chdir(dir));
	cr_assert_eq(system(": >a; : >b"), 0);
	cr_expect_eq(look_at_added("{\"path\":\"b\"}"), 0, "%s", err.text);
	cr_expect_str_eq(warnings, "", "only the new device is looked at");
	cr_expect_eq(look_at_added("{\"path\":\"c\"}"), 0);
	cr_expect_str_eq(warnings,
			 "disks[2].path: c: is missing; it must be there when the VM boots\n");
	cr_expect_eq(look_at_added("{\"path\":\"a\",\"readonly\":true}"), -EBUSY);
	cr_expect_str_eq(err.text,
			 "disks[2].path: a: disks[0].path uses it, too, and one of them writes");
	cr_expect_eq(look_at_added("{\"path\":\".\"}"), -EISDIR);
	cr_assert_eq(system("rm a b"), 0);
	cr_assert(!chdir("/") && !rmdir(dir));
}

Test(vmconfig, files)
{
	char dir[] = "/tmp/test_vmconfig.XXXXXX";

	cr_assert(mkdtemp(dir) && !chdir(dir));
	close(open("a", O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(symlink("a", "b"), 0);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	cr_expect_eq(
		look("{\"payload\":{\"kernel\":\"a\"},\"disks\":[{\"path\":\"a\"},{\"path\":\"x\"}]}"),
		0, "%s", err.text);
	cr_expect_str_eq(warnings,
			 "disks[1].path: x: is missing; it must be there when the VM boots\n");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"a\"},{\"path\":\"./b\"}]}"), -EBUSY);
	cr_expect_str_eq(err.text,
			 "disks[1].path: ./b: disks[0].path uses it, too, and one of them writes");
	cr_expect_eq(
		look("{" K
		     ",\"disks\":[{\"path\":\"a\",\"readonly\":true},{\"path\":\"b\",\"readonly\":true}]}"),
		0);
	cr_expect_str_eq(warnings,
			 "payload.kernel: /k: is missing; it must be there when the VM boots\n");
	cr_assert_eq(system("printf 'QFI\\373xxxx' >q; cp q c.qcow2"), 0);
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"q\"}]}"), -EINVAL);
	cr_expect_str_eq(err.text,
			 "disks[0].path: q: begins like a qcow2 image but is not named .qcow2; set "
			 "image_type to Qcow2, or to Raw if a guest wrote that there");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"q\",\"image_type\":\"Raw\"},"
			  "{\"path\":\"c.qcow2\"}]}"),
		     0);
	cr_assert_eq(system("printf 'QFI\\373\\0\\0\\0\\3\\0\\0\\0\\0\\0\\0\\2\\0' >c.qcow2"), 0);
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"c.qcow2\"}]}"), -EINVAL);
	cr_expect_str_eq(err.text,
			 "disks[0].path: c.qcow2: has a backing file; set backing_files to "
			 "true if it may be read");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"c.qcow2\",\"backing_files\":true}]}"), 0);
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"c.qcow2\",\"image_type\":\"Raw\"}]}"), 0);
	cr_assert_eq(system(": >c.qcow2; echo raw >r.qcow2"), 0);
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"c.qcow2\"}]}"), 0, "still to be written");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"r.qcow2\"}]}"), -EINVAL);
	cr_expect_str_eq(err.text,
			 "disks[0].path: r.qcow2: is not a qcow2 image; set image_type to "
			 "Raw to open it as it is");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"r.qcow2\",\"image_type\":\"Raw\"}]}"), 0);
	cr_expect_eq(look("{" K ",\"rng\":{\"src\":\".\"}}"), -EISDIR);
	cr_expect_str_eq(err.text, "rng.src: .: Is a directory");
	unlink("q");
	unlink("c.qcow2");
	unlink("r.qcow2");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\".\"}]}"), -EISDIR);
	cr_expect_str_eq(err.text, "disks[0].path: .: Is a directory");
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"fifo\"}]}"), -EINVAL);
	cr_expect_eq(look("{" K ",\"disks\":[{\"path\":\"a/b\"}]}"), -ENOTDIR);
	cr_expect_eq(look("{" K ",\"vsock\":{\"cid\":3,\"socket\":\"none/s\"}}"), -ENOENT);
	cr_expect_str_eq(err.text, "vsock.socket: none/s: No such file or directory");
	cr_expect_eq(look("{" K ",\"vsock\":{\"cid\":3,\"socket\":\"s\"}}"), 0);
	cr_expect_eq(look("{" K ",\"rng\":{\"src\":\"none\"}}"), -ENOENT);
	cr_expect_eq(look("{\"payload\":{\"kernel\":\"a\",\"initramfs\":\"none\"}}"), -ENOENT);
	cr_expect_str_eq(err.text, "payload.initramfs: none: No such file or directory");
	cr_expect_eq(look("{" K ",\"serial\":{\"mode\":\"File\",\"file\":\"none/x\"}}"), -ENOENT);
	cr_expect_str_eq(err.text, "serial.file: none/x: No such file or directory");
	cr_expect_eq(look("{" K ",\"serial\":{\"mode\":\"File\",\"file\":\".\"}}"), -EISDIR);
	cr_expect_eq(look("{" K ",\"serial\":{\"mode\":\"File\",\"file\":\"fifo\"}}"), 0);
	cr_expect_eq(look("{" K ",\"console\":{\"mode\":\"Socket\",\"socket\":\"none/s\"}}"),
		     -ENOENT);
	cr_expect_str_eq(err.text, "console.socket: none/s: No such file or directory");
	cr_expect_eq(look("{" K ",\"console\":{\"mode\":\"File\",\"file\":\"new\"}}"), 0);
	unlink("fifo");
	unlink("a");
	unlink("b");
	cr_assert(!chdir("/") && !rmdir(dir));
}

/* --- bantam run's options -------------------------------------------------------------------------- */

static json_t *of_args(const char *args)
{
	char *argv[64], *copy = strdup(args), *rest = copy, *word;
	struct config config;
	json_t *vm = NULL;
	int argc = 0;

	while ((word = strsep(&rest, "|")))
		argv[argc++] = word;
	cr_assert_eq(config_parse(&config, argc, argv, &err), 0, "%s", err.text);
	cr_assert_eq(vmconfig_from_config(&config, &vm, &err), 0, "%s", err.text);
	config_clear(&config);
	free(copy);
	return vm;
}

Test(vmconfig, from_options)
{
	static const struct {
		const char *args, *path, *value;
	} cases[] = {
		{ "--kernel|k|--initrd|i|--cmdline|x", "payload",
		  "{\"cmdline\":\"x\",\"initramfs\":\"i\",\"kernel\":\"k\"}" },
		{ "--kernel|k|--cpus|3|--memory|1G", "cpus.max_vcpus", "3" },
		{ "--kernel|k|--cpus|3|--memory|1G", "memory.size", "1073741824" },
		{ "--kernel|k|--hugepages|auto", "memory.thp", "true" },
		{ "--kernel|k|--hugepages|thp", "memory.thp", "true" },
		{ "--kernel|k|--hugepages|off", "memory.thp", "false" },
		{ "--kernel|k|--hugepages|off", "memory.hugepages", "false" },
		{ "--kernel|k|--hugepages|2M", "memory.hugepages", "true" },
		{ "--kernel|k|--hugepages|2M", "memory.hugepage_size", "2097152" },
		{ "--kernel|k", "serial.mode", "\"Tty\"" },
		{ "--kernel|k", "console.mode", "\"Off\"" },
		{ "--kernel|k", "rng.src", "\"/dev/urandom\"" },
		{ "--kernel|k|--console|stdio", "serial.mode", "\"Off\"" },
		{ "--kernel|k|--console|pty|--console|null", "console",
		  "{\"id\":\"console0\",\"iommu\":false,\"mode\":\"Pty\"}" },
		{ "--kernel|k|--serial|file=f", "serial", "{\"file\":\"f\",\"mode\":\"File\"}" },
		{ "--kernel|k|--serial|off|--serial|file=f", "serial", "{\"mode\":\"Off\"}" },
		{ "--disk|path=d,readonly,direct,format=qcow2|--disk|seed=x,rate=10M",
		  "disks.0.readonly", "true" },
		{ "--disk|path=d,format=qcow2|--disk|seed=x,rate=10M", "disks.0.image_type",
		  "\"Qcow2\"" },
		{ "--disk|path=d|--disk|path=x,rate=10M,burst=1M",
		  "disks.1.rate_limiter_config.bandwidth",
		  "{\"refill_time\":100,\"size\":1048576}" },
		{ "--disk|path=d|--disk|path=x", "disks.1.id", "\"disk1\"" },
		{ "--disk|d|--net|tap=t,ip=10.0.0.1,queues=2", "net.0.num_queues", "4" },
		{ "--disk|d|--net|user,hostfwd=tcp::1-2,hostfwd=tcp::3-4", "net.0.user.hostfwd",
		  "[\"tcp::1-2\",\"tcp::3-4\"]" },
		{ "--disk|d|--net|fd=3:4,offload=off", "net.0.fds", "[3,4]" },
		{ "--disk|d|--net|fd=3:4,offload=off", "net.0.offload_csum", "false" },
		{ "--disk|d|--balloon|1M", "balloon.deflate_on_oom", "true" },
		{ "--disk|d|--vsock|cid=9,socket=s", "vsock.cid", "9" },
		{ "--disk|d|--fs|tag=t,socket=s", "fs.0.tag", "\"t\"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *vm = of_args(cases[i].args);

		expect_at(vm, cases[i].path, cases[i].value);
		json_decref(vm);
	}
}

/* All machines of a VM have the same cards. */
Test(vmconfig, cards_of_options_get_addresses)
{
	char *argv[] = { "--disk", "d", "--net", "user", "--net", "tap=t,mac=02:00:00:00:00:01" };
	struct config config;
	const char *mac;

	cr_assert_eq(config_parse(&config, 6, argv, &err), 0, "%s", err.text);
	cr_assert_eq(vmconfig_resolve_macs(&config, &err), 0, "%s", err.text);
	mac = key_of(&config, "net", 0, "mac");
	cr_expect(strlen(mac) == 17 && strchr("26ae", mac[1]), "%s: local, of one card", mac);
	cr_expect_str_eq(key_of(&config, "net", 1, "mac"), "02:00:00:00:00:01");
	config_clear(&config);
}

/* What can be said in both ways means the same machine. */
Test(vmconfig, there_and_back)
{
	json_t *vm = must(SEQUENCE_A), *back;
	struct config config;

	cr_assert_eq(vmconfig_to_config(vm, &config, &err), 0, "%s", err.text);
	cr_assert_eq(vmconfig_from_config(&config, &back, &err), 0, "%s", err.text);
	json_object_set_new(json_object_get(back, "memory"), "shared", json_true());
	cr_expect(json_equal(vm, back), "%s", at(back, "disks"));
	config_clear(&config);
	json_decref(vm);
	json_decref(back);
}

/* A credential for the guest is longer than other texts; the tables' room is the limit. */
Test(vmconfig, oem_strings_fill_the_tables)
{
	static char text[60000];
	const size_t most = 56u << 10;

	for (unsigned i = 0; i < 3; i++) {
		json_t *in, *out;

		memset(text, 'x', sizeof(text) - 1);
		text[i == 1 ? most + 1 : most] = '\0';
		in = json_pack("{s{ss}s{s[ss*]}}", "payload", "kernel", "/k", "platform",
			       "oem_strings", text, i == 2 ? "y" : NULL);
		cr_assert_not_null(in);
		cr_expect_eq(normalise(in, &out), i ? -EINVAL : 0, "%s", err.text);
		cr_expect(i != 1 || strstr(err.text, "1 to 57344 bytes"), "%s", err.text);
		cr_expect(i != 2 || strstr(err.text, "57345 bytes in all"), "%s", err.text);
		json_decref(in);
		json_decref(out);
	}
}

/* --- the schemas -------------------------------------------------------------------------------- */

static const json_t *resolve(const json_t *all, const json_t *property)
{
	const json_t *in = json_object_get(property, "allOf");
	const json_t *at = in ? json_array_get(in, 0) : json_object_get(property, "items");
	const char *name = vmconfig_text(at, "$ref");

	if (!name)
		return NULL;
	cr_assert_eq(strncmp(name, "#/components/schemas/", 21), 0, "%s", name);
	return json_object_get(all, name + 21);
}

Test(vmconfig, schemas)
{
	json_t *all;

	cr_assert_eq(vmconfig_openapi_schemas(&all), 0);
	cr_expect_eq(json_object_size(all), VMCONFIG_OBJECTS);
	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++) {
		json_t *schema = json_object_get(all, vmconfig_object_name(o));
		json_t *properties = json_object_get(schema, "properties");
		size_t required = 0;

		for (const struct vmconfig_field *f = vmconfig_fields(o); f->kind != KIND_NONE;
		     f++) {
			json_t *p = json_object_get(properties, f->key);

			cr_expect(json_is_object(p), "%s", f->key);
			required += f->flags & FIELD_REQUIRED;
			if (f->kind == KIND_OBJECT || f->kind == KIND_OBJECTS)
				cr_expect_eq(resolve(all, p),
					     json_object_get(all, vmconfig_object_name(
									  (enum vmconfig_object)
										  f->object)),
					     "%s", f->key);
			if (*f->def)
				expect_at(p, "default", f->def);
		}
		cr_expect_eq(json_array_size(json_object_get(schema, "required")), required);
	}
	expect_at(
		all, "VsockConfig.properties.cid",
		"{\"description\":\"the guest's address\",\"format\":\"int64\",\"maximum\":4294967294,"
		"\"minimum\":3,\"type\":\"integer\"}");
	expect_at(all, "ConsoleConfig.properties.mode.enum",
		  "[\"Off\",\"Null\",\"Pty\",\"Tty\",\"File\",\"Socket\"]");
	expect_at(all, "VmConfig.properties.metadata.x-bantam", "true");
	expect_at(all, "VmConfig.properties.memory.x-bantam", "-");
	expect_at(all, "VsockConfig.required", "[\"cid\",\"socket\"]");
	json_decref(all);
}

/* --- the text ------------------------------------------------------------------------------------- */

static int parse_rc(const char *text, size_t len)
{
	json_t *out;
	int rc;

	memset(&err, 0, sizeof(err));
	rc = vmconfig_parse_json(text, len, &out, &err);
	cr_expect(!rc == !!out);
	json_decref(out);
	return rc;
}

/* n times a, then n times b. */
static int parse_nested(unsigned n, const char *a, const char *b)
{
	char *text = calloc(n, strlen(a) + strlen(b) + 1);
	int rc;

	for (unsigned i = 0; i < n; i++)
		strcpy(text + i * strlen(a), a);
	for (unsigned i = 0; i < n; i++)
		strcpy(text + n * strlen(a) + i * strlen(b), b);
	rc = parse_rc(text, strlen(text));
	free(text);
	return rc;
}

Test(vmconfig, text)
{
	static const char wide[] = "[\"1\\\"11111111111111111111111\",-99999999999999999999]";
	static const char *const wrong[] = {
		"",
		"{",
		"{} x",
		"{\"a\":1,\"a\":2}",
		"{\"a\":01}",
		"{'a':1}",
		"\"\xff\"",
		"[1,]",
		"\"\\ud800\"",
		"\"\\u0000\"",
		"18446744073709551616.",
		"nul",
		"\"\\",
		"1e999",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_expect_eq(parse_rc(wrong[i], strlen(wrong[i])), -EINVAL, "%s", wrong[i]);
		cr_expect_eq(strncmp(err.text, "JSON: ", 6), 0, "%s", err.text);
	}
	cr_expect_eq(parse_rc("{}\0", 3), -EINVAL);
	cr_expect_eq(parse_rc("9223372036854775807", 19), 0);
	cr_expect_eq(parse_rc(wide, strlen(wide)), 0, "%s", err.text);
	cr_expect_eq(parse_rc("[9223372036854775808,\"\0\"]\0 12345", 30), -EINVAL);
	cr_expect_eq(parse_rc("9223372036854775808e999", 23), -EINVAL);
	cr_expect_eq(parse_rc("-9223372036854775809x", 21), -EINVAL);
	cr_expect_eq(parse_rc("[18446744073709551615,\"", 23), -EINVAL);
	cr_expect_eq(parse_rc("\"[[[[{{{{\\\"[\"", 13), 0);
	cr_expect_eq(parse_nested(VMCONFIG_MAX_DEPTH, "[", "]"), 0, "%s", err.text);
	cr_expect_eq(parse_nested(VMCONFIG_MAX_DEPTH + 1, "[", "]"), -EINVAL);
	cr_expect_str_eq(err.text, "JSON: more than 32 levels deep");
	cr_expect_eq(parse_nested(1000000, "{\"a\":", "}"), -EINVAL);
	cr_expect_eq(parse_nested(VMCONFIG_MAX_VALUES, ",", " "), -EINVAL);
	cr_expect_str_eq(err.text, "JSON: more than 100000 values");
}

/* A client can neither fill the log nor keep the process busy. */
Test(vmconfig, many_unknown_fields, .timeout = 20)
{
	json_t *in = json("{" K "}"), *out;

	for (unsigned i = 0; i < VMCONFIG_MAX_VALUES; i++) {
		char key[32];

		snprintf(key, sizeof(key), "\033[2J%u", i);
		json_object_set_new(in, key, json_null());
	}
	cr_assert_eq(normalise(in, &out), 0);
	cr_expect_eq(nwarnings, 65);
	cr_expect(strstr(warnings, "further warnings are left out"));
	cr_expect_null(strchr(warnings, '\033'));
	json_decref(in);
	json_decref(out);
}
