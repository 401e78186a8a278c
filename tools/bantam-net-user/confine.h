/* confine: what the user network's helper gives up before it looks at a guest's frame. */
#ifndef BANTAM_NET_USER_CONFINE_H
#define BANTAM_NET_USER_CONFINE_H

#include <stdbool.h>

#define CONFINE_FDS_MAX 2048u /* connections and all */

/* Before anything is opened: as many descriptors as the hard limit allows, up to that. */
void confine_fds(void);
/* Whatever it needs to open or bind, but resolv.conf and IP sockets, is open and bound. False: errno. */
bool confine(void);

#endif
