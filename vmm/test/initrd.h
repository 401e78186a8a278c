/*
 * test/initrd: the initrd of a test.
 *
 * Without --initrd it is all that the guest has: the agent (/bantam-agent, with a link /init), the modules
 * of its channel and of the devices that the options give (those which the kernel does not have built
 * in), those of --module, what --copy names, and the command with its libraries, if this host has it.
 * With --initrd FILE the same follows FILE in one root, where only --copy replaces anything of FILE. With
 * FILE and without a command there is no agent: FILE's own /init runs.
 *
 * The command lies at its own path, and where it is called otherwise (a relative path, a folder that is not in
 * the guest's PATH) a link leads to it. A command that neither FILE nor this host has is not packed: the
 * guest says that. If the names in FILE cannot be read (an unknown compression, damage), it is taken to
 * have the command.
 *
 * Errors: 0/-errno and one line in err; to the test they mean that it could not run. Thread: one at a time.
 */
#ifndef BANTAM_TEST_INITRD_H
#define BANTAM_TEST_INITRD_H

#include "vmm/kernels/kernels.h"
#include "vmm/test/options.h"

/*
 * *fd_out: a memfd, or FILE. The caller closes it when the machine is created; "/proc/self/fd/N" is its path.
 */
int test_initrd_build(const struct test_options *o, const struct kernels_choice *k, int *fd_out,
		      struct err *err);

/* The value of rdinit= on the kernel's command line, or NULL: it runs /init. */
const char *test_initrd_init(const struct test_options *o);

#endif
