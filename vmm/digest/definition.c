/* definition: see definition.h. */
#include "vmm/digest/definition.h"

#include <errno.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig.h"

/* Raised when the same configuration gets another definition by intent. */
#define DEFINITION_VERSION 1

enum rule {
	LEFT_OUT,
	PLACE, /* that it is there says which back end a device has: it becomes true */
	FILE_CONTENT,
	DISK_CONTENT, /* if the disk is read-only; else LEFT_OUT */
};

/* "object.key"; objects in lists are like single ones. */
static const struct {
	char object[16], key[16];
	enum rule rule;
} rules[] = {
	{ "payload", "kernel", FILE_CONTENT },
	{ "payload", "initramfs", FILE_CONTENT },
	{ "cpus", "affinity", LEFT_OUT },
	{ "disks", "path", DISK_CONTENT },
	{ "disks", "vhost_socket", PLACE },
	{ "disks", "queue_affinity", LEFT_OUT },
	{ "net", "tap", LEFT_OUT },
	{ "net", "ip", LEFT_OUT },
	{ "net", "mask", LEFT_OUT },
	{ "net", "mac", LEFT_OUT },
	{ "net", "host_mac", LEFT_OUT },
	{ "net", "fds", LEFT_OUT },
	{ "net", "vhost_socket", PLACE },
	{ "net", "stream", PLACE },
	{ "rng", "src", LEFT_OUT },
	{ "fs", "socket", PLACE },
	{ "vsock", "socket", PLACE },
	{ "serial", "file", LEFT_OUT },
	{ "serial", "socket", LEFT_OUT },
	{ "console", "file", LEFT_OUT },
	{ "console", "socket", LEFT_OUT },
	{ "debug_console", "file", LEFT_OUT },
	{ "", "landlock_rules", LEFT_OUT },
	{ "", "metadata", LEFT_OUT },
};

struct making {
	int (*sum)(void *opaque, const struct definition_file *file, char hex[DEFINITION_HEX_BYTES],
		   struct err *err);
	void *opaque;
};

static int put_content(const struct making *m, json_t *object, const char *key,
		       const struct definition_file *file, struct err *err)
{
	char text[sizeof("sha256:") + DEFINITION_HEX_BYTES] = "sha256:";
	int rc = m->sum(m->opaque, file, text + strlen(text), err);

	if (!rc && json_object_set_new(object, key, json_string(text)))
		rc = err_sys(err, ENOMEM, "digest");
	return rc;
}

static int apply(const struct making *m, json_t *object, const char *key, enum rule rule,
		 struct err *err)
{
	struct definition_file file = { .path = json_string_value(json_object_get(object, key)) };

	if (!json_object_get(object, key))
		return 0;
	if (rule == FILE_CONTENT && file.path)
		return put_content(m, object, key, &file, err);
	if (rule == DISK_CONTENT && file.path &&
	    json_is_true(json_object_get(object, "readonly")) &&
	    !json_is_true(json_object_get(object, "vhost_user"))) {
		file.disk = true;
		file.format = json_string_value(json_object_get(object, "image_type"));
		return put_content(m, object, key, &file, err);
	}
	if (rule == PLACE) {
		if (json_object_set_new(object, key, json_true()))
			return err_sys(err, ENOMEM, "digest");
		return 0;
	}
	json_object_del(object, key);
	return 0;
}

/* Applies a rule to an object, or to each of a list. */
static int apply_to(const struct making *m, json_t *where, const char *key, enum rule rule,
		    struct err *err)
{
	int rc = 0;

	if (json_is_object(where))
		return apply(m, where, key, rule, err);
	for (size_t i = 0; i < json_array_size(where) && !rc; i++)
		rc = apply(m, json_array_get(where, i), key, rule, err);
	return rc;
}

int definition_make(const json_t *config,
		    int (*sum)(void *opaque, const struct definition_file *file,
			       char hex[DEFINITION_HEX_BYTES], struct err *err),
		    void *opaque, json_t **out, struct err *err)
{
	struct making m = { sum, opaque };
	json_t *vm = json_deep_copy(config);
	int rc = vm ? 0 : err_sys(err, ENOMEM, "digest");

	*out = NULL;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && !rc; i++) {
		const char *name = rules[i].object;

		rc = apply_to(&m, *name ? json_object_get(vm, name) : vm, rules[i].key,
			      rules[i].rule, err);
	}
	if (rc) {
		json_decref(vm);
		return rc;
	}
	*out = json_pack("{s:i,s:o}", "definition", DEFINITION_VERSION, "vm", vm);
	return *out ? 0 : err_sys(err, ENOMEM, "digest");
}

/* --- the options of bantam run ------------------------------------------------------------ */

/* What does not count of an option ("": options without keys), besides all paths. */
static const struct {
	char option[8], key[16];
} uncounted[] = {
	/* a VmConfig says these */
	{ "", "cmdline" },
	{ "", "cpus" },
	{ "", "memory" },
	/* how bantam runs, not what */
	{ "", "dry-run" },
	{ "", "stats" },
	{ "", "quiet" },
	{ "", "verbose" },
	{ "", "exit-with-parent" },
	{ "", "confine" },
	{ "", "uid" },
	{ "", "gid" },
	{ "", "chroot" },
	{ "", "netns" },
	{ "", "cgroup" },
	{ "", "limit" },
	{ "", "help" },
	{ "--net", "tap" },
	{ "--net", "fd" },
	{ "--net", "ip" },
	{ "--net", "mask" },
	{ "--net", "mac" },
	{ "--net", "host-mac" },
};

static bool counts(const struct keyvals *kv, unsigned i)
{
	const struct key *key = &kv->table[i];

	if (!kv->val[i].set || !keys_has(kv, i) || key->flags & KEY_HIDDEN ||
	    (key->def && !strcmp(keys_text(kv, i), key->def)))
		return false;
	for (size_t n = 0; n < sizeof(uncounted) / sizeof(uncounted[0]); n++)
		if (!strcmp(uncounted[n].option, kv->option) &&
		    !strcmp(uncounted[n].key, key->name))
			return false;
	/* A kernel and an initrd are in the VmConfig; of another path counts that it is there. */
	return key->kind != KEY_PATH || *kv->option;
}

static json_t *options_of(const struct keyvals *kv)
{
	json_t *out = json_object();

	for (unsigned i = 0; kv->table[i].name; i++) {
		enum key_kind kind = kv->table[i].kind;
		json_t *value;

		if (!counts(kv, i))
			continue;
		value = kind == KEY_PATH ? json_true() :
			kind == KEY_BOOL ? json_boolean(keys_num(kv, i)) :
			kind == KEY_SIZE || kind == KEY_NUM ?
					   json_integer((json_int_t)keys_num(kv, i)) :
					   json_string(keys_text(kv, i));
		json_object_set_new(out, kv->table[i].name, value);
	}
	return out;
}

int definition_of_run(const struct config *config, json_t **out, struct err *err)
{
	json_t *options = options_of(&config->vm), *devices = json_array();
	int rc = vmconfig_from_config(config, out, err);

	for (unsigned i = 0; i < config->ndevices; i++) {
		json_t *keys = options_of(&config->device[i].kv);

		json_object_set_new(keys, "option", json_string(config->device[i].kv.option));
		json_array_append_new(devices, keys);
	}
	if (!rc &&
	    json_object_set_new(*out, "run",
				json_pack("{s:o,s:o}", "options", options, "devices", devices))) {
		json_decref(*out);
		*out = NULL;
		rc = err_sys(err, ENOMEM, "digest");
	} else if (rc) {
		json_decref(options);
		json_decref(devices);
	}
	return rc;
}
