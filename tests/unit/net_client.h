/*
 * net_client: a card's place in front of a network backend, and the loop that both run in: for
 * tests of backends. One at a time.
 */
#ifndef BANTAM_NET_CLIENT_H
#define BANTAM_NET_CLIENT_H

#include "devices/backend/net/net.h"

extern struct loop *loop;
extern struct net *net;
/* What the backend called, since open_net. readable and writable also end what net_want asked for. */
extern unsigned readable, writable, ups, downs;

/* Opens what cfg names (option, name and loop are filled in) into net. */
int open_net(struct net_config cfg, struct err *err);
/* What is due in the loop, n times. */
void turns(unsigned n);
/* Run the loop until *what reaches n; false after three seconds. */
bool until(const unsigned *what, unsigned n);
void end(void);

#endif
