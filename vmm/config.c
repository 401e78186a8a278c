/* config: see config.h. */
#include "vmm/config_impl.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/core/parse.h"

#define CONFIG_MAX_DEVICES 64

const struct key config_keys[] = {
	[CONFIG_KERNEL] = { "kernel", KEY_PATH, .meta = "FILE",
			    .help = "bzImage or vmlinux to boot; without it, the one in the first disk" },
	[CONFIG_INITRD] = { "initrd", KEY_PATH, .meta = "FILE", .help = "initial RAM disk" },
	[CONFIG_CMDLINE] = { "cmdline", KEY_TEXT, .meta = "TEXT",
			     .help = "kernel command line; without it, the console that there is" },
	[CONFIG_CPUS] = { "cpus", KEY_NUM, .def = "1", .min = 1, .max = BOARD_MAX_CPUS, .meta = "N",
			  .help = "number of vCPUs" },
	[CONFIG_MEMORY] = { "memory", KEY_SIZE, .def = "512M", .min = 4 << 20, .max = 1ull << 42,
			    .meta = "SIZE", .help = "guest memory, such as 512M or 2G" },
	[CONFIG_TRANSPORT] = { "transport", KEY_CHOICE, .choices = "pci|mmio", .def = "pci",
			       .meta = "pci|mmio", .help = "how virtio devices are attached" },
	[CONFIG_ENTRY] = { "entry", KEY_CHOICE, .choices = "auto|linux64|pvh", .def = "auto",
			   .meta = "auto|linux64|pvh",
			   .help = "which entry point of the kernel to use" },
	[CONFIG_UNPACK] = { "unpack", KEY_CHOICE, .choices = "auto|on|off", .def = "auto",
			    .meta = "auto|on|off",
			    .help = "unpack a bzImage on the host and cache it; off: the guest does" },
	[CONFIG_CONFIG] = { "config", KEY_PATH, .meta = "FILE.json",
			    .help = "read these options from a JSON file; the command line wins" },
	[CONFIG_DRY_RUN] = { "dry-run", KEY_BOOL, .def = "off",
			     .help = "print the resolved machine and exit" },
	[CONFIG_STATS] = { "stats", KEY_BOOL, .def = "off",
			   .help = "count exits by reason and print them at the end" },
	[CONFIG_QUIET] = { "quiet", KEY_BOOL, .def = "off",
			   .help = "no final line on stderr; the exit status tells" },
	[CONFIG_HELP] = { "help", KEY_BOOL, .def = "off", .help = "this text" },
	{ 0 },
};

const struct device_type *config_find_device(const char *name)
{
	for (size_t i = 0; device_types[i]; i++)
		if (device_types[i]->option && !strcmp(device_types[i]->option + 2, name))
			return device_types[i];
	return NULL;
}

/* Every option's name, for "did you mean". */
int config_unknown_option(const char *name, struct err *err)
{
	const char *names[KEYS_MAX + CONFIG_MAX_DEVICES], *near;
	size_t n = 0;

	for (size_t i = 0; config_keys[i].name; i++)
		names[n++] = config_keys[i].name;
	for (size_t i = 0; device_types[i] && n < sizeof(names) / sizeof(names[0]); i++)
		if (device_types[i]->option)
			names[n++] = device_types[i]->option + 2;
	near = parse_nearest(name, names, n);
	return err_set(err, EINVAL, "unknown option --%s%s%s%s", name,
		       near ? "; did you mean --" : "; see bantam run --help", near ? near : "",
		       near ? "?" : "");
}

bool config_has_device(const struct config *config, const struct device_type *type)
{
	for (unsigned i = 0; i < config->ndevices; i++)
		if (config->device[i].type == type)
			return true;
	return false;
}

/* A new entry at the place given; its keyvals are the caller's to fill. */
int config_insert_device(struct config *config, unsigned at, const struct device_type *type,
			 struct keyvals **kv, struct err *err)
{
	struct config_device *grown;

	if (!type->repeat && config_has_device(config, type))
		return err_set(err, EINVAL, "%s: given twice", type->option);
	if (config->ndevices == CONFIG_MAX_DEVICES)
		return err_set(err, E2BIG, "%s: more than %d devices", type->option,
			       CONFIG_MAX_DEVICES);
	grown = realloc(config->device, (config->ndevices + 1) * sizeof(*grown));
	if (!grown)
		return err_sys(err, ENOMEM, "%s", type->option);
	config->device = grown;
	memmove(&grown[at + 1], &grown[at], (config->ndevices - at) * sizeof(*grown));
	config->ndevices++;
	memset(&grown[at], 0, sizeof(*grown));
	grown[at].type = type;
	keys_start(&grown[at].kv, type->option, type->keys);
	*kv = &grown[at].kv;
	return 0;
}

