/*
 * console_impl: what the files of this folder share.
 *
 * Thread: everything here needs the device's lock, unless a comment says otherwise.
 */
#ifndef BANTAM_VIRTIO_CONSOLE_IMPL_H
#define BANTAM_VIRTIO_CONSOLE_IMPL_H

#include "devices/backend/chardev/chardev.h"
#include "devices/virtio/console/console.h"
#include "devices/virtio/core/virtio.h"
#include "vmm/core/turn.h"

/* Feature bits (5.3.3). */
#define CONSOLE_F_SIZE 0
#define CONSOLE_F_MULTIPORT 1
#define CONSOLE_F_EMERG_WRITE 2

/* Queues (5.3.2): port 0 has the first two, the control queues follow, then the other ports. */
#define CONSOLE_RX 0
#define CONSOLE_TX 1
#define CONSOLE_CONTROL_RX 2
#define CONSOLE_CONTROL_TX 3
#define CONSOLE_QUEUE_SIZE 128u

#define CONSOLE_CONFIG_BYTES 12u

/* As many as a virtio device here has queues for. */
#define CONSOLE_MAX_PORTS 15u
#define CONSOLE_NAME_MAX 64u

/* Of port_keys: behind those of the sink. */
#define PORT_KEY_NAME CHARDEV_NKEYS

/* What the guest sees and sets of a port. A snapshot will save exactly this and console_state. */
struct console_port_state {
	uint64_t tx_off; /* bytes of the transmit queue's front chain already sent */
	/* With MULTIPORT (5.3.6.2): */
	bool guest_open; /* a program of the guest has the port open */
	bool closing;	 /* closed, but output from before is still in the queue */
	bool ready;	 /* the driver has the port, so it hears of the host's end */
	bool host_open;	 /* what the driver knows of the host's end */
	/* Messages to the driver that wait for a buffer. */
	bool add_due, name_due;
	uint8_t open_due; /* that the host's end has changed: so many times, at most 2 */
};

struct console_port {
	struct console *con;
	unsigned index;
	struct console_port_state s;
	char name[CONSOLE_NAME_MAX + 1]; /* "": the only port of --console */
	struct chardev *chr;
	bool connected;	 /* the host's end has a reader */
	bool tx_blocked; /* until the sink drains */
	bool rx_waiting; /* input waits for a buffer, or for the guest to open the port */
};

struct console_state {
	uint16_t cols, rows; /* characters, also in config (5.3.4); 0: not known */
	bool announced;	     /* the driver was told, or will be, which ports there are */
};

struct console {
	struct virtio_device vdev; /* first */
	struct console_state s;
	bool has_names;	  /* --port: MULTIPORT is offered */
	struct turn turn; /* of all output and control messages */
	struct loop_watch *again;
	uint32_t due;  /* bit n: port n may have output; bit nports: control messages */
	unsigned next; /* bit of due that is looked at first */
	unsigned nports;
	struct console_port port[];
};

static inline struct console *console_of(struct virtio_device *vdev)
{
	return (struct console *)vdev;
}

static inline bool console_multiport(const struct console *con)
{
	return virtio_has(&con->vdev, CONSOLE_F_MULTIPORT);
}

/* Port n, or the control queue (nports), may have something to serve. */
static inline void console_due(struct console *con, unsigned n)
{
	con->due |= 1u << n;
}

/* config.c: writes the configuration anew; the same with the terminal's new size. */
void console_fill_config(struct console *con);
void console_resize(struct console *con, uint16_t cols, uint16_t rows);
/* As virtio_class.write_config. */
void console_write_config(struct virtio_device *vdev, uint32_t off, uint32_t len);

/* port.c: serves output until there is none, the sink is full or the turn is over. */
void console_port_run_tx(struct console_port *port);
/* There may be a new buffer for input. */
void console_port_run_rx(struct console_port *port);
/* Returns how much of the sink's input the guest takes. */
size_t console_port_input(struct console_port *port, const uint8_t *buf, size_t len);
/* The guest opens or closes its end. */
void console_port_guest_open(struct console_port *port, bool open);
/* The driver has started the device, or has left it. */
void console_port_begin(struct console_port *port);
void console_port_end(struct console_port *port);

/* control.c: handles the driver's messages until there are none or the turn is over. */
void console_control_run(struct console *con);
/* Sends what is due to the driver, as far as it has buffers. */
void console_control_send(struct console *con);
/* port->connected has changed. */
void console_control_host_open(struct console_port *port);

/* serve.c: serves what is due, a turn at a time. */
void console_serve(struct console *con);
/* Attaches to the sink, whose callbacks take the lock themselves. Without the lock; see chardev_attach. */
void console_port_attach(struct console_port *port);

#endif
