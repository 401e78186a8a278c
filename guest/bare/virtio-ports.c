/*
 * virtio-ports: a driver of a console with three ports (virtio 1.2, section 5.3.6.2), against tests/guests/ports-peer:
 * names, data both ways while one port is stuck, ends that open and close, wrong messages, resets.
 *
 * Port 0, "echo": the peer sends back what it gets, but for its orders. Port 1, "stuck": the peer reads
 * nothing until the order "read", then 512 KiB; its answer says how many bytes were right. Port 2,
 * "late": the peer connects on the order "connect", answers "hi" by "ho", and goes.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define F_MULTIPORT (1ull << 1)
#define NPORTS 3u
#define NQUEUES (2 * NPORTS + 2)
#define SIZE 16u
#define MESSAGE_BYTES 80u
#define PIECE_BYTES (32u << 10) /* all pieces are the same memory */
#define PIECES 16u
#define LIMIT_MS 20000u

enum {
	DEVICE_READY,
	PORT_ADD,
	PORT_REMOVE,
	PORT_READY,
	CONSOLE_PORT,
	RESIZE,
	PORT_OPEN,
	PORT_NAME
};

struct message {
	uint32_t id;
	uint16_t event, value;
};

static const char *const names[NPORTS] = { "echo", "stuck", "late" };

static struct vio v;
static struct ring ring[NQUEUES];
static struct {
	struct vdesc desc[SIZE] __attribute__((aligned(16)));
	uint16_t avail[SIZE + 3];
	uint64_t used[SIZE + 1];
} memory[NQUEUES];
static uint8_t said[SIZE][MESSAGE_BYTES], out[4096], in[4096], stuck[PIECE_BYTES];
static uint8_t letters[sizeof(in) + 100];
static struct {
	bool added, named;
	unsigned opened, closed; /* messages about the host's end */
} port[NPORTS];

static struct ring *rx(unsigned n)
{
	return &ring[n ? 2 * n + 2 : 0];
}

static struct ring *tx(unsigned n)
{
	return rx(n) + 1;
}

/* --- messages ------------------------------------------------------------------------------- */

static void give(uint16_t i)
{
	ring_desc(&ring[2], i, said[i], MESSAGE_BYTES, D_WRITE, 0);
	ring_offer(&ring[2], i);
}

static bool note(const uint8_t *buf, uint32_t len)
{
	const struct message *m = (const void *)buf;

	if (len < sizeof(*m) || m->id >= NPORTS)
		return false;
	if (m->event == PORT_ADD) {
		port[m->id].added = true;
	} else if (m->event == PORT_NAME) {
		port[m->id].named = len == sizeof(*m) + strlen(names[m->id]) &&
				    !memcmp(buf + sizeof(*m), names[m->id], len - sizeof(*m));
	} else if (m->event == PORT_OPEN) {
		port[m->id].opened += m->value;
		port[m->id].closed += !m->value;
	} else {
		return false;
	}
	return true;
}

static bool fine = true; /* no message was wrong */

/* Notes what the device says within ms, or until *until reaches n. */
static bool listen(unsigned ms, const unsigned *until, unsigned n)
{
	uint32_t i, len;

	while (!until || *until < n) {
		if (!ring_wait(&ring[2], ms, &i, &len))
			return false;
		fine &= i < SIZE && note(said[i], len);
		give((uint16_t)i);
		ring_kick(&v, &ring[2]);
	}
	return true;
}

static bool tell_bytes(const void *m, uint32_t len, uint16_t flags)
{
	memcpy(out, m, len);
	ring_desc(&ring[3], 0, out, len, flags, 0);
	ring_offer(&ring[3], 0);
	ring_kick(&v, &ring[3]);
	return ring_wait(&ring[3], LIMIT_MS, NULL, NULL);
}

static bool tell(uint32_t id, uint16_t event, uint16_t value)
{
	const struct message m = { id, event, value };

	return tell_bytes(&m, sizeof(m), 0);
}

static bool start(uint64_t features)
{
	if (!vio_negotiate(&v, features))
		return false;
	memset(port, 0, sizeof(port));
	for (unsigned q = 0; q < NQUEUES; q++) {
		memset(&memory[q], 0, sizeof(memory[q]));
		ring[q] = (struct ring){ .desc = memory[q].desc,
					 .avail = (void *)memory[q].avail,
					 .used = (void *)memory[q].used,
					 .size = SIZE };
		ring_enable(&v, &ring[q], q, NO_VECTOR);
	}
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	for (uint16_t i = 0; i < SIZE; i++)
		give(i);
	ring_kick(&v, &ring[2]);
	return true;
}

/* As a driver does it. */
static bool start_ports(void)
{
	bool good = start(F_MULTIPORT) && tell(0, DEVICE_READY, 1);

	listen(100, NULL, 0);
	for (unsigned i = 0; i < NPORTS; i++)
		good &= port[i].added && !port[i].named && tell(i, PORT_READY, 1);
	listen(100, NULL, 0);
	for (unsigned i = 0; i < NPORTS; i++)
		good &= port[i].named && tell(i, PORT_OPEN, 1);
	return good && fine;
}

/* --- data -------------------------------------------------------------------------------------- */

static bool send(unsigned n, const void *p, uint32_t len)
{
	ring_desc(tx(n), 0, p, len, 0, 0);
	ring_offer(tx(n), 0);
	ring_kick(&v, tx(n));
	return ring_wait(tx(n), LIMIT_MS, NULL, NULL);
}

