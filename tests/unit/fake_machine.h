/*
 * fake_machine: stands for vmm/test/vm.c in a test: a "machine" is a script in a thread, and its console and
 * its agent's channel are the sinks of the test under test.
 */
#ifndef BANTAM_FAKE_MACHINE_H
#define BANTAM_FAKE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/wire.h"
#include "vmm/verdict/verdict.h"

struct fake_machine {
	/* The life of the guest; returns how it ended. It returns soon after fake_stopped is true. */
	enum verdict_end (*script)(void);
	/* The option of the device that carries the channel ("--port"), and which of them. */
	const char *option;
	unsigned n;
	const char *no_host;	      /* why there is no KVM; NULL: there is */
	struct verdict_sample sample; /* what each vCPU does */
	unsigned late_samples;	      /* so many times from now on no vCPU answers */
};
extern struct fake_machine fake;

/* For the script. */
void fake_console(const char *text);
/* The guest's end of the agent's channel: a stream socket. */
int fake_channel(void);
void fake_say(uint8_t type, uint8_t stream, const void *payload, uint32_t len);
/* HELLO of a kernel with this taint. */
void fake_hello(uint64_t taint);
void fake_exit(int wait_status, uint64_t taint, uint64_t oom_kills);
/* Waits for a frame of this type from the host; others are skipped. False: the machine was stopped. */
bool fake_hear(uint8_t type);
/* Runs the real agent (build/guest/agent) on the channel, as a process of this host, to its end. */
void fake_run_agent(void);
void fake_panicked(bool crash_kernel);
bool fake_stopped(void);
/* Returns when the machine is told to stop. */
void fake_wait_stop(void);

#endif
