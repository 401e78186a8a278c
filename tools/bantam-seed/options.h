/*
 * options: the options of bantam seed. One table serves the command line, --help and "did you mean"; bash's
 * completion and the man page's check read the table through --help. One thread.
 */
#ifndef BANTAM_SEED_OPTIONS_H
#define BANTAM_SEED_OPTIONS_H

#include <stdio.h>

#include "vmm/usage/options.h"

/* usage_option.id */
enum opt {
	OPT_OUTPUT = 'o',
	OPT_FORCE = 'f',
	OPT_HELP = 'h',
	OPT_SIZE = 256,
	OPT_LABEL,
	OPT_FOLLOW,
	OPT_QUIET,
	OPT_SYNC,
	OPT_USER_DATA,
	OPT_META_DATA,
	OPT_NETWORK_CONFIG,
	OPT_VENDOR_DATA,
	OPT_HOSTNAME,
	OPT_USER,
	OPT_SSH_KEY,
	OPT_PASSWORD,
	OPT_IP,
	OPT_GATEWAY,
	OPT_DNS,
	OPT_MAC,
	OPT_INTERFACE,
	OPT_INSTANCE_ID,
	OPT_PACKAGE,
	OPT_RUN,
	OPT_BINARY,
	OPT_ENV,
	OPT_ENV_FILE,
	OPT_ARG,
	OPT_KEYSTORE,
	OPT_LAUNCH,
	OPT_MODE,
};

/*
 * Writes the table of the options of a kind of seed ("cloud-init", "service", "fat"), including the options of all
 * kinds. The texts are static.
 */
void seed_options(const char *kind, struct usage_option out[USAGE_OPTIONS_MAX]);
/* Prints the text of --help. */
void seed_help(FILE *out);

#endif
