/*
 * cmdline: the guest's command line: what the machine adds to the user's words, and warnings about
 * words that leave a guest silent. Thread: the builder.
 */
#ifndef BANTAM_MACHINE_CMDLINE_H
#define BANTAM_MACHINE_CMDLINE_H

#include "vmm/machine/machine_impl.h"

/*
 * Returns the command line for the created devices, which the caller frees; NULL: no memory. A guest
 * that is told not to look at ACPI gets the virtio-mmio devices on it.
 */
char *cmdline_make(const struct machine *m);
/* Logs one line for each word of the final command line that does not do what it says. */
void cmdline_check(const struct machine *m, const char *text);

#endif
