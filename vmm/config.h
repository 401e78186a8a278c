/*
 * config: one VM as its user described it, from the command line, a JSON file,
 * or both.
 *
 * One table of options serves parsing, --help, the man page's check and error
 * messages: config_keys for the VM itself, and the registry of device types for
 * the rest. Values are checked here or by the device, never twice.
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
 * argv[0] is the first argument after "run". The command line wins over
 * --config FILE; devices of the file come first. config_clear is needed in every case.
 */
int config_parse(struct config *config, int argc, char **argv, struct err *err);
void config_clear(struct config *config);

void config_help(FILE *out);

#endif