int config_load_args(struct config *config, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		const struct device_type *type;
		const char *val;
		char name[64];
		struct keyvals *kv;
		size_t len;
		int rc, known = 0;

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
		for (int k = 0; config_keys[k].name; k++)
			if (!strcmp(config_keys[k].name, name))
				known = 1 + (config_keys[k].kind == KEY_BOOL);
		if (!type && !known)
			return config_unknown_option(name, err);
		/* The next word is the value, unless it is an option or none is needed. */
		if (!val && known != 2 && i + 1 < argc && strncmp(argv[i + 1], "--", 2))
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

/* How a JSON value of this kind must look. */
static const char *json_shape(const struct key *key)
{
	switch (key->kind) {
	case KEY_NUM:
		return "a whole number";
	case KEY_SIZE:
		return "a size such as \"512M\", or a number of bytes";
	case KEY_BOOL:
		return "true or false";
	case KEY_TEXT:
	case KEY_PATH:
	case KEY_CHOICE:
		break;
	}
	return "a text";
}

/* A JSON value as the text that the command line would have; buf for numbers. NULL: refused. */
static const char *json_text(const struct key *key, const json_t *val, char *buf, size_t len)
{
	switch (json_typeof(val)) {
	case JSON_STRING:
		return json_string_value(val);
	case JSON_INTEGER:
		if (key->kind != KEY_NUM && key->kind != KEY_SIZE)
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
	const struct key *key = kv->table;
	const char *text;
	char buf[32];

	while (key->name && strcmp(key->name, name))
		key++;
	if (!key->name) /* keys_set says what is near */
		return keys_set(kv, name, NULL, err);
	if ((key->flags & KEY_LIST) && json_is_array(val)) {
		size_t i;
		json_t *item;

		json_array_foreach(val, i, item)
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

/* A device is text as on the command line, an object of its keys, or true: all defaults. */
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
		int k = 0;

		while (config_keys[k].name && strcmp(config_keys[k].name, name))
			k++;
		if (!config_keys[k].name)
			return config_unknown_option(name, err);
		if (k == CONFIG_CONFIG || k == CONFIG_HELP)
			return err_set(err, EINVAL, "\"%s\": only on the command line", name);
		/* The command line wins. */
		return config->vm.val[k].set ? 0 : set_json(&config->vm, name, val, err);
	}
	if (!type->repeat && config_has_device(config, type))
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
	FILE *file = fopen(path, "re");
	int rc = 0;

	if (!file || fstat(fileno(file), &st))
		rc = err_sys(err, errno, "--config %s", path);
	else if (S_ISDIR(st.st_mode))
		rc = err_sys(err, EISDIR, "--config %s", path);
	else if (!(*root = json_loadf(file, JSON_REJECT_DUPLICATES, &why)))
		rc = err_set(err, EINVAL, "--config %s: line %d: %s", path, why.line, why.text);
	if (file)
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

int config_parse(struct config *config, int argc, char **argv, struct err *err)
{
	int rc;

	memset(config, 0, sizeof(*config));
	keys_start(&config->vm, "", config_keys);
	rc = config_load_args(config, argc, argv, err);
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
	return rc;
}

void config_clear(struct config *config)
{
	keys_clear(&config->vm);
	for (unsigned i = 0; i < config->ndevices; i++)
		keys_clear(&config->device[i].kv);
	free(config->device);
	memset(config, 0, sizeof(*config));
}

/* Characters of UTF-8. */
static int width_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void help_line(FILE *out, int indent, const char *lead, const char *help, const char *def)
{
	int width = 34, used = indent + width_of(lead);

	fprintf(out, "%*s%s", indent, "", lead);
	/* A long lead takes a line of its own. */
	if (used >= width)
		used = fprintf(out, "\n") - 1;
	fprintf(out, "%*s%s", width - used, "", help);
	if (def)
		fprintf(out, " [%s]", def);
	fputc('\n', out);
}

void config_help(FILE *out)
{
	char lead[160];

	fputs("usage: bantam run --kernel FILE | --disk FILE [OPTION]…\n\n"
	      "Boots one VM and ends with it. Exit status: 0 power-off, 1 error, 2 wrong usage,\n"
	      "3 reboot, 4 guest panic (pvpanic), 5 emergency restart (panic=N, sysrq-b),\n"
	      "6 triple fault, 7 KVM cannot run the guest, 128+N killed by signal N.\n\n",
	      out);
	for (const struct key *k = config_keys; k->name; k++) {
		snprintf(lead, sizeof(lead), "--%s%s%s", k->name, k->meta ? " " : "",
			 k->meta ? k->meta : "");
		help_line(out, 2, lead, k->help, k->kind == KEY_BOOL ? NULL : k->def);
	}
	for (size_t i = 0; device_types[i]; i++) {
		const struct device_type *t = device_types[i];

		if (!t->option)
			continue;
		snprintf(lead, sizeof(lead), "%s KEY=VALUE,…", t->option);
		fputc('\n', out);
		help_line(out, 2, lead, t->help, t->repeat ? "may be repeated" : NULL);
		for (const struct key *k = t->keys; k->name; k++) {
			const char *meta = k->kind == KEY_CHOICE ? k->choices :
					   k->kind == KEY_BOOL	 ? "on|off" :
					   k->meta		 ? k->meta :
								   "…";

			snprintf(lead, sizeof(lead), k->flags & KEY_BARE ? "[%s=]%s" : "%s=%s",
				 k->name, meta);
			help_line(out, 6, lead, k->help, k->def);
		}
	}
}
