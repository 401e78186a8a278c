/*
 * probe: finds out when a program of the guest first answers on a forwarded TCP port, for a person who waits
 * to log in.
 *
 * Each port that has not answered gets a SYN of the gateway, once a second, as soon as the guest uses its
 * address; a SYN|ACK is the answer, and a RST ends it there: no program of the guest sees a connection, so no
 * log has one. A connection of the host's programs that is accepted counts, too. After PROBE_PATIENCE_MS
 * the guest has its peace.
 *
 * The guest is hostile: what it sends decides only when a port counts as answered, once each. One thread.
 */
#ifndef BANTAM_NET_USER_PROBE_H
#define BANTAM_NET_USER_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_PORTS 16u
#define PROBE_EVERY_MS 1000u
#define PROBE_PATIENCE_MS 600000u

/* Sends a frame to the guest. */
typedef void (*probe_send_fn)(const void *frame, size_t len_bytes);
/* The port of this index has answered. */
typedef void (*probe_answered_fn)(unsigned index);

/* Before any other function; without it, or without ports, nothing is probed. */
void probe_open(probe_send_fn send, probe_answered_fn answered);
/* A port of the guest, with the caller's number for it. More than PROBE_PORTS are not probed. */
void probe_add(uint16_t port, unsigned index);
/* Is there a port that has not answered? If not, there is no need to call the two below. */
bool probe_waits(void);
/*
 * Looks at a frame of the guest, which it may change at any time. Returns true if the frame answers a probe: it
 * is for nothing else.
 */
bool probe_takes(const uint8_t *frame, size_t len_bytes, uint64_t now_ms);
/* Sends what is due. Returns the milliseconds until it wants to be called again; UINT32_MAX: no more. */
uint32_t probe_tick(uint64_t now_ms);

#endif
