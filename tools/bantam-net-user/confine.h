/* confine: what the user network's helper gives up before it handles the first frame. */
#ifndef BANTAM_NET_USER_CONFINE_H
#define BANTAM_NET_USER_CONFINE_H

#include <stdbool.h>

#define CONFINE_FDS_MAX 2048u /* connections included */

/* Raises the soft limit to CONFINE_FDS_MAX, or the hard limit. Call before anything is opened. */
void confine_fds(void);
/*
 * Call it after opening and binding everything; later only resolv.conf and IP sockets can be
 * opened. Returns false and errno on failure.
 */
bool confine(void);

#endif
