/*
 * kernels/drivers: the kernel modules by which a guest uses the devices of bantam run.
 *
 * A module that the kernel has built in, or that its tree does not have, is left out. Errors: 0/-errno and one
 * line in err. Thread: one at a time.
 */
#ifndef BANTAM_KERNELS_DRIVERS_H
#define BANTAM_KERNELS_DRIVERS_H

#include "boot/pack/modules.h"

/* virtio over PCI, or with mmio over MMIO. */
int kernels_add_transport(struct pack *pack, struct pack_tree *tree, bool mmio, struct err *err);
/* option: of a device, without dashes ("disk"); one that needs no module is none. */
int kernels_add_driver(struct pack *pack, struct pack_tree *tree, const char *option,
		       struct err *err);

#endif
