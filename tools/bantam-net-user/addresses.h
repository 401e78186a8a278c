/* addresses: which addresses of the host a guest cannot reach unless the user allows it. */
#ifndef BANTAM_NET_USER_ADDRESSES_H
#define BANTAM_NET_USER_ADDRESSES_H

#include <stdbool.h>
#include <sys/socket.h>

/* Returns true if a packet to this address ends in the host itself or on its link. */
bool addresses_closed(const struct sockaddr *to);

#endif
