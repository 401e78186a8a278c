/* consoles: the consoles of a VM, which are open as long as it has a configuration. See vm.h. */
#include <stdio.h>
#include <string.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/serial.h"
#include "devices/virtio/console.h"
#include "vmm/vm/vm_impl.h"

static bool is_console(const struct config_device *d)
{
	return d->type == &serial_type || d->type == &virtio_console_type;
}

int vm_open_consoles(struct vm *vm, struct config *config, struct err *err)
{
	unsigned nserial = 0, nconsole = 0;
	int rc = chardev_pool_create(&vm->consoles, err);

	for (unsigned i = 0; !rc && i < config->ndevices; i++) {
		struct config_device *d = &config->device[i];

		if (!is_console(d))
			continue;
		if (!d->id[0])
			snprintf(d->id, sizeof(d->id), "%s%u", d->type->option + 2,
				 d->type == &serial_type ? nserial++ : nconsole++);
		if (!chardev_off(&d->kv))
			rc = chardev_pool_open(vm->consoles, d->id, &d->kv, err);
	}
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
	for (unsigned i = from->ndevices; i-- > 0;)
		if (is_console(&from->device[i]))
			show_pty(vm, config,
				 from->device[i].type == &serial_type ? "serial" : "console",
				 from->device[i].id);
}
