/*
 * test_serial: the 16550A from the driver's side: Linux's probe sequence, FIFOs,
 * interrupts, back-pressure, and every register with every width.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/serial.h"
#include "tests/unit/fake_env.h"

#define PORT 0x3f8
#define GSI 4

/* stdin and stdout are pipes; a thread runs the loop, the test is the vCPU. */
static struct fake_env f;
static struct device *dev;
static pthread_t thread;
static int to_guest = -1, from_guest = -1;

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

	fake_env_init(&f, FAKE_MMIO);
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
	cr_assert_eq(keys_parse(&kv, "--serial", serial_type.keys, "stdio", &err), 0);
	cr_assert_eq(serial_type.create(&f.env, &kv, &dev, &err), 0, "%s", err.text);
	keys_clear(&kv);
	cr_assert_eq(pthread_create(&thread, NULL, run_loop, f.env.loop), 0);
}

static void teardown(void)
{
	loop_stop(f.env.loop);
	pthread_join(thread, NULL);
	device_destroy(dev);
	fake_env_destroy(&f);
}

static uint8_t in(unsigned reg)
{
	return (uint8_t)bus_read(&f.pio, PORT + reg, 1);
}

static void out(unsigned reg, uint8_t v)
{
	bus_write(&f.pio, PORT + reg, 1, v);
}

static bool line(void)
{
	bool on;

	pthread_mutex_lock(&f.lock);
	on = f.line[GSI];
	pthread_mutex_unlock(&f.lock);
	return on;
}

static bool line_up(void)
{
	return line();
}

static bool can_send(void)
{
	return in(UART_LSR)&UART_LSR_THRE;
}

static bool has_data(void)
{
	return in(UART_LSR)&UART_LSR_DR;
}

static bool lost(void)
{
	bool yes;

	pthread_mutex_lock(&f.lock);
	yes = f.events[VM_EVENT_LOST_OUTPUT];
	pthread_mutex_unlock(&f.lock);
	return yes;
}

static bool within(unsigned ms, bool (*cond)(void))
{
	struct timespec nap = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < ms; i++) {
		if (cond())
			return true;
		nanosleep(&nap, NULL);
	}
	return cond();
}

static void pass_ms(unsigned ms)
{
	struct timespec nap = { .tv_nsec = ms * 1000000 };

	nanosleep(&nap, NULL);
}

static void type(const char *text)
{
	cr_assert_eq(write(to_guest, text, strlen(text)), (ssize_t)strlen(text));
}

static void print(const char *text)
{
	for (; *text; text++) {
		cr_assert(within(5000, can_send));
		out(UART_TX, (uint8_t)*text);
	}
}

/* Waits for len bytes at the host's end. Returns what came. */
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

/* Sets the port up as Linux does when it opens it. */
static void open_port(void)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	out(UART_IER, UART_IER_RDI | UART_IER_RLSI);
}

TestSuite(serial, .init = setup, .fini = teardown, .timeout = 30);

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
	out(UART_LSR, 0xff);
	out(UART_MSR, 0xff);
	cr_assert_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	cr_assert_eq(in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

/* drivers/tty/serial/8250/8250_port.c: autoconfig, autoconfig_16550a, do_startup. */
Test(serial, linux_finds_a_16550a)
{
	uint8_t v;

	out(UART_IER, 0);
	cr_assert_eq(in(UART_IER)&0xf, 0);
	out(UART_IER, 0x0f);
	cr_assert_eq(in(UART_IER)&0xf, 0x0f);
	out(UART_IER, 0);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	cr_assert_eq(in(UART_MSR)&0xf0, UART_MSR_DCD | UART_MSR_CTS);
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
	cr_assert_eq(in(UART_IER)&0x40, 0, "looks like an XScale");
	/* Linux's tests for the THRE and TXEN bugs. */
	out(UART_IER, UART_IER_THRI);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_THRI);
	out(UART_IER, 0);
	out(UART_IER, UART_IER_THRI);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_THRI);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_NO_INT);
	out(UART_IER, 0);
	cr_assert_not(line());
}

Test(serial, output_reaches_the_host)
{
	print("hello, world\n");
	cr_assert_str_eq(got(13), "hello, world\n");
	print("!");
	cr_assert_str_eq(got(1), "!");
}

Test(serial, transmit_interrupt)
{
	open_port();
	in(UART_IIR);
	out(UART_IER, UART_IER_THRI);
	cr_assert(line(), "enabling an empty transmitter's interrupt raises it");
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_THRI);
	cr_assert_not(line(), "reading the IIR acknowledges it");
	for (unsigned i = 0; i < 16; i++)
		out(UART_TX, 'x');
	cr_assert(line());
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_THRI);
	out(UART_IER, 0);
	out(UART_TX, 'x');
	cr_assert_not(line());
	cr_assert_str_eq(got(17), "xxxxxxxxxxxxxxxxx");
}

