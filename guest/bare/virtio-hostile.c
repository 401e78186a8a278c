/*
 * virtio-hostile: makes every broken ring and request that a driver can make. Each
 * must end in an error for that request or in a stopped device
 * (DEVICE_NEEDS_RESET), never in silence or a dead VM. After a reset the
 * device works again.
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

/* What a device may do with a hostile chain. */
#define MAY_STOP 1u   /* NEEDS_RESET */
#define MAY_FAIL 2u   /* returns it, status not OK */
#define MAY_WORK 4u   /* returns it, status OK */
#define MAY_IGNORE 8u /* does nothing at all */
#define BAD (MAY_STOP | MAY_FAIL)
#define ANY 15u

#define RING 8u
#define NOWHERE 0x4000000000ull /* 256 GiB: no RAM */

static struct blk b;
static uint8_t buf[8192] __attribute__((aligned(4096)));
static struct vdesc table[32];
static struct blk_range range;
static uint64_t ram_end; /* end of the range that holds this guest */

/* Builds a valid request in descriptors 0, 1, 2, for a test to spoil. */
static void plain(uint32_t type, uint64_t sector, uint32_t len)
{
	bool in = type == BLK_IN || type == BLK_GET_ID;

	b.header = (struct blk_header){ .type = type, .sector = sector };
	ring_desc(&b.r, 0, &b.header, 16, D_NEXT, 1);
	ring_desc(&b.r, 1, buf, len, D_NEXT | (in ? D_WRITE : 0), 2);
	ring_desc(&b.r, 2, &b.status, 1, D_WRITE, 0);
}

static void offer(void)
{
	ring_offer(&b.r, 0);
}

/* --- the ring ------------------------------------------------------------------ */
/* One line per hostile chain. */
/* clang-format off */
static void head_is_size(void) { plain(BLK_IN, 0, 512); ring_offer(&b.r, RING); }
static void head_is_max(void) { plain(BLK_IN, 0, 512); ring_offer(&b.r, 0xffff); }
static void next_is_size(void) { plain(BLK_IN, 0, 512); b.r.desc[1].next = RING; offer(); }
static void next_is_max(void) { plain(BLK_IN, 0, 512); b.r.desc[0].next = 0xffff; offer(); }
static void loop_two(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[1].next = 0;
	offer();
}
static void loop_self(void) { plain(BLK_IN, 0, 512); b.r.desc[0].next = 0; offer(); }
static void loop_writable(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[2].flags |= D_NEXT;
	b.r.desc[2].next = 1;
	offer();
}
static void addr_nowhere(void) { plain(BLK_IN, 0, 512); b.r.desc[1].addr = NOWHERE; offer(); }
static void header_nowhere(void) { plain(BLK_IN, 0, 512); b.r.desc[0].addr = NOWHERE; offer(); }
static void status_nowhere(void) { plain(BLK_IN, 0, 512); b.r.desc[2].addr = NOWHERE; offer(); }
static void addr_wraps(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[1].addr = ~0ull - 255;
	offer();
}
static void addr_lapic(void) { plain(BLK_IN, 0, 512); b.r.desc[1].addr = 0xfee00000; offer(); }
static void addr_past_ram(void)
{
	plain(BLK_IN, 0, 1024);
	b.r.desc[1].addr = ram_end - 512;
	offer();
}
static void len_max(void) { plain(BLK_IN, 0, 0xffffffff); offer(); }
static void len_max_twice(void)
{
	plain(BLK_IN, 0, 0xffffffff);
	b.r.desc[3] = b.r.desc[1];
	b.r.desc[1].next = 3;
	offer();
}
static void len_zero(void) { plain(BLK_IN, 0, 0); offer(); }
static void len_zero_all(void)
{
	plain(BLK_IN, 0, 0);
	b.r.desc[0].len = b.r.desc[2].len = 0;
	offer();
}
static void readable_after_writable(void)
{
	plain(BLK_IN, 0, 512);
	ring_desc(&b.r, 3, buf, 16, 0, 0);
	b.r.desc[2].flags |= D_NEXT;
	b.r.desc[2].next = 3;
	offer();
}
static void all_writable(void) { plain(BLK_IN, 0, 512); b.r.desc[0].flags |= D_WRITE; offer(); }
static void all_readable(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[1].flags &= (uint16_t)~D_WRITE;
	b.r.desc[2].flags = 0;
	offer();
}
static void one_descriptor(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[0].flags = 0;
	offer();
}
static void status_only(void) { plain(BLK_IN, 0, 512); ring_offer(&b.r, 2); }
static void chain_fills_ring(void)
{
	plain(BLK_IN, 0, 512);
	for (unsigned i = 1; i < RING - 1; i++)
		ring_desc(&b.r, i, buf + 512 * i, 512, D_NEXT | D_WRITE, (uint16_t)(i + 1));
	ring_desc(&b.r, RING - 1, &b.status, 1, D_WRITE, 0);
	offer();
}
static void unknown_flags(void) { plain(BLK_IN, 0, 512); b.r.desc[1].flags |= 0xfff8; offer(); }

