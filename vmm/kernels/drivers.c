/* kernels/drivers: see drivers.h. */
#include "vmm/kernels/drivers.h"

#include <string.h>

/* The same module for several options is packed once. */
static const struct {
	char option[10], module[32];
} drivers[] = {
	{ "disk", "virtio_blk?" },     { "net", "virtio_net?" },
	{ "fs", "virtiofs?" },	       { "vsock", "vmw_vsock_virtio_transport?" },
	{ "rng", "virtio_rng?" },      { "balloon", "virtio_balloon?" },
	{ "port", "virtio_console?" }, { "console", "virtio_console?" },
};

int kernels_add_transport(struct pack *pack, struct pack_tree *tree, bool mmio, struct err *err)
{
	return pack_add_module(pack, tree, mmio ? "virtio_mmio?" : "virtio_pci?", err);
}

int kernels_add_driver(struct pack *pack, struct pack_tree *tree, const char *option,
		       struct err *err)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (!strcmp(option, drivers[i].option))
			return pack_add_module(pack, tree, drivers[i].module, err);
	return 0;
}
