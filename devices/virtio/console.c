/*
 * console: virtio-console with one port (virtio 1.2, section 5.3).
 *
 * Theory of operation. The device copies output chains into the sink's ring. It puts a chain that
 * does not fit back into the queue, with its progress kept in tx_off, until the sink drains: the
 * guest waits, no output is lost and no buffer grows. It does the same at the end of a turn (turn.h),
 * and the loop comes back to it. It refuses input while the guest has no
 * buffer; the next kick of the receive queue asks for the input again. A queue's kicks stay off
 * while the device waits for the other side.
 *
 * Threads: the loop serves queues, input and the sink's callbacks; a vCPU's thread writes the
 * configuration (one emergency character, which chardev_write takes from any thread), activates and
 * resets. Every field is under the device's lock, which comes before the sink's own.
 */
#include "devices/virtio/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/virtio/core/virtio.h"
#include "vmm/core/bytes.h"
#include "vmm/core/turn.h"

#define CONSOLE_F_SIZE 0
#define CONSOLE_F_EMERG_WRITE 2

#define RX 0
#define TX 1
#define QUEUE_SIZE 128u
#define CHUNK_BYTES 1024u

/* Section 5.3.4, little-endian. */
#define CONFIG_COLS 0
#define CONFIG_ROWS 2
#define CONFIG_EMERG_WR 8
#define CONFIG_BYTES 12

/* A snapshot will save exactly this beside virtio_state. The wiring is in struct console. */
struct console_state {
	uint16_t cols, rows; /* characters, also in config (5.3.4); 0: not known */
	uint64_t tx_off;     /* bytes of the transmit queue's front chain already sent */
};

struct console {
	struct virtio_device vdev; /* first */
	struct console_state s;
	struct chardev *chr;
	struct loop_watch *again;
	struct turn turn; /* output's */
	bool tx_blocked;  /* until the sink drains */
	bool rx_waiting;  /* input waits for a buffer */
};

static struct console *console_of(struct virtio_device *vdev)
{
	return (struct console *)vdev;
}

/* --- output (lock held) ---------------------------------------------------- */

/*
 * Returns false if the sink is full, or at the end of the turn; tx_off is then the number of bytes
 * sent.
 */
static bool send(struct console *con, const struct chain *chain)
{
	uint8_t buf[CHUNK_BYTES];
	uint64_t most = con->s.tx_off + turn_room(&con->turn, TURN_BYTES), begin = con->s.tx_off;

	/* The guest may have changed a chain that was put back: use its new length. */
	while (con->s.tx_off < chain->readable_bytes && con->s.tx_off < most) {
		size_t len = virtq_chain_read(chain, con->s.tx_off, buf, sizeof(buf));
		size_t sent = chardev_write(con->chr, buf, len);

		con->s.tx_off += sent;
		con->tx_blocked = sent < len;
		if (con->tx_blocked)
			break;
	}
	turn_charge(&con->turn, con->s.tx_off - begin);
	if (con->s.tx_off < chain->readable_bytes)
		return false;
	con->s.tx_off = 0;
	return true;
}

