/* vsock/vhost_kernel: virtio-vsock, served by the host's kernel (--vsock vhost=on). */
#ifndef BANTAM_VSOCK_VHOST_KERNEL_H
#define BANTAM_VSOCK_VHOST_KERNEL_H

#include "devices/device.h"

/*
 * Sets *missing if it fails because /dev/vhost-vsock is absent or may not be used: the caller may
 * then create a device without vhost-vsock. Otherwise as device_type.create; the caller sets the
 * device's type.
 */
int vsock_vhost_kernel_create(const struct device_env *env, const char *option, uint32_t cid,
			      bool *missing, struct device **out, struct err *err);

#endif
