/* info: what vm.info and vm.counters say of a VM. Any thread. See vm.h. */
#include "vmm/vm/vm_impl.h"

#include <stdio.h>
#include <string.h>

static const char *const state_name[VM_NSTATES] = {
	[VM_CREATED] = "Created",
	[VM_RUNNING] = "Running",
	[VM_PAUSED] = "Paused",
};

/* Every number that we send fits in 63 bits: clients of some languages have no more. */
static json_t *number(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* Adds the nodes of one device: itself, and the PCI function that carries it. */
static void add_device(void *opaque, const struct machine_device_info *info)
{
	json_t *tree = opaque;
	char parent[96], bdf[16];

	if (!info->pci) {
		json_object_set_new(tree, info->id,
				    json_pack("{s:s, s:[], s:[]}", "id", info->id, "resources",
					      "children"));
		return;
	}
	snprintf(parent, sizeof(parent), "_virtio-pci-%s", info->id);
	snprintf(bdf, sizeof(bdf), "0000:00:%02x.0", info->slot);
	json_object_set_new(tree, info->id,
			    json_pack("{s:s, s:[], s:s, s:[]}", "id", info->id, "resources",
				      "parent", parent, "children"));
	json_object_set_new(tree, parent,
			    json_pack("{s:s, s:[{s:{s:i, s:o, s:o, s:s, s:b}}], s:[s], s:s}", "id",
				      parent, "resources", "PciBar", "index", 0, "base",
				      number(info->bar_base), "size", number(info->bar_bytes),
				      "type_", "Mmio64", "prefetchable", 0, "children", info->id,
				      "pci_bdf", bdf));
}

/* A card whose tap got its name from the kernel shows that name. */
static void show_interface(void *opaque, const struct machine_device_info *info)
{
	json_t *config = opaque, *net;
	size_t i;

	if (!info->interface)
		return;
	json_array_foreach(json_object_get(config, "net"), i, net)
	{
		const char *id = json_string_value(json_object_get(net, "id"));

		if (!id || strcmp(id, info->id) != 0 || json_object_get(net, "tap") ||
		    json_object_get(net, "fds"))
			continue;
		json_object_set_new(net, "tap", json_string(info->interface));
	}
}

/*
 * The configuration with what the machine has found out. Lock held. A copy: the counters of jansson's
 * references are not made for two threads.
 */
static json_t *config_shown(struct vm *vm)
{
	json_t *config = json_deep_copy(vm->config);

	if (vm->machine)
		machine_walk_devices(vm->machine, show_interface, config);
	return config;
}

json_t *vm_info(struct vm *vm)
{
	json_t *info = NULL, *tree;
	uint64_t actual;

	pthread_mutex_lock(&vm->lock);
	if (!vm->config)
		goto out;
	info = json_object();
	json_object_set_new(info, "config", config_shown(vm));
	json_object_set_new(info, "state", json_string(state_name[vm->state]));
	actual = vm->machine ? machine_memory_actual(vm->machine) :
			       vmconfig_memory_bytes(vm->config);
	json_object_set_new(info, "memory_actual_size", number(actual));
	if (vm->machine) {
		tree = json_object();
		machine_walk_devices(vm->machine, add_device, tree);
		json_object_set_new(info, "device_tree", tree);
	}
	if (vm->digest[0])
		json_object_set_new(info, "bantam", json_pack("{s:s}", "digest", vm->digest));
out:
	pthread_mutex_unlock(&vm->lock);
	return info;
}

static void add_counter(void *opaque, const char *id, const char *name, uint64_t value)
{
	json_t *counters = opaque, *device = json_object_get(counters, id);

	if (!device) {
		device = json_object();
		json_object_set_new(counters, id, device);
	}
	json_object_set_new(device, name, number(value));
}

json_t *vm_counters(struct vm *vm)
{
	json_t *counters = json_object();

	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		machine_walk_counters(vm->machine, add_counter, counters);
	pthread_mutex_unlock(&vm->lock);
	return counters;
}
