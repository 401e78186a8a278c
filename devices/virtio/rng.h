/* rng: virtio-rng, entropy for the guest (virtio 1.2, section 5.4). */
#ifndef BANTAM_VIRTIO_RNG_H
#define BANTAM_VIRTIO_RNG_H

#include "devices/device.h"

extern const struct device_type virtio_rng_type;

#endif
