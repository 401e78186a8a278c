/* config_args: parses the command line into a config. See config.h. */
#include "vmm/config_impl.h"

#include <errno.h>
#include <string.h>

static int parse_args(struct config *config, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		const struct device_type *type;
		const char *val;
		char name[64];
		struct keyvals *kv;
		size_t len;
		int rc, key;

		if (!strcmp(argv[i], "-v")) {
			rc = keys_set(&config->vm, config_keys[CONFIG_VERBOSE].name, NULL, err);
			if (rc)
				return rc;
			continue;
		}
		if (argv[i][0] != '-' || argv[i][1] != '-' || !argv[i][2])
			return err_set(err, EINVAL,
				       "\"%s\": not an option; a kernel is given as --kernel FILE",
				       argv[i]);
		len = strcspn(argv[i] + 2, "=");
		val = argv[i][2 + len] ? argv[i] + 3 + len : NULL;
		if (len >= sizeof(name))
			return config_unknown_option(argv[i] + 2, err);
		memcpy(name, argv[i] + 2, len);
		name[len] = 0;
		type = config_find_device(name);
		key = keys_find(config_keys, name);
		if (!type && key < 0)
			return config_unknown_option(name, err);
		/* The next word is the value, unless it is an option or no value is needed. */
		if (!val && (type || config_keys[key].kind != KEY_BOOL) && i + 1 < argc &&
		    strncmp(argv[i + 1], "--", 2))
			val = argv[++i];
		if (!type) {
			rc = keys_set(&config->vm, name, val, err);
		} else {
			rc = config_insert_device(config, config->ndevices, type, &kv, err);
			if (!rc)
				rc = keys_parse(kv, type->option, type->keys, val ? val : "", err);
		}
		if (rc)
			return rc;
	}
	return 0;
}

int config_parse(struct config *config, int argc, char **argv, struct err *err)
{
	int rc;

	config_start(config);
	rc = parse_args(config, argc, argv, err);
	if (rc)
		return rc;
	if (keys_has(&config->vm, CONFIG_CONFIG)) {
		rc = config_load_json(config, keys_text(&config->vm, CONFIG_CONFIG), err);
		if (rc)
			return rc;
	}
	rc = keys_finish(&config->vm, err);
	for (unsigned i = 0; i < config->ndevices && !rc; i++)
		if (config->device[i].type->check)
			rc = config->device[i].type->check(&config->device[i].kv, err);
	return rc ? rc : config_check_ids(config, err);
}
