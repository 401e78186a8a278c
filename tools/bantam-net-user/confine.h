/* confine: what the user network's helper gives up before it handles the first frame. */
#ifndef BANTAM_NET_USER_CONFINE_H
#define BANTAM_NET_USER_CONFINE_H

#include <stdbool.h>

#define CONFINE_FDS_MAX 2048u /* connections included */

/* Raises the soft limit to CONFINE_FDS_MAX, or the hard limit. Call before anything is opened. */
void confine_fds(void);
/* Root's effective user and all groups become nobody. False: not possible here. */
bool confine_user(void);
/*
 * Call it after opening and binding everything; later only IP sockets can be opened, and a call that is
 * not in calls.c ends the process. Returns 0 or -errno.
 */
int confine(void);

#endif
