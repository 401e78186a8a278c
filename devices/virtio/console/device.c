/*
 * console/device: --console and --port: their keys, and the devices that they make. No other file in this folder
 * calls this one.
 *
 * Theory of operation. Both devices are a virtio_device with ports (port.c), whose output takes turns
 * (serve.c). --console makes a device with one port and no messages, hvc0 of a Linux guest. --port is different:
 * in virtio the ports are parts of one device, whose driver asks once how many there are. So the
 * machine collects all options of this type and calls create_all once: there is one device with
 * MULTIPORT and the messages of control.c. It has the id of the first port; each port's sink has the id of
 * its own option ("port1"), by which it is found in a pool of chardevs.
 *
 * Threads: the loop serves queues; the loop of the sink (the same, unless it is in a pool) calls for
 * input, room and readers; a vCPU's thread writes the configuration (one emergency
 * character, which chardev_write takes from any thread), activates and
 * resets. Every field is under the device's lock, which comes before the sink's own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/console/console_impl.h"

/* --- class ------------------------------------------------------------------- */

static int console_activate(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	for (unsigned i = 0; i < con->nports; i++)
		console_port_begin(&con->port[i]);
	return 0;
}

static void console_kick(struct virtio_device *vdev, unsigned queue)
{
	struct console *con = console_of(vdev);
	bool control = queue / 2 == CONSOLE_CONTROL_RX / 2;
	/* Without MULTIPORT there are only the queues of port 0. */
	unsigned at = control ? con->nports : queue / 2 - (queue > CONSOLE_CONTROL_TX);

	if (queue > CONSOLE_TX && !console_multiport(con))
		return;
	if (queue % 2 == CONSOLE_TX) {
		console_due(con, at);
		console_serve(con);
	} else if (control) {
		console_control_send(con);
	} else {
		console_port_run_rx(&con->port[at]);
	}
}

