/*
 * test_console_ports: a virtio-console with named ports (virtio 1.2, section 5.3.6.2), over both transports:
 * messages, data, ports that are stuck, hostile drivers, the host's end. The sinks are the test itself, in a
 * pool on the test's loop, or real sockets.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/chardev/pool.h"
#include "devices/backend/chardev/program.h"
#include "devices/virtio/console/console.h"
#include "tests/unit/fake_driver.h"
#include "vmm/core/bytes.h"

#define NPORTS 3
#define NQUEUES (2 * NPORTS + 2)
#define RING 16
#define F_MULTIPORT 2ull

enum { READY, ADD, REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, OPEN, NAME };

/* Queues. */
#define CONTROL_RX 2
#define CONTROL_TX 3
#define RX(port) ((port) ? 2 * (port) + 2 : 0)
#define TX(port) (RX(port) + 1)

/* Guest memory: messages to the device, buffers for its messages, data. */
#define OUT 0
#define IN 0x1000
#define IN_BYTES 0x100
#define DATA 0x4000
#define DATA_BYTES 0x40000

static const char *const names[NPORTS] = { "org.bantam.agent", "b", "a name with spaces" };

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static struct chardev_pool *pool;
static gpa_t page;
static uint8_t *host;
static unsigned in_buffer; /* the next to give */

/* The owner of a port's sink. */
static struct owner {
	struct chardev *chr;
	size_t got, wrong;
	bool holds; /* takes nothing */
	char opens[16];
} owner[NPORTS];

static uint8_t pattern(size_t n)
{
	return (uint8_t)(n * 13 + n / 255);
}

static size_t owner_output(void *opaque, const uint8_t *buf, size_t len)
{
	struct owner *o = opaque;

	if (o->holds)
		return 0;
	for (size_t i = 0; i < len; i++)
		o->wrong += buf[i] != pattern(o->got + i);
	o->got += len;
	return len;
}

static void owner_open(void *opaque, bool open)
{
	struct owner *o = opaque;

	cr_assert_lt(strlen(o->opens), sizeof(o->opens) - 1);
	strcat(o->opens, open ? "+" : "-");
}

static const struct chardev_program_ops owner_ops = { .output = owner_output,
						      .guest_open = owner_open };

/* --- the machine --------------------------------------------------------------------------------- */

/* Creates the device of these options; it has the ids "port0" and so on. */
static int create(const char *const *options, unsigned n, struct err *err)
{
	static struct keyvals kv[20];
	struct device_part part[20];
	char id[20][16];
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++) {
		snprintf(id[i], sizeof(id[i]), "port%u", i);
		part[i] = (struct device_part){ &kv[i], id[i] };
		rc = keys_parse(&kv[i], "--port", virtio_port_type.keys, options[i], err);
		if (!rc)
			rc = virtio_port_type.check(&kv[i], err);
	}
	if (!rc)
		rc = virtio_port_type.create_all(&f.env, part, n, &dev, err);
	for (unsigned i = 0; i < n; i++)
		keys_clear(&kv[i]);
	return rc;
}

static void find(void)
{
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, DATA + DATA_BYTES);
	host = fake_at(&f, page, DATA + DATA_BYTES);
}

static void begin(enum fake_transport transport)
{
	const char *option[NPORTS];
	char text[NPORTS][64];
	struct err err = { "" };

	fake_env_init(&f, transport);
	cr_assert_eq(chardev_pool_create_on(f.env.loop, &pool, &err), 0);
	f.env.consoles = pool;
	memset(owner, 0, sizeof(owner));
	for (unsigned i = 0; i < NPORTS; i++) {
		snprintf(text[i], sizeof(text[i]), "port%u", i);
		cr_assert_eq(chardev_pool_open_program(pool, text[i], &owner_ops, &owner[i],
						       &owner[i].chr, &err),
			     0);
		snprintf(text[i], sizeof(text[i]), "name=%s,null", names[i]);
		option[i] = text[i];
	}
	cr_assert_eq(create(option, NPORTS, &err), 0, "%s", err.text);
	find();
}

