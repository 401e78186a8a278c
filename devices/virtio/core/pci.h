/*
 * virtio/pci: a virtio device as a modern PCI function (virtio 1.2, section 4.1).
 *
 * One memory BAR holds everything:
 *   0x0000 common configuration, 0x0100 ISR, 0x0200 device configuration
 *   0x1000 notification, 4 bytes for each queue
 *   0x2000 MSI-X table, 0x3000 pending bits, each in a page of its own
 * Vectors: one for each queue and one for configuration changes.
 *
 * The transport binds kicks when the driver sets DRIVER_OK. They stay bound across a reset
 * (unbinding takes milliseconds in KVM; the device ignores a kick while it is idle) and follow the
 * BAR when the guest moves it.
 *
 * Thread: the builder attaches and detaches; any vCPU accesses registers and configuration space,
 * under the device's lock.
 */
#ifndef BANTAM_VIRTIO_PCI_H
#define BANTAM_VIRTIO_PCI_H

#include "devices/pci/pci.h"
#include "devices/virtio/core/virtio.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040 /* + device id */
#define VIRTIO_PCI_BAR 0
#define VIRTIO_PCI_BAR_BYTES 0x4000u
#define VIRTIO_PCI_ISR 0x0100u
#define VIRTIO_PCI_DEVICE 0x0200u
#define VIRTIO_PCI_NOTIFY 0x1000u
#define VIRTIO_PCI_MSIX_TABLE 0x2000u
#define VIRTIO_PCI_MSIX_PBA 0x3000u
#define VIRTIO_PCI_COMMON_BYTES 0x40u
#define VIRTIO_PCI_NOTIFY_STEP 4u

/*
 * Called by virtio_attach: put dev into the next free slot. Thread: the loop's, before the vCPUs
 * run. 0, -ENOSPC, -ENOMEM, or why an eventfd cannot be created; after an error nothing is left
 * behind.
 */
int virtio_pci_attach(struct virtio_device *dev, struct pci_host *host, struct err *err);

#endif