/* --- indirect tables ------------------------------------------------------------ */
static void through_table(void)
{
	plain(BLK_IN, 0, 512);
	for (unsigned i = 0; i < 3; i++)
		table[i] = b.r.desc[i];
	ring_desc(&b.r, 0, table, 48, D_INDIRECT, 0);
}
static void ind_in_ind(void)
{
	through_table();
	table[1] = (struct vdesc){ (uint64_t)(table + 8), 16, D_INDIRECT, 0 };
	table[8] = (struct vdesc){ (uint64_t)buf, 512, D_WRITE, 0 };
	offer();
}
static void ind_and_next(void)
{
	through_table();
	b.r.desc[0].flags |= D_NEXT;
	b.r.desc[0].next = 1;
	offer();
}
static void ind_odd_len(void) { through_table(); b.r.desc[0].len = 47; offer(); }
static void ind_len_zero(void) { through_table(); b.r.desc[0].len = 0; offer(); }
static void ind_len_max(void) { through_table(); b.r.desc[0].len = 0xfffffff0; offer(); }
static void ind_nowhere(void) { through_table(); b.r.desc[0].addr = NOWHERE; offer(); }
static void ind_next_out(void) { through_table(); table[1].next = 3; offer(); }
static void ind_next_max(void) { through_table(); table[0].next = 0xffff; offer(); }
static void ind_loop(void) { through_table(); table[1].next = 0; offer(); }
static void ind_loop_late(void)
{
	through_table();
	table[2].flags |= D_NEXT;
	table[2].next = 2;
	offer();
}
static void ind_longer_than_ring(void)
{
	through_table();
	for (unsigned i = 1; i < 15; i++)
		table[i] = (struct vdesc){ (uint64_t)(buf + 512 * i), 512, D_NEXT | D_WRITE,
					   (uint16_t)(i + 1) };
	table[15] = (struct vdesc){ (uint64_t)&b.status, 1, D_WRITE, 0 };
	b.r.desc[0].len = 16 * 16;
	offer();
}
static void ind_past_ram(void)
{
	through_table();
	b.r.desc[0].addr = ram_end - 16;
	offer();
}

/* --- the available ring ----------------------------------------------------------- */
static void idx_jumps(void)
{
	plain(BLK_IN, 0, 512);
	b.r.avail->idx = (uint16_t)(b.r.avail->idx + RING + 1);
}
static void idx_back(void) { plain(BLK_IN, 0, 512); b.r.avail->idx--; }
static void same_head_twice(void) { plain(BLK_IN, 0, 512); offer(); offer(); }
static void nothing_offered(void) { plain(BLK_IN, 0, 512); }

