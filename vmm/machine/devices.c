/*
 * devices: creates a machine's devices (the transport, the board's own devices, the
 * user's devices), and destroys them.
 *
 * The loop's thread owns the devices that have no I/O thread: they are removed only while it rests, so it may use
 * one without a lock once it has found it under devices_lock. Devices with an I/O thread come and go meanwhile
 * (hotplug.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/chardev/chardev.h"
#include "vmm/core/log.h"
#include "vmm/core/clock.h"
#include "vmm/core/thread.h"
#include "vmm/machine/machine_impl.h"

/* Returns the place of the next device. keep counts it, unless create made none (--serial off). */
static struct device **next_device(struct machine *m)
{
	BUG_ON(m->ndevices == MACHINE_MAX_DEVICES);
	return &m->device[m->ndevices];
}

static int keep(struct machine *m, int rc)
{
	if (!rc && m->device[m->ndevices])
		m->ndevices++;
	return rc;
}

static int create_transport(struct machine *m, struct err *err)
{
	const struct board *b = &m->board;
	struct pci_host_config cfg = { .ecam_base = b->pci.ecam.base,
				       .ecam_bytes = b->pci.ecam.len_bytes,
				       .mmio_base = b->pci.mmio32.base,
				       .mmio_bytes = b->pci.mmio32.len_bytes,
				       .decode_base = m->mem.region[0].len_bytes };

	if (keys_num(&m->config->vm, CONFIG_TRANSPORT) == TRANSPORT_MMIO) {
		m->mmio_slots = (struct virtio_mmio_slots){
			.base = b->mmio[0].window.base,
			.stride_bytes = b->mmio[0].window.len_bytes,
			.count = b->nmmio
		};
		for (unsigned i = 0; i < b->nmmio; i++)
			m->mmio_slots.gsi[i] = b->mmio[i].gsi;
		m->device_env.mmio_slots = &m->mmio_slots;
		return 0;
	}
	memcpy(cfg.gsi, b->pci.gsi, sizeof(cfg.gsi));
	return pci_host_create(&m->device_env, &cfg, &m->device_env.pci, err);
}

/* Returns the I/O port of a register. All of the board's small devices are at I/O ports. */
static uint16_t port_of(struct board_reg reg)
{
	BUG_ON(!reg.port);
	return (uint16_t)reg.addr;
}

/* A vCPU's thread. */
static void on_ejected(void *opaque)
{
	struct machine *m = opaque;

	if (m->events.ejected)
		m->events.ejected(m->events.opaque);
}

/* The registers of PCI hot-plug; what uses them is hotplug.c. */
static int create_hotplug(struct machine *m, struct err *err)
{
	struct hotplug_config cfg = { .port = port_of(m->board.hotplug),
				      .ejected = on_ejected,
				      .opaque = m };
	struct device **out = next_device(m);
	int rc = hotplug_create(&m->device_env, &cfg, out, err);

	m->hotplug_dev = *out;
	return keep(m, rc);
}

static int create_platform(struct machine *m, struct err *err)
{
	const struct device_env *env = &m->device_env;
	const struct board *b = &m->board;
	uint64_t low = m->mem.region[0].len_bytes;
	struct acpi_pm_config pm_cfg = { .sleep_control_port = port_of(b->sleep_control),
					 .sleep_status_port = port_of(b->sleep_status),
					 .s5_type = BOARD_S5_TYPE,
					 .reset_port = port_of(b->reset),
					 .reset_value = b->reset_value,
					 .pm1_event_port = (uint16_t)b->pm1.event.addr,
					 .pm1_control_port = (uint16_t)b->pm1.control.addr,
					 .ged_port = port_of(b->ged),
					 .ged_gsi = b->ged_gsi,
					 .power_button_bit = BOARD_GED_POWER_BUTTON };
	struct cmos_config cmos_cfg = { .port = b->x86.rtc_port,
					.below_4g_bytes = low,
					.above_4g_bytes = m->mem.total_bytes - low };
	int rc = keep(m, acpi_pm_create(env, &pm_cfg, next_device(m), err));
	struct device *pm = m->device[0];

	if (!rc && b->x86.i8042)
		rc = keep(m, i8042_create(env, next_device(m), err));
	if (!rc && b->x86.rtc_port)
		rc = keep(m, cmos_create(env, &cmos_cfg, next_device(m), err));
	if (!rc)
		rc = keep(m, pvpanic_create(env, port_of(b->pvpanic), next_device(m), err));
	if (!rc)
		rc = keep(m, vmgenid_create(env, gpa(b->vmgenid), pm, BOARD_GED_VMGENID,
					    next_device(m), err));
	m->pm = pm;
	if (!rc && m->hotplug && env->pci)
		rc = create_hotplug(m, err);
	return rc;
}

/* At the end daemons have this long to answer, all together. */
#define STOP_MS 2000u

/* --- the user's devices -------------------------------------------------------------- */

