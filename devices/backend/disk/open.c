/* disk/open: the factory: which format a disk's image has. See disk.h. */
#include "devices/backend/disk/disk_impl.h"

#include <errno.h>
#include <stddef.h>

int disk_open(const struct disk_config *cfg, struct disk **out, struct err *err)
{
	struct store_options options = { .path = cfg->path, .format = cfg->format };
	struct store_looks looks;
	int rc;

	*out = NULL;
	rc = store_choose_format(&options, err);
	if (rc == -EINVAL && cfg->for_vmconfig)
		return err_set(err, -rc,
			       "disk %s: begins like a qcow2 image but is not named .qcow2; set "
			       "image_type to Qcow2, or to Raw if a guest wrote that there",
			       cfg->path);
	if (rc == -ENOTSUP && cfg->for_vmconfig) {
		store_look(cfg->path, NULL, &looks);
		return looks.foreign ?
			       store_refuse_foreign(cfg->path, &looks, "image_type Raw", err) :
			       rc;
	}
	if (rc)
		return rc;
	return options.format == STORE_QCOW2 ? disk_qcow2_open(cfg, out, err) :
					       disk_raw_open(cfg, out, err);
}
