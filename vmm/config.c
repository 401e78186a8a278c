/* config: see config.h. This file has the table of options and the list of devices. */
#include "vmm/config_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/confine/confine.h"
#include "vmm/core/parse.h"

#define CONFIG_MAX_DEVICES 64

const struct key config_keys[] = {
	[CONFIG_KERNEL] = { "kernel", KEY_PATH, KEY_READS, .meta = "FILE",
			    .help = "bzImage or vmlinux to boot; default: the one in the first disk" },
	[CONFIG_INITRD] = { "initrd", KEY_PATH, KEY_READS, .meta = "FILE",
			    .help = "initial RAM disk" },
	[CONFIG_CMDLINE] = { "cmdline", KEY_TEXT, KEY_EMPTY, .meta = "TEXT",
			     .help = "kernel command line; default: console= for the VM's console" },
	[CONFIG_SHELL] = { "shell", KEY_BOOL, .def = "off",
			   .help = "a shell in the guest; --kernel may be a build's folder or a release, or left out" },
	[CONFIG_MODULES] = { "modules", KEY_PATH, .meta = "DIR",
			     .help = "with --shell: take modules from DIR, not the kernel's own" },
	[CONFIG_CPUS] = { "cpus", KEY_NUM, .def = "1", .min = 1, .max = BOARD_MAX_CPUS, .meta = "N",
			  .help = "number of vCPUs" },
	[CONFIG_MEMORY] = { "memory", KEY_SIZE, .def = "512M", .min = 4 << 20, .max = 1ull << 42,
			    .meta = "SIZE", .help = "guest memory, such as 512M or 2G" },
	[CONFIG_HUGEPAGES] = { "hugepages", KEY_CHOICE, .choices = "auto|thp|off|2M", .def = "auto",
			       .meta = "auto|thp|off|2M",
			       .help = "the host's pages of guest memory; off: many small guests share a host" },
	[CONFIG_TRANSPORT] = { "transport", KEY_CHOICE, .choices = "pci|mmio", .def = "pci",
			       .meta = "pci|mmio", .help = "how virtio devices are attached" },
	[CONFIG_ENTRY] = { "entry", KEY_CHOICE, .choices = "auto|linux64|pvh", .def = "auto",
			   .meta = "auto|linux64|pvh",
			   .help = "which entry point of the kernel to use" },
	[CONFIG_UNPACK] = { "unpack", KEY_CHOICE, .choices = "auto|on|off", .def = "auto",
			    .meta = "auto|on|off",
			    .help = "unpack a bzImage on the host and cache it; off: the guest unpacks it" },
	[CONFIG_BACKING_DIR] = { "backing-dir", KEY_PATH, KEY_LIST | KEY_READS, .meta = "DIR",
				 .help = "backing files of disks may also lie in or below DIR; may be repeated" },
	[CONFIG_API_SOCKET] = { "api-socket", KEY_PATH, .meta = "PATH",
				.help = "serve the API at PATH, for bantam ctl and curl" },
	[CONFIG_CONFIG] = { "config", KEY_PATH, .meta = "FILE.json",
			    .help = "read these options from a JSON file (- is standard input); the command line wins" },
	[CONFIG_DRY_RUN] = { "dry-run", KEY_BOOL, .def = "off",
			     .help = "print the resolved machine and exit" },
	[CONFIG_STATS] = { "stats", KEY_BOOL, .def = "off",
			   .help = "count exits by reason and print them at the end" },
	[CONFIG_QUIET] = { "quiet", KEY_BOOL, .def = "off",
			   .help = "no final line on stderr; only the exit status" },
	[CONFIG_VERBOSE] = { "verbose", KEY_BOOL, .def = "off",
			     .help = "also say on stderr what is done otherwise without a word" },
	[CONFIG_EXIT_WITH_PARENT] = { "exit-with-parent", KEY_BOOL, .def = "off",
				      .help = "end as by SIGTERM when the process that started bantam ends" },
	[CONFIG_CONFINE] = { "confine", KEY_CHOICE, .choices = CONFINE_CHOICES, .def = "on",
			     .meta = CONFINE_CHOICES,
			     .help = "take from the process what its VM does not need; require: an error if the host refuses a part" },
	[CONFIG_UID] = { "uid", KEY_TEXT, .meta = "USER",
			 .help = "as root: become USER, a name or a number, before files are opened" },
	[CONFIG_GID] = { "gid", KEY_TEXT, .meta = "GROUP",
			 .help = "with --uid: the group, not the one of USER" },
	[CONFIG_CHROOT] = { "chroot", KEY_PATH, .meta = "DIR",
			    .help = "as root: make DIR the root; all paths of the VM are below it" },
	[CONFIG_NETNS] = { "netns", KEY_TEXT, .meta = "NAME|PATH",
			   .help = "as root: use this network namespace (ip netns add NAME)" },
	[CONFIG_CGROUP] = { "cgroup", KEY_TEXT, .meta = "NAME|PATH",
			    .help = "run in this group of cgroup v2, made if it is not there" },
	[CONFIG_LIMIT] = { "limit", KEY_TEXT, KEY_LIST, .meta = "KEY=VALUE,…",
			   .help = "limits of the group of --cgroup, and of the process; may be repeated" },
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

size_t config_option_names(const char **names, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; config_keys[i].name && n < max; i++)
		if (!(config_keys[i].flags & KEY_HIDDEN))
			names[n++] = config_keys[i].name;
	for (size_t i = 0; device_types[i] && n < max; i++)
		if (device_types[i]->option)
			names[n++] = device_types[i]->option + 2;
	return n;
}

