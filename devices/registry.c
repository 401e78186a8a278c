/* registry: every device type, in the order of --help. A new device adds one line here. */
#include "devices/device.h"

#include "devices/serial.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk/blk.h"
#include "devices/virtio/console/console.h"
#include "devices/virtio/fs.h"
#include "devices/virtio/net/nic.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock/vsock.h"

/* One line each, whatever their lengths. */
/* clang-format off */
const struct device_type *const device_types[] = {
	&serial_type,
	&virtio_blk_type,
	&virtio_console_type,
	&virtio_port_type,
	&virtio_net_type,
	&virtio_rng_type,
	&virtio_fs_type,
	&virtio_vsock_type,
	&virtio_balloon_type,
	NULL,
};
