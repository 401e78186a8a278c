/* config_help: prints --help from the tables of options. See config.h. */
#include "vmm/config_impl.h"
#include "vmm/confine/confine.h"
#include "vmm/usage/usage.h"

void config_help_key(FILE *out, const char *letter, const struct key *key)
{
	char lead[160];

	snprintf(lead, sizeof(lead), "%s--%s%s%s", letter, key->name, key->meta ? " " : "",
		 key->meta ? key->meta : "");
	usage_row(out, 2, USAGE_HELP_AT, lead, key->help, key->kind == KEY_BOOL ? NULL : key->def);
}

static void help_device(FILE *out, const struct device_type *type)
{
	char lead[160], repeat[32];

	snprintf(lead, sizeof(lead), "%s KEY=VALUE,…", type->option);
	snprintf(repeat, sizeof(repeat), type->max ? "at most %u" : "may be repeated", type->max);
	usage_row(out, 2, USAGE_HELP_AT, lead, type->help, type->repeat ? repeat : NULL);
}

void config_help_option(FILE *out, const char *name)
{
	const struct device_type *type = config_find_device(name);
	int key = keys_find(config_keys, name);

	if (type)
		help_device(out, type);
	else if (key >= 0)
		config_help_key(out, "", &config_keys[key]);
}

static void help_keys(FILE *out, const struct key *keys)
{
	char lead[160];

	for (const struct key *k = keys; k->name; k++) {
		const char *meta = k->kind == KEY_CHOICE ? k->choices :
				   k->kind == KEY_BOOL	 ? "on|off" :
				   k->meta		 ? k->meta :
							   "…";

		if (k->flags & KEY_HIDDEN)
			continue;
		snprintf(lead, sizeof(lead), k->flags & KEY_BARE ? "[%s=]%s" : "%s=%s", k->name,
			 meta);
		usage_row(out, 6, USAGE_HELP_AT, lead, k->help, k->def);
	}
}

void config_help(FILE *out)
{
	usage_text(out, 0, 7, "usage: bantam run --kernel FILE | --disk FILE | --shell [OPTION]…");
	fputc('\n', out);
	usage_text(
		out, 0, 0,
		"Boots one VM and ends with it. Exit status: 0 power-off, 1 error, 2 wrong usage, "
		"3 reboot, 4 guest panic (pvpanic), 5 emergency restart (panic=N, sysrq-b), "
		"6 triple fault, 7 KVM cannot run the guest, 128+N killed by signal N.");
	fputc('\n', out);
	for (const struct key *k = config_keys; k->name; k++) {
		if (!(k->flags & KEY_HIDDEN))
			config_help_key(out, k == &config_keys[CONFIG_VERBOSE] ? "-v, " : "", k);
		if (k == &config_keys[CONFIG_LIMIT])
			help_keys(out, confine_limit_keys);
	}
	for (size_t i = 0; device_types[i]; i++) {
		const struct device_type *t = device_types[i];

		if (!t->option)
			continue;
		fputc('\n', out);
		help_device(out, t);
		help_keys(out, t->keys);
	}
}