/* All devices of the configuration that have this type are parts of one. */
static int create_together(struct machine *m, const struct device_type *type, struct device **out,
			   struct err *err)
{
	const struct config *config = m->config;
	struct device_part *part = calloc(config->ndevices, sizeof(*part));
	char(*id)[DEVICE_ID_BYTES] = calloc(config->ndevices, sizeof(*id));
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < config->ndevices && part && id; i++) {
		if (config->device[i].type != type)
			continue;
		config_device_id(config, i, id[n]);
		part[n].cfg = &config->device[i].kv;
		part[n].id = id[n];
		n++;
	}
	rc = part && id ? type->create_all(&m->device_env, part, n, out, err) :
			  err_sys(err, ENOMEM, "%s", type->option);
	free(part);
	free(id);
	return rc;
}

static int create_in_iothread(struct machine *m, const struct device_type *type,
			      const struct keyvals *kv, struct err *err)
{
	struct iothread *io;
	int rc = iothread_create(&m->device_env, THREAD_IO, type, kv, &io, err);

	if (rc || !io)
		return rc;
	m->iothread[m->ndevices] = io;
	*next_device(m) = iothread_device(io);
	return keep(m, 0);
}

/* nth: how many devices of the same type the config has before it. */
static int create_device(struct machine *m, const struct device_type *type, unsigned nth,
			 const struct keyvals *kv, const char *id, struct err *err)
{
	struct device **dev = next_device(m);
	int rc;

	for (unsigned i = 0; i < m->ndevices; i++)
		if (!strcmp(m->device[i]->id, id))
			return err_set(
				err, EEXIST,
				"%s: the id \"%s\" is that of another device; give it another id",
				type->option, id);
	m->device_env.id = id;
	m->device_env.nth = nth;
	if (type->create_all)
		rc = keep(m, create_together(m, type, dev, err));
	else if (keys_num_of(kv, "iothread"))
		rc = create_in_iothread(m, type, kv, err);
	else
		rc = keep(m, type->create(&m->device_env, kv, dev, err));
	m->device_env.id = NULL;
	if (rc || !*dev)
		return rc;
	strcpy((*dev)->id, id);
	if (type == &serial_type)
		m->board.serial[nth].present = true;
	return 0;
}

/* Creates the default serial port on stdio. */
static int create_default_serial(struct machine *m, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, serial_type.option, serial_type.keys, "stdio", err);

	if (!rc)
		rc = create_device(m, &serial_type, 0, &kv, "serial0", err);
	keys_clear(&kv);
	return rc;
}

/* Returns true if the device is made, or will be, with another one of its type. */
static bool made_with_other(const struct config *config, unsigned at)
{
	const struct device_type *type = config->device[at].type;
	bool other = false;

	for (unsigned i = 0; i < at && type->create_all; i++)
		other |= config->device[i].type == type;
	return other;
}

static int create_devices(struct machine *m, struct err *err)
{
	unsigned nserial = 0;
	char id[DEVICE_ID_BYTES];
	int rc = config_check_ids(m->config, err);

	for (unsigned i = 0; !rc && i < m->config->ndevices; i++) {
		const struct config_device *d = &m->config->device[i];

		if (made_with_other(m->config, i))
			continue;
		config_device_id(m->config, i, id);
		m->device_env.slot = d->slot;
		m->device_env.sector_bytes = m->bootdisk && m->bootdisk->device == i ?
						     m->bootdisk->sector_bytes :
						     0;
		rc = create_device(m, d->type, d->type == &serial_type ? nserial++ : 0, &d->kv, id,
				   err);
	}
	m->device_env.slot = 0;
	m->device_env.sector_bytes = 0;
	return rc || nserial || chardev_stdio_taken() ? rc : create_default_serial(m, err);
}

/* Describes the created devices on the board. */
static void finish_board(struct machine *m)
{
	struct board *b = &m->board;

	b->nmmio = m->mmio_slots.used;
	b->pci.present = m->device_env.pci != NULL;
	if (!m->hotplug_dev)
		b->hotplug = (struct board_reg){ 0 };
	if (b->pci.present)
		b->pci.slots = m->hotplug ? UINT32_MAX : pci_host_slots(m->device_env.pci);
}

int machine_create_devices(struct machine *m, struct err *err)
{
	int rc = create_transport(m, err);

	if (!rc)
		rc = create_platform(m, err);
	if (!rc)
		rc = create_devices(m, err);
	if (!rc)
		finish_board(m);
	return rc;
}

struct iothread *machine_take_out_locked(struct machine *m, struct device *dev)
{
	struct iothread *io;
	unsigned at = 0;

	while (dev->borrowed)
		pthread_cond_wait(&m->device_back, &m->devices_lock);
	while (m->device[at] != dev)
		at++;
	io = m->iothread[at];
	m->ndevices--;
	memmove(&m->device[at], &m->device[at + 1], (m->ndevices - at) * sizeof(m->device[0]));
	memmove(&m->iothread[at], &m->iothread[at + 1],
		(m->ndevices - at) * sizeof(m->iothread[0]));
	m->iothread[m->ndevices] = NULL;
	return io;
}