int config_unknown_option(const char *name, struct err *err)
{
	const char *names[CONFIG_NAMES_MAX];

	return keys_no_option("run", name, names, config_option_names(names, CONFIG_NAMES_MAX),
			      err);
}

unsigned config_count_devices(const struct config *config, const struct device_type *type)
{
	unsigned n = 0;

	for (unsigned i = 0; i < config->ndevices; i++)
		n += config->device[i].type == type;
	return n;
}

int config_insert_device(struct config *config, unsigned at, const struct device_type *type,
			 struct keyvals **kv, struct err *err)
{
	unsigned before = config_count_devices(config, type);
	struct config_device *grown;

	if (!type->repeat && before)
		return err_set(err, EINVAL, "%s: given twice", type->option);
	if (type->max && before == type->max)
		return err_set(err, EINVAL, "%s: given more than %u times; a VM has %u at most",
			       type->option, type->max, type->max);
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

void config_start(struct config *config)
{
	memset(config, 0, sizeof(*config));
	keys_start(&config->vm, "", config_keys);
}

int config_add_device(struct config *config, const char *option, struct config_device **out,
		      struct err *err)
{
	const struct device_type *type = config_find_device(option);
	struct keyvals *kv;
	int rc;

	*out = NULL;
	if (!type)
		return config_unknown_option(option, err);
	rc = config_insert_device(config, config->ndevices, type, &kv, err);
	if (!rc)
		*out = &config->device[config->ndevices - 1];
	return rc;
}

int config_finish_device(struct config_device *device, struct err *err)
{
	int rc = keys_finish(&device->kv, err);

	return rc || !device->type->check ? rc : device->type->check(&device->kv, err);
}

int config_take_device(struct config *config, struct config_device *from, struct err *err)
{
	struct config_device *added;
	int rc = config_add_device(config, from->type->option + 2, &added, err);

	if (rc)
		return rc;
	*added = *from;
	memset(from->kv.val, 0, sizeof(from->kv.val));
	return 0;
}

void config_drop_device(struct config *config, unsigned at)
{
	BUG_ON(at >= config->ndevices);
	keys_clear(&config->device[at].kv);
	config->ndevices--;
	memmove(&config->device[at], &config->device[at + 1],
		(config->ndevices - at) * sizeof(config->device[0]));
}

void config_device_id(const struct config *config, unsigned at, char id[DEVICE_ID_BYTES])
{
	const struct config_device *d = &config->device[at];
	const char *own = d->id[0] ? d->id : keys_text_of(&d->kv, "id");
	unsigned before = 0;

	if (own && *own) {
		snprintf(id, DEVICE_ID_BYTES, "%s", own);
		return;
	}
	for (unsigned i = 0; i < at; i++)
		before += config->device[i].type == d->type;
	snprintf(id, DEVICE_ID_BYTES, "%s%u", d->type->option + 2, before);
}

/* Two devices with the same option and the same value of a key that tells them apart in the guest. */
static int check_unique(const struct config_device *d, const struct config_device *other,
			struct err *err)
{
	if (d->type != other->type)
		return 0;
	for (unsigned i = 0; d->kv.table[i].name; i++) {
		const char *text = keys_text(&d->kv, i), *before = keys_text(&other->kv, i);

		if (d->kv.table[i].flags & KEY_UNIQUE && text && before && !strcmp(text, before))
			return err_set(err, EEXIST, "%s: %s=%s: another %s has the same %s",
				       d->type->option, d->kv.table[i].name, text, d->type->option,
				       d->kv.table[i].name);
	}
	return 0;
}

int config_check_ids(const struct config *config, struct err *err)
{
	char id[DEVICE_ID_BYTES], other[DEVICE_ID_BYTES];

	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct config_device *d = &config->device[i];
		const char *key = keys_text_of(&d->kv, "id");

		if (key && strlen(key) >= DEVICE_ID_BYTES)
			return err_set(err, EINVAL, "%s: id=%.20s…: longer than %d bytes",
				       d->type->option, key, DEVICE_ID_BYTES - 1);
		config_device_id(config, i, id);
		for (unsigned j = 0; j < i; j++) {
			int rc = check_unique(d, &config->device[j], err);

			if (rc)
				return rc;
			config_device_id(config, j, other);
			if (!strcmp(id, other))
				return err_set(err, EEXIST,
					       "%s: the id \"%s\" is that of another %s; give one "
					       "of them another id",
					       d->type->option, id,
					       config->device[j].type->option + 2);
		}
	}
	return 0;
}

static void clear_platform(struct config_platform *p)
{
	char *const text[] = { p->manufacturer, p->product_name, p->version, p->serial_number,
			       p->uuid,		p->sku_number,	 p->family,  p->chassis_asset_tag };

	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		free(text[i]);
	for (unsigned i = 0; i < p->noem_strings; i++)
		free(p->oem_string[i]);
	free(p->oem_string);
}

void config_clear(struct config *config)
{
	keys_clear(&config->vm);
	for (unsigned i = 0; i < config->ndevices; i++)
		keys_clear(&config->device[i].kv);
	free(config->device);
	clear_platform(&config->platform);
	for (unsigned i = 0; i < config->cpus.naffinity; i++)
		free(config->cpus.affinity[i].host_cpu);
	free(config->cpus.affinity);
	memset(config, 0, sizeof(*config));
}
