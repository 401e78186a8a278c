/* consoles: the consoles of a VM, which are open as long as it has a configuration. See vm.h. */
#include <stdio.h>
#include <string.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/serial.h"
#include "devices/virtio/console/console.h"
#include "vmm/vm/vm_impl.h"

static bool is_console(const struct config_device *d)
{
	return d->type == &serial_type || d->type == &virtio_console_type ||
	       d->type == &virtio_port_type;
}

static int open_console(struct vm *vm, struct config_device *d, struct err *err)
{
	return chardev_off(&d->kv) ? 0 : chardev_pool_open(vm->consoles, d->id, &d->kv, err);
}

/* A configuration without a serial port has one on stdio, unless a console is there. */
static int open_default_serial(struct vm *vm, struct config *config, struct err *err)
{
	struct config_device *d;
	int rc = config_add_device(config, "serial", &d, err);

	if (!rc)
		rc = keys_set(&d->kv, "sink", "stdio", err);
	if (!rc)
		rc = config_finish_device(d, err);
	if (rc)
		return rc;
	strcpy(d->id, "__serial");
	return open_console(vm, d, err);
}

int vm_open_consoles(struct vm *vm, struct config *config, struct err *err)
{
	bool serial = false;
	int rc = chardev_pool_create(&vm->consoles, err);

	for (unsigned i = 0; !rc && i < config->ndevices; i++) {
		struct config_device *d = &config->device[i];

		if (!is_console(d))
			continue;
		/* The first serial port has no id of its own in a VmConfig. */
		if (d->type == &serial_type && !serial)
			strcpy(d->id, "__serial");
		else if (!d->id[0])
			config_device_id(config, i, d->id);
		serial |= d->type == &serial_type;
		rc = open_console(vm, d, err);
	}
	if (!rc && !serial && !chardev_stdio_taken())
		rc = open_default_serial(vm, config, err);
	if (rc) {
		chardev_pool_destroy(vm->consoles);
		vm->consoles = NULL;
	}
	return rc;
}

/* Writes the path of a pseudo-terminal into the configuration, as its "file". */
static void show_pty(struct vm *vm, json_t *config, const char *key, const char *id)
{
	json_t *console = json_object_get(config, key);
	const char *mode = json_string_value(json_object_get(console, "mode"));
	const char *path = chardev_pool_path(vm->consoles, id);

	if (path && mode && !strcmp(mode, "Pty"))
		json_object_set_new(console, "file", json_string(path));
}

void vm_show_ptys(struct vm *vm, const struct config *from, json_t *config)
{
	/* Backwards: the first of its kind is the one that the VmConfig shows. */
	for (unsigned i = from->ndevices; i-- > 0;) {
		const struct config_device *d = &from->device[i];

		if (d->type == &serial_type)
			show_pty(vm, config, "serial", d->id);
		else if (d->type == &virtio_console_type)
			show_pty(vm, config, "console", d->id);
	}
}
