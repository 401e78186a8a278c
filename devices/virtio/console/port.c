/*
 * console/port: one port: output from the guest to the sink, input from the sink to the guest.
 *
 * Theory of operation. The device copies output chains into the sink's ring. It puts a chain that
 * does not fit back into the queue, with its progress kept in tx_off, until the sink drains: the
 * guest waits, no output is lost and no buffer grows. It does the same at the end of a turn (turn.h),
 * and the loop comes back to it. It refuses input while the guest has no
 * buffer, and with MULTIPORT while no program of the guest has the port open, because the driver would
 * drop it; the next kick of the receive queue, or the guest's open, asks for the input again. A
 * queue's kicks stay off while the device waits for the other side.
 *
 * The guest closes a port by a message in another queue than its output. So the host learns of the
 * close when the transmit queue has been empty once after the message.
 */
#include "devices/virtio/console/console_impl.h"

#define CHUNK_BYTES 1024u

/* The first of the port's two queues. */
static unsigned queue_of(const struct console_port *port)
{
	return port->index ? 2 * port->index + 2 : CONSOLE_RX;
}

static struct virtq *tx_queue(struct console_port *port)
{
	return &port->con->vdev.queue[queue_of(port) + CONSOLE_TX];
}

static struct virtq *rx_queue(struct console_port *port)
{
	return &port->con->vdev.queue[queue_of(port) + CONSOLE_RX];
}

/* --- output ------------------------------------------------------------------ */

/*
 * Returns false if the sink is full, or at the end of the turn; tx_off is then the number of bytes
 * sent.
 */
static bool send(struct console_port *port, const struct chain *chain)
{
	struct console_port_state *s = &port->s;
	struct turn *turn = &port->con->turn;
	uint8_t buf[CHUNK_BYTES];
	uint64_t most = s->tx_off + turn_room(turn, TURN_BYTES), begin = s->tx_off;

	/* The guest may have changed a chain that was put back: use its new length. */
	while (s->tx_off < chain->readable_bytes && s->tx_off < most) {
		size_t len = virtq_chain_read(chain, s->tx_off, buf, sizeof(buf));
		size_t sent = chardev_write(port->chr, buf, len);

		s->tx_off += sent;
		port->tx_blocked = sent < len;
		if (port->tx_blocked)
			break;
	}
	turn_charge(turn, s->tx_off - begin);
	if (s->tx_off < chain->readable_bytes)
		return false;
	s->tx_off = 0;
	return true;
}

/* Serve one chain. Returns false if there is nothing more to do now. */
static bool serve_tx(struct console_port *port)
{
	struct virtio_device *vdev = &port->con->vdev;
	struct virtq *q = tx_queue(port);
	struct iovec iov[CONSOLE_QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);

	if (rc < 0)
		virtio_broken(vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (!send(port, &chain)) {
		virtq_unpop(q);
		return false;
	}
	virtq_push(q, chain.head, 0);
	return true;
}

void console_port_run_tx(struct console_port *port)
{
	struct virtio_device *vdev = &port->con->vdev;
	const struct turn *turn = &port->con->turn;
	struct virtq *q = tx_queue(port);

	port->con->due &= ~(1u << port->index);
	if (port->tx_blocked)
		return;
	virtq_disable_kicks(q);
	do {
		while (!turn_over(turn) && serve_tx(port))
			;
	} while (!turn_over(turn) && vdev->active && !port->tx_blocked && virtq_enable_kicks(q));
	if (!vdev->active)
		return;
	virtio_interrupt(vdev, queue_of(port) + CONSOLE_TX);
	if (port->tx_blocked)
		return;
	if (turn_over(turn)) {
		console_due(port->con, port->index);
	} else if (port->s.closing) {
		port->s.closing = false;
		chardev_guest_open(port->chr, false);
	}
}

/* --- input ------------------------------------------------------------------- */

/* Returns true if the guest has a use for input now. */
static bool takes_input(struct console_port *port)
{
	return port->con->vdev.active && rx_queue(port)->s.ready &&
	       (!console_multiport(port->con) || port->s.guest_open);
}

/* Returns the bytes taken, 0 if there is no buffer or the device is broken. */
static size_t receive(struct console_port *port, const uint8_t *buf, size_t len)
{
	struct virtio_device *vdev = &port->con->vdev;
	struct virtq *q = rx_queue(port);
	struct iovec iov[CONSOLE_QUEUE_SIZE];
	struct chain chain;
	size_t n;
	int rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);

	if (!rc && virtq_enable_kicks(q)) {
		virtq_disable_kicks(q);
		rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);
	}
	if (rc < 0)
		virtio_broken(vdev, q->broken_why);
	if (rc <= 0)
		return 0;
	if (!chain.writable_bytes) {
		virtio_broken(vdev, "a receive buffer has no writable byte");
		return 0;
	}
	n = virtq_chain_write(&chain, 0, buf, len);
	virtq_push(q, chain.head, (uint32_t)n);
	return n;
}

size_t console_port_input(struct console_port *port, const uint8_t *buf, size_t len)
{
	struct virtio_device *vdev = &port->con->vdev;
	size_t done = 0, n = 0;

	while (done < len && takes_input(port)) {
		n = receive(port, buf + done, len - done);
		if (!n)
			break;
		done += n;
	}
	port->rx_waiting = done < len;
	if (done && vdev->active)
		virtio_interrupt(vdev, queue_of(port) + CONSOLE_RX);
	return done;
}

static void ask_for_input(struct console_port *port)
{
	if (!port->rx_waiting)
		return;
	port->rx_waiting = false;
	chardev_resume(port->chr);
}

void console_port_run_rx(struct console_port *port)
{
	virtq_disable_kicks(rx_queue(port));
	ask_for_input(port);
}

/* --- both ends ------------------------------------------------------------------ */

void console_port_guest_open(struct console_port *port, bool open)
{
	if (port->s.guest_open == open)
		return;
	port->s.guest_open = open;
	port->s.closing = !open;
	if (open) {
		/* Also after a close that the output holds up: the host sees both. */
		chardev_guest_open(port->chr, false);
		chardev_guest_open(port->chr, true);
		ask_for_input(port);
	} else {
		console_due(port->con, port->index);
	}
}

void console_port_begin(struct console_port *port)
{
	/* A driver without MULTIPORT has port 0 only, and no messages. */
	if (port->con->has_names && !console_multiport(port->con) && !port->index)
		chardev_guest_open(port->chr, true);
}

void console_port_end(struct console_port *port)
{
	port->s = (struct console_port_state){ 0 };
	port->tx_blocked = false;
	if (port->con->has_names)
		chardev_guest_open(port->chr, false);
}
