/*
 * hotplug: devices that come and go while the guest runs. See machine.h.
 *
 * Theory of operation. A device that comes gets an I/O thread: the caller makes the device on a loop that does not run yet,
 * puts it on the bus, starts its thread, and shows it under devices_lock. Then the guest is told: its slot's bit in the
 * registers of hot-plug (devices/board/hotplug.c), and an ACPI event, which the loop's thread repeats until the guest has
 * read it. The guest's kernel looks into the slot as into that of a machine that has just started.
 *
 * A device that is to go is asked for in the same way. The guest's driver stops it, and the guest writes _EJ0's register. That
 * vCPU only tells the owner, whose thread removes the device: one with an I/O thread by ending that. For any other, the
 * loop's thread leaves the loop and rests, because only who runs the loop may touch a device's watches. The owner's thread
 * destroys the device as at the machine's end (which may run the loop until the device's last request is done), and the
 * loop's thread goes on. Then the slot is free. This is no errand of the loop's: to destroy a device waits for vCPUs that
 * use its registers, and they may wait for an errand.
 *
 * The machine may end at any moment: then all devices are destroyed (devices_ended), also one that this file
 * is about to remove. What holds devices_lock and finds devices_ended false may use the board's own devices.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vmm/machine/machine_impl.h"

/* --- the guest's part ------------------------------------------------------------------------ */

/* The loop's thread. */
static void raise_event(void *opaque)
{
	struct machine *m = opaque;

	acpi_pm_insist(m->pm, BOARD_GED_HOTPLUG);
}

/* devices_lock held. Without memory the guest gets one interrupt, which it may lose. */
static void tell_guest_locked(struct machine *m)
{
	if (loop_post(m->loop, raise_event, m))
		acpi_pm_notify(m->pm, BOARD_GED_HOTPLUG);
}

static int check_bus(const struct machine *m, struct err *err)
{
	if (m->hotplug_dev)
		return 0;
	return err_set(
		err, ENOTSUP,
		"this VM's devices are not on a PCI bus, and cannot come or go while it runs");
}

/* devices_lock held. */
static struct device *find_locked(const struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->device[i]->type->option && !strcmp(m->device[i]->id, id))
			return m->device[i];
	return NULL;
}

/* --- a device comes ---------------------------------------------------------------------------- */

/*
 * A daemon of another project maps the guest's memory, which is as it was made. It gets none that it could make smaller:
 * what bantam shares only with its own helpers has no seals.
 */
static int check_memory(const struct machine *m, const struct config_device *d, struct err *err)
{
	int seals;

	if (!d->type->memory || d->type->memory(&d->kv) != MEMORY_SHARED)
		return 0;
	seals = m->mem.fd > 0 ? fcntl(m->mem.fd, F_GET_SEALS) : -1;
	if (seals >= 0 && seals & F_SEAL_SHRINK)
		return 0;
	return err_set(err, EINVAL,
		       "%s: needs guest memory that another process can map: start the VM with "
		       "memory.shared true",
		       d->kv.option);
}

/* Shows the device to other threads and tells the guest. */
static int show(struct machine *m, struct iothread *io, unsigned *slot, struct err *err)
{
	struct device *dev = iothread_device(io);
	int rc = 0;

	*slot = pci_func_place(dev->pci, 0).slot;
	pthread_mutex_lock(&m->devices_lock);
	if (m->devices_ended) {
		rc = err_set(err, EBUSY, "VM is not running");
	} else if (find_locked(m, dev->id)) {
		rc = err_set(err, EEXIST, "the id \"%s\" is that of another device", dev->id);
	} else if (m->ndevices == MACHINE_MAX_DEVICES) {
		rc = err_set(err, ENOSPC, "the VM has %u devices already", m->ndevices);
	} else {
		m->device[m->ndevices] = dev;
		m->iothread[m->ndevices++] = io;
		hotplug_came(m->hotplug_dev, *slot);
		tell_guest_locked(m);
	}
	pthread_mutex_unlock(&m->devices_lock);
	return rc;
}