Test(serial, input_waits_for_a_reader)
{
	type("abc");
	/* Linux's probe sets all enable bits for a moment, and empties the FIFO. */
	out(UART_IER, 0x0f);
	pass_ms(20);
	out(UART_IER, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	in(UART_LSR);
	in(UART_RX);
	in(UART_IIR);
	in(UART_MSR);
	in(UART_LSR);
	in(UART_LSR);
	pass_ms(20);
	cr_assert_not(in(UART_LSR)&UART_LSR_DR);
	in(UART_RX);
	/* As set_termios: first the receiver, then the FIFO. */
	out(UART_FCR, 0);
	out(UART_MCR, UART_MCR_DTR | UART_MCR_OUT2);
	out(UART_IER, UART_IER_RDI | UART_IER_RLSI);
	pass_ms(20);
	open_port();
	cr_assert(within(5000, line_up));
	for (const char *p = "abc"; *p; p++) {
		cr_assert(within(5000, has_data));
		cr_assert_eq(in(UART_RX), *p);
	}
	cr_assert_not(line());
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_NO_INT);
}

Test(serial, input_for_a_guest_that_polls)
{
	type("xy");
	cr_assert(within(5000, has_data));
	cr_assert_eq(in(UART_RX), 'x');
	cr_assert(within(5000, has_data));
	cr_assert_eq(in(UART_RX), 'y');
	cr_assert_not(line());
}

Test(serial, long_input_is_not_lost)
{
	char text[4097];
	size_t n = 0;

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + i * 7 % 26);
	text[sizeof(text) - 1] = 0;
	type(text);
	open_port();
	while (n < sizeof(text) - 1) {
		cr_assert(within(5000, line_up), "after %zu bytes", n);
		while (in(UART_LSR)&UART_LSR_DR) {
			cr_assert_eq(in(UART_RX), text[n], "byte %zu", n);
			n++;
		}
	}
}

Test(serial, trigger_level_and_timeout)
{
	open_port();
	out(UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < 8; i++) {
		out(UART_TX, (uint8_t)i);
		cr_assert_eq(in(UART_IIR), 0xc0 | (i < 7 ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI));
	}
	cr_assert(line());
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_14);
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_RX_TIMEOUT);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(in(UART_RX), i);
	cr_assert_not(line());
}

Test(serial, overrun)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_IER, UART_IER_RLSI | UART_IER_RDI);
	for (unsigned i = 0; i < 17; i++)
		out(UART_TX, (uint8_t)('a' + i));
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_RLSI, "line status comes first");
	cr_assert(in(UART_LSR)&UART_LSR_OE);
	cr_assert_not(in(UART_LSR)&UART_LSR_OE, "reading the LSR clears it");
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_RDI);
	for (unsigned i = 0; i < 16; i++)
		cr_assert_eq(in(UART_RX), 'a' + i, "a full FIFO keeps what it has");
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_NO_INT);
	/* Without the FIFO the newest character stays. */
	out(UART_FCR, 0);
	cr_assert_eq(in(UART_IIR), UART_IIR_NO_INT);
	out(UART_TX, '1');
	cr_assert_eq(in(UART_IIR), UART_IIR_RDI);
	out(UART_TX, '2');
	cr_assert(in(UART_LSR)&UART_LSR_OE);
	cr_assert_eq(in(UART_RX), '2');
	cr_assert_eq(in(UART_RX), 0);
}

Test(serial, loopback_stays_inside)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	out(UART_TX, 'q');
	cr_assert_eq(in(UART_RX), 'q');
	type("z");
	pass_ms(20);
	cr_assert_not(in(UART_LSR)&UART_LSR_DR, "the host's input waits outside");
	out(UART_MCR, 0);
	print("end");
	cr_assert_str_eq(got(3), "end");
}

Test(serial, modem_status)
{
	static const struct {
		uint8_t mcr, msr;
	} map[] = {
		{ UART_MCR_DTR, UART_MSR_DSR },
		{ UART_MCR_RTS, UART_MSR_CTS },
		{ UART_MCR_OUT1, UART_MSR_RI },
		{ UART_MCR_OUT2, UART_MSR_DCD },
	};

	out(UART_IER, UART_IER_MSI);
	out(UART_MCR, UART_MCR_LOOP);
	cr_assert_eq(in(UART_IIR), UART_IIR_MSI);
	cr_assert(line());
	cr_assert_eq(in(UART_MSR), UART_MSR_DDCD | UART_MSR_DDSR | UART_MSR_DCTS);
	cr_assert_not(line(), "reading the MSR acknowledges it");
	for (unsigned i = 0; i < 4; i++) {
		uint8_t delta = map[i].msr >> 4;

		out(UART_MCR, UART_MCR_LOOP | map[i].mcr);
		/* The delta bit of RI is set only when RI ends. */
		cr_assert_eq(in(UART_MSR), map[i].msr | (map[i].msr == UART_MSR_RI ? 0 : delta));
		out(UART_MCR, UART_MCR_LOOP);
		cr_assert_eq(in(UART_MSR), delta);
	}
	out(UART_MCR, 0xff);
	cr_assert_eq(in(UART_MCR), 0x1f);
}

