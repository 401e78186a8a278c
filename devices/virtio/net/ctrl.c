/*
 * net/ctrl: the control queue (virtio 1.2, section 5.1.6.5): receive filter, MAC, queue pairs,
 * announcements, offloads. The card answers each command with one byte, also an invalid one. The
 * filter saves the guest work; it is not a security boundary.
 */
#include <string.h>

#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/bytes.h"

#define ACK_OK 0u
#define ACK_ERR 1u
/* What a command counts for in its turn; one that changes a tap's queues ends it, as it takes long. */
#define COMMAND_BYTES (TURN_BYTES / 8)

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ, CLASS_OFFLOADS };
enum { MAC_TABLE_SET, MAC_ADDR_SET };

/* The bytes of a command after its header. */
struct command {
	const struct chain *chain;
	uint64_t len;
};
#define COMMAND_HDR_BYTES 2u

static bool read_at(const struct command *c, uint64_t off, void *to, size_t len)
{
	if (off > c->len || len > c->len - off)
		return false;
	return virtq_chain_read(c->chain, COMMAND_HDR_BYTES + off, to, len) == len;
}

static bool set_rx_mode(struct virtio_net *nic, unsigned cmd, const struct command *c)
{
	struct nic_filter *f = &nic->s.filter;
	bool *const flag[] = { &f->promisc, &f->allmulti, &f->alluni,
			       &f->nomulti, &f->nouni,	  &f->nobcast };
	uint8_t on;

	if (cmd >= sizeof(flag) / sizeof(flag[0]) || !read_at(c, 0, &on, 1) ||
	    !virtio_has(&nic->vdev, cmd < 2 ? NET_F_CTRL_RX : NET_F_CTRL_RX_EXTRA))
		return false;
	*flag[cmd] = on;
	f->on = true;
	return true;
}

/* Read one of the two tables: a count, and that many addresses. Moves *off past the table. */
static bool read_table(const struct command *c, uint64_t *off, unsigned *n, bool *overflow,
		       uint8_t mac[NIC_MACS_MAX][NET_MAC_BYTES])
{
	uint8_t b[4];
	uint32_t count;

	if (!read_at(c, *off, b, sizeof(b)))
		return false;
	*off += sizeof(b);
	count = get_le32(b);
	if (count > (c->len - *off) / NET_MAC_BYTES)
		return false;
	*overflow = count > NIC_MACS_MAX;
	*n = *overflow ? 0 : count;
	if (*n && !read_at(c, *off, mac, (size_t)*n * NET_MAC_BYTES))
		return false;
	*off += (uint64_t)count * NET_MAC_BYTES;
	return true;
}

static bool set_mac(struct virtio_net *nic, unsigned cmd, const struct command *c)
{
	struct nic_filter new = nic->s.filter;
	uint8_t mac[NET_MAC_BYTES];
	uint64_t off = 0;

	if (cmd == MAC_ADDR_SET) {
		if (!virtio_has(&nic->vdev, NET_F_CTRL_MAC_ADDR) || c->len != sizeof(mac) ||
		    !read_at(c, 0, mac, sizeof(mac)))
			return false;
		memcpy(nic->vdev.s.config + NET_CONFIG_MAC, mac, sizeof(mac));
		return true;
	}
	if (cmd != MAC_TABLE_SET || !virtio_has(&nic->vdev, NET_F_CTRL_RX) ||
	    !read_table(c, &off, &new.nuni, &new.uni_overflow, new.uni) ||
	    !read_table(c, &off, &new.nmulti, &new.multi_overflow, new.multi) || off != c->len)
		return false;
	new.on = true;
	nic->s.filter = new;
	return true;
}

static bool set_queues(struct virtio_net *nic, unsigned cmd, const struct command *c)
{
	uint8_t b[2];
	unsigned pairs;

	if (cmd || !virtio_has(&nic->vdev, NET_F_MQ) || c->len != sizeof(b) ||
	    !read_at(c, 0, b, sizeof(b)))
		return false;
	pairs = get_le16(b);
	if (!pairs || pairs > nic->max_pairs)
		return false;
	nic_set_pairs(nic, pairs);
	turn_end(&nic->ctrl_turn);
	if (nic->server)
		return true;
	/*
	 * Kicks of new pairs were ignored so far, so serve them. on_again does that: receiving uses
	 * nic->iov, and the answer to this command has yet to be written through it.
	 */
	for (unsigned i = 0; i < nic->max_pairs; i++) {
		nic->pair[i].rx.more = i < pairs;
		nic->pair[i].tx.more = i < pairs && !nic->pair[i].tx.blocked;
		nic_watch(nic, i);
	}
	nic_again(nic, &nic->ctrl_turn);
	return true;
}

