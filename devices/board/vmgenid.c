/*
 * vmgenid: Microsoft's Virtual Machine Generation ID. A 128-bit random number in guest memory,
 * whose address ACPI reports (ADDR). When it changes, the guest reseeds its random generator and
 * drops what must not be used twice.
 *
 * Threads: any thread may regenerate, with the vCPUs stopped or not. Only guest memory changes
 * after create, so a snapshot has nothing to save here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "devices/board/platform.h"

struct vmgenid {
	struct device dev;
	const struct device_env *env;
	gpa_t addr;
	struct device *pm;
	uint32_t ged_bit;
};

static const struct device_type vmgenid_type = { .name = "vmgenid" };

static int write_guid(struct vmgenid *gen, struct err *err)
{
	uint8_t guid[VMGENID_BYTES];

	/*
	 * getrandom fills 16 bytes or fails. GRND_NONBLOCK would fail on a host that just booted.
	 */
	if (getrandom(guid, sizeof(guid), 0) != sizeof(guid))
		return err_sys(err, errno, "vmgenid: no random number");
	if (!mem_write(gen->env->mem, gen->addr, guid, sizeof(guid)))
		return err_set(err, EFAULT, "vmgenid: no guest memory at 0x%llx",
			       (unsigned long long)gen->addr.v);
	return 0;
}

int vmgenid_regenerate(struct device *dev, struct err *err)
{
	struct vmgenid *gen = (struct vmgenid *)dev;
	int rc = write_guid(gen, err);

	if (!rc)
		acpi_pm_notify(gen->pm, gen->ged_bit);
	return rc;
}

static void vmgenid_destroy(struct device *dev)
{
	free(dev);
}

static void vmgenid_describe(struct device *dev, char *buf, size_t len)
{
	struct vmgenid *gen = (struct vmgenid *)dev;

	snprintf(buf, len, "memory at 0x%llx", (unsigned long long)gen->addr.v);
}

static const struct device_ops vmgenid_ops = {
	.destroy = vmgenid_destroy,
	.describe = vmgenid_describe,
};

int vmgenid_create(const struct device_env *env, gpa_t addr, struct device *pm, uint32_t ged_bit,
		   struct device **out, struct err *err)
{
	struct vmgenid *gen = calloc(1, sizeof(*gen));
	int rc;

	*out = NULL;
	if (!gen)
		return err_sys(err, ENOMEM, "vmgenid");
	*gen = (struct vmgenid){
		{ &vmgenid_type, &vmgenid_ops, "vmgenid" }, env, addr, pm, ged_bit
	};
	rc = write_guid(gen, err);
	if (rc) {
		free(gen);
		return rc;
	}
	*out = &gen->dev;
	return 0;
}
