/*
 * net/net_impl: what the back ends share, and how open.c makes each. For this folder, and for the
 * back ends of tests.
 *
 * The loop's thread, or the builder's before the loop runs.
 */
#ifndef BANTAM_NET_IMPL_H
#define BANTAM_NET_IMPL_H

#include "devices/backend/net/net.h"

/* Zeroed, size_bytes long, without fds. NULL: out of memory. */
struct net *net_new(const struct net_ops *ops, const struct net_config *cfg, size_t size_bytes);
/* For dry_run: an object that can be closed, and what it would be. */
int net_describe(const struct net_config *cfg, struct net **out, struct err *err, const char *fmt,
		 ...) __attribute__((format(printf, 4, 5)));
/* fd (which the port takes over, non-blocking from now on) serves this queue. */
int net_port_open(struct net *net, unsigned queue, int fd);
/* Unwatches and closes; a port without fd is left alone. */
void net_port_close(struct net *net, unsigned queue);
/* All ports, then the memory. */
void net_free(struct net *net);
/* A frame that came: all of it that fits into f; f->len_bytes is its whole length. */
void net_frame_fill(struct net_frame *f, const uint8_t *from, uint32_t len_bytes);
/* Call the client's readable and writable, as far as these events are what it wants. */
void net_tell(struct net *net, unsigned queue, uint32_t events);
/* Tell the client, if there is one and it changed. */
void net_set_up(struct net *net, bool up);
/* What is behind is gone, and why; said once for each time. The link goes down, and what the client
 * wants to send is swallowed from now on. Loop's thread, not from inside send or recv. */
void net_lost(struct net *net, const char *why);

/* --- the back ends, for open.c: each takes its own part of cfg ------------------------------ */

int net_tap_open(const struct net_config *cfg, struct net **out, struct err *err);
/* Open queues of one tap. */
int net_tap_from_fds(const struct net_config *cfg, const int *fd, unsigned n, struct net **out,
		     struct err *err);
/* A connected datagram or seqpacket socket: one frame each. */
int net_dgram_open(const struct net_config *cfg, int fd, struct net **out, struct err *err);
int net_stream_open(const struct net_config *cfg, struct net **out, struct err *err);
int net_stream_from_fd(const struct net_config *cfg, int fd, struct net **out, struct err *err);
int net_daemon_open(const struct net_config *cfg, struct net **out, struct err *err);
int net_user_open(const struct net_config *cfg, struct net **out, struct err *err);

#endif
