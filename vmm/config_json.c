/* config_json: adds a JSON file to a config. See config_impl.h. */
#include "vmm/config_impl.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

/* Returns the form that a JSON value of this kind must have, for messages. */
static const char *json_shape(const struct key *key)
{
	switch (key->kind) {
	case KEY_NUM:
		return "a whole number";
	case KEY_SIZE:
		return "a size such as \"512M\", or a number of bytes";
	case KEY_BOOL:
		return "true or false";
	case KEY_DURATION:
		return "a duration such as \"60s\"";
	case KEY_TEXT:
	case KEY_PATH:
	case KEY_CHOICE:
		break;
	}
	return "a text";
}

/*
 * Returns a JSON value as the command line's text for it, or NULL if the key does not take such a
 * value. A number is written to buf.
 */
static const char *json_text(const struct key *key, const json_t *val, char *buf, size_t len)
{
	switch (json_typeof(val)) {
	case JSON_STRING:
		return json_string_value(val);
	case JSON_INTEGER:
		if (key->kind != KEY_NUM && key->kind != KEY_SIZE && key->kind != KEY_CHOICE)
			return NULL;
		snprintf(buf, len, "%" JSON_INTEGER_FORMAT, json_integer_value(val));
		return buf;
	case JSON_TRUE:
	case JSON_FALSE:
		if (key->kind != KEY_BOOL && key->kind != KEY_CHOICE)
			return NULL;
		return json_is_true(val) ? "on" : "off";
	default:
		return NULL;
	}
}

static int set_json(struct keyvals *kv, const char *name, const json_t *val, struct err *err)
{
	int i = keys_find(kv->table, name);
	const struct key *key;
	const char *text;
	char buf[32];

	if (i < 0) /* keys_set's error names the nearest key */
		return keys_set(kv, name, NULL, err);
	key = &kv->table[i];
	if ((key->flags & KEY_LIST) && json_is_array(val)) {
		size_t at;
		json_t *item;

		json_array_foreach(val, at, item)
		{
			int rc = json_is_array(item) ?
					 err_set(err, EINVAL, "\"%s\": a list in a list", name) :
					 set_json(kv, name, item, err);

			if (rc)
				return rc;
		}
		return 0;
	}
	text = json_text(key, val, buf, sizeof(buf));
	if (!text)
		return err_set(err, EINVAL, "%s%s\"%s\": must be %s", kv->option,
			       *kv->option ? ": " : "", name, json_shape(key));
	return keys_set(kv, name, text, err);
}

/* A device is a text as on the command line, an object of its keys, or true (all defaults). */
static int load_device(struct config *config, unsigned at, const struct device_type *type,
		       json_t *val, struct err *err)
{
	struct keyvals *kv;
	const char *name;
	json_t *item;
	int rc = config_insert_device(config, at, type, &kv, err);

	if (rc)
		return rc;
	if (json_is_string(val))
		return keys_parse(kv, type->option, type->keys, json_string_value(val), err);
	if (!json_is_object(val) && !json_is_true(val))
		return err_set(err, EINVAL, "\"%s\": must be a text, an object or true",
			       type->option + 2);
	json_object_foreach(val, name, item)
	{
		rc = set_json(kv, name, item, err);
		if (rc)
			return rc;
	}
	return keys_finish(kv, err);
}

static int load_entry(struct config *config, unsigned *at, const char *name, json_t *val,
		      struct err *err)
{
	const struct device_type *type = config_find_device(name);
	size_t i, n = json_is_array(val) ? json_array_size(val) : 1;

	if (!type) {
		int k = keys_find(config_keys, name);

		if (k < 0)
			return config_unknown_option(name, err);
		if (k == CONFIG_CONFIG || k == CONFIG_HELP)
			return err_set(err, EINVAL, "\"%s\": only on the command line", name);
		/* The command line overrides the file. */
		return config->vm.val[k].set ? 0 : set_json(&config->vm, name, val, err);
	}
	if ((!type->repeat || type->max) && config_count_devices(config, type))
		return 0;
	for (i = 0; i < n; i++) {
		json_t *item = json_is_array(val) ? json_array_get(val, i) : val;
		int rc = load_device(config, *at, type, item, err);

		if (rc)
			return rc;
		++*at;
	}
	return 0;
}

static int read_json(const char *path, json_t **root, struct err *err)
{
	json_error_t why;
	struct stat st;
	bool standard = !strcmp(path, "-");
	FILE *file = standard ? stdin : fopen(path, "re");
	int rc = 0;

	if (!file || fstat(fileno(file), &st))
		rc = err_sys(err, errno, "--config %s", path);
	else if (S_ISDIR(st.st_mode))
		rc = err_sys(err, EISDIR, "--config %s", path);
	else if (!(*root = json_loadf(file, JSON_REJECT_DUPLICATES, &why)))
		rc = err_set(err, EINVAL, "--config %s: line %d: %s", path, why.line, why.text);
	if (file && !standard)
		fclose(file);
	return rc;
}

int config_load_json(struct config *config, const char *path, struct err *err)
{
	json_t *root = NULL, *val;
	struct err why = { "" };
	const char *name;
	unsigned at = 0;
	int rc = read_json(path, &root, err);

	if (rc)
		return rc;
	if (!json_is_object(root))
		rc = err_set(&why, EINVAL, "must hold one JSON object");
	else
		json_object_foreach(root, name, val)
		{
			rc = load_entry(config, &at, name, val, &why);
			if (rc)
				break;
		}
	json_decref(root);
	return rc ? err_set(err, -rc, "--config %s: %s", path, why.text) : 0;
}
