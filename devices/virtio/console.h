/* console: virtio-console, hvc0 of a Linux guest (virtio 1.2, section 5.3). */
#ifndef BANTAM_VIRTIO_CONSOLE_H
#define BANTAM_VIRTIO_CONSOLE_H

#include "devices/device.h"

/* With "off", create returns 0 and sets *out to NULL: there is no device. */
extern const struct device_type virtio_console_type;

#endif
