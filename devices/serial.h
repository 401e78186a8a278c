/*
 * serial: a 16550A UART on eight I/O ports (PC16550D data sheet, National Semiconductor).
 *
 * The interrupt line is up while IIR reports an interrupt. Transmission takes no time while the
 * sink has room; when it has none THRE and TEMT stay clear, as on a slow line. vCPU threads access
 * the registers, under the device's own lock.
 */
#ifndef BANTAM_SERIAL_H
#define BANTAM_SERIAL_H

#include "devices/device.h"

/* The first --serial is COM1, the second COM2, as on a PC. */
#define SERIAL_PORTS 2
#define SERIAL_COM1_PORT 0x3f8
#define SERIAL_COM1_GSI 4
#define SERIAL_COM2_PORT 0x2f8
#define SERIAL_COM2_GSI 3

/*
 * create makes port env->nth. With "off" it sets *out to NULL and returns 0: the machine has no such
 * port, and the other one keeps its place.
 */
extern const struct device_type serial_type;

#endif
