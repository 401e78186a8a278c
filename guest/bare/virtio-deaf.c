/*
 * virtio-deaf: asks a device for as much as its rings can hold, at once and without an end. All
 * descriptors name the same pages, so 64 MiB of memory make requests of 512 GiB. Meanwhile it asks
 * another device of the same loop for a few bytes, again and again, reads a register of the busy one,
 * and prints how long both took at most. SIGTERM must end the monitor: this guest never ends by
 * itself.
 *
 * Command line: one of the names in causes[]. Lines: "asked", then "answers N longest N us register
 * N us", each time one of them has grown and every 100 ms.
 */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define PIECE_BYTES (32u << 20)
#define PIECES 64u /* 2 GiB */
#define CHAINS 256u
#define RANGES 32u
#define PFNS 4096u

enum { OTHER_SLOT = 3 };

static struct vio busy, other;
static struct ring ring, rest, asked;
static struct vdesc table[2 * PIECES + 2] __attribute__((aligned(16)));
static struct blk_header header;
static struct blk_range range[RANGES];
static uint8_t status[1], frame[65536], answer[16];
static uint32_t pfn[PFNS];
static uint64_t most_answer, most_register;

/* Returns PIECE_BYTES of memory above this guest. */
static uint8_t *pages(void)
{
	return (uint8_t *)(((uint64_t)image_end + 0x1fffff) & ~0x1fffffull);
}

static unsigned add(unsigned n, const volatile void *addr, uint32_t len, uint16_t flags)
{
	table[n] = (struct vdesc){ (uint64_t)addr, len, flags | D_NEXT, (uint16_t)(n + 1) };
	return n + 1;
}

static unsigned add_pieces(unsigned n, uint16_t flags)
{
	for (unsigned i = 0; i < PIECES; i++)
		n = add(n, pages(), PIECE_BYTES, flags);
	return n;
}

/* Offers all chains of the ring, each with the first n entries of the table. */
static void offer_all(unsigned n)
{
	table[n - 1].flags &= (uint16_t)~D_NEXT;
	for (unsigned i = 0; i < ring.size; i++) {
		ring_desc(&ring, i, table, n * (uint32_t)sizeof(table[0]), D_INDIRECT, 0);
		ring_offer(&ring, (uint16_t)i);
	}
	rt_print("asked\n");
	ring_kick(&busy, &ring);
}