static void end(void)
{
	device_destroy(dev);
	chardev_pool_destroy(pool);
	pool = NULL;
	fake_env_destroy(&f);
	for (unsigned i = 0; i < NPORTS; i++)
		cr_assert_eq(owner[i].wrong, 0);
}

static void both(void (*test)(void))
{
	begin(FAKE_PCI);
	test();
	end();
	begin(FAKE_MMIO);
	test();
	end();
}

static void run(void)
{
	for (unsigned i = 0; i < 10; i++)
		fake_run(&f);
}

/* --- the driver ------------------------------------------------------------------------------------ */

/* Gives the device n buffers of len bytes for its messages. */
static void give_buffers(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct fake_buf b = { page.v + IN + in_buffer % RING * IN_BYTES, len };

		fake_ring_add(&d.ring[CONTROL_RX], NULL, 0, &b, 1);
		in_buffer++;
	}
	fake_driver_kick(&d, CONTROL_RX);
}

static void tell(uint32_t id, uint16_t event, uint16_t value)
{
	struct fake_buf b = { page.v + OUT, 8 };
	struct fake_used_elem used;

	put_le32(host + OUT, id);
	put_le16(host + OUT + 4, event);
	put_le16(host + OUT + 6, value);
	fake_ring_add(&d.ring[CONTROL_TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, CONTROL_TX);
	run();
	cr_assert(fake_ring_take(&d.ring[CONTROL_TX], &used));
	cr_assert_eq(used.len, 0);
}

/* The messages that the device has sent since the last call: "A0 N0=b O0=1 ". */
static const char *said(void)
{
	static char text[1024];
	struct fake_ring *r = &d.ring[CONTROL_RX];
	struct fake_used_elem used;
	size_t n = 0;

	run();
	text[0] = 0;
	while (fake_ring_take(r, &used)) {
		const uint8_t *m = host + (r->desc[used.id].addr - page.v);
		unsigned event = get_le16(m + 4);

		cr_assert_geq(used.len, 8);
		cr_assert_lt(n, sizeof(text) - 100);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%c%u",
				      event == ADD  ? 'A' :
				      event == NAME ? 'N' :
				      event == OPEN ? 'O' :
						      '?',
				      get_le32(m));
		if (event == NAME)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "=%.*s",
					      (int)used.len - 8, m + 8);
		else if (event == OPEN)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "=%u", get_le16(m + 6));
		n += (size_t)snprintf(text + n, sizeof(text) - n, " ");
	}
	return text;
}

static void start(void)
{
	in_buffer = 0;
	fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
	give_buffers(RING, IN_BYTES);
}

/* As Linux does: all ports are there, and open. */
static void start_open(void)
{
	start();
	tell(0, READY, 1);
	for (unsigned i = 0; i < NPORTS; i++) {
		tell(i, PORT_READY, 1);
		tell(i, OPEN, 1);
	}
	fake_ring_take_all(&d.ring[CONTROL_RX]);
	give_buffers(3 * NPORTS, IN_BYTES);
	run();
}

static size_t sent[NPORTS];

/* Puts len bytes of the port's stream on its queue. */
static void put(unsigned port, unsigned len)
{
	struct fake_buf b = { page.v + DATA, len };

	cr_assert_leq(len, DATA_BYTES);
	for (unsigned i = 0; i < len; i++)
		host[DATA + i] = pattern(sent[port] + i);
	sent[port] += len;
	fake_ring_add(&d.ring[TX(port)], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX(port));
}

/* Gives the port a buffer of len bytes. */
static void want(unsigned port, unsigned len)
{
	struct fake_buf b = { page.v + DATA, len };

	fake_ring_add(&d.ring[RX(port)], NULL, 0, &b, 1);
	fake_driver_kick(&d, RX(port));
	run();
}

static bool broken(void)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

static void expect_output(unsigned port, unsigned len)
{
	size_t before = owner[port].got;

	sent[port] = before;
	put(port, len);
	run();
	cr_assert_eq(owner[port].got, before + len, "port %u", port);
}

static void expect_input(unsigned port)
{
	struct fake_used_elem used;

	want(port, 100);
	cr_assert_eq(chardev_program_send(owner[port].chr, "hello", 5), 5);
	run();
	cr_assert(fake_ring_take(&d.ring[RX(port)], &used), "port %u", port);
	cr_assert_eq(used.len, 5);
	cr_assert_arr_eq(host + DATA, "hello", 5);
}