/* Serve one chain. Returns false if there is nothing more to do now. */
static bool serve_tx(struct console *con)
{
	struct virtq *q = &con->vdev.queue[TX];
	struct iovec iov[QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, QUEUE_SIZE);

	if (rc < 0)
		virtio_broken(&con->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (!send(con, &chain)) {
		virtq_unpop(q);
		return false;
	}
	virtq_push(q, chain.head, 0);
	return true;
}

static void run_tx(struct console *con)
{
	struct virtio_device *vdev = &con->vdev;
	struct virtq *q = &vdev->queue[TX];
	struct turn *turn = &con->turn;

	if (con->tx_blocked)
		return;
	turn_begin(turn);
	virtq_disable_kicks(q);
	do {
		while (!turn_over(turn) && serve_tx(con))
			;
	} while (!turn_over(turn) && vdev->active && !con->tx_blocked && virtq_enable_kicks(q));
	if (!vdev->active)
		return;
	virtio_interrupt(vdev, TX);
	if (turn_over(turn))
		turn_leave(turn, con->again);
}

static void on_again(void *opaque)
{
	struct console *con = opaque;

	virtio_lock(&con->vdev);
	turn_resume(&con->turn);
	if (con->vdev.active)
		run_tx(con);
	virtio_unlock(&con->vdev);
}

static void console_drained(void *opaque)
{
	struct console *con = opaque;

	virtio_lock(&con->vdev);
	con->tx_blocked = false;
	if (con->vdev.active)
		run_tx(con);
	virtio_unlock(&con->vdev);
}

/* --- input ----------------------------------------------------------------- */

/* Lock held. Returns the bytes taken, 0 if there is no buffer or the device is broken. */
static size_t receive(struct console *con, const uint8_t *buf, size_t len)
{
	struct virtq *q = &con->vdev.queue[RX];
	struct iovec iov[QUEUE_SIZE];
	struct chain chain;
	size_t n;
	int rc = virtq_pop(q, &chain, iov, QUEUE_SIZE);

	if (!rc && virtq_enable_kicks(q)) {
		virtq_disable_kicks(q);
		rc = virtq_pop(q, &chain, iov, QUEUE_SIZE);
	}
	if (rc < 0)
		virtio_broken(&con->vdev, q->broken_why);
	if (rc <= 0)
		return 0;
	if (!chain.writable_bytes) {
		virtio_broken(&con->vdev, "a receive buffer has no writable byte");
		return 0;
	}
	n = virtq_chain_write(&chain, 0, buf, len);
	virtq_push(q, chain.head, (uint32_t)n);
	return n;
}

static size_t console_input(void *opaque, const uint8_t *buf, size_t len)
{
	struct console *con = opaque;
	size_t done = 0, n = 0;

	virtio_lock(&con->vdev);
	while (con->vdev.active && con->vdev.queue[RX].s.ready && done < len) {
		n = receive(con, buf + done, len - done);
		if (!n)
			break;
		done += n;
	}
	con->rx_waiting = done < len;
	if (done && con->vdev.active)
		virtio_interrupt(&con->vdev, RX);
	virtio_unlock(&con->vdev);
	return done;
}

static void run_rx(struct console *con)
{
	virtq_disable_kicks(&con->vdev.queue[RX]);
	if (!con->rx_waiting)
		return;
	con->rx_waiting = false;
	chardev_resume(con->chr);
}

/* --- configuration --------------------------------------------------------- */

/* Lock held. */
static void fill_config(struct console *con)
{
	memset(con->vdev.s.config, 0, CONFIG_BYTES);
	put_le16(con->vdev.s.config + CONFIG_COLS, con->s.cols);
	put_le16(con->vdev.s.config + CONFIG_ROWS, con->s.rows);
}

static void console_resized(void *opaque, uint16_t cols, uint16_t rows)
{
	struct console *con = opaque;

	virtio_lock(&con->vdev);
	con->s.cols = cols;
	con->s.rows = rows;
	fill_config(con);
	if (virtio_has(&con->vdev, CONSOLE_F_SIZE))
		virtio_config_changed(&con->vdev);
	virtio_unlock(&con->vdev);
}

/* Section 5.3.6.1: emerg_wr works without queues, even before the device is set up. */
static void console_write_config(struct virtio_device *vdev, uint32_t off, uint32_t len)
{
	struct console *con = console_of(vdev);

	if (off <= CONFIG_EMERG_WR && off + len > CONFIG_EMERG_WR)
		chardev_write(con->chr, &vdev->s.config[CONFIG_EMERG_WR], 1);
	fill_config(con); /* the rest is read-only */
}

/* --- class and life -------------------------------------------------------- */

static int console_activate(struct virtio_device *vdev)
{
	return 0;
}

static void console_kick(struct virtio_device *vdev, unsigned queue)
{
	if (queue == TX)
		run_tx(console_of(vdev));
	else
		run_rx(console_of(vdev));
}

static bool console_reset(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	con->s.tx_off = 0;
	con->tx_blocked = false;
	return true;
}

static const struct virtio_class console_class = {
	.name = "virtio-console",
	.device_id = 3,
	.pci_class = 0x078000,
	.activate = console_activate,
	.kick = console_kick,
	.write_config = console_write_config,
	.reset = console_reset,
};

static void console_failed(void *opaque)
{
	struct console *con = opaque;

	con->vdev.env->ops->event(con->vdev.env->vm, VM_EVENT_LOST_OUTPUT);
}

static void console_destroy(struct device *dev)
{
	struct console *con = (struct console *)dev;

	virtio_detach(&con->vdev);
	chardev_release(con->chr);
	loop_unwatch(con->again);
	free(con);
}

static void console_describe(struct device *dev, char *buf, size_t len)
{
	struct console *con = (struct console *)dev;
	char at[128];

	virtio_describe(&con->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%s%s", at, *at ? ": " : "", chardev_describe(con->chr));
}

static const struct device_ops console_ops = {
	.destroy = console_destroy,
	.describe = console_describe,
};

static int console_create(const struct device_env *env, const struct keyvals *cfg,
			  struct device **out, struct err *err)
{
	struct chardev_user user = { .input = console_input,
				     .drained = console_drained,
				     .resized = console_resized,
				     .failed = console_failed };
	struct console *con;
	int rc;

	*out = NULL;
	if (chardev_off(cfg))
		return 0;
	con = calloc(1, sizeof(*con));
	if (!con)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	con->vdev.dev.type = &virtio_console_type;
	con->vdev.dev.ops = &console_ops;
	strcpy(con->vdev.dev.id, "console");
	rc = chardev_obtain(env->consoles, env->id, cfg, env->loop, env->dry_run, &con->chr, err);
	if (rc)
		goto fail;
	rc = loop_watch_event(env->loop, on_again, con, &con->again, NULL);
	if (rc) {
		err_sys(err, -rc, "%s", cfg->option);
		goto fail;
	}
	virtio_init(&con->vdev, &console_class, env, 2, QUEUE_SIZE,
		    1ull << CONSOLE_F_SIZE | 1ull << CONSOLE_F_EMERG_WRITE, CONFIG_BYTES);
	rc = virtio_attach(&con->vdev, err);
	if (rc)
		goto fail;
	user.opaque = con;
	chardev_attach(con->chr, &user);
	*out = &con->vdev.dev;
	return 0;
fail:
	console_destroy(&con->vdev.dev);
	return rc;
}

const struct device_type virtio_console_type = {
	.name = "virtio-console",
	.option = "--console",
	.repeat = true,
	.keys = chardev_keys,
	.help = "a virtio console (hvc0)",
	.create = console_create,
};
