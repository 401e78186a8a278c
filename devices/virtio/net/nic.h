/* net/nic: the network card, as seen from outside this folder: a device type. */
#ifndef BANTAM_NET_NIC_H
#define BANTAM_NET_NIC_H

#include "devices/device.h"

extern const struct device_type virtio_net_type;

#endif
