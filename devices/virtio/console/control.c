/*
 * console/control: the messages of a device with ports (virtio 1.2, section 5.3.6.2).
 *
 * Theory of operation. The driver says that it is ready, the device names its ports, the driver says for
 * each whether it has it, and then each side says when its end is opened and closed. The driver's messages
 * are eight bytes: an event, a port and a value. The specification says of no message what a wrong one
 * is, so the device ignores what means nothing: fewer bytes, unknown events, ports that do not exist.
 *
 * What the device has to say is not a queue of messages, but state of each port: which of its messages are
 * due. So a driver that asks without end, or gives no buffers, costs nothing. A host's end that closes
 * and opens again while the driver has no buffer becomes two messages, since the program at the other
 * end is another one.
 *
 * PORT_READY counts without DEVICE_READY before it: Linux sends only that when it wakes from hibernation.
 */
#include <string.h>

#include "devices/virtio/console/console_impl.h"
#include "vmm/core/bytes.h"

enum {
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	PORT_OPEN = 6,
	PORT_NAME = 7,
};

/* struct virtio_console_control, little-endian. */
#define MESSAGE_ID 0
#define MESSAGE_EVENT 4
#define MESSAGE_VALUE 6
#define MESSAGE_BYTES 8

/* --- to the driver ----------------------------------------------------------------- */

/* Returns false if the driver has no buffer, or is broken. */
static bool put_message(struct console *con, const void *message, size_t len)
{
	struct virtq *q = &con->vdev.queue[CONSOLE_CONTROL_RX];
	struct iovec iov[CONSOLE_QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);

	if (!rc && virtq_enable_kicks(q)) {
		virtq_disable_kicks(q);
		rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);
	}
	if (rc < 0)
		virtio_broken(&con->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (chain.writable_bytes < MESSAGE_BYTES) {
		virtio_broken(&con->vdev, "a control buffer is too small for a message");
		return false;
	}
	/* A name that is longer than the buffer is cut. */
	len = virtq_chain_write(&chain, 0, message, len);
	virtq_push(q, chain.head, (uint32_t)len);
	return true;
}

static bool tell(struct console_port *port, uint16_t event, uint16_t value)
{
	uint8_t message[MESSAGE_BYTES + CONSOLE_NAME_MAX];
	size_t name_len = event == PORT_NAME ? strlen(port->name) : 0;

	put_le32(message + MESSAGE_ID, port->index);
	put_le16(message + MESSAGE_EVENT, event);
	put_le16(message + MESSAGE_VALUE, value);
	memcpy(message + MESSAGE_BYTES, port->name, name_len); /* without a NUL */
	return put_message(port->con, message, MESSAGE_BYTES + name_len);
}

/* Returns false if the driver has no buffer. */
static bool tell_all(struct console_port *port)
{
	struct console_port_state *s = &port->s;

	if (s->add_due && tell(port, PORT_ADD, 1))
		s->add_due = false;
	if (!s->add_due && s->name_due && tell(port, PORT_NAME, 1))
		s->name_due = false;
	while (!s->add_due && !s->name_due && s->open_due && tell(port, PORT_OPEN, !s->host_open)) {
		s->host_open = !s->host_open;
		s->open_due--;
	}
	return !s->add_due && !s->name_due && !s->open_due;
}

void console_control_send(struct console *con)
{
	if (!con->vdev.active || !console_multiport(con))
		return;
	virtq_disable_kicks(&con->vdev.queue[CONSOLE_CONTROL_RX]);
	for (unsigned i = 0; i < con->nports && tell_all(&con->port[i]); i++)
		;
	if (con->vdev.active)
		virtio_interrupt(&con->vdev, CONSOLE_CONTROL_RX);
}

/* The driver gets one message, or two that say "and back again". */
static void note_open(struct console_port *port)
{
	bool told_last = port->s.host_open ^ (port->s.open_due & 1);

	if (port->s.ready && told_last != port->connected)
		port->s.open_due = port->s.open_due ? 3 - port->s.open_due : 1;
}

void console_control_host_open(struct console_port *port)
{
	note_open(port);
	console_control_send(port->con);
}

/* --- from the driver --------------------------------------------------------------- */

/* Linux looks at names and ends again when it wakes up: it gets both after each PORT_READY. */
static void port_ready(struct console_port *port, bool ready)
{
	port->s.ready = ready;
	port->s.name_due = ready;
	port->s.host_open = false;
	port->s.open_due = 0;
	note_open(port);
}

static void handle(struct console *con, const uint8_t *message)
{
	uint32_t id = get_le32(message + MESSAGE_ID);
	uint16_t value = get_le16(message + MESSAGE_VALUE);

	switch (get_le16(message + MESSAGE_EVENT)) {
	case DEVICE_READY:
		/* A port may be added once only (5.3.6.2.1). */
		for (unsigned i = 0; i < con->nports && value && !con->s.announced; i++)
			con->port[i].s.add_due = true;
		con->s.announced |= value != 0;
		break;
	case PORT_READY:
		if (id < con->nports)
			port_ready(&con->port[id], value);
		break;
	case PORT_OPEN:
		if (id < con->nports)
			console_port_guest_open(&con->port[id], value);
		break;
	}
}

/* Handles one message. Returns false if there is none. */
static bool take_message(struct console *con)
{
	struct virtq *q = &con->vdev.queue[CONSOLE_CONTROL_TX];
	uint8_t message[MESSAGE_BYTES];
	struct iovec iov[CONSOLE_QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, CONSOLE_QUEUE_SIZE);

	if (rc < 0)
		virtio_broken(&con->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (virtq_chain_read(&chain, 0, message, sizeof(message)) == sizeof(message))
		handle(con, message);
	virtq_push(q, chain.head, 0);
	turn_charge(&con->turn, MESSAGE_BYTES);
	return true;
}

void console_control_run(struct console *con)
{
	struct virtio_device *vdev = &con->vdev;
	struct virtq *q = &vdev->queue[CONSOLE_CONTROL_TX];

	con->due &= ~(1u << con->nports);
	virtq_disable_kicks(q);
	do {
		while (!turn_over(&con->turn) && take_message(con))
			;
	} while (!turn_over(&con->turn) && vdev->active && virtq_enable_kicks(q));
	if (!vdev->active)
		return;
	virtio_interrupt(vdev, CONSOLE_CONTROL_TX);
	if (turn_over(&con->turn))
		console_due(con, con->nports);
	console_control_send(con);
}
