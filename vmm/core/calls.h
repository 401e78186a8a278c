/*
 * calls: the parts of a VM whose threads make system calls that those of another VM do not. The lists (*.calls) name
 * them, a type of device says which it is (device.h), and a thread's filter has those of its VM, or of its device if it
 * serves one alone (vmm/confine).
 */
#ifndef BANTAM_CORE_CALLS_H
#define BANTAM_CORE_CALLS_H

enum {
	CALLS_DISK = 1,
	CALLS_NET = 2,
	CALLS_VSOCK = 4,
	CALLS_DAEMON = 8, /* a daemon or the kernel serves queues */
	CALLS_BLOCK = 16, /* a disk is a block device */
	CALLS_STDIO =
		32, /* standard input is a terminal, standard error takes more than one call, or no clock is mapped */
	CALLS_ALL = 63
};

#endif
