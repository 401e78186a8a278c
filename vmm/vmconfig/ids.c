/*
 * vmconfig/ids: the names of devices.
 *
 * A device without an id gets its kind's prefix and the next number of one counter, in the order of
 * the PCI slots; names that are in use are left out. Four kinds exist once and have fixed names that
 * begin with "__": a client may send such a name back, but only on its own device.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

#define DEVICES_MAX 31 /* slots of the PCI bus; 0 is the bridge's */

/* In the order of the PCI slots. */
static const struct kind {
	char key[12];
	char name[12]; /* the prefix, or the name of what exists once */
	bool once;
} kinds[] = {
	{ "console", "__console", true }, { "disks", "_disk", false }, { "net", "_net", false },
	{ "rng", "__rng", true },	  { "fs", "_fs", false },      { "vsock", "_vsock", false },
	{ "balloon", "__balloon", true },
};

struct named {
	const struct kind *kind;
	json_t *object;
	bool in_list;
	size_t index;
};

/* Returns how many devices the VM has; the first max of them are in device. */
static unsigned collect(json_t *vm, struct named *device, unsigned max)
{
	unsigned n = 0;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		json_t *value = json_object_get(vm, kinds[k].key);
		bool in_list = json_is_array(value);
		size_t count = in_list ? json_array_size(value) : value != NULL;
		const char *mode = vmconfig_text(value, "mode");

		if (mode && !strcmp(mode, "Off"))
			continue;
		for (size_t i = 0; i < count; i++, n++)
			if (n < max)
				device[n] = (struct named){
					.kind = &kinds[k],
					.object = in_list ? json_array_get(value, i) : value,
					.in_list = in_list,
					.index = i,
				};
	}
	return n;
}

static const char *id_of(const struct named *d)
{
	return vmconfig_text(d->object, "id");
}

static bool in_use(const struct named *device, unsigned n, const char *id)
{
	for (unsigned i = 0; i < n; i++)
		if (id_of(&device[i]) && !strcmp(id_of(&device[i]), id))
			return true;
	return false;
}

static int fail(struct vmconfig_walk *w, int code, const struct named *d, const char *text)
{
	size_t len = vmconfig_enter(w, d->kind->key);
	int rc;

	if (d->in_list)
		vmconfig_enter_item(w, d->index);
	rc = vmconfig_fail(w, code, "id", "\"%s\": %s", id_of(d), text);
	vmconfig_leave(w, len);
	return rc;
}

static int check_ids(struct vmconfig_walk *w, const struct named *device, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct named *d = &device[i];

		if (!id_of(d))
			continue;
		if (!strncmp(id_of(d), "__", 2) &&
		    !(d->kind->once && !strcmp(id_of(d), d->kind->name)))
			return fail(w, EINVAL, d, "names that begin with __ are bantam's own");
		if (in_use(device, i, id_of(d)))
			return fail(w, EEXIST, d, "another device has this id");
	}
	return 0;
}

/* Returns the first number behind those of the names that bantam has given. */
static unsigned next_number(const struct named *device, unsigned n)
{
	unsigned next = 0;

	for (unsigned i = 0; i < n; i++) {
		const char *id = id_of(&device[i]), *name = device[i].kind->name;
		unsigned long number;
		char *end;

		if (!id || device[i].kind->once || strncmp(id, name, strlen(name)) != 0)
			continue;
		number = strtoul(id + strlen(name), &end, 10);
		if (!*end && number >= next && number < UINT_MAX)
			next = (unsigned)number + 1;
	}
	return next;
}

int vmconfig_name_devices(struct vmconfig_walk *w, json_t *vm, bool behind)
{
	struct named device[DEVICES_MAX];
	unsigned n = collect(vm, device, DEVICES_MAX), number;
	int rc;

	if (n > DEVICES_MAX)
		return vmconfig_fail(w, EINVAL, NULL,
				     "%u devices; the machine has %u slots for them", n,
				     DEVICES_MAX);
	rc = check_ids(w, device, n);
	number = behind ? next_number(device, n) : 0;
	for (unsigned i = 0; i < n && !rc; i++) {
		const struct kind *kind = device[i].kind;
		char name[32];

		if (id_of(&device[i]))
			continue;
		do
			snprintf(name, sizeof(name), kind->once ? "%s" : "%s%u", kind->name,
				 number++);
		while (!kind->once && in_use(device, n, name));
		number -= kind->once;
		if (json_object_set_new(device[i].object, "id", json_string(name)))
			rc = vmconfig_no_memory(w);
	}
	return rc;
}
