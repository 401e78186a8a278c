/* net/nic: the network card's device type, and what the host can do to a running one. */
#ifndef BANTAM_NET_NIC_H
#define BANTAM_NET_NIC_H

#include "devices/device.h"

extern const struct device_type virtio_net_type;

/* Pull the guest's cable, or plug it in. Loop's thread. Also by device_ops.set_link. */
void nic_set_link(struct device *dev, bool up);

#endif
