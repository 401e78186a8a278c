/*
 * vmconfig/ids: the devices of a VmConfig and their names.
 *
 * A device without an id gets its kind's prefix and the next number of one counter, in the order of
 * the PCI slots; names that are in use are left out. Kinds that exist once have fixed names that
 * begin with "__": a client may send such a name back, but only on its own device.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

#define DEVICES_MAX 31 /* slots of the PCI bus; 0 is the bridge's */

const struct vmconfig_place vmconfig_places[VMCONFIG_PLACES] = {
	{ "console", "__console", "console", VMCONFIG_CONSOLE, true },
	{ "disks", "_disk", "disk", VMCONFIG_DISK, false },
	{ "net", "_net", "net", VMCONFIG_NET, false },
	{ "rng", "__rng", "rng", VMCONFIG_RNG, true },
	{ "fs", "_fs", "fs", VMCONFIG_FS, false },
	{ "vsock", "_vsock", "vsock", VMCONFIG_VSOCK, false },
	{ "balloon", "__balloon", "balloon", VMCONFIG_BALLOON, true },
};

static bool off(const json_t *device)
{
	const char *mode = vmconfig_text(device, "mode");

	return mode && !strcmp(mode, "Off");
}

int vmconfig_each_device(const json_t *vm,
			 int (*fn)(void *opaque, const struct vmconfig_place *place, json_t *device,
				   const char *where),
			 void *opaque)
{
	for (size_t k = 0; k < VMCONFIG_PLACES; k++) {
		const struct vmconfig_place *place = &vmconfig_places[k];
		json_t *value = json_object_get(vm, place->key), *item;
		char where[40];
		size_t i;
		int rc;

		json_array_foreach(value, i, item)
		{
			snprintf(where, sizeof(where), "%.11s[%zu]", place->key, i);
			rc = fn(opaque, place, item, where);
			if (rc)
				return rc;
		}
		if (!json_is_object(value) || off(value))
			continue;
		rc = fn(opaque, place, value, place->key);
		if (rc)
			return rc;
	}
	return 0;
}

struct naming {
	struct vmconfig_walk *w;
	unsigned n;	 /* devices */
	unsigned number; /* of the next name */
	uint32_t slots;	 /* bit n: a device asks for slot n */
	struct {
		const struct vmconfig_place *place;
		json_t *device;
	} at[DEVICES_MAX];
};

static const char *id_of(const struct naming *names, unsigned i)
{
	return vmconfig_text(names->at[i].device, "id");
}

static bool in_use(const struct naming *names, const char *id)
{
	for (unsigned i = 0; i < names->n; i++)
		if (id_of(names, i) && !strcmp(id_of(names, i), id))
			return true;
	return false;
}

static int fail_id(struct vmconfig_walk *w, int code, const char *where, const char *id,
		   const char *text)
{
	size_t len = vmconfig_enter(w, where);
	int rc = vmconfig_fail(w, code, "id", "\"%s\": %s", id, text);

	vmconfig_leave(w, len);
	return rc;
}

static int fail_slot(struct vmconfig_walk *w, const char *where, unsigned slot)
{
	size_t len = vmconfig_enter(w, where);
	int rc = vmconfig_fail(w, EEXIST, "pci_device_id", "%u: another device has this slot",
			       slot);

	vmconfig_leave(w, len);
	return rc;
}

/* Checks the device's own id and slot, if it has any, against those before, and notes the device. */
static int note(void *opaque, const struct vmconfig_place *place, json_t *device, const char *where)
{
	struct naming *names = opaque;
	const char *id = vmconfig_text(device, "id");
	unsigned slot = (unsigned)vmconfig_num(device, "pci_device_id");

	if (names->n == DEVICES_MAX)
		return vmconfig_fail(names->w, EINVAL, where,
				     "is one device too many; the machine has %u slots for them",
				     DEVICES_MAX);
	if (id && !strncmp(id, "__", 2) && !(place->once && !strcmp(id, place->name)))
		return fail_id(names->w, EINVAL, where, id,
			       "names that begin with __ are bantam's own");
	if (id && in_use(names, id))
		return fail_id(names->w, EEXIST, where, id, "another device has this id");
	if (slot && names->slots >> slot & 1)
		return fail_slot(names->w, where, slot);
	names->slots |= slot ? 1u << slot : 0;
	names->at[names->n].place = place;
	names->at[names->n++].device = device;
	return 0;
}

/* Returns the first number behind those of the names that bantam has given. */
static unsigned behind_all(const struct naming *names)
{
	unsigned next = 0;

	for (unsigned i = 0; i < names->n; i++) {
		const char *id = id_of(names, i), *name = names->at[i].place->name;
		unsigned long number;
		char *end;

		if (!id || names->at[i].place->once || strncmp(id, name, strlen(name)) != 0)
			continue;
		number = strtoul(id + strlen(name), &end, 10);
		if (!*end && number >= next && number < UINT_MAX)
			next = (unsigned)number + 1;
	}
	return next;
}

static int name_device(struct naming *names, unsigned i)
{
	const struct vmconfig_place *place = names->at[i].place;
	char name[32];

	if (id_of(names, i))
		return 0;
	snprintf(name, sizeof(name), "%s", place->name);
	while (!place->once && (!strcmp(name, place->name) || in_use(names, name)))
		snprintf(name, sizeof(name), "%s%u", place->name, names->number++);
	if (json_object_set_new(names->at[i].device, "id", json_string(name)))
		return vmconfig_no_memory(names->w);
	return 0;
}

int vmconfig_name_devices(struct vmconfig_walk *w, json_t *vm, bool behind)
{
	struct naming names = { .w = w };
	int rc = vmconfig_each_device(vm, note, &names);

	names.number = behind ? behind_all(&names) : 0;
	for (unsigned i = 0; i < names.n && !rc; i++)
		rc = name_device(&names, i);
	return rc;
}