TestSuite(console_ports, .timeout = 60);

/* --- the way that Linux goes -------------------------------------------------------------------------- */

static void names_and_data(void)
{
	cr_assert_eq(fake_driver_offered(&d) & 7, F_MULTIPORT);
	cr_assert_eq(fake_driver_config(&d, 4, 4), NPORTS);
	fake_driver_set_config(&d, 4, 4, 31);
	fake_driver_set_config(&d, 8, 4, '!');
	cr_assert_eq(fake_driver_config(&d, 4, 4), NPORTS, "the driver cannot write it");
	start();
	cr_assert_str_eq(said(), "");
	tell(0, READY, 1);
	cr_assert_str_eq(said(), "A0 A1 A2 ");
	tell(1, PORT_READY, 1);
	cr_assert_str_eq(said(), "N1=b O1=1 ");
	tell(0, PORT_READY, 1);
	tell(2, PORT_READY, 1);
	cr_assert_str_eq(said(), "N0=org.bantam.agent O0=1 N2=a name with spaces O2=1 ");
	/* Input waits until a program of the guest has the port open: the driver would drop it. */
	want(1, 100);
	cr_assert_eq(chardev_program_send(owner[1].chr, "early", 5), 5);
	run();
	cr_assert_eq(fake_ring_take_all(&d.ring[RX(1)]), 0);
	tell(1, OPEN, 1);
	run();
	cr_assert_eq(fake_ring_take_all(&d.ring[RX(1)]), 1);
	cr_assert_arr_eq(host + DATA, "early", 5);
	tell(0, OPEN, 1);
	tell(2, OPEN, 7);
	for (unsigned i = 0; i < NPORTS; i++) {
		cr_assert_str_eq(owner[i].opens, "+");
		for (unsigned k = 0; k < 20; k++) {
			expect_output(i, 1 + k * 997);
			expect_input(i);
		}
	}
	tell(1, OPEN, 0);
	cr_assert_str_eq(owner[1].opens, "+-");
	cr_assert_str_eq(owner[0].opens, "+");
	cr_assert_str_eq(said(), "");
}

Test(console_ports, names_and_data)
{
	both(names_and_data);
}

/* A driver that wakes from hibernation says only that it has the ports. */
static void ports_without_the_device(void)
{
	start();
	tell(2, PORT_READY, 1);
	tell(2, OPEN, 1);
	cr_assert_str_eq(said(), "N2=a name with spaces O2=1 ");
	expect_output(2, 100);
}

Test(console_ports, ports_without_the_device)
{
	both(ports_without_the_device);
}

/* Without MULTIPORT there is port 0, without messages. */
static void without_multiport(void)
{
	fake_driver_start(&d, 0, NQUEUES, RING);
	run();
	cr_assert_str_eq(owner[0].opens, "+");
	expect_output(0, 3000);
	expect_input(0);
	put(1, 100);
	give_buffers(1, IN_BYTES);
	run();
	cr_assert_eq(owner[1].got, 0);
	cr_assert_str_eq(owner[1].opens, "");
	fake_driver_set_status(&d, 0);
	run();
	cr_assert_str_eq(owner[0].opens, "+-");
}

Test(console_ports, without_multiport)
{
	both(without_multiport);
}

/* --- a port that is stuck ------------------------------------------------------------------------------- */

