/*
 * placed: where a VM's devices are while they come and go. See vm_impl.h.
 *
 * Theory of operation. machine_config changes along with the published configuration. Before the first change its devices
 * get the ids and slots that they have in the machine (vm_pin): both depended on the devices before them so far, and a guest
 * that restarts must find each device where it was. Only the executor touches them: a machine reads them while it
 * is built.
 */
#include <stdio.h>
#include <string.h>

#include "vmm/vm/vm_impl.h"

int vm_find_device(const struct config *config, const char *id)
{
	char its[DEVICE_ID_BYTES];

	for (unsigned i = 0; i < config->ndevices; i++) {
		config_device_id(config, i, its);
		if (!strcmp(its, id))
			return (int)i;
	}
	return -1;
}

void vm_keep_slots(struct config *config, const struct config *old)
{
	char id[DEVICE_ID_BYTES];

	for (unsigned i = 0; i < config->ndevices; i++) {
		int at;

		config_device_id(config, i, id);
		at = vm_find_device(old, id);
		if (at >= 0)
			config->device[i].slot = old->device[at].slot;
	}
}

static void pin_slot(void *opaque, const struct machine_device_info *info)
{
	struct config *config = opaque;
	int at = vm_find_device(config, info->id);

	if (at >= 0 && info->pci)
		config->device[at].slot = info->slot;
}

void vm_pin(struct vm *vm, struct machine *m)
{
	struct config *config = &vm->machine_config;
	char id[DEVICE_ID_BYTES];

	if (vm->pinned)
		return;
	for (unsigned i = 0; i < config->ndevices; i++) {
		config_device_id(config, i, id);
		strcpy(config->device[i].id, id);
	}
	machine_walk_devices(m, pin_slot, config);
	vm->pinned = true;
}

int vm_copy_descriptors(struct config_device *d, struct err *err)
{
	if (!keys_text_of(&d->kv, "fd") || keys_num_of(&d->kv, "fd-dup"))
		return 0;
	keys_unset(&d->kv, "fd-dup");
	return keys_set_hidden(&d->kv, "fd-dup", "on", err);
}

void vm_slot_text(unsigned slot, char bdf[16])
{
	snprintf(bdf, 16, "0000:00:%02x.0", slot % BOARD_MAX_SLOTS);
}

void vm_forget_device(struct vm *vm, const char *id, unsigned slot)
{
	json_t *config = json_deep_copy(vm->config), *old = json_incref(vm->config);
	int at = vm_find_device(&vm->machine_config, id);
	const char *props[] = { "id", id, "bdf", NULL, NULL };
	struct err err;
	char bdf[16];

	if (at >= 0)
		config_drop_device(&vm->machine_config, (unsigned)at);
	if (config && !vmconfig_remove_device(config, id, &err)) {
		vm_publish(vm, config, vm_state(vm));
		vm_want_digest(vm);
	} else {
		json_decref(config);
	}
	vm_close_taps(old, id);
	json_decref(old);
	keep_drop(vm->keep, id);
	vm_slot_text(slot, bdf);
	props[3] = bdf;
	events_emit(vm->setup.events, "vm", "device-removed", props);
}

void vm_settle_removals(struct vm *vm)
{
	while (vm->nleaving) {
		struct vm_leaving l = vm->leaving[--vm->nleaving];

		vm_forget_device(vm, l.id, l.slot);
	}
}
