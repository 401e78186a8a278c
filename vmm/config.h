/*
 * config: the description of one VM that the user gives on the command line, in a
 * JSON file, or both.
 *
 * One table of options serves the parsers, --help, the check of the man page and
 * error messages: config_keys for the VM itself, the registry of device types for
 * devices. Either config or the device checks a value, never both.
 */
#ifndef BANTAM_CONFIG_H
#define BANTAM_CONFIG_H

#include <stdio.h>

#include "boot/board.h"
#include "devices/device.h"
#include "vmm/core/keys.h"

/* Indices into config_keys. */
enum config_key {
	CONFIG_KERNEL,
	CONFIG_INITRD,
	CONFIG_CMDLINE,
	CONFIG_CPUS,
	CONFIG_MEMORY,
	CONFIG_TRANSPORT,
	CONFIG_ENTRY,
	CONFIG_UNPACK,
	CONFIG_CONFIG,
	CONFIG_DRY_RUN,
	CONFIG_STATS,
	CONFIG_QUIET,
	CONFIG_HELP,
};
extern const struct key config_keys[];

enum config_transport { TRANSPORT_PCI, TRANSPORT_MMIO };

struct config_device {
	const struct device_type *type;
	struct keyvals kv;
};

struct config {
	struct keyvals vm;
	struct config_device *device;
	unsigned ndevices;
};

/*
 * Parses the command line, whose first argument after "run" is argv[0], and the file of its
 * --config. The command line overrides the file; the file's devices come first. Returns 0 or
 * -errno. The caller calls config_clear also after an error.
 */
int config_parse(struct config *config, int argc, char **argv, struct err *err);
void config_clear(struct config *config);

void config_help(FILE *out);

#endif