static void one_is_stuck(void)
{
	start_open();
	owner[1].holds = true;
	sent[1] = 0;
	put(1, DATA_BYTES);
	run();
	cr_assert_eq(owner[1].got, 0);
	cr_assert_eq(fake_ring_take_all(&d.ring[TX(1)]), 0, "it waits");
	for (unsigned k = 0; k < 30; k++) {
		expect_input(1); /* its other way works */
		expect_input(0);
		tell(0, OPEN, k % 2);
		tell(2, PORT_READY, 1);
		cr_assert_str_eq(said(), "N2=a name with spaces O2=1 ");
		give_buffers(2, IN_BYTES);
		tell(0, OPEN, 1);
		owner[0].opens[0] = 0;
	}
	/* Its data is in guest memory, so nothing else may be there. */
	for (unsigned i = 0; i < DATA_BYTES; i++)
		host[DATA + i] = pattern(i);
	owner[1].holds = false;
	chardev_program_resume(owner[1].chr);
	for (unsigned i = 0; i < 10; i++)
		run();
	cr_assert_eq(owner[1].got, DATA_BYTES);
	cr_assert_eq(fake_ring_take_all(&d.ring[TX(1)]), 1);
	expect_output(1, 100);
	/* No buffers for input on one port: the others get theirs. */
	cr_assert_gt(chardev_program_send(owner[1].chr, host + DATA, 5000), 0);
	run();
	expect_input(0);
	expect_input(2);
}

Test(console_ports, one_is_stuck)
{
	both(one_is_stuck);
}

/* The host learns that the guest has closed a port when it has all that the guest wrote before. */
static void output_before_the_close(void)
{
	start_open();
	owner[1].holds = true;
	sent[1] = 0;
	put(1, DATA_BYTES);
	tell(1, OPEN, 0);
	cr_assert_str_eq(owner[1].opens, "+");
	owner[1].holds = false;
	chardev_program_resume(owner[1].chr);
	for (unsigned i = 0; i < 10; i++)
		run();
	cr_assert_eq(owner[1].got, DATA_BYTES);
	cr_assert_str_eq(owner[1].opens, "+-");
	/* Open again while the output from before still waits: both are told. */
	tell(1, OPEN, 1);
	owner[1].holds = true;
	sent[1] = owner[1].got;
	put(1, DATA_BYTES);
	tell(1, OPEN, 0);
	tell(1, OPEN, 1);
	owner[1].holds = false;
	chardev_program_resume(owner[1].chr);
	for (unsigned i = 0; i < 10; i++)
		run();
	cr_assert_eq(owner[1].got, 2 * DATA_BYTES);
	cr_assert_str_eq(owner[1].opens, "+-+-+");
}

Test(console_ports, output_before_the_close)
{
	both(output_before_the_close);
}

/* A port whose sink takes all and whose guest never ends: the others and the messages get their turns. */
Test(console_ports, turns)
{
	const char *const option[] = { "name=a,null", "name=b,null", "name=c,null" };
	struct fake_buf big[12];
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create(option, 3, &err), 0, "%s", err.text);
	find();
	start();
	for (unsigned i = 0; i < 12; i++)
		big[i] = (struct fake_buf){ FAKE_HIGH_BASE, FAKE_HIGH_BYTES };
	fake_ring_add(&d.ring[TX(0)], big, 12, NULL, 0);
	fake_ring_add(&d.ring[TX(2)], big, 12, NULL, 0);
	fake_driver_kick(&d, TX(0));
	fake_driver_kick(&d, TX(2));
	for (unsigned k = 1; k <= 5; k++) {
		struct fake_buf b = { page.v + DATA, 10 };
		unsigned rounds = 0;

		fake_ring_add(&d.ring[TX(1)], &b, 1, NULL, 0);
		fake_driver_kick(&d, TX(1));
		while (!fake_ring_take_all(&d.ring[TX(1)])) {
			cr_assert_lt(rounds++, 8);
			fake_run(&f);
		}
		put_le32(host + OUT, 0);
		put_le16(host + OUT + 4, PORT_READY);
		put_le16(host + OUT + 6, 1);
		b = (struct fake_buf){ page.v + OUT, 8 };
		fake_ring_add(&d.ring[CONTROL_TX], &b, 1, NULL, 0);
		fake_driver_kick(&d, CONTROL_TX);
		for (rounds = 0; !fake_ring_take_all(&d.ring[CONTROL_TX]); rounds++) {
			cr_assert_lt(rounds, 8);
			fake_run(&f);
		}
	}
	cr_assert_eq(fake_ring_take_all(&d.ring[TX(0)]), 0, "48 MiB so soon");
	device_destroy(dev);
	fake_env_destroy(&f);
}

/* --- hostile drivers --------------------------------------------------------------------------------------- */