int machine_add_device(struct machine *m, const struct config_device *d, const char *id,
		       unsigned *slot, struct err *err)
{
	struct device_env env = m->device_env;
	struct iothread *io = NULL;
	int rc = check_bus(m, err);

	if (!rc)
		rc = check_memory(m, d, err);
	env.id = id;
	env.slot = d->slot;
	/* Its thread may have to do what any device does, so it is not THREAD_IO. */
	if (!rc)
		rc = iothread_create(&env, THREAD_LOOP, d->type, &d->kv, &io, err);
	if (rc)
		return rc;
	BUG_ON(!io || !iothread_device(io)->pci);
	strcpy(iothread_device(io)->id, id);
	rc = iothread_start(io, m->errands, err);
	if (!rc)
		rc = show(m, io, slot, err);
	if (rc)
		iothread_destroy(io);
	return rc;
}

/* --- a device goes ------------------------------------------------------------------------------ */

int machine_ask_removal(struct machine *m, const char *id, struct err *err)
{
	struct device *dev;
	int rc = check_bus(m, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&m->devices_lock);
	dev = find_locked(m, id);
	if (m->devices_ended) {
		rc = err_set(err, EBUSY, "VM is not running");
	} else if (!dev || !dev->pci) {
		rc = err_set(err, ENODEV, "id: \"%.64s\": no device has this id", id);
	} else {
		hotplug_ask(m->hotplug_dev, pci_func_place(dev->pci, 0).slot);
		tell_guest_locked(m);
	}
	pthread_mutex_unlock(&m->devices_lock);
	return rc;
}

void machine_rest_loop(struct machine *m)
{
	pthread_mutex_lock(&m->devices_lock);
	m->loop_rests = true;
	pthread_cond_broadcast(&m->device_back);
	while (m->loop_wanted)
		pthread_cond_wait(&m->device_back, &m->devices_lock);
	m->loop_rests = false;
	pthread_mutex_unlock(&m->devices_lock);
}

/* Returns true if the device has gone before the machine ended. */
static bool remove_from_loop(struct machine *m, struct device *dev)
{
	bool mine;

	pthread_mutex_lock(&m->devices_lock);
	m->loop_wanted = true;
	loop_stop(m->loop);
	/* A machine that ends waits for a loop that rests. */
	while (!m->loop_rests && !m->devices_ended)
		pthread_cond_wait(&m->device_back, &m->devices_lock);
	mine = m->loop_rests;
	if (mine)
		machine_take_out_locked(m, dev);
	pthread_mutex_unlock(&m->devices_lock);
	if (mine)
		device_destroy(dev);
	pthread_mutex_lock(&m->devices_lock);
	m->loop_wanted = false;
	pthread_cond_broadcast(&m->device_back);
	pthread_mutex_unlock(&m->devices_lock);
	return mine;
}

/* devices_lock held. *has_thread: the device has an I/O thread. */
static struct device *find_slot_locked(const struct machine *m, unsigned slot, bool *has_thread)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];

		if (!dev->pci || pci_func_place(dev->pci, 0).slot != slot)
			continue;
		*has_thread = m->iothread[i];
		return dev;
	}
	return NULL;
}

/* Fills id. Returns true if the device has gone before the machine ended. */
static bool remove_slot(struct machine *m, unsigned slot, char id[DEVICE_ID_BYTES])
{
	struct iothread *io = NULL;
	struct device *dev;
	bool has_thread = false;

	pthread_mutex_lock(&m->devices_lock);
	dev = m->devices_ended ? NULL : find_slot_locked(m, slot, &has_thread);
	if (dev)
		strcpy(id, dev->id);
	if (dev && has_thread)
		io = machine_take_out_locked(m, dev);
	pthread_mutex_unlock(&m->devices_lock);
	if (io)
		iothread_destroy(io);
	return dev && (io || remove_from_loop(m, dev));
}

void machine_finish_removals(struct machine *m,
			     void (*fn)(void *opaque, const char *id, unsigned slot), void *opaque)
{
	char id[DEVICE_ID_BYTES];
	uint32_t slots;

	pthread_mutex_lock(&m->devices_lock);
	slots = m->devices_ended ? 0 : hotplug_take_ejected(m->hotplug_dev);
	pthread_mutex_unlock(&m->devices_lock);
	for (unsigned slot = 0; slots; slot++, slots >>= 1)
		if (slots & 1 && remove_slot(m, slot, id))
			fn(opaque, id, slot);
}
