/*
 * config_impl: what config's sources share, from the top down: config_args.c (the command line,
 * and the whole), config_json.c (a file) and config.c (the table, and the list of devices). Both
 * parsers turn what they read into names and texts for keys_set, which alone judges values.
 * Nobody else includes it.
 */
#ifndef BANTAM_CONFIG_IMPL_H
#define BANTAM_CONFIG_IMPL_H

#include "vmm/config.h"

/* The type whose option is "--NAME", or NULL. */
const struct device_type *config_find_device(const char *name);
/* Fills err with the nearest option's name; -EINVAL. */
int config_unknown_option(const char *name, struct err *err);
bool config_has_device(const struct config *config, const struct device_type *type);
/*
 * A new entry before config->device[at]; its keyvals *kv are the caller's to fill. -EINVAL: the
 * device exists and may not be repeated; -E2BIG; -ENOMEM.
 */
int config_insert_device(struct config *config, unsigned at, const struct device_type *type,
			 struct keyvals **kv, struct err *err);

/*
 * The JSON object in the file at path. What the config has already wins, but devices that may be
 * repeated are put before those that it has. 0 or -errno.
 */
int config_load_json(struct config *config, const char *path, struct err *err);

#endif
