/*
 * agent_channel: finds the agent's channel. Part of agent.c.
 */
#ifndef GUEST_AGENT_CHANNEL_H
#define GUEST_AGENT_CHANNEL_H

#include <asm/ioctls.h>
#include <linux/termios.h>

#include "guest/port.h"
#include "guest/sys.h"
#include "guest/wire.h"

/* Opens the host's port, or the second serial port, raw. Returns its descriptor, or -1. */
static int open_channel(bool has_devtmpfs)
{
	struct termios raw = { .c_cflag = CS8 | CREAD | CLOCAL | B115200, .c_cc[VMIN] = 1 };
	int fd = port_open(WIRE_PORT, has_devtmpfs);

	if (fd >= 0)
		return fd;
	fd = sys_open("/dev/ttyS1", O_RDWR | O_NOCTTY, 0);
	if (fd >= 0 && SYS(ioctl, fd, TCSETS, &raw) == 0)
		return fd;
	return -1; /* a port without hardware opens, and refuses the rest */
}

#endif
