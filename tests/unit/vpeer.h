/*
 * vpeer: both peers of a virtio-vsock device for its unit tests: a guest's driver and host programs,
 * in one thread. One device at a time, vp. An unexpected event fails the test.
 */
#ifndef BANTAM_VPEER_H
#define BANTAM_VPEER_H

#include "devices/virtio/vsock/vsock_impl.h"
#include "tests/unit/fake_driver.h"

#define VPEER_CID 42u
#define VPEER_NRX 16u /* receive buffers */
#define VPEER_RX_BYTES 4096u
#define VPEER_ROOM 65536u /* the guest's buffer for each connection */

struct vpeer {
	struct fake_env f;
	struct fake_driver d;
	struct device *dev;
	char dir[32], path[64], text[1 << 16]; /* text: scratch */
	gpa_t rx_at, tx_at;
	uint8_t *rx_host, *tx_host;
	uint32_t fwd;	      /* the guest's fwd_cnt in every packet */
	struct vsock_hdr got; /* the last packet that the guest received */
	uint8_t *got_data;
};

extern struct vpeer vp;

/* Creates vp.dev from the keys of --vsock. Returns 0 or -errno. */
int vpeer_create(const char *keys, struct err *err);
/* begin makes a device with a driver; end checks that its socket is gone; both: PCI, then MMIO. */
void vpeer_begin(enum fake_transport transport);
void vpeer_end(void);
void vpeer_both(void (*test)(void));
/* start: the driver starts and gives all receive buffers. give: it gives one. */
void vpeer_start(void);
void vpeer_give(unsigned i);
/* Resets as a vCPU does, while the loop runs. */
void vpeer_reset(void);

/* Host programs: serve listens; host_connect connects and sends line; at_end tells the end. */
int vpeer_serve(int port, int backlog);
int vpeer_host_connect(const char *line);
bool vpeer_at_end(int fd);

/* The guest sends a packet; send_raw: hdr and have bytes of data, in two descriptors. */
struct vsock_hdr vpeer_make(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t len);
void vpeer_send_raw(const struct vsock_hdr *hdr, const void *data, uint32_t have);
void vpeer_send_packet(unsigned op, uint32_t guest_port, uint32_t host_port, const void *data,
		       uint32_t len);
void vpeer_send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags);
/* The guest connects to a server of the host. Returns the server's end. */
int vpeer_open_out(int server, uint32_t guest_port, uint32_t host_port);

/* A condition for fake_run_until: the guest gets a packet into vp.got; *(bool *)have tells. */
bool vpeer_used(void *have);
/* Takes the next packet; returns its buffer to the ring without a kick. */
bool vpeer_take(void);
/* Returns true if no packet comes. */
bool vpeer_silent(void);
void vpeer_expect(unsigned op, uint32_t guest_port, uint32_t host_port);
void vpeer_drain(void);

#endif
