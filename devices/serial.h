/*
 * serial: a 16550A UART on eight I/O ports (PC16550D data sheet, National Semiconductor).
 *
 * The line is up while the IIR has an interrupt to tell. Transmission takes no
 * time while the sink has room; when it has none THRE and TEMT stay clear, as
 * on a slow line. Registers are accessed from vCPU threads under the device's
 * own lock.
 */
#ifndef BANTAM_SERIAL_H
#define BANTAM_SERIAL_H

#include "devices/device.h"

struct serial_config {
	uint16_t port; /* 8 ports from here */
	uint8_t gsi;
	uint8_t holder; /* of the line, below 32 */
};

/* COM1: what device_type.create uses. */
#define SERIAL_COM1_PORT 0x3f8
#define SERIAL_COM1_GSI 4

/*
 * cfg is parsed with serial_type.keys. With "off" *out is NULL and 0 is returned: the machine
 * has no such port. Loop's thread, before the vCPUs run.
 */
int serial_create(const struct device_env *env, const struct keyvals *cfg,
		  const struct serial_config *config, struct device **out, struct err *err);

extern const struct device_type serial_type;

#endif
