/*
 * net_client: takes the card's place in front of a network back end, and runs the loop of both. For
 * tests of back ends. One at a time.
 */
#ifndef BANTAM_NET_CLIENT_H
#define BANTAM_NET_CLIENT_H

#include "devices/backend/net/net.h"

extern struct loop *loop;
extern struct net *net;
/* Numbers of the back end's calls since open_net. readable and writable end a net_want. */
extern unsigned readable, writable, ups, downs;

/* Opens the back end of cfg into net; fills in option, name and loop. Returns 0 or -errno. */
int open_net(struct net_config cfg, struct err *err);
/* Runs the loop's due callbacks, n times. */
void turns(unsigned n);
/* Runs the loop until *what reaches n. Returns false after three seconds. */
bool until(const unsigned *what, unsigned n);
void end(void);

#endif
