/* console: virtio-console, hvc0 of a Linux guest (virtio 1.2, section 5.3). */
#ifndef BANTAM_VIRTIO_CONSOLE_H
#define BANTAM_VIRTIO_CONSOLE_H

#include "devices/device.h"

/* create with "off" gives *out = NULL and 0: no such device. */
extern const struct device_type virtio_console_type;

#endif