static bool set_offloads(struct virtio_net *nic, unsigned cmd, const struct command *c)
{
	uint8_t b[8];
	uint64_t want;

	if (cmd || !virtio_has(&nic->vdev, NET_F_CTRL_GUEST_OFFLOADS) || c->len != sizeof(b) ||
	    !read_at(c, 0, b, sizeof(b)))
		return false;
	want = get_le64(b);
	if (want & ~nic->vdev.s.acked)
		return false;
	nic_set_offloads(nic, want);
	return true;
}

static bool announced(struct virtio_net *nic, unsigned cmd)
{
	if (cmd || !virtio_has(&nic->vdev, NET_F_GUEST_ANNOUNCE))
		return false;
	nic_set_status(nic, (uint16_t)(nic_status(nic) & ~NET_S_ANNOUNCE));
	return true;
}

static bool run(struct virtio_net *nic, const struct chain *chain)
{
	struct command c = { chain, chain->readable_bytes - COMMAND_HDR_BYTES };
	uint8_t hdr[COMMAND_HDR_BYTES];

	if (virtq_chain_read(chain, 0, hdr, sizeof(hdr)) != sizeof(hdr))
		return false;
	switch (hdr[0]) {
	case CLASS_RX:
		return set_rx_mode(nic, hdr[1], &c);
	case CLASS_MAC:
		return set_mac(nic, hdr[1], &c);
	case CLASS_ANNOUNCE:
		return announced(nic, hdr[1]);
	case CLASS_MQ:
		return set_queues(nic, hdr[1], &c);
	case CLASS_OFFLOADS:
		return set_offloads(nic, hdr[1], &c);
	default:
		return false;
	}
}

/* Kicks stay on: commands are rare, and the driver waits for each. */
void nic_run_ctrl(struct virtio_net *nic)
{
	struct virtq *q = &nic->vdev.queue[nic->ctrl];
	struct turn *turn = &nic->ctrl_turn;
	struct chain chain;
	int rc = 0;

	while (!turn_over(turn) && nic->vdev.active) {
		uint8_t ack;

		rc = virtq_pop(q, &chain, nic->iov, VIRTQ_MAX_SIZE);
		if (rc < 0)
			virtio_broken(&nic->vdev, q->broken_why);
		if (rc <= 0)
			break;
		if (!chain.writable_bytes) {
			virtio_broken(&nic->vdev, "a control command without room for its answer");
			return;
		}
		turn_charge(turn, COMMAND_BYTES);
		ack = run(nic, &chain) ? ACK_OK : ACK_ERR;
		virtq_chain_write(&chain, 0, &ack, 1);
		virtq_push(q, chain.head, 1);
	}
	if (!nic->vdev.active)
		return;
	virtio_interrupt(&nic->vdev, nic->ctrl);
	if (turn_over(turn))
		nic_again(nic, turn);
}

/* --- the receive filter -------------------------------------------------------------- */

/* Until the driver sets a filter, the guest wants every frame. */
void nic_filter_reset(struct nic_filter *f)
{
	memset(f, 0, sizeof(*f));
}

static bool in_table(uint8_t table[][NET_MAC_BYTES], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(table[i], mac, NET_MAC_BYTES))
			return true;
	return false;
}

bool nic_filter_wants(const struct virtio_net *nic, const uint8_t dst[NET_MAC_BYTES])
{
	static const uint8_t broadcast[NET_MAC_BYTES] = { 255, 255, 255, 255, 255, 255 };
	struct nic_filter *f = (struct nic_filter *)&nic->s.filter;

	if (!f->on || f->promisc)
		return true;
	if (!memcmp(dst, broadcast, NET_MAC_BYTES))
		return !f->nobcast;
	if (dst[0] & 1)
		return !f->nomulti &&
		       (f->allmulti || f->multi_overflow || in_table(f->multi, f->nmulti, dst));
	return !f->nouni && (f->alluni || f->uni_overflow ||
			     !memcmp(dst, nic->vdev.s.config + NET_CONFIG_MAC, NET_MAC_BYTES) ||
			     in_table(f->uni, f->nuni, dst));
}