/* --- requests ---------------------------------------------------------------------- */
static void short_header(void) { plain(BLK_IN, 0, 512); b.r.desc[0].len = 8; offer(); }
static void sector_end(void) { plain(BLK_IN, b.nsectors, 512); offer(); }
static void sector_across(void) { plain(BLK_IN, b.nsectors - 1, 1024); offer(); }
static void sector_max(void) { plain(BLK_IN, ~0ull, 512); offer(); }
static void sector_wraps(void) { plain(BLK_IN, 1ull << 55, 512); offer(); }
static void sector_wraps_bytes(void) { plain(BLK_IN, ~0ull / 512 + 1, 512); offer(); }
static void write_end(void) { plain(BLK_OUT, b.nsectors, 512); offer(); }
static void write_max(void) { plain(BLK_OUT, ~0ull, 512); offer(); }
static void odd_bytes(void) { plain(BLK_IN, 0, 513); offer(); }
static void odd_write(void) { plain(BLK_OUT, 4, 100); offer(); }
static void unknown_type(void) { plain(0x12345678, 0, 512); offer(); }
static void type_max(void) { plain(0xffffffff, 0, 512); offer(); }
static void scsi(void) { plain(2, 0, 512); offer(); }
static void id_short(void) { plain(BLK_GET_ID, 0, 5); offer(); }
static void id_long(void) { plain(BLK_GET_ID, 0, 4096); offer(); }
static void id_no_data(void)
{
	plain(BLK_GET_ID, 0, 20);
	b.r.desc[0].next = 2;
	offer();
}
static void in_no_data(void) { plain(BLK_IN, 0, 512); b.r.desc[0].next = 2; offer(); }
static void in_readable_data(void)
{
	plain(BLK_IN, 0, 512);
	b.r.desc[1].flags &= (uint16_t)~D_WRITE;
	offer();
}
static void out_writable_data(void)
{
	plain(BLK_OUT, 4, 512);
	b.r.desc[1].flags |= D_WRITE;
	offer();
}
static void flush_with_data(void) { plain(BLK_FLUSH, 0, 512); offer(); }
static void ranged(uint32_t type, uint64_t sector, uint32_t nsectors, uint32_t flags, uint32_t len)
{
	range = (struct blk_range){ sector, nsectors, flags };
	plain(type, 0, len);
	b.r.desc[1].addr = (uint64_t)&range;
	offer();
}
static void discard_end(void) { ranged(BLK_DISCARD, b.nsectors, 8, 0, 16); }
static void discard_across(void) { ranged(BLK_DISCARD, b.nsectors - 4, 8, 0, 16); }
static void discard_wraps(void) { ranged(BLK_DISCARD, ~0ull - 3, 8, 0, 16); }
static void discard_huge(void) { ranged(BLK_DISCARD, 0, 0xffffffff, 0, 16); }
static void discard_flags(void) { ranged(BLK_DISCARD, 0, 8, 0xfffffffe, 16); }
static void discard_unmap(void) { ranged(BLK_DISCARD, 1024, 8, 1, 16); }
static void discard_odd(void) { ranged(BLK_DISCARD, 1024, 8, 0, 15); }
static void discard_none(void) { ranged(BLK_DISCARD, 1024, 8, 0, 0); }
static void zeroes_end(void) { ranged(BLK_WRITE_ZEROES, b.nsectors, 8, 0, 16); }
static void zeroes_wraps(void) { ranged(BLK_WRITE_ZEROES, 1ull << 63, 8, 0, 16); }
static void zeroes_huge(void) { ranged(BLK_WRITE_ZEROES, 0, 0xffffffff, 0, 16); }
static void zeroes_flags(void) { ranged(BLK_WRITE_ZEROES, 1024, 8, 0xfffffffe, 16); }
/* clang-format on */

