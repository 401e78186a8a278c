/*
 * net/link: the card's link: the host's switch, the backend's end, and the status that the guest
 * sees.
 */
#include "devices/virtio/net/nic_impl.h"

void nic_update_link(struct virtio_net *nic)
{
	uint16_t status = nic_link_up(nic) ? NET_S_LINK_UP : 0, was = nic_status(nic);

	if (status && !(was & NET_S_LINK_UP) && virtio_has(&nic->vdev, NET_F_GUEST_ANNOUNCE))
		status |= NET_S_ANNOUNCE;
	if ((status ^ was) & NET_S_LINK_UP) {
		nic_set_status(nic, status);
		if (virtio_has(&nic->vdev, NET_F_STATUS))
			virtio_config_changed(&nic->vdev);
	}
	if (nic->server)
		nic->server->update(nic);
	for (unsigned i = 0; i < nic->s.pairs && !nic->server; i++) {
		nic_watch(nic, i);
		/* Frames that waited for the other end are sent now, or dropped. */
		if (nic->vdev.active && !nic->pair[i].tx.blocked)
			nic_run_tx(nic, i);
		if (nic->vdev.active)
			nic_run_rx(nic, i);
	}
}

void nic_on_link(void *opaque, bool up)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	nic_update_link(nic);
	virtio_unlock(&nic->vdev);
}

void nic_set_link(struct device *dev, bool up)
{
	struct virtio_net *nic = (struct virtio_net *)dev;

	virtio_lock(&nic->vdev);
	if (nic->s.link != up) {
		nic->s.link = up;
		if (nic->net->ops->set_link)
			nic->net->ops->set_link(nic->net, up);
		nic_update_link(nic);
	}
	virtio_unlock(&nic->vdev);
}
