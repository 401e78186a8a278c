/*
 * fake_echo: a virtio device that copies each chain's readable bytes to its
 * writable ones, and counts the calls of the core.
 */
#ifndef BANTAM_FAKE_ECHO_H
#define BANTAM_FAKE_ECHO_H

#include "tests/unit/fake_driver.h"

#define ECHO_CONFIG 13u /* bytes 0xa0, 0xa1, …; not a multiple of 4 */
#define ECHO_QUEUES 2
#define ECHO_SIZE 16
#define ECHO_FEATURE 5

struct echo {
	struct virtio_device v;
	unsigned activated, kicks, resets, config_writes;
	unsigned kicked[ECHO_QUEUES];
	uint32_t config_off, config_len; /* range of the last write */
	int activate_rc;		 /* the result of activate */
	bool slow_reset;		 /* reset returns false; the test calls virtio_reset_done */
};

enum rig_how { RIG_MSIX, RIG_INTX, RIG_MMIO, RIG_HOWS };

/* A VM with one echo device and a driver that found it. */
struct rig {
	struct fake_env f;
	struct echo echo;
	struct fake_driver d;
};

void echo_init(struct echo *echo, struct fake_env *f);
void rig_init(struct rig *r, enum rig_how how);
void rig_destroy(struct rig *r);
/* Sends text and checks the echo. Returns the length in the used element. */
uint32_t rig_echo(struct rig *r, unsigned queue, const char *text);

#endif
