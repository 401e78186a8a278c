/*
 * calls: the system calls that the user network's helper keeps (net_user.calls). One filter for the kernel, and for the
 * functions that stand between libslirp and the kernel (sockets.c), where a refusal is to be an error and not the end.
 */
#ifndef BANTAM_NET_USER_CALLS_H
#define BANTAM_NET_USER_CALLS_H

#include <stdbool.h>

/* Loads the filter. Returns 0 or -errno. */
int calls_confine(void);
bool calls_confined(void);
/* Does the filter, once it is loaded, let socket(2) and setsockopt(2) pass with these? */
bool calls_permit_socket(int domain, int type, int protocol);
bool calls_permit_option(int level, int option);

#endif
