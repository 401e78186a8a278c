/*
 * bootdisk: kernel, initrd and root= from the first disk, when no --kernel is given.
 *
 * The helper bantam-fs finds them in the image; this process never looks at the file
 * system. It runs while the VM is built, and has closed the image before the disk's device
 * opens it. What it says comes from a guest's disk and is taken as text only. Thread: the
 * builder.
 */
#ifndef BANTAM_MACHINE_BOOTDISK_H
#define BANTAM_MACHINE_BOOTDISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/config.h"

#define BOOTDISK_SUM_BYTES 32

struct bootdisk {
	const char *image; /* of the configuration */
	const char *format;
	bool readonly;
	char letter; /* the guest calls the disk vda, vdb … */
	pid_t pid;   /* the helper; 0: it has ended */
	int status_fd, sum_fd;
	int kernel_fd, initrd_fd;      /* sealed memory; initrd_fd -1: there is none */
	char kernel[640], initrd[640]; /* paths in the image */
	char where[64];		       /* "partition 1"; "": the whole disk */
	char options[2048];
	char root[300]; /* as after root= */
	bool rw;
	uint8_t sha256[BOOTDISK_SUM_BYTES];
	bool has_sum;
};

/* Is there a kernel, or a disk that may hold one? -EINVAL: wrong usage. */
int bootdisk_check(const struct config *config, struct err *err);
/* Starts the helper; *out is NULL if a kernel is given. bytes_max: the guest's memory. */
int bootdisk_start(const struct config *config, uint64_t bytes_max, struct bootdisk **out,
		   struct err *err);
/* Waits for it. */
int bootdisk_finish(struct bootdisk *b, struct err *err);
/*
 * The distribution's options, root=, ro or rw, the console unless user names one, and what the
 * user adds (NULL: nothing). For free(); NULL: no memory.
 */
char *bootdisk_cmdline(const struct bootdisk *b, const char *console, const char *user);
/* Accepts NULL. */
void bootdisk_destroy(struct bootdisk *b);

#endif