static bool console_reset(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	con->s.announced = false;
	con->due = 0;
	for (unsigned i = 0; i < con->nports; i++)
		console_port_end(&con->port[i]);
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

static void on_again(void *opaque)
{
	struct console *con = opaque;

	virtio_lock(&con->vdev);
	turn_resume(&con->turn);
	if (con->vdev.active)
		console_serve(con);
	virtio_unlock(&con->vdev);
}

/* --- life -------------------------------------------------------------------- */

static void console_destroy(struct device *dev)
{
	struct console *con = (struct console *)dev;

	/* The sinks' functions take the device's lock, which virtio_detach destroys. */
	for (unsigned i = 0; i < con->nports; i++)
		chardev_part(con->port[i].chr);
	virtio_detach(&con->vdev);
	for (unsigned i = 0; i < con->nports; i++)
		chardev_release(con->port[i].chr);
	loop_unwatch(con->again);
	free(con);
}

static void console_describe(struct device *dev, char *buf, size_t len)
{
	struct console *con = (struct console *)dev;
	size_t used;

	virtio_describe(&con->vdev, buf, len);
	for (unsigned i = 0; i < con->nports; i++) {
		const struct console_port *port = &con->port[i];

		used = strlen(buf);
		snprintf(buf + used, len - used, "%s%s%s%s",
			 !used ? "" :
			 i     ? ", " :
				 ": ",
			 port->name, *port->name ? " on " : "", chardev_describe(port->chr));
	}
}

static const struct device_ops console_ops = {
	.destroy = console_destroy,
	.describe = console_describe,
};

/* Makes a console with the ports of these parts that are not off. Names are the caller's business. */
static int new_console(const struct device_type *type, const struct device_part *part,
		       unsigned nparts, struct console **out, struct err *err)
{
	struct console *con;
	unsigned n = 0;

	for (unsigned i = 0; i < nparts; i++)
		n += !chardev_off(part[i].cfg);
	*out = NULL;
	if (!n)
		return 0;
	if (n > CONSOLE_MAX_PORTS)
		return err_set(err, E2BIG, "%s: a VM has at most %u ports", type->option,
			       CONSOLE_MAX_PORTS);
	con = calloc(1, sizeof(*con) + n * sizeof(con->port[0]));
	if (!con)
		return err_sys(err, ENOMEM, "%s", type->option);
	con->vdev.dev.type = type;
	con->vdev.dev.ops = &console_ops;
	con->nports = n;
	for (unsigned i = 0; i < n; i++) {
		con->port[i].con = con;
		con->port[i].index = i;
	}
	*out = con;
	return 0;
}

/* Opens the sinks and puts the device on the machine's transport. On failure the caller destroys it. */
static int start(struct console *con, const struct device_env *env, const struct device_part *part,
		 uint64_t features, struct err *err)
{
	const char *option = con->vdev.dev.type->option;
	unsigned nqueues = con->has_names ? 2 * con->nports + 2 : 2;
	int rc = 0;

	for (unsigned i = 0; i < con->nports && !rc; i++, part++) {
		while (chardev_off(part->cfg))
			part++;
		rc = chardev_obtain(env->consoles, part->id, part->cfg, env->loop, env->dry_run,
				    &con->port[i].chr, err);
		if (con->has_names)
			strcpy(con->port[i].name, keys_text(part->cfg, PORT_KEY_NAME));
	}
	if (rc)
		return rc;
	rc = loop_watch_event(env->loop, on_again, con, &con->again, NULL);
	if (rc)
		return err_sys(err, -rc, "%s", option);
	virtio_init(&con->vdev, &console_class, env, nqueues, CONSOLE_QUEUE_SIZE, features,
		    CONSOLE_CONFIG_BYTES);
	console_fill_config(con);
	rc = virtio_attach(&con->vdev, err);
	for (unsigned i = 0; i < con->nports && !rc; i++)
		console_port_attach(&con->port[i]);
	return rc;
}

static int finish(int rc, struct console *con, struct device **out)
{
	if (rc)
		console_destroy(&con->vdev.dev);
	else
		*out = &con->vdev.dev;
	return rc;
}

static int console_create(const struct device_env *env, const struct keyvals *cfg,
			  struct device **out, struct err *err)
{
	const struct device_part part = { cfg, env->id };
	struct console *con;
	int rc = new_console(&virtio_console_type, &part, 1, &con, err);

	*out = NULL;
	if (!con)
		return rc;
	strcpy(con->vdev.dev.id, "console");
	rc = start(con, env, &part, 1ull << CONSOLE_F_SIZE | 1ull << CONSOLE_F_EMERG_WRITE, err);
	return finish(rc, con, out);
}

static int ports_create(const struct device_env *env, const struct device_part *part,
			unsigned nparts, struct device **out, struct err *err)
{
	struct console *con;
	int rc = new_console(&virtio_port_type, part, nparts, &con, err);

	*out = NULL;
	if (!con)
		return rc;
	strcpy(con->vdev.dev.id, "port");
	con->has_names = true;
	rc = start(con, env, part, 1ull << CONSOLE_F_MULTIPORT, err);
	return finish(rc, con, out);
}

/* The name is a file's in the guest: /dev/virtio-ports/NAME. */
static int port_check(const struct keyvals *cfg, struct err *err)
{
	const char *name = keys_text(cfg, PORT_KEY_NAME);
	size_t len = strlen(name);
	bool good = len <= CONSOLE_NAME_MAX && strcmp(name, ".") && strcmp(name, "..");

	for (size_t i = 0; i < len; i++)
		good &= name[i] >= ' ' && name[i] <= '~' && name[i] != '/';
	if (good)
		return 0;
	return err_set(err, EINVAL,
		       "%s: name=%.80s: not a name; it has 1 to %u printable ASCII characters "
		       "without \"/\"",
		       cfg->option, name, CONSOLE_NAME_MAX);
}

const struct device_type virtio_console_type = {
	.name = "virtio-console",
	.option = "--console",
	.repeat = true,
	.keys = chardev_keys,
	.help = "a virtio console (hvc0)",
	.create = console_create,
};

static const struct key port_keys[] = {
	CHARDEV_KEYS,
	[PORT_KEY_NAME] = { "name", KEY_TEXT, KEY_REQUIRED | KEY_UNIQUE, NULL, NULL, 0, 0, "NAME",
			    "the guest's /dev/virtio-ports/NAME" },
	{ 0 },
};

const struct device_type virtio_port_type = {
	.name = "virtio-serial",
	.option = "--port",
	.repeat = true,
	.check = port_check,
	.keys = port_keys,
	.help = "a named channel between a program of the host and one of the guest",
	.create_all = ports_create,
};
