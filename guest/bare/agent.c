/*
 * agent: speaks the agent's protocol (guest/wire.h) without a kernel, in order or not, for tests of the
 * host's side. The channel is the first port of a virtio-console device with the name WIRE_PORT, or the
 * second serial port with the word com2.
 *
 * The command line's words after "do" are what it does, one after the other:
 *
 *	hello		says HELLO, and waits for START; a BYE in its place is answered as by the agent
 *	run		hello, and says STARTED
 *	exit=N signal=N	says EXIT
 *	trap		waits for a signal of the host, and says EXIT by it
 *	refuse=STEP,ERRNO says REFUSED
 *	eof ack bye	says EOF of each output, waits for ACK, says BYE
 *	end		eof ack bye off
 *	out=N err=N both=N N bytes of output: blocks of 4096, each with its number in its first 8 bytes
 *	bytes		output with every byte there is
 *	echo		input becomes output until its end
 *	sleep=MS	answers the host meanwhile
 *	off reset triple panic	ends the machine: by ACPI, by a triple fault, by pvpanic
 *	oops=TEXT	prints a panic as Linux does, with TEXT
 *	idle dead spin-off spin-on user	hangs: halted with interrupts on or off, spinning in the kernel or not
 *	chatter=MS	prints a line each MS, without an end
 *
 * and what no agent does:
 *
 *	random=N	N bytes of noise; seed=N begins another noise
 *	frames=N	N frames whose headers are right, with any type, length and content
 *	long cut	a frame that is too long; half a frame
 *	nocredit=N	N bytes of output, whatever the host has granted
 *	flood=N		N notes
 *	close		closes its end of the port
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"
#include "guest/bare/lib/virtio.h"
#include "guest/frame.h"

#define COM2 0x2f8
#define LSR_DR 0x01
#define LSR_THRE 0x20

#define F_MULTIPORT 2ull
#define RX 0
#define TX 1
#define CONTROL_RX 2
#define CONTROL_TX 3
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, PORT_OPEN = 6, PORT_NAME = 7 };

#define BUFFERS 4u /* of each queue for input */
#define BLOCK_BYTES 4096u

struct control {
	uint32_t id;
	uint16_t event, value;
	char name[56];
};

static struct vio v;
static struct ring ring[4];
static uint8_t input[BUFFERS][4096];
static struct control control_in[BUFFERS], control_out;
static bool com2;

static struct wire_decoder decoder;
static uint32_t credit[WIRE_STREAMS];
static uint32_t spec_bytes, spec_have, signalled;
static bool greeted, started, acked, told_bye, input_end, echoing;
static uint64_t noise = 88172645463325252ull;

/* --- the channel ------------------------------------------------------------------------------- */

static void offer(struct ring *r, unsigned i, void *buf, uint32_t len)
{
	ring_desc(r, i, buf, len, D_WRITE, 0);
	ring_offer(r, (uint16_t)i);
	ring_kick(&v, r);
}

static void send_on(struct ring *r, const void *bytes, uint32_t len)
{
	ring_desc(r, 0, bytes, len, 0, 0);
	ring_offer(r, 0);
	ring_kick(&v, r);
	while (!ring_wait(r, 1000, NULL, NULL))
		;
}

static void tell(uint16_t event, uint16_t value)
{
	control_out = (struct control){ .id = 0, .event = event, .value = value };
	send_on(&ring[CONTROL_TX], &control_out, 8);
}

/* Returns when the host has a reader, as the guest's kernel lets a program open the port. */
static void open_port(void)
{
	bool named = false, opened = false;
	uint32_t id, len;

	if (!vio_find(VIRTIO_CONSOLE, 0, &v) || !vio_negotiate(&v, F_MULTIPORT))
		rt_die("no virtio-console device with ports");
	for (unsigned i = 0; i < 4; i++) {
		ring_init(&ring[i], i, 8);
		ring_enable(&v, &ring[i], i, NO_VECTOR);
	}
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	for (unsigned i = 0; i < BUFFERS; i++) {
		offer(&ring[RX], i, input[i], sizeof(input[i]));
		offer(&ring[CONTROL_RX], i, &control_in[i], sizeof(control_in[i]));
	}
	tell(DEVICE_READY, 1);
	while (!named || !opened) {
		const struct control *c;

		if (!ring_wait(&ring[CONTROL_RX], 10000, &id, &len))
			rt_die("the host does not name or open the port");
		c = &control_in[id];
		if (c->event == PORT_ADD && c->id == 0)
			tell(PORT_READY, 1);
		if (c->event == PORT_NAME && c->id == 0)
			named = len >= 8 + sizeof(WIRE_PORT) - 1 &&
				!memcmp(c->name, WIRE_PORT, sizeof(WIRE_PORT) - 1);
		if (c->event == PORT_OPEN && c->id == 0)
			opened = c->value;
		offer(&ring[CONTROL_RX], id, &control_in[id], sizeof(control_in[id]));
	}
	tell(PORT_OPEN, 1);
}

