/*
 * pvpanic: one port. The guest reads which events it may report, and writes one. "Panicked" ends
 * the VM as a panic; "crash loaded" reports that a crash kernel has taken over. Threads: any vCPU.
 * Nothing changes after create, so a snapshot has nothing to save.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/board/platform.h"

struct pvpanic {
	struct device dev;
	const struct device_env *env;
	uint16_t port;
};

static const struct device_type pvpanic_type = { .name = "pvpanic" };

static uint64_t pvpanic_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pvpanic *pv = opaque;

	if (val & PVPANIC_CRASH_LOADED)
		pv->env->ops->event(pv->env->vm, VM_EVENT_CRASH_LOADED);
	if (val & PVPANIC_PANICKED)
		pv->env->ops->event(pv->env->vm, VM_EVENT_PANIC);
}

static const struct bus_ops pvpanic_bus = { pvpanic_read, pvpanic_write };

static void pvpanic_destroy(struct device *dev)
{
	struct pvpanic *pv = (struct pvpanic *)dev;

	bus_remove(pv->env->pio, pv->port);
	free(pv);
}

static void pvpanic_describe(struct device *dev, char *buf, size_t len)
{
	struct pvpanic *pv = (struct pvpanic *)dev;

	snprintf(buf, len, "port 0x%x", pv->port);
}

static const struct device_ops pvpanic_ops = {
	.destroy = pvpanic_destroy,
	.describe = pvpanic_describe,
};

int pvpanic_create(const struct device_env *env, uint16_t port, struct device **out,
		   struct err *err)
{
	struct pvpanic *pv = calloc(1, sizeof(*pv));
	int rc;

	*out = NULL;
	if (!pv)
		return err_sys(err, ENOMEM, "pvpanic");
	pv->dev = (struct device){ &pvpanic_type, &pvpanic_ops, "pvpanic" };
	pv->env = env;
	pv->port = port;
	rc = bus_add(env->pio, port, 1, &pvpanic_bus, pv);
	if (rc) {
		free(pv);
		return err_sys(err, -rc, "pvpanic: port 0x%x", port);
	}
	*out = &pv->dev;
	return 0;
}
