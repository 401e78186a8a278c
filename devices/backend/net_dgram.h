/* net_dgram: frames as datagrams, for the backends that stand on them. */
#ifndef BANTAM_NET_DGRAM_H
#define BANTAM_NET_DGRAM_H

#include <sys/epoll.h>

#include "devices/backend/net.h"

/* As in struct net_ops. When a seqpacket peer closes, the port is closed and the link goes down. */
unsigned net_dgram_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
unsigned net_dgram_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
void net_dgram_event(struct net *net, unsigned queue, uint32_t events);
/* Long socket buffers, as far as the host lets us. */
void net_dgram_buffers(int fd);

#endif
