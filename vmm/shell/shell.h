/*
 * shell: `bantam run --shell`: the kernel, initrd and command line of a guest that gives its user a shell.
 *
 * The options keep their meaning; --shell adds what is missing. The kernel is found as bantam test finds it
 * (vmm/kernels), without --kernel the host's own. The initrd holds bantam's init (guest/init.c), a shell with the
 * usual programs, and the modules of the devices that the options give. The guest's terminal is the serial port or
 * console that is on stdio, else the first one.
 *
 * Errors: 0/-errno and one line in err. Thread: the first.
 */
#ifndef BANTAM_SHELL_H
#define BANTAM_SHELL_H

#include "vmm/config.h"

/* What of the options contradicts --shell, or needs it. -EINVAL: wrong usage. */
int shell_check(const struct config *config, struct err *err);

/*
 * Completes config, in which --shell is set. *initrd_fd is the initrd, which config names by its path below /proc: the
 * caller closes it when no machine will be created any more. root goes before /boot and /lib/modules: "", or
 * a folder for tests.
 */
int shell_prepare(struct config *config, const char *root, int *initrd_fd, struct err *err);

#endif
