/*
 * backlog: frames that the guest cannot take at once. They go out in order; what is beyond the limits, or
 * finds no memory, is dropped as a whole. One thread, one guest end.
 */
#ifndef BANTAM_NET_USER_BACKLOG_H
#define BANTAM_NET_USER_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/bantam-net-user/guest_end.h"

/* Forgets all frames; the next ones go to guest, which the caller keeps. */
void backlog_open(const struct guest_end *guest);
/* Sends the frame, keeps a copy, or drops it. */
void backlog_send(const void *frame, size_t len_bytes);
/* Sends what the guest takes now. */
void backlog_flush(void);
/* Returns true if so much is kept that the host's sockets should not be read. */
bool backlog_full(void);

#endif
