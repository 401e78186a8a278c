/*
 * api: a process that serves the API: its socket, signals, event monitor, VM and end.
 *
 * Two faces use it. As cloud-hypervisor (the program's name, or `bantam api`), the process keeps
 * Cloud Hypervisor's contract: options, exit status, sockets of mode 0700. As `bantam run
 * --api-socket`, it has bantam's own options and exit status, and the VM runs from the start.
 */
#ifndef BANTAM_API_H
#define BANTAM_API_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/vm/events.h"
#include "vmm/vm/vm.h"
#include "vmm/config.h"

/* Where a socket or stream of the process is: a path, or an inherited descriptor. */
struct api_place {
	const char *path; /* NULL: none */
	int fd;		  /* -1: none */
};

struct api_options {
	struct api_place socket;  /* of the API; neither: it is not served */
	struct api_place monitor; /* of events */
	enum vm_action reboot, panic;
	bool no_shutdown;
	bool compatible; /* exit status 0 for each orderly end; errors as lists */
	bool quiet;	 /* no last line on stderr */
	/* One of them describes a VM to boot at once. */
	json_t *vm;	       /* a VmConfig; NULL: none */
	struct config *config; /* taken over, and zeroed; NULL: none */
	/* Called once that VM runs, by the thread that serves requests; NULL: not. */
	void (*booted)(const char *title);
	const char *title;
};

/* Serves until the process is to end. Returns the exit status. Thread: the first. */
int api_serve(struct api_options *options);

/* The command line of the compatible face; argv[0] is the first option. Returns the exit status. */
int api_command(int argc, char **argv);

#endif
