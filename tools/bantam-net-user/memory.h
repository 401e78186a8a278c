/*
 * memory: whether the guest makes this process keep more than it may.
 *
 * libslirp keeps what the guest sends and does not complete (fragments of packets, segments out of
 * order), and glib ends the process when it gets no memory. So the guest's packets are dropped some
 * way before that. One thread.
 */
#ifndef BANTAM_NET_USER_MEMORY_H
#define BANTAM_NET_USER_MEMORY_H

#include <stdbool.h>

/* Call it once, when the limit on data (RLIMIT_DATA) is set, and before that cannot be asked. */
void memory_begin(void);
/* A frame of the guest is to be handled. Returns false if it is to be dropped; the log says so. */
bool memory_takes_frame(void);

#endif