/* Messages that mean nothing are ignored, and the others have no effect but their own. */
static const struct {
	unsigned len; /* of the message; 8 unless something is wrong with that */
	uint32_t id;
	uint16_t event, value;
	const char *said, *opens; /* the device's answer; what port 1's owner hears */
} messages[] = {
	{ 0, 0, 0, 0, "", "" },
	{ 1, 1, OPEN, 1, "", "" },
	{ 4, 1, OPEN, 1, "", "" },
	{ 6, 1, OPEN, 1, "", "" },
	{ 7, 1, OPEN, 1, "", "" },
	{ 9, 1, OPEN, 1, "", "+" },
	{ 4096, 1, OPEN, 0xffff, "", "+" },
	{ 8, 1, OPEN, 0, "", "" },
	{ 8, NPORTS, OPEN, 1, "", "" },
	{ 8, NPORTS, PORT_READY, 1, "", "" },
	{ 8, 0xffffffff, OPEN, 1, "", "" },
	{ 8, 0xffffffff, PORT_READY, 1, "", "" },
	{ 8, 0x80000001, PORT_READY, 1, "", "" },
	{ 8, 0x10001, PORT_READY, 1, "", "" },
	{ 8, 31, OPEN, 1, "", "" },
	{ 8, 1, READY, 0, "", "" },
	{ 8, 0xffffffff, READY, 1, "A0 A1 A2 ", "" },
	{ 8, 1, ADD, 1, "", "" },
	{ 8, 1, REMOVE, 1, "", "" },
	{ 8, 1, CONSOLE_PORT, 1, "", "" },
	{ 8, 1, RESIZE, 1, "", "" },
	{ 8, 1, NAME, 1, "", "" },
	{ 8, 1, 8, 1, "", "" },
	{ 8, 1, 0x0600, 1, "", "" },
	{ 8, 1, 0xffff, 1, "", "" },
	{ 8, 1, PORT_READY, 0, "", "" },
	{ 8, 1, PORT_READY, 0x8000, "N1=b O1=1 ", "" },
};

static void wrong_messages(void)
{
	struct fake_buf b = { page.v + OUT, 0 };

	for (unsigned i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		start();
		run();
		memset(owner[1].opens, 0, sizeof(owner[1].opens));
		put_le32(host + OUT, messages[i].id);
		put_le16(host + OUT + 4, messages[i].event);
		put_le16(host + OUT + 6, messages[i].value);
		b.len = messages[i].len;
		/* A message without any byte is a buffer for the device to write to. */
		if (b.len)
			fake_ring_add(&d.ring[CONTROL_TX], &b, 1, NULL, 0);
		else
			fake_ring_add(&d.ring[CONTROL_TX], NULL, 0, &(struct fake_buf){ b.addr, 8 },
				      1);
		fake_driver_kick(&d, CONTROL_TX);
		run();
		cr_assert_eq(fake_ring_take_all(&d.ring[CONTROL_TX]), 1, "row %u", i);
		cr_assert_str_eq(said(), messages[i].said, "row %u", i);
		cr_assert_str_eq(owner[1].opens, messages[i].opens, "row %u", i);
		cr_assert(!broken(), "row %u", i);
		tell(0, PORT_READY, 1);
		cr_assert_str_eq(said(), "N0=org.bantam.agent O0=1 ", "row %u: the device works",
				 i);
	}
}

Test(console_ports, wrong_messages)
{
	both(wrong_messages);
}

/* A port is added once; other questions are answered each time, but no answer is kept twice. */
static void questions_without_end(void)
{
	struct fake_buf byte[8];

	in_buffer = 0;
	fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
	for (unsigned i = 0; i < 500; i++) {
		tell(0, READY, 1);
		tell(i % NPORTS, PORT_READY, i % 5 > 0);
		tell(i % NPORTS, PORT_READY, 1);
	}
	give_buffers(RING, IN_BYTES);
	cr_assert_str_eq(said(), "A0 N0=org.bantam.agent O0=1 A1 N1=b O1=1 A2 "
				 "N2=a name with spaces O2=1 ");
	tell(0, READY, 1);
	cr_assert_str_eq(said(), "");
	/* One that comes in eight pieces. */
	put_le32(host + OUT, 1);
	put_le16(host + OUT + 4, PORT_READY);
	put_le16(host + OUT + 6, 1);
	for (unsigned i = 0; i < 8; i++)
		byte[i] = (struct fake_buf){ page.v + OUT + i, 1 };
	fake_ring_add(&d.ring[CONTROL_TX], byte, 8, NULL, 0);
	fake_driver_kick(&d, CONTROL_TX);
	cr_assert_str_eq(said(), "N1=b O1=1 ");
	cr_assert(!broken());
}

