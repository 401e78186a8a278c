/*
 * i8042: the keyboard controller's reset line, and between its ports the system control port B,
 * where a PC tells the reason of an NMI.
 *
 * There is no keyboard. Besides the reset command 0xfe, what matters is how soon a driver that
 * probes the ports gives up. If the output buffer stays full however often it is read, Linux
 * reports "No controller found" after 17 reads and one millisecond; with an empty buffer each of
 * its commands takes half a second to fail. The buffer becomes empty after GARBAGE reads, for a
 * guest that would otherwise read it for ever.
 *
 * Port B names no reason, neither a bus error nor a memory error: so a guest takes an NMI for the
 * administrator's, and its kernel panics if it is told to (kernel.unknown_nmi_panic). Where there is no
 * port, a guest reads all ones, all reasons. The output of the PC's timer, which is not there, is
 * high, so that a guest that waits for it goes on.
 *
 * Threads: any vCPU. The state is atomic; which of two vCPUs comes first does not matter.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/board/platform.h"

#define PORT_DATA 0x60
#define PORT_SYSTEM_B 0x61
#define PORT_COMMAND 0x64
#define GARBAGE 64u

#define SYSTEM_B_TIMER_HIGH 0x20

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM 0x04 /* self-test passed; input buffer (bit 1) is always empty */
#define COMMAND_WRITE_OUTPUT_PORT 0xd1

/* A snapshot will save exactly this. The wiring is in struct i8042. */
struct i8042_state {
	atomic_uint nreads;	 /* of the data port, up to GARBAGE */
	atomic_bool output_port; /* the next data byte is for the output port */
};

struct i8042 {
	struct device dev;
	struct i8042_state s;
	const struct device_env *env;
	unsigned nadded;
};

static const struct device_type i8042_type = { .name = "i8042" };

static uint64_t data_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct i8042 *kbc = opaque;

	if (atomic_load(&kbc->s.nreads) < GARBAGE)
		atomic_fetch_add(&kbc->s.nreads, 1);
	return 0;
}

static void data_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct i8042 *kbc = opaque;

	/* Bit 0 of the output port is the CPU's reset line, active low. */
	if (atomic_exchange(&kbc->s.output_port, false) && !(val & 1))
		kbc->env->ops->event(kbc->env->vm, VM_EVENT_RESET);
}

static uint64_t status_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct i8042 *kbc = opaque;

	return STATUS_SYSTEM | (atomic_load(&kbc->s.nreads) < GARBAGE ? STATUS_OUTPUT_FULL : 0);
}

static void command_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct i8042 *kbc = opaque;
	uint8_t command = (uint8_t)val;

	atomic_store(&kbc->s.output_port, command == COMMAND_WRITE_OUTPUT_PORT);
	/* 0xf0 … 0xff pulse the output lines whose bit is clear. */
	if ((command & 0xf0) == 0xf0 && !(command & 1))
		kbc->env->ops->event(kbc->env->vm, VM_EVENT_RESET);
}

static uint64_t system_b_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return SYSTEM_B_TIMER_HIGH;
}

/* The speaker, and the acknowledgement of reasons. */
static void system_b_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
}

static const struct {
	uint16_t port;
	struct bus_ops ops;
} ranges[] = {
	{ PORT_DATA, { data_read, data_write } },
	{ PORT_SYSTEM_B, { system_b_read, system_b_write } },
	{ PORT_COMMAND, { status_read, command_write } },
};
#define NRANGES (sizeof(ranges) / sizeof(ranges[0]))

static void i8042_destroy(struct device *dev)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	while (kbc->nadded)
		bus_remove(kbc->env->pio, ranges[--kbc->nadded].port);
	free(kbc);
}

static void i8042_describe(struct device *dev, char *buf, size_t len)
{
	snprintf(buf, len, "ports 0x60 and 0x64: reset only; 0x61: no reason of an NMI");
}

static const struct device_ops i8042_ops = {
	.destroy = i8042_destroy,
	.describe = i8042_describe,
};

int i8042_create(const struct device_env *env, struct device **out, struct err *err)
{
	struct i8042 *kbc = calloc(1, sizeof(*kbc));
	int rc = 0;

	*out = NULL;
	if (!kbc)
		return err_sys(err, ENOMEM, "i8042");
	kbc->dev = (struct device){ &i8042_type, &i8042_ops, "i8042" };
	kbc->env = env;
	for (size_t i = 0; !rc && i < NRANGES; i++) {
		rc = bus_add(env->pio, ranges[i].port, 1, &ranges[i].ops, kbc);
		kbc->nadded += !rc;
	}
	if (rc) {
		err_sys(err, -rc, "i8042: ports 0x60, 0x61 and 0x64");
		i8042_destroy(&kbc->dev);
		return rc;
	}
	*out = &kbc->dev;
	return 0;
}
