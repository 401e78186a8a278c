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

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "boot/board.h"
#include "devices/device.h"
#include "vmm/core/keys.h"

/* Indices into config_keys. */
enum config_key {
	CONFIG_KERNEL,
	CONFIG_INITRD,
	CONFIG_CMDLINE,
	CONFIG_SHELL,
	CONFIG_MODULES,
	CONFIG_CPUS,
	CONFIG_MEMORY,
	CONFIG_HUGEPAGES,
	CONFIG_TRANSPORT,
	CONFIG_ENTRY,
	CONFIG_UNPACK,
	CONFIG_BACKING_DIR,
	CONFIG_API_SOCKET,
	CONFIG_CONFIG,
	CONFIG_DRY_RUN,
	CONFIG_STATS,
	CONFIG_QUIET,
	CONFIG_VERBOSE,
	CONFIG_EXIT_WITH_PARENT,
	CONFIG_CONFINE,
	CONFIG_UID,
	CONFIG_GID,
	CONFIG_CHROOT,
	CONFIG_NETNS,
	CONFIG_CGROUP,
	CONFIG_LIMIT,
	CONFIG_HELP,
};
extern const struct key config_keys[];

/* CONFIG_HUGEPAGES: auto is thp but for the first 16 MiB, and off where the host has none. */
enum config_hugepages { HUGEPAGES_AUTO, HUGEPAGES_THP, HUGEPAGES_OFF, HUGEPAGES_2M };

enum config_transport { TRANSPORT_PCI, TRANSPORT_MMIO };

struct config_device {
	const struct device_type *type;
	struct keyvals kv;
	unsigned slot;		  /* on the PCI bus; 0: the first empty one */
	char id[DEVICE_ID_BYTES]; /* "": the value of its key "id", else option and number */
};

/*
 * The next three have no option of bantam run: only a VmConfig (vmm/vmconfig) sets them. All zero
 * is what bantam run uses. Strings and arrays are on the heap; config_clear frees them.
 */

/*
 * How the host holds guest memory; CONFIG_MEMORY is its size. What it says of huge pages counts beside
 * CONFIG_HUGEPAGES, which a VmConfig does not set.
 */
struct config_memory {
	bool shared;		 /* a sealed memfd, even if no device needs it */
	bool hugepages;		 /* from hugetlbfs's pool: never swapped, never split */
	bool prefault;		 /* all of it is there before the guest starts */
	bool mergeable;		 /* the host may merge equal pages (KSM) */
	bool no_thp;		 /* no transparent huge pages */
	uint64_t hugepage_bytes; /* with hugepages; 0: the host's default size */
};

/* What the guest reads in SMBIOS tables. NULL: not given. */
struct config_platform {
	char *manufacturer, *product_name, *version, *serial_number;
	char *uuid; /* 36 characters, RFC 4122 */
	char *sku_number, *family;
	char *chassis_asset_tag;
	char **oem_string;
	unsigned noem_strings;
};

/* The host CPUs that one vCPU may run on. */
struct config_affinity {
	unsigned vcpu;
	unsigned *host_cpu;
	unsigned nhost_cpus;
};

/* How the guest sees its CONFIG_CPUS processors; all of the first four are 0, or none is. */
struct config_cpus {
	unsigned threads_per_core, cores_per_die, dies_per_package, packages;
	struct config_affinity *affinity;
	unsigned naffinity;
};

struct config {
	struct keyvals vm;
	struct config_device *device;
	unsigned ndevices;
	struct config_memory memory;
	struct config_platform platform;
	struct config_cpus cpus;
};

/*
 * Parses the command line, whose first argument after "run" is argv[0], and the file of its
 * --config. The command line overrides the file; the file's devices come first. Returns 0 or
 * -errno. The caller calls config_clear also after an error.
 */
int config_parse(struct config *config, int argc, char **argv, struct err *err);
void config_clear(struct config *config);

/*
 * Writes the id of config->device[at]: the one that is set there, else the value of its key "id",
 * else the option and the number of devices before it with that option ("net0").
 */
void config_device_id(const struct config *config, unsigned at, char id[DEVICE_ID_BYTES]);
/* 0, -EINVAL (an id is too long), or -EEXIST (two devices have the same one, or the same KEY_UNIQUE). */
int config_check_ids(const struct config *config, struct err *err);

/*
 * For other sources than the command line: begins an empty config, adds a device at the end (option
 * is "disk", its keys are set by keys_set), and gives a device the defaults of the keys that were
 * not set. The caller calls keys_finish for config->vm. Return 0 or -errno.
 */
void config_start(struct config *config);
int config_add_device(struct config *config, const char *option, struct config_device **out,
		      struct err *err);
int config_finish_device(struct config_device *device, struct err *err);
/*
 * Move a finished device from another config to the end of this one, which then owns its texts; take one out. For the
 * devices of a VM that change one by one. Pointers to config->device are not valid any more. 0 or -errno.
 */
int config_take_device(struct config *config, struct config_device *from, struct err *err);
void config_drop_device(struct config *config, unsigned at);

void config_help(FILE *out);

/*
 * For commands that have options of their own beside those of bantam run (bantam test): whether bantam
 * run has --NAME, and whether a value follows it; all names, without dashes, at most max, of which it
 * returns the number; and help texts.
 */
enum config_option { CONFIG_OPTION_NONE, CONFIG_OPTION_FLAG, CONFIG_OPTION_VALUE };
enum config_option config_option_of(const char *name);
#define CONFIG_NAMES_MAX 104
size_t config_option_names(const char **names, size_t max);
/* The line of one key, as an option. letter: "-v, " or "". */
void config_help_key(FILE *out, const char *letter, const struct key *key);
/* The line of --NAME without its keys. */
void config_help_option(FILE *out, const char *name);

#endif
