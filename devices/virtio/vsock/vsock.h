/* vsock: virtio-vsock, stream sockets between guest and host (virtio 1.2, section 5.10). */
#ifndef BANTAM_VSOCK_H
#define BANTAM_VSOCK_H

#include "devices/device.h"

extern const struct device_type virtio_vsock_type;

#endif
