/*
 * fuzz_serial: a guest that uses the UART's registers in any order and width,
 * while the host types.
 *
 * Input: steps of three bytes: what, where, value. Findings are reports of the sanitizers,
 * BUG_ON, and broken promises to the driver.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/serial.h"
#include "vmm/core/log.h"

static int line;
static unsigned budget; /* for bytes printed in bulk: enough to fill pipe and ring */

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	check(gsi == 4 && holder == 0 && line != level);
	line = level;
}

static void event(void *vm, enum vm_event what)
{
	check(what == VM_EVENT_LOST_OUTPUT);
}

static const struct env_ops ops = { .set_line = set_line, .event = event };

static void stop(void *loop)
{
	loop_stop(loop);
}

static void run(struct loop *loop)
{
	check(!loop_post(loop, stop, loop));
	check(!loop_run(loop));
}

/* stdin is a pipe with our keys. The first byte chooses stdout: nowhere, a full disk or blocked. */
static int open_host(uint8_t how)
{
	int in[2], out[2];

	check(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	dup2(in[0], 0);
	close(in[0]);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	if (how % 4 == 0) {
		fcntl(out[1], F_SETPIPE_SZ, 4096);
		dup2(out[1], 1);
		close(out[1]);
		return in[1] << 16 | out[0];
	}
	close(out[0]);
	close(out[1]);
	out[0] = open(how % 4 == 1 ? "/dev/full" : "/dev/null", O_WRONLY);
	dup2(out[0], 1);
	close(out[0]);
	return in[1] << 16;
}

static void step(struct bus *pio, struct loop *loop, int type, const uint8_t *op)
{
	unsigned off = op[1] & 7, width = 1u << (op[1] >> 3 & 3);

	switch (op[0] % 8) {
	case 0:
	case 1:
	case 2:
		bus_write(pio, 0x3f8 + off, width, op[2] * 0x0101010101010101ull);
		break;
	case 3:
	case 4:
		bus_read(pio, 0x3f8 + off, width);
		break;
	case 5:
		check(write(type, op, 3) <= 3);
		break;
	case 6:
		run(loop);
		break;
	case 7: /* much output */
		for (unsigned i = 0; i < op[2] * 16u && budget; i++, budget--)
			bus_write(pio, 0x3f8, 1, 'x');
		break;
	}
	/* The line is high exactly while the IIR reports an interrupt; a read may acknowledge. */
	check(line == !(bus_read(pio, 0x3f8 + 2, 1) & 1) || !line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bus pio;
	struct device_env env = { .pio = &pio, .ops = &ops };
	struct keyvals kv;
	struct device *dev;
	struct err err;
	int fds;

	if (!size)
		return 0;
	log_set_level(LOG_ERROR - 1);
	line = 0;
	budget = 21000;
	fds = open_host(data[0]);
	check(!loop_create(&env.loop, &err));
	check(!keys_parse(&kv, "--serial", serial_type.keys, "stdio", &err));
	check(!serial_type.create(&env, &kv, &dev, &err));
	keys_clear(&kv);
	for (data++, size--; size >= 3; data += 3, size -= 3)
		step(&pio, env.loop, fds >> 16, data);
	/* Close the reader, so that the device's end does not wait for it. */
	if (fds & 0xffff)
		close(fds & 0xffff);
	close(fds >> 16);
	run(env.loop);
	device_destroy(dev);
	loop_destroy(env.loop);
	check(!bus_count(&pio));
	return 0;
}