static void send(const uint8_t *bytes, uint32_t len)
{
	if (!com2) {
		send_on(&ring[TX], bytes, len);
		return;
	}
	for (uint32_t i = 0; i < len; i++) {
		while (!(inb(COM2 + 5) & LSR_THRE))
			relax();
		outb(COM2, bytes[i]);
	}
}

/* --- frames ------------------------------------------------------------------------------------ */

static uint8_t frame[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
static uint8_t *const payload = frame + WIRE_HEADER_BYTES;

static void say(uint8_t type, uint8_t stream, uint32_t len)
{
	wire_encode(frame, type, stream, len);
	send(frame, WIRE_HEADER_BYTES + len);
}

static void say_exit(uint32_t status)
{
	memset(payload, 0, WIRE_EXIT_BYTES);
	put_le32(payload + WIRE_EXIT_STATUS, status);
	say(WIRE_EXIT, 0, WIRE_EXIT_BYTES);
}

static void say_grant(uint8_t stream, uint32_t bytes)
{
	put_le32(payload, bytes);
	say(WIRE_GRANT, stream, 4);
}

static void listen(void);

/* The bytes are copied into the frame first. */
static void say_output(uint8_t stream, const void *bytes, uint32_t len)
{
	while (credit[stream] < len)
		listen();
	credit[stream] -= len;
	memcpy(payload, bytes, len);
	say(WIRE_DATA, stream, len);
}

static void on_data(const struct wire_frame *f)
{
	static uint8_t copy[WIRE_PAYLOAD_MAX];

	say_grant(f->stream, f->len);
	if (f->stream == WIRE_SPEC)
		spec_have += f->len;
	if (f->stream != WIRE_STDIN || !echoing)
		return;
	/* say_output may hear the next frame. */
	memcpy(copy, f->payload, f->len);
	say_output(WIRE_STDOUT, copy, f->len);
}

static void on_frame(const struct wire_frame *f)
{
	switch (f->type) {
	case WIRE_START:
		spec_bytes = get_le32(f->payload + WIRE_START_LEN);
		greeted = true;
		break;
	case WIRE_DATA:
		on_data(f);
		break;
	case WIRE_EOF:
		input_end |= f->stream == WIRE_STDIN;
		break;
	case WIRE_GRANT:
		credit[f->stream] += get_le32(f->payload);
		break;
	case WIRE_PING:
		memcpy(payload, f->payload, 8);
		say(WIRE_PONG, 0, 8);
		break;
	case WIRE_SIGNAL:
		signalled = get_le32(f->payload);
		break;
	case WIRE_ACK:
		acked = true;
		break;
	case WIRE_BYE:
		greeted = told_bye = true;
		break;
	default:
		break;
	}
	started = greeted && spec_have == spec_bytes;
}

static void feed(const uint8_t *bytes, size_t len)
{
	struct wire_frame f;
	size_t used;

	for (size_t at = 0; at < len; at += used) {
		int rc = wire_decode(&decoder, bytes + at, len - at, &used, &f);

		if (rc < 0)
			rt_die("the host: %s", decoder.why);
		if (rc > 0)
			on_frame(&f);
	}
}

/* Takes what has come. */
static void listen(void)
{
	/* on_frame may listen again: it has its own bytes. */
	uint8_t bytes[256];
	uint32_t id, len, n = 0;

	if (com2) {
		while (n < sizeof(bytes) && inb(COM2 + 5) & LSR_DR)
			bytes[n++] = inb(COM2);
		feed(bytes, n);
		return;
	}
	while (ring_wait(&ring[RX], 0, &id, &len)) {
		feed(input[id], len);
		offer(&ring[RX], id, input[id], sizeof(input[id]));
	}
}

/* --- what it does ------------------------------------------------------------------------------ */

static void say_hello(void)
{
	static const char release[] = "0.0-bare";

	memset(payload, 0, WIRE_HELLO_BYTES);
	put_le32(payload + WIRE_HELLO_VERSION, WIRE_VERSION);
	memcpy(payload + WIRE_HELLO_BYTES, release, sizeof(release) - 1);
	for (unsigned i = 0; i < WIRE_STREAMS; i++)
		credit[i] = WIRE_WINDOW;
	say(WIRE_HELLO, 0, WIRE_HELLO_BYTES + sizeof(release) - 1);
	while (!started)
		listen();
	if (told_bye) {
		say(WIRE_BYE, 0, 0);
		acpi_poweroff();
	}
}

static void say_started(void)
{
	put_le32(payload, 1);
	say(WIRE_STARTED, 0, 4);
}

static void say_eofs(void)
{
	for (uint8_t stream = WIRE_STDOUT; stream <= WIRE_KMSG; stream++)
		say(WIRE_EOF, stream, 0);
}

/* Nothing is copied for a block but its number: a software KVM copies slowly. */
static void put_blocks(uint64_t out, uint64_t err)
{
	static uint8_t block[2][WIRE_HEADER_BYTES + BLOCK_BYTES];
	uint64_t left[2] = { out, err }, number[2] = { 0, 0 };

	for (unsigned s = 0; s < 2; s++)
		for (unsigned i = 8; i < BLOCK_BYTES; i++)
			block[s][WIRE_HEADER_BYTES + i] = (uint8_t)(i * 31 + (i >> 8) * 7 + s);
	while (left[0] || left[1]) {
		listen();
		for (unsigned s = 0; s < 2; s++) {
			uint32_t n = left[s] < BLOCK_BYTES ? (uint32_t)left[s] : BLOCK_BYTES;
			uint8_t stream = s ? WIRE_STDERR : WIRE_STDOUT;

			/* A stream whose reader has stopped does not hold up the other one. */
			if (!n || credit[stream] < n)
				continue;
			credit[stream] -= n;
			left[s] -= n;
			put_le64(block[s] + WIRE_HEADER_BYTES, number[s]++);
			wire_encode(block[s], WIRE_DATA, stream, n);
			send(block[s], WIRE_HEADER_BYTES + n);
		}
	}
}

static void put_bytes(void)
{
	static const char text[] =
		"\xc3\xa4\xe2\x98\x83\xf0\x9f\x90\xa7 \x1b[31mred\x1b[0m\a\b\r\n\xff\xfe";
	uint8_t all[256];

	for (unsigned i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	say_output(WIRE_STDOUT, all, sizeof(all));
	say_output(WIRE_STDERR, text, sizeof(text));
	for (unsigned i = 0; i < 256; i++)
		all[i] = (uint8_t)~i;
	say_output(WIRE_STDERR, all, sizeof(all));
	say_output(WIRE_STDOUT, text, sizeof(text));
}

static uint64_t next(void)
{
	noise ^= noise << 13;
	noise ^= noise >> 7;
	noise ^= noise << 17;
	return noise;
}

static void make_noise(uint64_t bytes)
{
	while (bytes) {
		uint32_t n = (uint32_t)(next() % 300) + 1;

		n = n < bytes ? n : (uint32_t)bytes;
		for (uint32_t i = 0; i < n; i += 8)
			put_le64(frame + i, next());
		send(frame, n);
		bytes -= n;
	}
}

static void make_frames(uint64_t n)
{
	for (; n; n--) {
		uint32_t len = next() % 4 ? (uint32_t)(next() % 80) : (uint32_t)(next() % 2000);

		for (uint32_t i = 0; i < len; i += 8)
			put_le64(payload + i, next());
		say((uint8_t)(1 + next() % (WIRE_TYPES - 1)), (uint8_t)(next() % WIRE_STREAMS),
		    len);
		listen();
	}
}

/* Without looking at what the host has granted. */
static void ignore_credit(uint64_t bytes)
{
	memset(payload, 'x', WIRE_PAYLOAD_MAX);
	for (; bytes; bytes -= bytes < WIRE_PAYLOAD_MAX ? bytes : WIRE_PAYLOAD_MAX)
		say(WIRE_DATA, WIRE_STDOUT,
		    bytes < WIRE_PAYLOAD_MAX ? (uint32_t)bytes : WIRE_PAYLOAD_MAX);
}

static void flood(uint64_t n)
{
	for (; n; n--) {
		memset(payload, 'n', 64);
		say(WIRE_NOTE, 0, 64);
		listen();
	}
}

static void print_panic(const char *text, size_t len)
{
	rt_print("[    1.234567] Kernel panic - not syncing: ");
	for (size_t i = 0; i < len; i++)
		rt_putc(text[i]);
	rt_print("\n[    1.234568] CPU: 0 PID: 1 Comm: bare Not tainted 0.0-bare #1\n"
		 "[    1.234569] ---[ end Kernel panic - not syncing: ");
	for (size_t i = 0; i < len; i++)
		rt_putc(text[i]);
	rt_print(" ]---\n");
}

static void report_panic(void)
{
	struct acpi_device d;

	if (acpi_find("QEMU0001", 0, &d))
		outb((uint16_t)d.base, 1);
	rt_halt();
}

static void triple_fault(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" ::"m"(none));
}

static void stay(void)
{
	for (;;)
		relax();
}

static void on_call(uint64_t op, uint64_t a, uint64_t b)
{
}

static void hang(char how)
{
	if (how == 'u')
		user_enter(stay, on_call);
	while (how == 'i')
		__asm__ volatile("sti; hlt");
	while (how == 'd')
		__asm__ volatile("cli; hlt");
	if (how == '0')
		__asm__ volatile("cli");
	else
		__asm__ volatile("sti");
	stay();
}

static void rest(uint64_t ms)
{
	for (uint64_t end = now_us() + 1000 * ms; now_us() < end;) {
		listen();
		relax();
	}
}

/* --- the words --------------------------------------------------------------------------------- */

static const char *arg; /* behind the word's "=" */
static size_t arg_len;

static uint64_t number(void)
{
	uint64_t n = 0;

	while (arg_len && *arg >= '0' && *arg <= '9') {
		n = 10 * n + (uint64_t)(*arg - '0');
		arg++;
		arg_len--;
	}
	return n;
}

/* Is the word this one? Then its argument is in arg. */
static bool is(const char *word, size_t len, const char *name)
{
	size_t n = strlen(name);

	if (len < n || memcmp(word, name, n) || (len > n && word[n] != '='))
		return false;
	arg = word + n + (len > n);
	arg_len = len - n - (len > n);
	return true;
}

static void do_in_order(const char *w, size_t len)
{
	if (is(w, len, "hello") || is(w, len, "run"))
		say_hello();
	if (is(w, len, "run"))
		say_started();
	else if (is(w, len, "exit"))
		say_exit((uint32_t)number() << 8);
	else if (is(w, len, "signal"))
		say_exit((uint32_t)number());
	else if (is(w, len, "refuse")) {
		put_le32(payload, (uint32_t)number());
		arg++;
		put_le32(payload + 4, (uint32_t)number());
		say(WIRE_REFUSED, 0, 8);
	}
	if (is(w, len, "eof") || is(w, len, "end"))
		say_eofs();
	while ((is(w, len, "ack") || is(w, len, "end")) && !acked)
		listen();
	if (is(w, len, "bye") || is(w, len, "end"))
		say(WIRE_BYE, 0, 0);
	if (is(w, len, "off") || is(w, len, "end"))
		acpi_poweroff();
	if (is(w, len, "out"))
		put_blocks(number(), 0);
	else if (is(w, len, "err"))
		put_blocks(0, number());
	else if (is(w, len, "both")) {
		uint64_t n = number();

		put_blocks(n, n);
	} else if (is(w, len, "bytes"))
		put_bytes();
	while (is(w, len, "trap") && !signalled)
		listen();
	if (is(w, len, "trap"))
		say_exit(signalled);
	for (echoing = is(w, len, "echo"); echoing && !input_end;)
		listen();
	if (is(w, len, "sleep"))
		rest(number());
}

static void do_wrong(const char *w, size_t len)
{
	if (is(w, len, "seed"))
		noise ^= number() * 2654435761u;
	else if (is(w, len, "random"))
		make_noise(number());
	else if (is(w, len, "frames"))
		make_frames(number());
	else if (is(w, len, "long"))
		say(WIRE_DATA, WIRE_STDOUT, WIRE_PAYLOAD_MAX + 1);
	else if (is(w, len, "cut")) {
		wire_encode(frame, WIRE_DATA, WIRE_STDOUT, 1000);
		send(frame, 500);
	} else if (is(w, len, "nocredit"))
		ignore_credit(number());
	else if (is(w, len, "flood"))
		flood(number());
	else if (is(w, len, "close"))
		tell(PORT_OPEN, 0);
}

static void do_end(const char *w, size_t len)
{
	if (is(w, len, "reset"))
		acpi_reset();
	else if (is(w, len, "triple"))
		triple_fault();
	else if (is(w, len, "panic"))
		report_panic();
	else if (is(w, len, "oops"))
		print_panic(arg, arg_len);
	else if (is(w, len, "idle") || is(w, len, "dead") || is(w, len, "user"))
		hang(*w);
	else if (is(w, len, "spin-off"))
		hang('0');
	else if (is(w, len, "spin-on"))
		hang('1');
	else if (is(w, len, "chatter"))
		for (uint64_t ms = number();; rest(ms))
			rt_print("bare: still here\n");
}

/* Returns the next word at *at, and its length; NULL at the end. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word;

	while (**at == ' ')
		++*at;
	word = *at;
	while (**at && **at != ' ')
		++*at;
	*len = (size_t)(*at - word);
	return *len ? word : NULL;
}

void main(void)
{
	const char *at = boot_cmdline, *w;
	size_t len;

	while ((w = next_word(&at, &len)) && !is(w, len, "do"))
		com2 |= is(w, len, "com2");
	while ((w = next_word(&at, &len))) {
		bool silent = is(w, len, "idle") || is(w, len, "dead") || is(w, len, "oops");

		if (!silent && !com2 && !v.common && !v.mmio)
			open_port();
		do_in_order(w, len);
		do_wrong(w, len);
		do_end(w, len);
	}
	rt_halt();
}
