/*
 * sockets: the system calls on sockets that libslirp makes, as this process wants them.
 *
 * sockets.c defines socket, accept, close, shutdown, sendto, recvfrom and recvmsg, so the calls of
 * libslirp, a shared library, come here. libslirp itself has no means for what they add:
 * - a connection that the guest has closed and the host's end has not is given up after
 *   sockets_fin_ms without data; when descriptors run short, the oldest such one goes at once;
 * - a name server that does not answer is replaced by the next one (resolver.h).
 * One thread.
 */
#ifndef BANTAM_NET_USER_SOCKETS_H
#define BANTAM_NET_USER_SOCKETS_H

#include <stdint.h>

extern unsigned sockets_fin_ms; /* as long as Linux keeps such a connection (tcp_fin_timeout) */

/* Call it once the limit on descriptors is set. */
void sockets_begin(void);
/* Gives up what is overdue. Cheap; call it in every turn. */
void sockets_tick(uint64_t now_ms);

#endif
