/*
 * console: virtio-console (virtio 1.2, section 5.3), as two devices of ours: hvc0 of a Linux guest
 * (--console), and a device with named ports for programs (--port, /dev/virtio-ports/NAME), which
 * carries all ports of a machine.
 */
#ifndef BANTAM_VIRTIO_CONSOLE_H
#define BANTAM_VIRTIO_CONSOLE_H

#include "devices/device.h"

/* With "off", create returns 0 and sets *out to NULL: there is no device. */
extern const struct device_type virtio_console_type;
/* A port with "off" is left out; without any port there is no device. */
extern const struct device_type virtio_port_type;

#endif