static void end_changes_locked(struct machine *m)
{
	m->devices_ended = true;
	pthread_cond_broadcast(&m->device_back);
}

void machine_stop_iothreads(struct machine *m)
{
	pthread_mutex_lock(&m->devices_lock);
	end_changes_locked(m);
	pthread_mutex_unlock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->iothread[i])
			iothread_stop(m->iothread[i]);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->iothread[i])
			iothread_await_stop(m->iothread[i]);
}

void machine_outlive_devices(struct machine *m)
{
	pthread_mutex_lock(&m->devices_lock);
	while (!m->devices_gone)
		pthread_cond_wait(&m->device_back, &m->devices_lock);
	pthread_mutex_unlock(&m->devices_lock);
}

void machine_destroy_devices(struct machine *m)
{
	m->stop_by_ms = clock_now_ms() + STOP_MS;
	atomic_store(&m->env.closing, true);
	pthread_mutex_lock(&m->devices_lock);
	end_changes_locked(m);
	while (m->ndevices) {
		struct device *dev = m->device[m->ndevices - 1];
		struct iothread *io = machine_take_out_locked(m, dev);

		/* From here on no other thread finds the device; to destroy it may take long. */
		pthread_mutex_unlock(&m->devices_lock);
		if (io)
			iothread_destroy(io);
		else
			device_destroy(dev);
		pthread_mutex_lock(&m->devices_lock);
	}
	m->devices_gone = true;
	pthread_cond_broadcast(&m->device_back);
	pthread_mutex_unlock(&m->devices_lock);
}

void machine_walk_devices(struct machine *m,
			  void (*fn)(void *opaque, const struct machine_device_info *info),
			  void *opaque)
{
	struct {
		struct machine_device_info info;
		char id[DEVICE_ID_BYTES], interface[sizeof(((struct device *)0)->interface)];
	} found[MACHINE_MAX_DEVICES];
	unsigned n = 0;

	pthread_mutex_lock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		const struct device *dev = m->device[i];
		struct pci_place place = { 0 };

		if (!dev->type->option) /* one of the board's own */
			continue;
		if (dev->pci)
			place = pci_func_place(dev->pci, 0);
		strcpy(found[n].id, dev->id);
		strcpy(found[n].interface, dev->interface);
		found[n++].info = (struct machine_device_info){ .type = dev->type->name,
								.pci = dev->pci,
								.slot = place.slot,
								.bar_base = place.bar_base,
								.bar_bytes = place.bar_bytes };
	}
	pthread_mutex_unlock(&m->devices_lock);
	for (unsigned i = 0; i < n; i++) {
		found[i].info.id = found[i].id;
		found[i].info.interface = *found[i].interface ? found[i].interface : NULL;
		fn(opaque, &found[i].info);
	}
}

/* Lists the devices of the loop's thread, the caller; none goes before it rests. Returns their number. */
static unsigned own_devices(struct machine *m, struct device *out[MACHINE_MAX_DEVICES])
{
	unsigned n = 0;

	pthread_mutex_lock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (!m->iothread[i])
			out[n++] = m->device[i];
	pthread_mutex_unlock(&m->devices_lock);
	return n;
}

void machine_prepare_devices(struct machine *m)
{
	struct device *dev[MACHINE_MAX_DEVICES];
	unsigned n = own_devices(m, dev);

	for (unsigned i = 0; i < n; i++)
		iothread_prepare(dev[i]);
}

int machine_start_iothreads(struct machine *m, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->iothread[i])
			rc = iothread_start(m->iothread[i], m->errands, err);
	return rc;
}

void machine_log_device_stats(struct machine *m)
{
	pthread_mutex_lock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];
		char line[256] = "";

		if (dev->ops->stats)
			dev->ops->stats(dev, line, sizeof(line));
		if (line[0])
			log_always(LOG_WARN, "%s: %s", dev->id, line);
	}
	pthread_mutex_unlock(&m->devices_lock);
}

void machine_press_power_button(struct machine *m)
{
	struct device *dev[MACHINE_MAX_DEVICES];
	unsigned n = own_devices(m, dev);

	for (unsigned i = 0; i < n; i++)
		if (dev[i]->ops->power_button)
			dev[i]->ops->power_button(dev[i]);
}

static void refresh(void *opaque)
{
	struct device *dev = opaque;

	if (dev->ops->refresh)
		dev->ops->refresh(dev);
}

void machine_refresh_devices(struct machine *m)
{
	struct device *dev[MACHINE_MAX_DEVICES];
	unsigned n = own_devices(m, dev);

	for (unsigned i = 0; i < n; i++)
		refresh(dev[i]);
	/* With the lock held no device ends, nor does its loop. */
	pthread_mutex_lock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->iothread[i])
			iothread_post(m->iothread[i], refresh);
	pthread_mutex_unlock(&m->devices_lock);
}
