/*
 * test_serial: the 16550A as drivers see it: Linux's probe sequence, FIFOs,
 * interrupts, back-pressure, and every register at every width.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/serial.h"

#define PORT 0x3f8

/* A machine that records; input and output are pipes in place of stdin and stdout. */
static struct bus pio;
static struct loop *loop;
static pthread_t thread;	/* runs the loop; the tests are the vCPU */
static struct device_env env;
static struct device *dev;
static int to_guest = -1, from_guest = -1;
static int line, line_edges, last_event;

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	cr_assert_eq(gsi, 4);
	line_edges += level && !line;
	line = level;
}

static void event(void *vm, enum vm_event e)
{
	last_event = (int)e;
}

static const struct env_ops ops = { .set_line = set_line, .event = event };

static void *run_loop(void *opaque)
{
	cr_assert_eq(loop_run(opaque), 0);
	return NULL;
}

static void setup(void)
{
	struct keyvals kv;
	struct err err;
	int in[2], out[2];

	cr_assert_eq(loop_create(&loop, &err), 0);
	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	fcntl(out[1], F_SETPIPE_SZ, 4096);
	dup2(in[0], 0);
	dup2(out[1], 1);
	close(in[0]);
	close(out[1]);
	to_guest = in[1];
	from_guest = out[0];
	fcntl(from_guest, F_SETFL, O_NONBLOCK);
	env = (struct device_env){ .pio = &pio, .loop = loop, .ops = &ops };
	cr_assert_eq(keys_parse(&kv, "--serial", serial_type.keys, "stdio", &err), 0);
	cr_assert_eq(serial_type.create(&env, &kv, &dev, &err), 0, "%s", err.text);
	keys_clear(&kv);
	cr_assert_eq(pthread_create(&thread, NULL, run_loop, loop), 0);
}

static void teardown(void)
{
	loop_stop(loop);
	pthread_join(thread, NULL);
	device_destroy(dev);
	loop_destroy(loop);
	cr_assert_eq(pio.nranges, 0);
}

static uint8_t in(unsigned reg)
{
	return (uint8_t)bus_read(&pio, PORT + reg, 1);
}

static void out(unsigned reg, uint8_t v)
{
	bus_write(&pio, PORT + reg, 1, v);
}

TestSuite(serial, .init = setup, .fini = teardown, .timeout = 20);

Test(serial, registers_at_reset)
{
	cr_assert_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	cr_assert_eq(in(UART_IIR), UART_IIR_NO_INT);
	cr_assert_eq(in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	cr_assert_eq(in(UART_IER), 0);
	cr_assert_eq(in(UART_MCR), 0);
	out(UART_SCR, 0x5a);
	cr_assert_eq(in(UART_SCR), 0x5a);
	out(UART_LCR, UART_LCR_DLAB);
	out(UART_DLL, 0x0c);
	out(UART_DLM, 0x01);
	cr_assert_eq(in(UART_DLL), 0x0c);
	cr_assert_eq(in(UART_DLM), 0x01);
	out(UART_LCR, 3);
	cr_assert_eq(in(UART_LCR), 3);
	cr_assert_eq(in(UART_IER), 0);
}

/* drivers/tty/serial/8250/8250_port.c: autoconfig, autoconfig_16550a, do_startup. */
Test(serial, linux_finds_a_16550a)
{
	uint8_t v;

	out(UART_IER, 0);
	cr_assert_eq(in(UART_IER) & 0xf, 0);
	out(UART_IER, 0x0f);
	cr_assert_eq(in(UART_IER) & 0xf, 0x0f);
	out(UART_IER, 0);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	cr_assert_eq(in(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(UART_MCR, 0);
	out(UART_LCR, 0xbf);
	out(2, 0);
	out(UART_LCR, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	cr_assert_eq(in(UART_IIR) >> 6, 3);
	out(UART_LCR, UART_LCR_DLAB);
	cr_assert_neq(in(2), 0, "looks like an ST16C650");
	out(UART_LCR, 0xbf);
	cr_assert_neq(in(2), 0, "looks like an ST16C650V2");
	out(UART_LCR, 0);
	v = in(UART_MCR);
	out(UART_LCR, 0xe0);
	cr_assert_eq((in(2) ^ v) & UART_MCR_LOOP, 0);
	out(UART_LCR, 0);
	out(UART_MCR, v ^ UART_MCR_LOOP);
	out(UART_LCR, 0xe0);
	cr_assert_eq((in(2) ^ v) & UART_MCR_LOOP, 0, "looks like a NS16550A SuperIO");
	out(UART_LCR, 0);
	out(UART_MCR, v);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	cr_assert_eq(in(UART_IIR) >> 5, 6, "looks like a TI16750");
	out(UART_IER, 0x40);
	cr_assert_eq(in(UART_IER) & 0x40, 0, "looks like an XScale");
	/* The THRE and TXEN bug tests. */
	out(UART_IER, UART_IER_THRI);
	cr_assert_eq(in(UART_IIR) & 0xf, UART_IIR_THRI);
	out(UART_IER, 0);
	out(UART_IER, UART_IER_THRI);
	cr_assert_eq(in(UART_IIR) & 0xf, UART_IIR_THRI);
	cr_assert_eq(in(UART_IIR) & 0xf, UART_IIR_NO_INT);
	out(UART_IER, 0);
	cr_assert_eq(line, 0);
}

static void print(const char *text)
{
	for (; *text; text++) {
		while (!(in(UART_LSR) & UART_LSR_THRE))
			;
		out(UART_TX, (uint8_t)*text);
	}
}

/* What the host got, waiting for len bytes. */
static const char *got(size_t len)
{
	static char buf[65536];
	struct pollfd pfd = { from_guest, POLLIN, 0 };
	size_t n = 0;

	while (n < len && poll(&pfd, 1, 5000) > 0) {
		ssize_t r = read(from_guest, buf + n, len - n);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	buf[n] = 0;
	return buf;
}

Test(serial, output_reaches_the_host)
{
	print("hello, world\n");
	cr_assert_str_eq(got(13), "hello, world\n");
	print("!");
	cr_assert_str_eq(got(1), "!");
}