/* Receives exactly len bytes into in. */
static bool receive(unsigned n, uint32_t len)
{
	for (uint32_t done = 0, more; done < len; done += more) {
		ring_desc(rx(n), 0, in + done, len - done, D_WRITE, 0);
		ring_offer(rx(n), 0);
		ring_kick(&v, rx(n));
		if (!ring_wait(rx(n), LIMIT_MS, NULL, &more))
			return false;
	}
	return true;
}

static bool echo(unsigned rounds)
{
	bool good = true;

	for (unsigned i = 0; i < rounds && good; i++) {
		uint32_t len = 1 + i * 331 % sizeof(in);

		good = send(0, letters + i, len) && receive(0, len) &&
		       !memcmp(letters + i, in, len);
	}
	return good;
}

/* An order is a line of its own in capitals, which echo never sends. */
static bool order(const char *text)
{
	return send(0, text, (uint32_t)strlen(text));
}

static void fill_stuck(void)
{
	for (unsigned i = 0; i < PIECE_BYTES; i++)
		stuck[i] = (uint8_t)(i * 7 + i / 251);
	for (unsigned i = 0; i < PIECES; i++) {
		ring_desc(tx(1), i, stuck, PIECE_BYTES, 0, 0);
		ring_offer(tx(1), (uint16_t)i);
	}
	ring_kick(&v, tx(1));
}

/* --- the test ----------------------------------------------------------------------------------- */

static void one_is_stuck(void)
{
	unsigned pieces = 0;

	fill_stuck();
	ok(echo(25), "one port is stuck, and another carries data both ways");
	while (pieces < PIECES && ring_wait(tx(1), 50, NULL, NULL))
		pieces++;
	ok(pieces < PIECES, "the stuck one waits after %u of %u pieces", pieces, PIECES);
	port[2].named = false;
	ok(tell(2, PORT_READY, 1) && !listen(100, NULL, 0) && port[2].named, "messages go on");
	ok(order("CONNECT\n") && listen(LIMIT_MS, &port[2].opened, 1), "a host's end opens");
	ok(send(2, "hi", 2) && receive(2, 2) && !memcmp(in, "ho", 2), "it has data both ways");
	ok(listen(LIMIT_MS, &port[2].closed, 1), "it closes");
	ok(order("READ\n"), "the stuck one is to be read");
	while (pieces < PIECES && ring_wait(tx(1), LIMIT_MS, NULL, NULL))
		pieces++;
	ok(pieces == PIECES, "it goes on");
	ok(receive(0, 7) && !memcmp(in, "524288\n", 7), "every byte of it arrived");
}

static void wrong_messages(void)
{
	static const struct message wrong[] = {
		{ NPORTS, PORT_READY, 1 },
		{ 0xffffffff, PORT_OPEN, 1 },
		{ 0x80000000, PORT_READY, 1 },
		{ 0, 8, 1 },
		{ 0, 0xffff, 1 },
		{ 0, PORT_ADD, 1 },
		{ 0, PORT_REMOVE, 1 },
		{ 0, PORT_NAME, 1 },
		{ 0, CONSOLE_PORT, 1 },
		{ 0, RESIZE, 1 },
		{ 0, DEVICE_READY, 0 },
		{ 7, DEVICE_READY, 1 },
	};
	const struct message open = { 0, PORT_OPEN, 0 };
	bool good = true;

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		good &= tell_bytes(&wrong[i], sizeof(wrong[i]), 0);
	for (uint32_t len = 1; len < sizeof(open); len++)
		good &= tell_bytes(&open, len, 0);
	good &= tell_bytes(&open, sizeof(open), D_WRITE);
	ok(good && !listen(100, NULL, 0) && fine && !(vio_status(&v) & S_NEEDS_RESET) && echo(3),
	   "wrong messages are ignored");
	for (unsigned i = 0; i < 100; i++)
		good &= tell(i % NPORTS, PORT_READY, i & 1) && tell(0, DEVICE_READY, 1);
	ok(good && echo(3), "200 messages whose answers find no buffer");
	ring_desc(&ring[3], 0, said, 0, 0, 0);
	ring_offer(&ring[3], 0);
	ring_kick(&v, &ring[3]);
	ring_wait(&ring[3], 100, NULL, NULL);
	ok(vio_status(&v) & S_NEEDS_RESET, "a wrong descriptor needs a reset");
}

void main(void)
{
	if (!vio_find(VIRTIO_CONSOLE, 0, &v))
		rt_die("no virtio-console device");
	for (unsigned i = 0; i < sizeof(letters); i++)
		letters[i] = (uint8_t)('a' + i % 26);
	ok(vio_config(&v, 4, 4) == NPORTS, "there are %u ports", NPORTS);
	ok(start_ports(), "each port is added, and then named");
	ok(listen(LIMIT_MS, &port[0].opened, 1) && listen(LIMIT_MS, &port[1].opened, 1) &&
		   !port[2].opened,
	   "two have a reader on the host");
	one_is_stuck();
	wrong_messages();
	ok(start(0) && echo(3), "without MULTIPORT port 0 works");
	ok(start_ports() && port[0].opened == 1 && echo(3), "with it again, all ports are there");
	order("END\n");
}
