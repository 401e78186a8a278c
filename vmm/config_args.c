/* config_args: parses the command line into a config. See config.h. */
#include "vmm/config_impl.h"

#include <errno.h>
#include <string.h>

static int no_option(const char *word, struct err *err)
{
	const char *names[CONFIG_NAMES_MAX];

	return keys_no_dashes(word, names, config_option_names(names, CONFIG_NAMES_MAX),
			      "a kernel is given as --kernel FILE", err);
}

static int parse_args(struct config *config, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		const struct device_type *type;
		const char *val;
		char name[KEYS_NAME_MAX];
		struct keyvals *kv;
		int rc, key;

		if (!strcmp(argv[i], "-v")) {
			rc = keys_set(&config->vm, config_keys[CONFIG_VERBOSE].name, NULL, err);
			if (rc)
				return rc;
			continue;
		}
		if (!keys_option(argv[i], name, &val))
			return no_option(argv[i], err);
		type = config_find_device(name);
		key = keys_find(config_keys, name);
		if (!type && key < 0)
			return config_unknown_option(name, err);
		if (!val && (type || config_keys[key].kind != KEY_BOOL))
			val = keys_next_word(argc, argv, &i);
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

enum config_option config_option_of(const char *name)
{
	int key = keys_find(config_keys, name);

	if (config_find_device(name))
		return CONFIG_OPTION_VALUE;
	if (key < 0 || config_keys[key].flags & KEY_HIDDEN)
		return CONFIG_OPTION_NONE;
	return config_keys[key].kind == KEY_BOOL ? CONFIG_OPTION_FLAG : CONFIG_OPTION_VALUE;
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