static const struct hostile {
	const char *name;
	void (*make)(void);
	unsigned may;
} hostile[] = {
	{ "head is the queue's size", head_is_size, MAY_STOP },
	{ "head is 65535", head_is_max, MAY_STOP },
	{ "next is the queue's size", next_is_size, MAY_STOP },
	{ "next is 65535", next_is_max, MAY_STOP },
	{ "a loop of two", loop_two, MAY_STOP },
	{ "a loop of one", loop_self, MAY_STOP },
	{ "a loop of writable descriptors", loop_writable, MAY_STOP },
	{ "data nowhere", addr_nowhere, BAD },
	{ "header nowhere", header_nowhere, BAD },
	{ "status nowhere", status_nowhere, BAD },
	{ "data wraps around the address space", addr_wraps, BAD },
	{ "data in the local APIC", addr_lapic, BAD },
	{ "data crosses the end of memory", addr_past_ram, BAD },
	{ "data of 4 GiB - 1", len_max, BAD },
	{ "data of 8 GiB - 2 in two parts", len_max_twice, BAD },
	{ "data of zero bytes", len_zero, ANY & ~MAY_IGNORE },
	{ "all of zero bytes", len_zero_all, ANY & ~MAY_IGNORE },
	{ "readable after writable", readable_after_writable, BAD },
	{ "everything writable", all_writable, BAD },
	{ "everything readable", all_readable, BAD },
	{ "a header alone", one_descriptor, BAD },
	{ "a status alone", status_only, BAD },
	{ "a chain as long as the ring", chain_fills_ring, MAY_WORK },
	{ "unknown descriptor flags", unknown_flags, ANY & ~MAY_IGNORE },
	{ "indirect in indirect", ind_in_ind, BAD },
	{ "indirect with next", ind_and_next, ANY & ~MAY_IGNORE },
	{ "indirect: length not of whole entries", ind_odd_len, BAD },
	{ "indirect: length zero", ind_len_zero, BAD },
	{ "indirect: length 4 GiB - 16", ind_len_max, BAD },
	{ "indirect: table nowhere", ind_nowhere, BAD },
	{ "indirect: table crosses the end of memory", ind_past_ram, BAD },
	{ "indirect: next outside the table", ind_next_out, BAD },
	{ "indirect: next is 65535", ind_next_max, BAD },
	{ "indirect: a loop", ind_loop, BAD },
	{ "indirect: a loop at the end", ind_loop_late, BAD },
	{ "indirect: longer than the ring", ind_longer_than_ring, ANY & ~MAY_IGNORE },
	{ "available index jumps ahead", idx_jumps, MAY_STOP },
	{ "available index goes back", idx_back, MAY_STOP },
	{ "the same head twice", same_head_twice, ANY & ~MAY_IGNORE },
	{ "a kick for nothing", nothing_offered, MAY_IGNORE },
	{ "header of 8 bytes", short_header, BAD },
	{ "read: at the end", sector_end, MAY_FAIL },
	{ "read: across the end", sector_across, MAY_FAIL },
	{ "read: last sector number", sector_max, MAY_FAIL },
	{ "read: sector 2^55", sector_wraps, MAY_FAIL },
	{ "read: byte offset wraps", sector_wraps_bytes, MAY_FAIL },
	{ "write: at the end", write_end, MAY_FAIL },
	{ "write: last sector number", write_max, MAY_FAIL },
	{ "read of 513 bytes", odd_bytes, BAD },
	{ "write of 100 bytes", odd_write, BAD },
	{ "unknown request", unknown_type, MAY_FAIL },
	{ "request 2^32 - 1", type_max, MAY_FAIL },
	{ "SCSI request", scsi, MAY_FAIL },
	{ "get-id into 5 bytes", id_short, BAD | MAY_WORK },
	{ "get-id into 4096 bytes", id_long, BAD | MAY_WORK },
	{ "get-id into nothing", id_no_data, BAD | MAY_WORK },
	{ "read into nothing", in_no_data, BAD | MAY_WORK },
	{ "read into readable memory", in_readable_data, BAD | MAY_WORK },
	{ "write from writable memory", out_writable_data, BAD | MAY_WORK },
	{ "flush with data", flush_with_data, BAD | MAY_WORK },
	{ "discard: at the end", discard_end, MAY_FAIL },
	{ "discard: across the end", discard_across, MAY_FAIL },
	{ "discard: sector wraps", discard_wraps, MAY_FAIL },
	{ "discard: 2^32 - 1 sectors", discard_huge, MAY_FAIL },
	{ "discard: unknown flags", discard_flags, MAY_FAIL },
	{ "discard: the unmap flag", discard_unmap, MAY_FAIL },
	{ "discard: range of 15 bytes", discard_odd, BAD },
	{ "discard: no range", discard_none, BAD | MAY_WORK },
	{ "write zeroes: at the end", zeroes_end, MAY_FAIL },
	{ "write zeroes: sector wraps", zeroes_wraps, MAY_FAIL },
	{ "write zeroes: 2^32 - 1 sectors", zeroes_huge, MAY_FAIL },
	{ "write zeroes: unknown flags", zeroes_flags, MAY_FAIL },
};

