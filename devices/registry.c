/* registry: every device type, in the order of --help. A new device adds one line here. */
#include "devices/device.h"

#include <string.h>

#include "devices/serial.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/fs.h"
#include "devices/virtio/net/nic.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock/vsock.h"

const struct device_type *const device_types[] = {
	&serial_type,	    &virtio_blk_type,	  &virtio_console_type,
	&virtio_net_type,   &virtio_rng_type,	  &virtio_fs_type,
	&virtio_vsock_type, &virtio_balloon_type, NULL,
};

const struct device_type *device_type_find(const char *name)
{
	for (size_t i = 0; device_types[i]; i++)
		if (!strcmp(device_types[i]->name, name))
			return device_types[i];
	return NULL;
}
