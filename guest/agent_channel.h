/*
 * agent_channel: finds the agent's channel. Part of agent.c. No udev has been here: the names are in
 * sysfs, and devtmpfs has the files.
 */
#ifndef GUEST_AGENT_CHANNEL_H
#define GUEST_AGENT_CHANNEL_H

#include <asm/ioctls.h>
#include <linux/poll.h>
#include <linux/termios.h>

#include "guest/sys.h"
#include "guest/wire.h"

#define PORT_WAIT_MS 1000u /* the host answers at once, if it has a processor */

static void note_device(const char *name, void *arg)
{
	if (str_starts(name, "virtio"))
		*(bool *)arg = true;
}

static void find_port(const char *name, void *arg)
{
	int *found = arg;
	char path[128], text[64];

	str_join(path, sizeof(path), "/sys/class/virtio-ports/", name, "/name");
	if (*found >= 0 || file_read(path, text, sizeof(text)) <= 0 || !str_eq(text, WIRE_PORT))
		return;
	str_join(path, sizeof(path), "/dev/", name, "");
	*found = sys_open(path, O_RDWR, 0);
}

/* The host has its end open: before, the port reads as closed. */
static bool has_host(int fd)
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
static int open_port(bool has_devtmpfs)
{
	uint64_t until = sys_clock_ms(CLOCK_MONOTONIC) + PORT_WAIT_MS;
	bool device = false;
	int fd = -1;

	dir_each("/sys/bus/virtio/drivers/virtio_console", note_device, &device);
	for (;;) {
		if (fd < 0 && !has_devtmpfs)
			nodes_of_class("/sys/dev/char", NODE_CHAR);
		if (fd < 0)
			dir_each("/sys/class/virtio-ports", find_port, &fd);
		if ((fd >= 0 && has_host(fd)) || !device || sys_clock_ms(CLOCK_MONOTONIC) >= until)
			return fd;
		sys_sleep_ms(1);
	}
}

/* Opens the host's port, or the second serial port, raw. Returns its descriptor, or -1. */
static int open_channel(bool has_devtmpfs)
{
	struct termios raw = { .c_cflag = CS8 | CREAD | CLOCAL | B115200, .c_cc[VMIN] = 1 };
	int fd = open_port(has_devtmpfs);

	if (fd >= 0)
		return fd;
	fd = sys_open("/dev/ttyS1", O_RDWR | O_NOCTTY, 0);
	if (fd >= 0 && SYS(ioctl, fd, TCSETS, &raw) == 0)
		return fd;
	return -1; /* a port without hardware opens, and refuses the rest */
}

#endif
