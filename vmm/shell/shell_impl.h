/* shell_impl: what the sources of vmm/shell share; see shell.h. */
#ifndef BANTAM_SHELL_IMPL_H
#define BANTAM_SHELL_IMPL_H

#include <string.h>

#include "vmm/config.h"
#include "vmm/kernels/kernels.h"

#define SHELL_TTY_BYTES 16

/* option: without dashes ("disk"). */
static inline bool shell_is(const struct config_device *d, const char *option)
{
	return !strcmp(d->type->option + 2, option);
}

static inline unsigned shell_count(const struct config *config, const char *option)
{
	unsigned n = 0;

	for (unsigned i = 0; i < config->ndevices; i++)
		n += shell_is(&config->device[i], option);
	return n;
}

/* *fd_out: a memfd with the initrd for this kernel and these devices. */
int shell_initrd(const struct config *config, const struct kernels_choice *kernel, int *fd_out,
		 struct err *err);

#endif