static bool works(void)
{
	return blk_start(&b, b.offered & ~F_EVENT_IDX, RING, NO_VECTOR) &&
	       blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK && !memcmp(buf, "bantam", 6);
}

/* Waits until the device returns the chain or stops; an ignored chain takes the whole time. */
static unsigned outcome(unsigned may)
{
	uint64_t end = now_us() + (may & MAY_IGNORE ? 20000 : 2000000);

	while (now_us() < end) {
		if (b.r.used->idx != b.r.last_used)
			return b.status == BLK_S_OK ? MAY_WORK : MAY_FAIL;
		if (vio_status(&b.v) & S_NEEDS_RESET)
			return MAY_STOP;
	}
	return MAY_IGNORE;
}

static void spoil(const struct hostile *h)
{
	static const char *const names[] = { "stopped", "failed", "worked", "ignored" };

	if (!blk_start(&b, b.offered & ~F_EVENT_IDX, RING, NO_VECTOR)) {
		ok(false, "%s: the device did not start", h->name);
		return;
	}
	b.status = 0xee;
	h->make();
	ring_kick(&b.v, &b.r);
	unsigned what = outcome(h->may);
	ok(what & h->may, "%s: %s", h->name, names[__builtin_ctz(what)]);
	if (!works())
		ok(false, "%s: does not work after a reset", h->name);
}

