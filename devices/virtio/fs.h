/* fs: virtio-fs (virtio 1.2, section 5.11), served by a vhost-user daemon such as virtiofsd. */
#ifndef BANTAM_VIRTIO_FS_H
#define BANTAM_VIRTIO_FS_H

#include "devices/device.h"

extern const struct device_type virtio_fs_type;

#endif
