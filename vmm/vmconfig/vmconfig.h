/*
 * vmconfig: a VM as Cloud Hypervisor's clients describe it (VmConfig), in JSON or on the command
 * line.
 *
 * One table of fields for each object (fields.c: key, kind, range, default, where the value goes)
 * drives the checks of what a client sends, the defaults of what it gets back, the way to the
 * machine's struct config and back, the command line, the OpenAPI schemas and the manual.
 *
 * A *normalised* VmConfig has passed all checks. It has no null, all defaults as plain values, an
 * id for each device and an address for each card. vmconfig_normalise of a normalised VmConfig
 * returns an equal one: a platform may keep what vm.info shows and create the same machine again.
 *
 * Functions return 0 or -errno and fill err with one line: the field's path ("disks[1].serial"),
 * the value, what is expected. -EINVAL: the value cannot be right; -ENOTSUP: bantam does not have
 * that; -EEXIST, -EBUSY: an id or a file is in use; -ENODEV: no device has this id. The input is
 * hostile. Any thread; the caller serialises the use of one json_t.
 */
#ifndef BANTAM_VMCONFIG_H
#define BANTAM_VMCONFIG_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/config.h"
#include "vmm/core/err.h"

/* Limits of a request's JSON, before it is built in memory. */
#define VMCONFIG_MAX_DEPTH 32
#define VMCONFIG_MAX_VALUES 100000
#define VMCONFIG_MAX_ANY_BYTES (64u << 10) /* "metadata", as compact JSON */

/*
 * warn is called for each field that is accepted but does nothing; text is one line with the
 * field's path. fd holds the nfds descriptors that came with the request: on success, those that a
 * card has taken become -1. NULL or all zero: no warnings, no descriptors.
 */
struct vmconfig_notes {
	void (*warn)(void *opaque, const char *text);
	void *opaque;
	int *fd;
	unsigned nfds;
};

/* The objects of the tables: those that are a request's whole body, and those inside. */
enum vmconfig_object {
	VMCONFIG_VM,
	VMCONFIG_PAYLOAD,
	VMCONFIG_CPUS,
	VMCONFIG_TOPOLOGY,
	VMCONFIG_AFFINITY,
	VMCONFIG_FEATURES,
	VMCONFIG_MEMORY,
	VMCONFIG_ZONE,
	VMCONFIG_DISK,
	VMCONFIG_QUEUE_AFFINITY,
	VMCONFIG_LIMITER,
	VMCONFIG_BUCKET,
	VMCONFIG_LIMIT_GROUP,
	VMCONFIG_LANDLOCK_RULE,
	VMCONFIG_NET,
	VMCONFIG_USER_NET,
	VMCONFIG_RNG,
	VMCONFIG_BALLOON,
	VMCONFIG_FS,
	VMCONFIG_VSOCK,
	VMCONFIG_SERIAL,
	VMCONFIG_CONSOLE,
	VMCONFIG_DEBUG_CONSOLE,
	VMCONFIG_PLATFORM,
	VMCONFIG_OLD_KERNEL, /* the form before "payload" */
	VMCONFIG_OLD_INITRAMFS,
	VMCONFIG_OLD_CMDLINE,
	/* Bodies of other requests. */
	VMCONFIG_RESIZE,
	VMCONFIG_RESIZE_DISK,
	VMCONFIG_RESIZE_ZONE,
	VMCONFIG_REMOVE_DEVICE,
	VMCONFIG_OBJECTS,
};

/*
 * Parses a request's body. Refused: what is not JSON, a key twice in an object, text that is not
 * UTF-8, and more than the limits above. The caller owns *out.
 */
int vmconfig_parse_json(const char *text, size_t len, json_t **out, struct err *err);

/* Returns the normalised form of a VmConfig in *out, which the caller owns. */
int vmconfig_normalise(const json_t *in, const struct vmconfig_notes *notes, json_t **out,
		       struct err *err);

/* Checks the body of another request and returns its normalised form. */
int vmconfig_check_object(enum vmconfig_object object, const json_t *in,
			  const struct vmconfig_notes *notes, json_t **out, struct err *err);

/*
 * Fills *out with the machine of a normalised VmConfig, its devices in the order of their PCI
 * slots. The caller calls config_clear also after an error.
 */
int vmconfig_to_config(const json_t *vm, struct config *out, struct err *err);

/*
 * The reverse, for a VM that bantam run's own options describe: what vm.info shows of it. What a
 * VmConfig cannot say is left out.
 */
int vmconfig_from_config(const struct config *config, json_t **out, struct err *err);

/*
 * Gives each card of bantam run's own options that has no address a random one, as normalise does for
 * those of a VmConfig: all machines of the VM have it, and vm.info shows it.
 */
int vmconfig_resolve_macs(struct config *config, struct err *err);

/*
 * Adds a device to a normalised VmConfig, with a number behind those of the others, or removes one.
 * list is "disks", "net", "fs" or "vsock"; *id belongs to vm. After an error vm is as it was.
 * -ENODEV: no device has this id; -EINVAL: the device cannot be removed (rng, console).
 */
int vmconfig_add_device(json_t *vm, const char *list, const json_t *device,
			const struct vmconfig_notes *notes, const char **id, struct err *err);
int vmconfig_remove_device(json_t *vm, const char *id, struct err *err);
/* Returns the device of that id, or NULL. *list (may be NULL) is where it is: "disks", "rng" … */
const json_t *vmconfig_find_device(const json_t *vm, const char *id, const char **list);

/*
 * Looks at the files that a VmConfig names, and changes nothing: a kernel or a disk that is missing
 * may be there at boot and is a warning; a file that cannot be opened as the machine will is an error
 * (-errno). -EBUSY: two disks use the same file, one of them to write. May block on a slow disk.
 */
int vmconfig_check_files(const json_t *vm, const struct vmconfig_notes *notes, struct err *err);
/* The same for a device that was added to those that have been looked at. */
int vmconfig_check_device_files(const json_t *vm, const char *id,
				const struct vmconfig_notes *notes, struct err *err);

/*
 * The command line of the compatible face. If argv[*at] is an option of a VM, adds what it says to
 * vm, an object that vmconfig_normalise checks later, sets *at behind its values, and returns 1; 0:
 * the option is another's. -EINVAL: wrong usage; -ENOTSUP: upstream has this option, bantam not.
 */
int vmconfig_take_option(json_t *vm, int argc, char **argv, int *at, struct err *err);
/*
 * Writes the descriptors that --net fd= has named, at most max, in the order in which
 * vmconfig_notes.fd must have them. Returns how many there are.
 */
unsigned vmconfig_option_fds(const json_t *vm, int *fd, unsigned max);
/* Writes the names of the options of a VM, without dashes, at most max. Returns how many there are. */
#define VMCONFIG_OPTIONS_MAX 48
size_t vmconfig_option_names(const char **names, size_t max);
/* Prints the options of a VM, one line for each and for each of their keys. */
void vmconfig_options_help(FILE *out);

/*
 * Returns the objects of all tables as schemas of OpenAPI 3.0, the value of "components.schemas":
 * {"VmConfig":{…},"DiskConfig":{…},…}. 0 or -ENOMEM.
 */
int vmconfig_openapi_schemas(json_t **out);
/* The name of an object's schema: "DiskConfig". */
const char *vmconfig_object_name(enum vmconfig_object object);

/* Returns the guest's memory in bytes: memory.size, or the sum of the zones. */
uint64_t vmconfig_memory_bytes(const json_t *vm);

#endif