Test(console_ports, questions_without_end)
{
	both(questions_without_end);
}

/* Buffers for the device's messages: too small for one, or just large enough. */
static void small_buffers(void)
{
	struct fake_used_elem used;

	fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
	in_buffer = 0;
	give_buffers(2, 8);
	tell(0, PORT_READY, 1);
	cr_assert_str_eq(said(), "N0= O0=1 ", "a name that does not fit is cut");
	give_buffers(1, 7);
	tell(0, PORT_READY, 1);
	cr_assert(broken());
	cr_assert_not(fake_ring_take(&d.ring[CONTROL_RX], &used));
	/* A buffer that the device cannot write to. */
	start();
	fake_ring_take_all(&d.ring[CONTROL_RX]);
	fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
	fake_ring_add(&d.ring[CONTROL_RX], &(struct fake_buf){ page.v + IN, 100 }, 1, NULL, 0);
	tell(0, PORT_READY, 1);
	cr_assert(broken());
	start_open();
	expect_output(0, 100);
}

Test(console_ports, small_buffers)
{
	both(small_buffers);
}

/* A wrong ring of any queue breaks the device, and only until its reset. */
static void broken_rings(void)
{
	static const struct fake_buf bad[] = {
		{ 0x10, 0 }, { ~0ull, 8 }, { 1ull << 40, 8 }, { FAKE_LOW_BYTES - 2, 8 }
	};

	for (unsigned q = 0; q < NQUEUES; q++)
		for (unsigned i = 0; i < 4; i++) {
			fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
			for (unsigned p = 0; p < NPORTS; p++)
				tell(p, OPEN, 1);
			if (q % 2)
				fake_ring_add(&d.ring[q], &bad[i], 1, NULL, 0);
			else
				fake_ring_add(&d.ring[q], NULL, 0, &bad[i], 1);
			if (q == CONTROL_RX)
				tell(0, PORT_READY, 1);
			for (unsigned p = 0; p < NPORTS; p++)
				if (q == RX(p))
					chardev_program_send(owner[p].chr, "x", 1);
			fake_driver_kick(&d, q);
			run();
			cr_assert(broken(), "queue %u, %u", q, i);
			for (unsigned p = 0; p < NPORTS; p++)
				owner[p].opens[0] = 0;
		}
	/* Input that no driver took is still there. */
	start_open();
	want(1, 100);
	cr_assert_eq(fake_ring_take_all(&d.ring[RX(1)]), 1);
	cr_assert_eq(host[DATA], 'x');
	expect_output(1, 100);
}

Test(console_ports, broken_rings)
{
	both(broken_rings);
}

/* A reset closes all ports, forgets what was due, and the next driver begins anew. */
static void resets(void)
{
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned p = 0; p < NPORTS; p++)
			owner[p].opens[0] = 0;
		start_open();
		owner[1].holds = true;
		put(1, DATA_BYTES);
		run();
		cr_assert_str_eq(owner[0].opens, "+");
		fake_driver_set_status(&d, 0);
		run();
		cr_assert_str_eq(owner[0].opens, "+-");
		owner[1].holds = false;
		owner[1].wrong = 0;
		chardev_program_resume(owner[1].chr);
		for (unsigned k = 0; k < 10; k++)
			run();
		cr_assert_str_eq(owner[1].opens, "+-");
		owner[1].wrong = 0;
		/* What was due is not due any more. */
		fake_driver_start(&d, F_MULTIPORT, NQUEUES, RING);
		tell(0, READY, 1);
		tell(0, PORT_READY, 1);
		in_buffer = 0;
		start();
		cr_assert_str_eq(said(), "");
	}
}

