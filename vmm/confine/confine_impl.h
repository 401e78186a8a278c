/*
 * confine_impl: the steps of confine.c. Each returns 0, or -errno if the host refuses it; then nothing has changed.
 * Those that the kernel keeps for each thread concern the calling one.
 */
#ifndef BANTAM_CONFINE_IMPL_H
#define BANTAM_CONFINE_IMPL_H

#include <stdbool.h>

#include "vmm/confine/confine.h"

/* A sanitizer reads /proc at the end and traces its own process: such a build leaves out what forbids that. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED true
#else
#define CONFINE_SANITIZED false
#endif

/* --- rights.c --- */

int confine_no_dumps(void);
int confine_no_new_privileges(void);
/*
 * Leaves of the capabilities those by which root opens the files of others, binds low ports and ends its helpers,
 * and with interfaces the one for networks. Helpers inherit at most these.
 */
int confine_cut_capabilities(bool interfaces);
/* Empties all five sets. */
int confine_no_capabilities(void);

#endif
