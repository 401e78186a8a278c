/*
 * port: opens a named port of the host (--port). No udev has been here: the names are in sysfs, and devtmpfs has
 * the files.
 */
#ifndef GUEST_PORT_H
#define GUEST_PORT_H

#include <linux/poll.h>
#include <linux/time.h>

#include "guest/nodes.h"
#include "guest/sys.h"

#define PORT_WAIT_MS 1000u /* the host answers at once, if it has a processor */

struct port_search {
	const char *name;
	int fd; /* -1: not found yet */
};

static void port_note_device(const char *name, void *arg)
{
	if (str_starts(name, "virtio"))
		*(bool *)arg = true;
}

static void port_find(const char *name, void *arg)
{
	struct port_search *search = arg;
	char path[128], text[64];

	str_join(path, sizeof(path), "/sys/class/virtio-ports/", name, "/name");
	if (search->fd >= 0 || file_read(path, text, sizeof(text)) <= 0 ||
	    !str_eq(text, search->name))
		return;
	str_join(path, sizeof(path), "/dev/", name, "");
	search->fd = sys_open(path, O_RDWR, 0);
}

/* The host has its end open: before, the port reads as closed. */
static bool port_has_host(int fd)
{
	struct pollfd p = { fd, POLLOUT, 0 };
	struct sys_timespec now = { 0, 0 };

	SYS(ppoll, &p, 1, &now, 0, 8);
	return !(p.revents & POLLHUP);
}

/*
 * The driver asks the host for the ports when it begins, and makes each when the host's messages come: a kernel that
 * has the device has no port yet, or one whose other end is closed. Returns the descriptor; negative: there is no port.
 */
static int port_open(const char *name, bool has_devtmpfs)
{
	uint64_t until = sys_clock_ms(CLOCK_MONOTONIC) + PORT_WAIT_MS;
	struct port_search search = { name, -1 };
	bool device = false;

	dir_each("/sys/bus/virtio/drivers/virtio_console", port_note_device, &device);
	for (;;) {
		if (search.fd < 0 && !has_devtmpfs)
			nodes_of_class("/sys/dev/char", NODE_CHAR);
		if (search.fd < 0)
			dir_each("/sys/class/virtio-ports", port_find, &search);
		if ((search.fd >= 0 && port_has_host(search.fd)) || !device ||
		    sys_clock_ms(CLOCK_MONOTONIC) >= until)
			return search.fd;
		sys_sleep_ms(1);
	}
}

#endif