Test(console_ports, resets)
{
	both(resets);
}

/* --- the host's end -------------------------------------------------------------------------------------------- */

static char dir[] = "/tmp/bantam-test-XXXXXX";
static struct sockaddr_un sa = { .sun_family = AF_UNIX };

static int client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	run();
	return fd;
}

/* Reads what is there. Returns how many bytes, which must be the port's stream from `from` on. */
static size_t read_stream(int fd, size_t from)
{
	uint8_t buf[4096];
	size_t done = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], pattern(from + done + (size_t)i));
		done += (size_t)n;
	}
	return done;
}

Test(console_ports, a_socket)
{
	char text[160];
	const char *option[] = { text, "name=file,file=/dev/null" };
	struct err err = { "" };
	int fd, next;
	size_t n = 0;

	cr_assert(mkdtemp(dir));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
	snprintf(text, sizeof(text), "name=s,socket=%s", sa.sun_path);
	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create(option, 2, &err), 0, "%s", err.text);
	find();
	in_buffer = 0;
	fake_driver_start(&d, F_MULTIPORT, 6, RING);
	give_buffers(RING, IN_BYTES);
	tell(0, PORT_READY, 1);
	tell(1, PORT_READY, 1);
	tell(0, OPEN, 1);
	cr_assert_str_eq(said(), "N0=s N1=file O1=1 ", "a file is always open, a socket is not");
	/* What is written while there is no reader is gone. */
	put(0, 5000);
	run();
	fd = client();
	cr_assert_str_eq(said(), "O0=1 ");
	run();
	cr_assert_eq(read_stream(fd, 0), 0);
	/* A reader that does not read holds the guest back, and gets every byte. */
	sent[0] = 0;
	for (unsigned i = 0; i < 8; i++)
		fake_ring_take_all(&d.ring[TX(0)]);
	for (unsigned i = 0; i < 10; i++) {
		put(0, DATA_BYTES);
		for (unsigned k = 0; n < sent[0]; k++) {
			cr_assert_lt(k, 10000);
			run();
			if (k == 2)
				cr_assert_eq(fake_ring_take_all(&d.ring[TX(0)]), 0, "it waits");
			if (k >= 3)
				n += read_stream(fd, n);
		}
		run();
		cr_assert_eq(fake_ring_take_all(&d.ring[TX(0)]), 1);
	}
	/* One goes with output unread, and another comes: the guest hears of both, and goes on. */
	put(0, DATA_BYTES);
	run();
	close(fd);
	run();
	cr_assert_str_eq(said(), "O0=0 ");
	cr_assert_eq(fake_ring_take_all(&d.ring[TX(0)]), 1, "the guest is not held back any more");
	fd = client();
	cr_assert_str_eq(said(), "O0=1 ");
	sent[0] = n = 0;
	put(0, 3000);
	for (unsigned k = 0; n < 3000; k++) {
		cr_assert_lt(k, 10000);
		usleep(100);
		run();
		n += read_stream(fd, n);
	}
	/* Both at once, while the driver has no buffer: still two messages. */
	give_buffers(1, IN_BYTES);
	while (fake_ring_take_all(&d.ring[CONTROL_RX]))
		;
	fake_driver_start(&d, F_MULTIPORT, 6, RING);
	in_buffer = 0;
	give_buffers(2, IN_BYTES);
	tell(0, PORT_READY, 1);
	cr_assert_str_eq(said(), "N0=s O0=1 ");
	for (unsigned i = 0; i < 5; i++) {
		close(fd);
		run();
		next = client();
		fd = next;
	}
	give_buffers(RING - 2, IN_BYTES);
	cr_assert_str_eq(said(), "O0=0 O0=1 ");
	close(fd);
	run();
	cr_assert_str_eq(said(), "O0=0 ");
	device_destroy(dev);
	fake_env_destroy(&f);
	cr_assert_eq(rmdir(dir), 0);
}

/* Pauses, and then reads to the end. Returns how much it got. */
static void *slow_reader(void *opaque)
{
	int fd = *(int *)opaque;
	size_t n;

	usleep(200000);
	fcntl(fd, F_SETFL, 0);
	n = read_stream(fd, 0);
	return (void *)n;
}

