/*
 * console/serve: the ports and the control queue take turns; what the sinks ask for.
 *
 * Theory of operation. All output queues of a device share its turn (turn.h). due says which of them may
 * have work; each is served until it has none, its sink is full, or the turn is over. A turn ends with
 * the queue that used it up, and the next turn begins with the queue behind that one: so a port
 * whose guest program writes without end, or whose sink is full, delays the others by a turn at most, and so it
 * does the control messages.
 */
#include "devices/virtio/console/console_impl.h"

void console_serve(struct console *con)
{
	unsigned n = con->nports + con->has_names;

	turn_begin(&con->turn);
	while (con->due && con->vdev.active && !turn_over(&con->turn)) {
		unsigned at = con->next;

		con->next = (at + 1) % n;
		if (!(con->due >> at & 1))
			continue;
		if (at < con->nports)
			console_port_run_tx(&con->port[at]);
		else
			console_control_run(con);
	}
	if (con->due && con->vdev.active)
		turn_leave(&con->turn, con->again);
}

/* --- callbacks of the sinks, in the chardev's loop --------------------------------------- */

static size_t sink_input(void *opaque, const uint8_t *buf, size_t len)
{
	struct console_port *port = opaque;

	virtio_lock(&port->con->vdev);
	len = console_port_input(port, buf, len);
	virtio_unlock(&port->con->vdev);
	return len;
}

static void sink_drained(void *opaque)
{
	struct console_port *port = opaque;
	struct console *con = port->con;

	virtio_lock(&con->vdev);
	port->tx_blocked = false;
	if (con->vdev.active) {
		console_due(con, port->index);
		console_serve(con);
	}
	virtio_unlock(&con->vdev);
}

static void sink_connected(void *opaque, bool connected)
{
	struct console_port *port = opaque;

	virtio_lock(&port->con->vdev);
	if (port->connected != connected) {
		port->connected = connected;
		console_control_host_open(port);
	}
	virtio_unlock(&port->con->vdev);
}

static void sink_resized(void *opaque, uint16_t cols, uint16_t rows)
{
	struct console_port *port = opaque;

	virtio_lock(&port->con->vdev);
	console_resize(port->con, cols, rows);
	virtio_unlock(&port->con->vdev);
}

static void sink_failed(void *opaque)
{
	struct virtio_device *vdev = &((struct console_port *)opaque)->con->vdev;

	vdev->env->ops->event(vdev->env->vm, VM_EVENT_LOST_OUTPUT);
}

void console_port_attach(struct console_port *port)
{
	bool named = port->con->has_names;
	struct chardev_user user = { .input = sink_input,
				     .drained = sink_drained,
				     .resized = named ? NULL : sink_resized,
				     .failed = sink_failed,
				     .opaque = port,
				     .connected = named ? sink_connected : NULL,
				     .exact = named };

	chardev_attach(port->chr, &user);
}
