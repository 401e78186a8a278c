/*
 * config_impl: what config's sources share, from the top down: config_args.c (the command line,
 * and config_parse), config_json.c (a file) and config.c (the table, and the list of devices). Both
 * parsers turn their input into names and texts for keys_set, and only keys_set checks values.
 * Only these sources include this header.
 */
#ifndef BANTAM_CONFIG_IMPL_H
#define BANTAM_CONFIG_IMPL_H

#include "vmm/config.h"

/* Returns the device type whose option is "--NAME", or NULL. */
const struct device_type *config_find_device(const char *name);
/* Sets err to "unknown option", with the nearest option's name. Returns -EINVAL. */
int config_unknown_option(const char *name, struct err *err);
/* How many devices of this type the config has. */
unsigned config_count_devices(const struct config *config, const struct device_type *type);
/*
 * Inserts an entry before config->device[at]; the caller fills its keyvals *kv. Returns 0, -EINVAL
 * if the device may not be given once more, -E2BIG if there are too many, or -ENOMEM.
 */
int config_insert_device(struct config *config, unsigned at, const struct device_type *type,
			 struct keyvals **kv, struct err *err);

/*
 * Adds the JSON object in the file at path. Options and devices that the config already has stay;
 * devices that may be repeated without a limit are put before the config's own. Returns 0 or -errno.
 */
int config_load_json(struct config *config, const char *path, struct err *err);

#endif
