/* vsock/vhost_kernel: virtio-vsock that the host's kernel serves (--vsock vhost=on). */
#ifndef BANTAM_VSOCK_VHOST_KERNEL_H
#define BANTAM_VSOCK_VHOST_KERNEL_H

#include "devices/device.h"

/*
 * *missing: the failure is that there is no /dev/vhost-vsock, or none for us: a device without
 * vhost would do. As device_type.create otherwise; the caller sets the device's type.
 */
int vsock_vhost_kernel_create(const struct device_env *env, const char *option, uint32_t cid,
			      bool *missing, struct device **out, struct err *err);

#endif
