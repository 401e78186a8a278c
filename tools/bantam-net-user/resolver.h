/*
 * resolver: which of the host's name servers gets the guest's questions.
 *
 * libslirp sends what the guest asks at 10.0.2.3 (or fec0::3) to the first name server of
 * /etc/resolv.conf. If that one does not answer, the next of its family takes its place, until that
 * one does not answer. For libslirp and the guest all have the first one's address. One thread.
 */
#ifndef BANTAM_NET_USER_RESOLVER_H
#define BANTAM_NET_USER_RESOLVER_H

#include <stdbool.h>
#include <sys/socket.h>

#define RESOLVER_SILENT_MS 2000u /* below the time after which a guest asks again */

/* Returns true if one of the host's name servers is there. */
bool resolver_serves(const struct sockaddr *to);
/* A datagram goes to `to`. Returns true if *server, an address of the same length, gets it. */
bool resolver_ask(const struct sockaddr *to, struct sockaddr_storage *server);
/* A datagram came from here. Changes the address if it is a name server's. */
void resolver_heard(struct sockaddr *from);
/* The host there does not take datagrams. */
void resolver_failed(const struct sockaddr *to);

#endif
