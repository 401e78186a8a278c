/*
 * fuzz_vmconfig: a request's JSON, or the words of a command line.
 *
 * A text that begins with "-" is lines, one argument each. For any input, each check either returns a result or gives one clean line
 * of text; what passes is the same after a second pass, becomes a machine, and comes back from it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
	size_t len = strnlen(text, sizeof(((struct err *)0)->text));

	BUG_ON(!len || len == sizeof(((struct err *)0)->text));
	for (size_t i = 0; i < len; i++)
		BUG_ON((unsigned char)text[i] < ' ');
}

static void on_warning(void *opaque, const char *text)
{
	unsigned *n = opaque;

	check_text(text);
	BUG_ON(++*n > 100);
}

static int check(enum vmconfig_object object, const json_t *in, json_t **out)
{
	unsigned warnings = 0;
	struct vmconfig_notes notes = { .warn = on_warning, .opaque = &warnings };
	struct err err;
	int rc;

	memset(&err, 0xff, sizeof(err));
	rc = object == VMCONFIG_VM ? vmconfig_normalise(in, &notes, out, &err) :
				     vmconfig_check_object(object, in, &notes, out, &err);
	BUG_ON(rc > 0 || !rc != !!*out);
	if (rc)
		check_text(err.text);
	return rc;
}

/* What is sent has only the table's keys, no null, and numbers of 63 bits. */
static void check_sent(enum vmconfig_object object, const json_t *sent)
{
	const char *key;
	json_t *value, *item;
	size_t i;

	json_object_foreach((json_t *)sent, key, value)
	{
		const struct vmconfig_field *f = vmconfig_find(object, key);

		BUG_ON(!f || json_is_null(value));
		if (f->kind == KIND_UINT || f->kind == KIND_BYTES)
			BUG_ON(json_integer_value(value) < (json_int_t)f->min);
		if (f->kind == KIND_OBJECT)
			check_sent((enum vmconfig_object)f->object, value);
		json_array_foreach(value, i, item)
		{
			if (f->kind == KIND_OBJECTS)
				check_sent((enum vmconfig_object)f->object, item);
		}
	}
}

static void check_vm(const json_t *vm)
{
	static const char *const need[] = {
		"cpus", "memory", "payload", "rng", "serial", "console"
	};
	struct config config;
	json_t *again, *back;
	struct err err;

	for (size_t i = 0; i < sizeof(need) / sizeof(need[0]); i++)
		BUG_ON(!json_is_object(json_object_get(vm, need[i])));
	check_sent(VMCONFIG_VM, vm);
	BUG_ON(check(VMCONFIG_VM, vm, &again));
	BUG_ON(!json_equal(vm, again));
	json_decref(again);
	BUG_ON(vmconfig_to_config(vm, &config, &err));
	BUG_ON(vmconfig_from_config(&config, &back, &err));
	check_sent(VMCONFIG_VM, back);
	json_decref(back);
	config_clear(&config);
}

static void try_json(const json_t *in)
{
	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++) {
		json_t *out;

		if (check(o, in, &out))
			continue;
		if (o == VMCONFIG_VM)
			check_vm(out);
		json_decref(out);
	}
}

/* Adds the object to a small VM as each kind of device, and removes it. */
static void try_add(const json_t *device)
{
	static const char *const lists[] = { "disks", "net", "fs", "vsock" };
	json_t *vm, *in, *before;
	struct err err;
	const char *id;

	in = json_pack("{s{ss}s[{ss}]}", "payload", "kernel", "/k", "disks", "path", "/d");
	BUG_ON(check(VMCONFIG_VM, in, &vm));
	before = json_deep_copy(vm);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		memset(&err, 0xff, sizeof(err));
		if (vmconfig_add_device(vm, lists[i], device, NULL, &id, &err)) {
			check_text(err.text);
			BUG_ON(!json_equal(vm, before));
			continue;
		}
		BUG_ON(!vmconfig_find_device(vm, id, NULL));
		id = strdup(id);
		BUG_ON(vmconfig_remove_device(vm, id, &err));
		free((char *)id);
		json_decref(before);
		before = json_deep_copy(vm);
	}
	json_decref(before);
	json_decref(vm);
	json_decref(in);
}

static void try_options(char *text)
{
	char *argv[64], *word;
	json_t *vm = json_object(), *out;
	int argc = 0, at = 0, rc = 1;
	struct err err;

	while ((word = strsep(&text, "\n")) && argc < 64)
		argv[argc++] = word;
	while (rc == 1 && at < argc) {
		memset(&err, 0xff, sizeof(err));
		rc = vmconfig_take_option(vm, argc, argv, &at, &err);
		if (rc < 0)
			check_text(err.text);
		BUG_ON(at > argc);
	}
	if (rc >= 0 && !check(VMCONFIG_VM, vm, &out)) {
		check_vm(out);
		json_decref(out);
	}
	json_decref(vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct err err;
	json_t *in;

	memcpy(text, data, size);
	text[size] = 0;
	if (size && text[0] == '-') {
		try_options(text);
	} else {
		memset(&err, 0xff, sizeof(err));
		if (vmconfig_parse_json(text, size, &in, &err)) {
			check_text(err.text);
		} else {
			try_json(in);
			try_add(in);
			json_decref(in);
		}
	}
	free(text);
	return 0;
}
