/*
 * hotplug: a VM's devices that come and go while its machine runs. See vm.h.
 *
 * Theory of operation. A device that comes is made first and published afterwards: until then a failure leaves no trace. A
 * device that is to go stays in the configuration, and in vm.info, until the guest has given it up. The guest may
 * take its time, refuse, or be reset: with its machine the device goes in any case, because the client has been told so.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/vm/vm_impl.h"

/* --- a device comes ------------------------------------------------------------------------- */

struct plug {
	struct vm *vm;
	struct config_device *from; /* what machine_config gets */
	const char *id;
	unsigned slot; /* 0: the first empty one */
};

static int plug(struct machine *m, void *opaque, struct err *err)
{
	struct plug *p = opaque;
	struct config *config = &p->vm->machine_config;
	struct config_device *d;
	int rc;

	vm_pin(p->vm, m);
	rc = config_take_device(config, p->from, err);
	if (rc)
		return rc;
	rc = vm_confine(config, err);
	if (rc) {
		config_drop_device(config, config->ndevices - 1);
		return rc;
	}
	d = &config->device[config->ndevices - 1];
	d->slot = p->slot;
	rc = machine_add_device(m, d, p->id, &p->slot, err);
	d->slot = p->slot;
	if (rc)
		config_drop_device(config, config->ndevices - 1);
	return rc;
}

/* The slot that the client has asked for; what others have is the machine's business. */
static unsigned slot_of(const json_t *config, const char *id)
{
	const json_t *device = vmconfig_find_device(config, id, NULL);

	return (unsigned)json_integer_value(json_object_get(device, "pci_device_id"));
}

int vm_plug(struct vm *vm, const json_t *config, const char *id, json_t **answer, struct err *err)
{
	struct plug p = { .vm = vm, .id = id, .slot = slot_of(config, id) };
	struct config all;
	char bdf[16];
	int rc = vmconfig_to_config(config, &all, err), at = rc ? -1 : vm_find_device(&all, id);

	if (!rc && at < 0)
		rc = err_set(err, EINVAL, "\"%s\": no device of a machine", id);
	if (!rc) {
		p.from = &all.device[at];
		rc = vm_copy_descriptors(p.from, err);
	}
	if (!rc)
		rc = vm_with_machine(vm, plug, &p, err);
	config_clear(&all);
	if (rc)
		return rc;
	vm_slot_text(p.slot, bdf);
	*answer = json_pack("{s:s, s:s}", "id", id, "bdf", bdf);
	return 0;
}

/* --- a device goes -------------------------------------------------------------------------- */

struct unplug {
	struct vm *vm;
	const char *id;
	int at; /* in the machine's configuration */
};

static bool is_leaving(const struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->nleaving; i++)
		if (!strcmp(vm->leaving[i].id, id))
			return true;
	return false;
}

static int unplug(struct machine *m, void *opaque, struct err *err)
{
	struct unplug *u = opaque;

	vm_pin(u->vm, m);
	/* Before the guest is asked: what cannot be noted does not begin. */
	u->at = vm_find_device(&u->vm->machine_config, u->id);
	if (u->at < 0)
		return err_set(err, ENODEV, "\"%s\": no option of the machine made this device",
			       u->id);
	if (u->vm->nleaving == BOARD_MAX_SLOTS && !is_leaving(u->vm, u->id))
		return err_set(err, EBUSY, "\"%s\": the guest has been asked for %d devices", u->id,
			       BOARD_MAX_SLOTS);
	return machine_ask_removal(m, u->id, err);
}

int vm_unplug(struct vm *vm, const char *id, struct err *err)
{
	struct unplug u = { .vm = vm, .id = id };
	struct vm_leaving *l = &vm->leaving[vm->nleaving];
	int rc = vm_with_machine(vm, unplug, &u, err);

	if (rc || is_leaving(vm, id))
		return rc;
	snprintf(l->id, sizeof(l->id), "%s", id);
	l->slot = vm->machine_config.device[u.at].slot;
	vm->nleaving++;
	return 0;
}

/* Takes it off the list. */
static void unlist(struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->nleaving; i++)
		if (!strcmp(vm->leaving[i].id, id)) {
			vm->leaving[i] = vm->leaving[--vm->nleaving];
			return;
		}
}

static void gone(void *opaque, const char *id, unsigned slot)
{
	struct vm *vm = opaque;

	unlist(vm, id);
	vm_forget_device(vm, id, slot);
}

static int finish(struct machine *m, void *opaque, struct err *err)
{
	machine_finish_removals(m, gone, opaque);
	return 0;
}

void vm_finish_removals(struct vm *vm)
{
	struct err err;
	bool ejected;

	pthread_mutex_lock(&vm->lock);
	ejected = vm->ejected;
	vm->ejected = false;
	pthread_mutex_unlock(&vm->lock);
	/* A machine that has ended meanwhile took its devices with it. */
	if (ejected)
		vm_with_machine(vm, finish, vm, &err);
}