/* The device's queue q is the one that has too much to do; queues before it are there, and empty. */
static void start(uint16_t type, uint64_t features, unsigned q)
{
	unsigned max;

	if (!vio_find(type, 0, &busy) || !vio_negotiate(&busy, F_INDIRECT | features))
		rt_die("no such device");
	max = vio_queue_max(&busy, q);
	ring_init(&ring, 0, max < CHAINS ? max : CHAINS);
	if (q) {
		ring_init(&rest, 1, 8);
		ring_enable(&busy, &rest, 0, NO_VECTOR);
	}
	ring_enable(&busy, &ring, q, NO_VECTOR);
	vio_set_status(&busy, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

/* --- causes ------------------------------------------------------------------------ */

static void ask_disk(uint32_t type, unsigned kind)
{
	unsigned n;

	start(VIRTIO_BLK, BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES, 0);
	header.type = type;
	n = add(0, &header, sizeof(header), 0);
	if (kind == 'p')
		n = add_pieces(n, D_WRITE);
	/* Few pages of the host's cache become dirty, so the last flush is short. */
	if (kind == 'w')
		n = add(n, pages(), PIECE_BYTES, 0);
	if (kind == 'r') {
		for (unsigned i = 0; i < RANGES; i++)
			range[i].nsectors = type == BLK_DISCARD ? 0x3ff000 : 0x40000;
		n = add(n, range, sizeof(range), 0);
	}
	if (kind == 'i')
		for (unsigned i = 0; i < PIECES; i++)
			n = add(n, pages() + 4096 * i, 4096, D_WRITE);
	offer_all(add(n, status, 1, D_WRITE));
}

static void ask_read(void)
{
	ask_disk(BLK_IN, 'p');
}

static void ask_write(void)
{
	ask_disk(BLK_OUT, 'w');
}

static void ask_zeroes(void)
{
	ask_disk(BLK_WRITE_ZEROES, 'r');
}

static void ask_discard(void)
{
	ask_disk(BLK_DISCARD, 'r');
}

static void ask_id(void)
{
	ask_disk(BLK_GET_ID, 'i');
}

static void ask_console(void)
{
	start(VIRTIO_CONSOLE, 0, 1);
	offer_all(add_pieces(add_pieces(0, 0), 0) - 2); /* 4 GiB and more would break the ring */
}

/* The second of two ports. */
static void ask_port(void)
{
	start(VIRTIO_CONSOLE, 1ull << 1, 5);
	offer_all(add_pieces(add_pieces(0, 0), 0) - 2);
}

/* Messages to a device with ports, each of which asks for a name. */
static void ask_messages(void)
{
	static const struct {
		uint32_t id;
		uint16_t event, value;
	} ready = { 1, 3, 1 };

	start(VIRTIO_CONSOLE, 1ull << 1, 3);
	offer_all(add(0, &ready, sizeof(ready), 0));
}

static void ask_rng(void)
{
	start(VIRTIO_RNG, 0, 0);
	offer_all(add_pieces(0, D_WRITE));
}

/* Every second page, from the end: no two are neighbours. */
static void ask_inflate(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PFNS; i++)
		pfn[i] = (uint32_t)((uint64_t)pages() >> 12) + 2 * (PFNS - 1 - i);
	for (unsigned i = 0; i < PFNS; i++)
		*(volatile uint8_t *)((uint64_t)pfn[i] << 12) = 1;
	start(VIRTIO_BALLOON, 0, 0);
	n = add(n, pfn, sizeof(pfn), 0);
	offer_all(n);
}

/* Free pages that are reported, in pieces that are as long as memory is. */
static void ask_report(void)
{
	start(VIRTIO_BALLOON, 1ull << 5, 2);
	offer_all(add_pieces(0, D_WRITE));
}

static void ask_net(void)
{
	start(VIRTIO_NET, 0, 1);
	memset(frame + 12, 0xff, 6); /* after the header: to all */
	offer_all(add(0, frame, 12 + 65535 - 20, 0));
}

static void ask_fs(void)
{
	start(VIRTIO_FS, 0, 1);
	offer_all(add_pieces(0, D_WRITE));
}

/*
 * Packets for a port where no program listens: each is answered by a reset. Those that have another
 * sender than this guest are not, but each is a line of the log.
 */
static void send_packets(uint64_t more)
{
	static struct {
		uint64_t src_cid, dst_cid;
		uint32_t src_port, dst_port, len;
		uint16_t type, op;
		uint32_t flags, buf_alloc, fwd_cnt;
	} __attribute__((packed)) hdr = { .dst_cid = 2, .dst_port = 9, .len = 65536 };

	start(VIRTIO_VSOCK, 0, 1);
	hdr.src_cid = vio_config(&busy, 0, 8) + more;
	hdr.type = 1;
	hdr.op = 5;
	for (unsigned i = 0; i < 8; i++) {
		ring_desc(&rest, i, pages() + 65536 * i, 4096, D_WRITE, 0);
		ring_offer(&rest, (uint16_t)i);
	}
	offer_all(add(add(0, &hdr, sizeof(hdr), 0), pages(), 65536, 0));
}

static void ask_vsock(void)
{
	send_packets(0);
}

static void ask_log(void)
{
	send_packets(1);
}

static const struct {
	const char *name;
	void (*ask)(void);
} causes[] = {
	{ "read", ask_read },	    { "write", ask_write },	{ "zeroes", ask_zeroes },
	{ "discard", ask_discard }, { "id", ask_id },		{ "console", ask_console },
	{ "rng", ask_rng },	    { "inflate", ask_inflate }, { "report", ask_report },
	{ "net", ask_net },	    { "vsock", ask_vsock },	{ "fs", ask_fs },
	{ "log", ask_log },	    { "port", ask_port },	{ "messages", ask_messages },
};

/* --- the other device --------------------------------------------------------------- */

/* Entropy, or if that is what keeps the loop busy, the disk's name. */
static void find_other(bool rng)
{
	if (!vio_find(rng ? VIRTIO_RNG : VIRTIO_BLK, 0, &other) || !vio_negotiate(&other, 0))
		rt_die("no other device");
	ring_init(&asked, OTHER_SLOT, 8);
	ring_enable(&other, &asked, 0, NO_VECTOR);
	vio_set_status(&other, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	if (rng) {
		ring_desc(&asked, 0, answer, sizeof(answer), D_WRITE, 0);
		return;
	}
	header.type = BLK_GET_ID;
	ring_desc(&asked, 0, &header, sizeof(header), D_NEXT, 1);
	ring_desc(&asked, 1, answer, sizeof(answer), D_WRITE, 0);
}

static void offer_again(void)
{
	bool any = false;

	for (; ring.used->idx != ring.last_used; any = true)
		ring_offer(&ring, (uint16_t)ring.used->ring[ring.last_used++ % ring.size].id);
	/* What the device has returned (vsock's answers) is offered again, too. */
	for (; rest.used && rest.used->idx != rest.last_used; any = true)
		ring_offer(&rest, (uint16_t)rest.used->ring[rest.last_used++ % rest.size].id);
	if (any)
		ring_kick(&busy, &ring);
}

static bool took(uint64_t began, uint64_t *most)
{
	uint64_t us = now_us() - began;
	bool more = us > *most;

	if (more)
		*most = us;
	return more;
}

static void watch(void)
{
	uint64_t said = 0, n = 0;

	for (;;) {
		uint64_t began = now_us();
		bool more;

		ring_offer(&asked, 0);
		ring_kick(&other, &asked);
		if (!ring_wait(&asked, 60000, NULL, NULL))
			rt_die("the other device does not answer");
		more = took(began, &most_answer);
		n++;
		began = now_us();
		(void)vio_config(&busy, 0, 4);
		more |= took(began, &most_register);
		offer_again();
		if (more || now_us() - said > 100000) {
			rt_print("answers %lu longest %lu us register %lu us\n", n, most_answer,
				 most_register);
			said = now_us();
		}
	}
}

void main(void)
{
	for (unsigned i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		size_t len = strlen(causes[i].name);

		if (memcmp(boot_cmdline, causes[i].name, len) || boot_cmdline[len] > ' ')
			continue;
		find_other(memcmp(boot_cmdline, "rng", 3));
		causes[i].ask();
		watch();
	}
	rt_die("no such cause");
}
