/* vmconfig/devices: adds, finds and removes a device of a VmConfig. */
#include <errno.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

static const struct vmconfig_place *find_place(const char *key)
{
	for (size_t i = 0; i < VMCONFIG_PLACES; i++)
		if (!strcmp(vmconfig_places[i].key, key))
			return &vmconfig_places[i];
	return NULL;
}

/* Puts the device where it belongs, at the end. */
static int insert(struct vmconfig_walk *w, json_t *vm, const struct vmconfig_place *place,
		  json_t *device)
{
	json_t *list = json_object_get(vm, place->key);
	bool in_list = vmconfig_find(VMCONFIG_VM, place->key)->kind == KIND_OBJECTS;

	if (!in_list && list)
		return vmconfig_fail(w, EEXIST, NULL, "%s: the VM has one already: \"%s\"",
				     place->key, vmconfig_text(list, "id"));
	if (!in_list)
		return json_object_set(vm, place->key, device) ? vmconfig_no_memory(w) : 0;
	if (!list) {
		list = json_array();
		if (json_object_set_new(vm, place->key, list))
			return vmconfig_no_memory(w);
	}
	return json_array_append(list, device) ? vmconfig_no_memory(w) : 0;
}

static void take_out(json_t *vm, const struct vmconfig_place *place, const json_t *device)
{
	json_t *list = json_object_get(vm, place->key), *item;
	size_t i;

	if (list == device) {
		json_object_del(vm, place->key);
		return;
	}
	json_array_foreach(list, i, item)
	{
		if (item == device) {
			json_array_remove(list, i);
			return;
		}
	}
}

int vmconfig_add_device(json_t *vm, const char *list, const json_t *device,
			const struct vmconfig_notes *notes, const char **id, struct err *err)
{
	const struct vmconfig_place *place = find_place(list);
	struct vmconfig_walk w = { .notes = notes, .err = err };
	json_t *checked;
	int rc;

	BUG_ON(!place || place->once);
	*id = NULL;
	rc = vmconfig_check(&w, (enum vmconfig_object)place->object, device, &checked);
	if (!rc)
		rc = insert(&w, vm, place, checked);
	if (!rc) {
		rc = vmconfig_device_rules(&w, vm, checked);
		if (!rc)
			rc = vmconfig_check_machine(vm, err);
		if (rc)
			take_out(vm, place, checked);
	}
	if (!rc) {
		vmconfig_take_descriptors(&w);
		vmconfig_order(VMCONFIG_VM, vm);
		*id = vmconfig_text(checked, "id");
	}
	json_decref(checked);
	return rc;
}

struct search {
	const char *id;
	const struct vmconfig_place *place;
	json_t *device;
};

static int match(void *opaque, const struct vmconfig_place *place, json_t *device,
		 const char *where)
{
	struct search *s = opaque;
	const char *id = vmconfig_text(device, "id");

	if (!id || strcmp(id, s->id) != 0)
		return 0;
	s->place = place;
	s->device = device;
	return 1;
}

const json_t *vmconfig_find_device(const json_t *vm, const char *id, const char **list)
{
	struct search s = { .id = id };

	if (!vmconfig_each_device(vm, match, &s))
		return NULL;
	if (list)
		*list = s.place->key;
	return s.device;
}

int vmconfig_remove_device(json_t *vm, const char *id, struct err *err)
{
	struct search s = { .id = id };

	if (!vmconfig_each_device(vm, match, &s))
		return err_set(err, ENODEV, "id: \"%s\": no device has this id", id);
	if (s.place->once)
		return err_set(err, EINVAL, "id: \"%s\": the %s cannot be removed", id,
			       s.place->key);
	take_out(vm, s.place, s.device);
	return 0;
}
