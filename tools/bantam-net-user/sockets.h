/*
 * sockets: the system calls on sockets that libslirp makes, as this process wants them.
 *
 * sockets.c defines socket, setsockopt, accept, connect, close, shutdown, sendto, recvfrom and recvmsg, so the calls of
 * libslirp, a shared library, come here. libslirp itself has no means for what they add:
 * - a connection that the guest has closed and the host's end has not is given up after
 *   sockets_fin_ms without data; when descriptors run short, the oldest such one goes at once;
 * - the host's own addresses (addresses.h) are refused, but for its name servers and for who has
 *   sent a datagram to a forwarded port, unless sockets_open_host was called;
 * - a name server that does not answer is replaced by the next one (resolver.h).
 * One thread.
 */
#ifndef BANTAM_NET_USER_SOCKETS_H
#define BANTAM_NET_USER_SOCKETS_H

#include <stdint.h>

#define SOCKETS_PEERS 256u /* that have sent a datagram to a forwarded port and may get an answer */

extern unsigned sockets_fin_ms; /* as long as Linux keeps such a connection (tcp_fin_timeout) */

/* Call it once the limit on descriptors is set. */
void sockets_begin(void);
void sockets_open_host(void);
/* fd is a datagram socket of a forwarded port. */
void sockets_forward(int fd);
/* Gives up what is overdue. Cheap; call it in every turn. */
void sockets_tick(uint64_t now_ms);

#endif
