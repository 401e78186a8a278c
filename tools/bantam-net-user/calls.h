/*
 * calls: the system calls that the user network's helper keeps. One table for the filter, and for the functions that
 * stand between libslirp and the kernel (sockets.c), where a refusal is to be an error and not the end.
 */
#ifndef BANTAM_NET_USER_CALLS_H
#define BANTAM_NET_USER_CALLS_H

#include <stdbool.h>

#include "tools/giveup/giveup.h"

extern const struct giveup_call calls_kept[];
extern const unsigned calls_nkept;

/* Loads the filter. Returns 0 or -errno. */
int calls_confine(void);
bool calls_confined(void);
/* Does the filter, once it is loaded, let socket(2) and setsockopt(2) pass with these? */
bool calls_permit_socket(int domain, int type, int protocol);
bool calls_permit_option(int level, int option);

#endif