Test(serial, priorities)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, 0x0f);
	out(UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < 17; i++)
		out(UART_TX, 'p');
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_RLSI);
	in(UART_LSR);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_RDI);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_RDI, "only reading the data ends it");
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_THRI);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_MSI);
	cr_assert(line());
	in(UART_MSR);
	cr_assert_eq(in(UART_IIR)&0xf, UART_IIR_NO_INT);
	cr_assert_not(line());
}

Test(serial, fifo_control)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'a');
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	cr_assert(in(UART_LSR)&UART_LSR_DR, "nothing asked to clear");
	out(UART_FCR, UART_FCR_CLEAR_RCVR);
	cr_assert_eq(in(UART_IIR) >> 6, 0);
	cr_assert_not(in(UART_LSR)&UART_LSR_DR, "switching the FIFO clears it");
	out(UART_FCR, UART_FCR_TRIGGER_14);
	out(UART_IER, UART_IER_RDI);
	out(UART_TX, 'a');
	cr_assert_eq(in(UART_IIR), UART_IIR_RDI, "bits without the enable bit do not count");
}

Test(serial, a_full_sink_holds_the_guest_back)
{
	unsigned n = 0, m;

	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	/* Fill the pipe and the ring; no more fits. */
	for (;;) {
		while (n < 100000 && in(UART_LSR)&UART_LSR_THRE) {
			out(UART_TX, (uint8_t)('a' + n % 26));
			n++;
		}
		pass_ms(100);
		if (!(in(UART_LSR)&UART_LSR_THRE))
			break;
		cr_assert_lt(n, 100000);
	}
	cr_assert_eq(in(UART_LSR), 0);
	out(UART_IER, UART_IER_THRI);
	cr_assert_not(line());
	for (m = 0; m < n; m++)
		cr_assert_eq(*got(1), (char)('a' + m % 26), "byte %u of %u", m, n);
	cr_assert(within(5000, line_up));
	cr_assert_eq(in(UART_IIR), 0xc0 | UART_IIR_THRI);
	cr_assert_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}

Test(serial, writing_past_back_pressure_is_harmless)
{
	for (unsigned i = 0; i < 60000; i++)
		out(UART_TX, 'w');
	cr_assert_eq(in(UART_LSR), 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	cr_assert_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT, "the FIFO can be cleared");
}

Test(serial, a_closed_stdout_is_lost_output)
{
	close(from_guest);
	print("into the void");
	cr_assert(within(5000, lost));
	for (unsigned i = 0; i < 100000; i++)
		out(UART_TX, 'x');
	cr_assert_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT, "the guest goes on");
	cr_assert_eq(f.events[VM_EVENT_LOST_OUTPUT], 1);
}

Test(serial, the_end_of_stdin_is_not_the_end)
{
	open_port();
	type("last");
	close(to_guest);
	cr_assert(within(5000, line_up));
	for (const char *p = "last"; *p; p++)
		cr_assert_eq(in(UART_RX), *p);
	pass_ms(20);
	print("still here");
	cr_assert_str_eq(got(10), "still here");
}

Test(serial, output_before_the_end_is_flushed)
{
	print("last words");
	teardown();
	cr_assert_str_eq(got(10), "last words");
	setup();
}

Test(serial, every_width_everywhere)
{
	static const unsigned width[] = { 1, 2, 4, 8 };

	for (unsigned lcr = 0; lcr < 256; lcr += 128)
		for (unsigned off = 0; off < 8; off++)
			for (unsigned w = 0; w < 4; w++) {
				out(UART_LCR, (uint8_t)lcr);
				bus_write(&f.pio, PORT + off, width[w], 0x0123456789abcdefull);
				bus_read(&f.pio, PORT + off, width[w]);
			}
	out(UART_LCR, 0);
	out(UART_MCR, UART_MCR_LOOP);
	/* Each byte of a wide access counts as a separate access. */
	bus_write(&f.pio, PORT + UART_SCR - 3, 4, 0xa5000000u | UART_MCR_LOOP);
	cr_assert_eq(in(UART_SCR), 0xa5);
	out(UART_LCR, UART_LCR_DLAB);
	bus_write(&f.pio, PORT + UART_DLL, 2, 0x1234);
	cr_assert_eq(in(UART_DLL), 0x34);
	cr_assert_eq(in(UART_DLM), 0x12);
	cr_assert_eq(bus_read(&f.pio, PORT + UART_DLL, 2), 0x1234);
	cr_assert_eq(bus_read(&f.pio, PORT + 7, 2), 0xffff, "past the last register");
}