/* What the guest has got rid of reaches a reader also after the guest's end. */
Test(console_ports, the_last_output)
{
	char text[160];
	const char *option[] = { text };
	struct err err = { "" };
	pthread_t reader;
	void *got;
	int fd;

	cr_assert(mkdtemp(dir));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
	snprintf(text, sizeof(text), "name=s,socket=%s", sa.sun_path);
	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create(option, 1, &err), 0, "%s", err.text);
	find();
	fake_driver_start(&d, F_MULTIPORT, 4, RING);
	fd = client();
	sent[0] = 0;
	for (unsigned taken = 1; taken;) {
		put(0, 4096);
		run();
		taken = fake_ring_take_all(&d.ring[TX(0)]);
	}
	cr_assert_eq(pthread_create(&reader, NULL, slow_reader, &fd), 0);
	device_destroy(dev);
	pthread_join(reader, &got);
	/* All but a part of the chain that was the first to wait. */
	cr_assert_geq((size_t)got, sent[0] - 4096);
	close(fd);
	fake_env_destroy(&f);
	cr_assert_eq(rmdir(dir), 0);
}

/* --- options -------------------------------------------------------------------------------------------------- */

Test(console_ports, names)
{
	static const struct {
		const char *name;
		bool good;
	} rows[] = {
		{ "a", true },
		{ "org.bantam.agent", true },
		{ "with spaces, no", false }, /* a comma begins the next key */
		{ "with spaces", true },
		{ "~!@#$%^&*()", true },
		{ "0123456789012345678901234567890123456789012345678901234567890123", true },
		{ "01234567890123456789012345678901234567890123456789012345678901234", false },
		{ "", false },
		{ "/", false },
		{ "a/b", false },
		{ ".", false },
		{ "..", false },
		{ "...", true },
		{ "a\tb", false },
		{ "a\nb", false },
		{ "a\x7f", false },
		{ "a\x1b[2J", false },
		{ "\xc3\xa4", false },
		{ "\xff", false },
	};
	struct err err = { "" };
	char text[160];

	fake_env_init(&f, FAKE_PCI);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *option[] = { text };
		int rc;

		snprintf(text, sizeof(text), "null,name=%s", rows[i].name);
		dev = NULL;
		rc = create(option, 1, &err);
		cr_assert_eq(rc == 0, rows[i].good, "row %u: %s", i, err.text);
		device_destroy(dev);
	}
	fake_env_destroy(&f);
}

Test(console_ports, options)
{
	const char *option[16] = { "name=x,off", "off,name=y", "name=z,file=/no/such/folder/x" };
	char text[16][32], line[64];
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create(option, 2, &err), 0);
	cr_assert_null(dev, "all are off");
	cr_assert_neq(create(option, 3, &err), 0);
	cr_assert_null(dev);
	/* All that there may be, one of them is off; the line is cut where it does not fit. */
	for (unsigned i = 0; i < 16; i++) {
		snprintf(text[i], sizeof(text[i]), "name=n%u,%s", i, i == 4 ? "off" : "null");
		option[i] = text[i];
	}
	cr_assert_eq(create(option, 16, &err), 0, "%s", err.text);
	find();
	cr_assert_eq(fake_driver_config(&d, 4, 4), 15);
	fake_driver_start(&d, F_MULTIPORT, 32, RING);
	in_buffer = 0;
	give_buffers(2, IN_BYTES);
	tell(14, PORT_READY, 1);
	cr_assert_str_eq(said(), "N14=n15 O14=1 ");
	for (size_t len = 1; len <= sizeof(line); len++) {
		memset(line, 'x', sizeof(line));
		dev->ops->describe(dev, line, len);
		cr_assert_lt(strnlen(line, sizeof(line)), len);
	}
	device_destroy(dev);
	dev = NULL;
	snprintf(text[4], sizeof(text[4]), "name=n4,null");
	cr_assert_eq(create(option, 16, &err), -E2BIG);
	cr_assert_str_eq(err.text, "--port: a VM has at most 15 ports");
	cr_assert_null(dev);
	fake_env_destroy(&f);
}