/* --- queues and registers -------------------------------------------------------------- */
static void queue_with(const char *name, unsigned size, uint64_t desc, uint64_t avail,
		       uint64_t used)
{
	vio_negotiate(&b.v, b.offered & ~F_EVENT_IDX);
	ring_init(&b.r, 0, RING);
	plain(BLK_IN, 0, 512);
	ring_enable_raw(&b.v, 0, size, desc ?: (uint64_t)b.r.desc, avail ?: (uint64_t)b.r.avail,
			used ?: (uint64_t)b.r.used, NO_VECTOR);
	vio_set_status(&b.v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	b.r.notify = b.v.is_pci ? b.v.notify : b.v.mmio + 0x50;
	ring_offer(&b.r, 0);
	ring_kick(&b.v, &b.r);
	for (uint64_t end = now_us() + 5000; now_us() < end;)
		relax();
	ok(works(), "%s: works after a reset", name);
}

static void queues(void)
{
	unsigned max = vio_queue_max(&b.v, 0);

	queue_with("queue of 0", 0, 0, 0, 0);
	queue_with("queue of 3", 3, 0, 0, 0);
	queue_with("queue of twice the maximum", 2 * max, 0, 0, 0);
	queue_with("queue of 65535", 65535, 0, 0, 0);
	queue_with("descriptors nowhere", RING, NOWHERE, 0, 0);
	queue_with("available ring nowhere", RING, 0, NOWHERE, 0);
	queue_with("used ring nowhere", RING, 0, 0, NOWHERE);
	queue_with("descriptors at the end of the address space", RING, ~0ull - 15, 0, 0);
	queue_with("descriptors misaligned", RING, (uint64_t)b.r.desc + 1, 0, 0);
	queue_with("available ring misaligned", RING, 0, (uint64_t)b.r.avail + 1, 0);
	queue_with("used ring misaligned", RING, 0, 0, (uint64_t)b.r.used + 2);
	queue_with("descriptors cross the end of memory", RING, ram_end - 16, 0, 0);
	queue_with("all rings the same", RING, (uint64_t)b.r.desc, (uint64_t)b.r.desc,
		   (uint64_t)b.r.desc);
	queue_with("rings in the local APIC", RING, 0xfee00000, 0xfee00000, 0xfee00000);
}

static void protocol(void)
{
	vio_reset(&b.v);
	ring_kick(&b.v, &b.r);
	ok(works(), "a kick after reset");
	vio_reset(&b.v);
	vio_set_status(&b.v, S_DRIVER_OK);
	ring_kick(&b.v, &b.r);
	ok(works(), "DRIVER_OK without anything before");
	vio_set_status(&b.v, 0xff);
	ok(works(), "status 0xff");
	vio_reset(&b.v);
	vio_set_status(&b.v, S_ACK | S_DRIVER);
	vio_set_features(&b.v, 0);
	vio_set_status(&b.v, S_ACK | S_DRIVER | S_FEATURES_OK);
	ok(!(vio_status(&b.v) & S_FEATURES_OK), "no features at all (not VERSION_1) are refused");
	ok(works(), "and then");
	for (unsigned q = 0; q < 70; q++)
		if (b.v.is_pci)
			mmio_w16(b.v.notify + q * b.v.notify_mul, q);
		else
			mmio_w32(b.v.mmio + 0x50, q);
	if (!b.v.is_pci)
		mmio_w32(b.v.mmio + 0x50, 0xffffffff);
	ok(works(), "kicks of queues that do not exist");
	for (unsigned q = 0x40; q <= 0x10000; q <<= 1) {
		vio_queue_max(&b.v, q - 1);
		ring_enable_raw(&b.v, q - 1, 8, 0x1000, 0x2000, 0x3000, 0);
	}
	ok(works(), "enabling queues that do not exist");
	/* Change the queue and the features while the device runs. */
	ring_enable_raw(&b.v, 0, 4, 0x1000, 0x2000, 0x3000, 0);
	ring_kick(&b.v, &b.r);
	ok(works(), "a queue changed while it runs");
	vio_set_features(&b.v, 0);
	ok(blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK, "features changed while it runs");
	/* Reset with requests in flight. */
	bool fine = true;
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 2; k++) {
			plain(BLK_IN, 0, 4096);
			offer();
			ring_kick(&b.v, &b.r);
		}
		fine = fine && vio_reset(&b.v) && works();
	}
	ok(fine, "resets with requests in flight");
}

void main(void)
{
	for (unsigned i = 0; i < ram_ranges; i++)
		if (ram_range[i].type == 1 && ram_range[i].base <= 0x100000 &&
		    ram_range[i].base + ram_range[i].len > 0x100000)
			ram_end = ram_range[i].base + ram_range[i].len;
	/* Reserved tables may follow RAM; only an address outside all ranges is past RAM. */
	for (unsigned i = 0; i < ram_ranges; i++)
		if (ram_range[i].base == ram_end)
			ram_end += ram_range[i].len;
	lapic_enable();
	if (!blk_find(&b, 0))
		rt_die("no virtio-blk device");
	rt_print("# %s, memory ends at %lx\n", b.v.is_pci ? "PCI" : "MMIO", ram_end);
	ok(works(), "works at first");
	for (unsigned i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		spoil(&hostile[i]);
	queues();
	protocol();
	vio_reset(&b.v);
}
