/*
 * net/net_impl: what the back ends share, and how open.c makes each. For this folder, and for the
 * back ends of tests.
 *
 * Thread: the loop's, or the builder's before the loop runs.
 */
#ifndef BANTAM_NET_IMPL_H
#define BANTAM_NET_IMPL_H

#include "devices/backend/net/net.h"

/* Makes a zeroed object of size_bytes, without fds. NULL: out of memory. */
struct net *net_new(const struct net_ops *ops, const struct net_config *cfg, size_t size_bytes);
/* For dry_run: makes an object that can be described and closed. */
int net_describe(const struct net_config *cfg, struct net **out, struct err *err, const char *fmt,
		 ...) __attribute__((format(printf, 4, 5)));
/*
 * Makes fd serve this queue. The port takes fd over, which is non-blocking from now on. 0 or
 * -errno.
 */
int net_port_open(struct net *net, unsigned queue, int fd);
/* The same for an fd that is non-blocking already, and closed on exec. */
int net_port_watch(struct net *net, unsigned queue, int fd);
/* Unwatches and closes the port's fd; does nothing without one. */
void net_port_close(struct net *net, unsigned queue);
/* Unwatches the port's fd, and returns it: it belongs to the caller. -1: none. */
int net_port_release(struct net *net, unsigned queue);
/* Closes all ports, then frees the memory. */
void net_free(struct net *net);
/* Copies a received frame into f, as far as it fits; sets f->len_bytes to the whole length. */
void net_frame_fill(struct net_frame *f, const uint8_t *from, uint32_t len_bytes);
/* Calls the client's readable and writable, if events match what the client wants. */
void net_tell(struct net *net, unsigned queue, uint32_t events);
/* Sets net->up and calls the client's link if it has changed. */
void net_set_up(struct net *net, bool up);
/*
 * Reports once for each time that the peer is gone, and why. The link goes down, and what the
 * client sends is swallowed from now on. Loop's thread, not from inside send or recv.
 */
void net_lost(struct net *net, const char *why);

/* --- the back ends, for open.c: each takes its own part of cfg ------------------------------ */

int net_tap_open(const struct net_config *cfg, struct net **out, struct err *err);
/* fd: n open queues of one tap. */
int net_tap_from_fds(const struct net_config *cfg, const int *fd, unsigned n, struct net **out,
		     struct err *err);
/* fd: a connected datagram or seqpacket socket, one frame in each message. */
int net_dgram_open(const struct net_config *cfg, int fd, struct net **out, struct err *err);
int net_stream_open(const struct net_config *cfg, struct net **out, struct err *err);
int net_stream_from_fd(const struct net_config *cfg, int fd, struct net **out, struct err *err);
int net_daemon_open(const struct net_config *cfg, struct net **out, struct err *err);
int net_user_open(const struct net_config *cfg, struct net **out, struct err *err);

#endif
