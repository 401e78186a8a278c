/*
 * bootdisk: gets the kernel, initrd and root= from the first disk if there is no --kernel.
 *
 * The helper bantam-fs finds them in the image; this process never parses the file system. The
 * helper runs while the VM is built, and closes the image before the disk's device opens it. Its
 * report comes from a guest's disk, so bantam takes the report as text only. Thread: the builder.
 */
#ifndef BANTAM_MACHINE_BOOTDISK_H
#define BANTAM_MACHINE_BOOTDISK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/config.h"
#include "vmm/core/helper.h"

#define BOOTDISK_SUM_BYTES 32

struct bootdisk {
	const char *image; /* owned by the configuration */
	const char *format;
	unsigned device;       /* its index in config->device */
	uint32_t sector_bytes; /* of its partition table; 0: it has none */
	bool readonly;
	char letter; /* the guest calls the disk vda, vdb … */
	struct helper helper;
	int status_fd, sum_fd;
	int kernel_fd, initrd_fd;      /* sealed memfds; initrd_fd -1: no initrd */
	char kernel[640], initrd[640]; /* paths in the image */
	char where[64];		       /* "partition 1"; "": the whole disk */
	char options[2048];
	char root[300]; /* the value of root= */
	bool rw;
	uint8_t sha256[BOOTDISK_SUM_BYTES];
	bool has_sum;
};

/* The path of the disk that a VM without a kernel boots from; NULL: the VM has no disk with a path. */
const char *bootdisk_image(const struct config *config);

/* Returns 0 if the user gave a kernel or a disk that may hold one, else -EINVAL. */
int bootdisk_check(const struct config *config, struct err *err);
/* Starts the helper; *out is NULL if the user gave a kernel. bytes_max is the guest's memory. */
int bootdisk_start(const struct config *config, uint64_t bytes_max, struct bootdisk **out,
		   struct err *err);
/* Waits for the helper and takes its report. Returns 0 or -errno. */
int bootdisk_finish(struct bootdisk *b, struct err *err);
/*
 * Returns the command line: the distribution's options, root=, ro or rw, the console unless user
 * names one, and user, the text of --cmdline (or NULL). The caller frees it. NULL: no memory.
 */
char *bootdisk_cmdline(const struct bootdisk *b, const char *console, const char *user);
/* Accepts NULL. */
void bootdisk_destroy(struct bootdisk *b);

#endif
