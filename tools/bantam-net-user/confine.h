/* confine: what the user network's helper gives up before it looks at a guest's frame. */
#ifndef BANTAM_NET_USER_CONFINE_H
#define BANTAM_NET_USER_CONFINE_H

#include <stdbool.h>

/* Whatever it needs to open or bind, but resolv.conf and IP sockets, is open and bound. False: errno. */
bool confine(void);

#endif
