/*
 * talk: answers each byte that it receives, on the serial port, or on the virtio console with
 * "hvc" on its command line: "l" with a short line, "p" with a prompt (no end of a line), "f" with
 * FLOOD_BYTES of lines and one that says "done". "q" ends it. The serial port gets one byte at a time,
 * the virtio console the first byte of a line and then the rest.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define FLOOD_BYTES 8192u
#define UART 0x3f8
#define LSR_DR 0x01
#define LSR_THRE 0x20

static struct vio v;
static struct ring rx, tx;
static bool hvc;
static char in[16];
static uint32_t in_len, in_at;

static void listen(void)
{
	ring_desc(&rx, 0, in, sizeof(in), D_WRITE, 0);
	ring_offer(&rx, 0);
	ring_kick(&v, &rx);
}

static char receive(void)
{
	if (!hvc) {
		while (!(inb(UART + 5) & LSR_DR))
			relax();
		return (char)inb(UART);
	}
	if (in_at == in_len) {
		while (!ring_wait(&rx, 1000, NULL, &in_len))
			;
		in_at = 0;
	}
	char c = in[in_at++];
	if (in_at == in_len)
		listen();
	return c;
}

static void send(const char *s, uint32_t len)
{
	ring_desc(&tx, 0, s, len, 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	if (!ring_wait(&tx, 5000, NULL, NULL))
		rt_die("the console took nothing for 5 s");
}

static void print(const char *s)
{
	if (hvc) {
		send(s, 1);
		send(s + 1, (uint32_t)strlen(s + 1));
		return;
	}
	for (; *s; s++) {
		while (!(inb(UART + 5) & LSR_THRE))
			relax();
		outb(UART, (uint8_t)*s);
	}
}

void main(void)
{
	static const char line[] = "a line of thirty-two characters\n";

	for (const char *s = boot_cmdline; *s; s++)
		hvc = hvc || !memcmp(s, "hvc", 3);
	if (hvc) {
		if (!vio_find(VIRTIO_CONSOLE, 0, &v) || !vio_negotiate(&v, 0))
			rt_die("no virtio-console device");
		ring_init(&rx, 0, 8);
		ring_init(&tx, 1, 8);
		ring_enable(&v, &rx, 0, NO_VECTOR);
		ring_enable(&v, &tx, 1, NO_VECTOR);
		vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
		listen();
	}
	for (;;) {
		switch (receive()) {
		case 'l':
			print(line);
			break;
		case 'p':
			print("$ ");
			break;
		case 'f':
			for (unsigned n = 0; n < FLOOD_BYTES; n += sizeof(line) - 1)
				print(line);
			print("done\n");
			break;
		case 'q':
			return;
		default:
			break;
		}
	}
}
