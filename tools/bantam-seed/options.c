/* options: see options.h. */
#include "tools/bantam-seed/options.h"

#include <string.h>

#include "vmm/core/err.h"
#include "vmm/usage/usage.h"

static const struct usage_option cloud_options[] = {
	{ "user-data", OPT_USER_DATA, "FILE",
	  "these documents, unchanged; - is standard input ..." },
	{ "meta-data", OPT_META_DATA, "FILE", "" },
	{ "network-config", OPT_NETWORK_CONFIG, "FILE", "" },
	{ "vendor-data", OPT_VENDOR_DATA, "FILE", "" },
	{ "hostname", OPT_HOSTNAME, "NAME", "... or made from these" },
	{ "user", OPT_USER, "NAME", "a user who may use sudo" },
	{ "ssh-key", OPT_SSH_KEY, "FILE|KEY", "public keys that may log in (repeat)" },
	{ "password", OPT_PASSWORD, "TEXT", "plain, or a hash of crypt(3): $6$..." },
	{ "ip", OPT_IP, "ADDR/PREFIX", "instead of DHCP (repeat)" },
	{ "gateway", OPT_GATEWAY, "ADDR", "one for IPv4, one for IPv6" },
	{ "dns", OPT_DNS, "ADDR", "(repeat)" },
	{ "mac", OPT_MAC, "MAC", "the card for --ip and --dns, by its address ..." },
	{ "interface", OPT_INTERFACE, "NAME", "... or by its name in the guest" },
	{ "package", OPT_PACKAGE, "NAME", "to install (repeat)" },
	{ "run", OPT_RUN, "COMMAND",
	  "for the guest's shell, at the end of the first boot (repeat)" },
	{ "instance-id", OPT_INSTANCE_ID, "ID", "made from the content if not given" },
	{ 0 },
};

static const struct usage_option service_options[] = {
	{ "binary", OPT_BINARY, "FILE", "becomes `service'" },
	{ "env", OPT_ENV, "NAME=VALUE", "a variable of its environment (repeat)" },
	{ "env-file", OPT_ENV_FILE, "FILE", "variables, one per line; --env overrides them" },
	{ "arg", OPT_ARG, "TEXT", "an argument of the program (repeat)" },
	{ "keystore", OPT_KEYSTORE, "DIR", "becomes `keystore'" },
	{ "launch", OPT_LAUNCH, "FILE", "instead of the script made from --env and --arg" },
	{ 0 },
};

static const struct usage_option fat_options[] = { { 0 } };

static const struct usage_option common_options[] = {
	{ "output", OPT_OUTPUT, "FILE", "the image, a new file" },
	{ "force", OPT_FORCE, NULL, "replace FILE" },
	{ "help", OPT_HELP, NULL, "this text" },
	{ "label", OPT_LABEL, "TEXT", "the volume's label, at most 11 characters" },
	{ "size", OPT_SIZE, "SIZE", "the smallest size; the image grows if necessary" },
	{ "follow", OPT_FOLLOW, NULL, "copy the targets of symbolic links" },
	{ "mode", OPT_MODE, "MODE", "the image's mode, such as 640 [600]" },
	{ "quiet", OPT_QUIET, NULL, "do not print what was made" },
	{ "sync", OPT_SYNC, "on|off", "wait until the image is on stable storage [on]" },
	{ 0 },
};

/* In the order of --help. */
static const struct section {
	const char *kind, *title;
	const struct usage_option *options;
} sections[] = {
	{ "cloud-init", "for its NoCloud data source (label CIDATA)", cloud_options },
	{ "service", "a program and a script that starts it: mount, sh launch (label SERVICEDISK)",
	  service_options },
	{ "fat", "all files in DIR", fat_options },
	{ "every one", "", common_options },
};
#define NSECTIONS (sizeof(sections) / sizeof(sections[0]))

void seed_options(const char *kind, struct usage_option out[USAGE_OPTIONS_MAX])
{
	unsigned n = 0;

	memset(out, 0, USAGE_OPTIONS_MAX * sizeof(*out));
	for (size_t i = 0; i < NSECTIONS; i++) {
		const struct section *s = &sections[i];

		if (strcmp(s->kind, kind) && s->options != common_options)
			continue;
		for (const struct usage_option *o = s->options; o->name; o++) {
			BUG_ON(n + 1 == USAGE_OPTIONS_MAX);
			out[n++] = *o;
		}
	}
}

void seed_help(FILE *out)
{
	fputs("bantam seed: builds small disks for a VM's start\n\n"
	      "usage: bantam seed cloud-init -o FILE [OPTION]...\n"
	      "       bantam seed service -o FILE --binary FILE [OPTION]...\n"
	      "       bantam seed fat -o FILE [OPTION]... DIR\n",
	      out);
	for (size_t i = 0; i < NSECTIONS; i++) {
		const struct section *s = &sections[i];

		char title[120];

		snprintf(title, sizeof(title), "%s: %s", s->kind, s->title);
		fputc('\n', out);
		usage_text(out, 0, 2, title);
		for (const struct usage_option *o = s->options; o->name; o++)
			usage_option_row(out, 25, o);
	}
	fputc('\n', out);
	usage_text(
		out, 0, 0,
		"The same input gives the same bytes. Times are those of the files in `fat', and fixed "
		"in the others; none is later than SOURCE_DATE_EPOCH if that is set.");
}
