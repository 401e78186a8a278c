/*
 * hotplug: drives the registers of PCI hot-plug by hand, as the AML of the DSDT does (PHUP, PHDN, PHEJ), when the Generic Event
 * Device's interrupt says so. It prints each slot that comes, reads a disk's first sector, and gives up what it is asked for.
 *
 * Command line: deaf answers no request for a device; hostile ejects all slots before and all the time, and makes accesses that
 * the registers do not have; reset resets the machine at the first event; vsock connects to port 77 of the host first, and stays
 * connected. The power button powers off.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x43
#define POWER_BUTTON 1u
#define HOTPLUG 4u /* the bits that the GED's _EVT method tests */
#define SYSTEM_IO 1
#define CAME 0
#define WANTED 4
#define EJECT 8

static uint16_t events_port, port;
static volatile uint32_t events;
static struct blk b;
static uint8_t sector[512] __attribute__((aligned(512)));

static void on_event(struct trap_frame *f)
{
	events |= inl(events_port);
}

static bool has(const char *word)
{
	size_t n = strlen(word);

	for (const char *s = boot_cmdline; *s; s++)
		if (!memcmp(s, word, n))
			return true;
	return false;
}

/* The port of an operation region in the DSDT; 0: none. */
static uint16_t region(const char *name)
{
	for (uint32_t i = 36; acpi.dsdt && i + 8 < acpi.dsdt_bytes; i++) {
		const uint8_t *p = acpi.dsdt + i;

		if (load32(p) == load32(name) && p[4] == SYSTEM_IO &&
		    (p[5] == 0x0b || p[5] == 0x0c))
			return load16(p + 6);
	}
	return 0;
}

static uint32_t id_of(unsigned slot)
{
	return pci_read((uint16_t)(slot << 3), PCI_VENDOR, 4);
}

static void use_disk(unsigned slot)
{
	for (unsigned nth = 0; blk_find(&b, nth); nth++) {
		if (b.v.bdf != slot << 3)
			continue;
		if (blk_start(&b, 0, 16, NO_VECTOR) &&
		    blk_io(&b, BLK_IN, 0, sector, sizeof(sector)) == BLK_S_OK)
			rt_print("hotplug: slot %u begins with %c%c%c%c\n", slot, sector[0],
				 sector[1], sector[2], sector[3]);
		else
			rt_print("hotplug: slot %u cannot be read\n", slot);
	}
}

static void came(uint32_t slots)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		if (!(slots >> slot & 1))
			continue;
		rt_print("hotplug: slot %u came, virtio %u\n", slot, (id_of(slot) >> 16) - 0x1040);
		if (id_of(slot) >> 16 == 0x1040 + VIRTIO_BLK)
			use_disk(slot);
	}
}

static void give_up(uint32_t slots)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		uint64_t until = now_us() + 10000000;

		if (!(slots >> slot & 1))
			continue;
		rt_print("hotplug: slot %u is wanted\n", slot);
		if (has("deaf"))
			continue;
		outl((uint16_t)(port + EJECT), 1u << slot);
		while (!has("hostile") && id_of(slot) != UINT32_MAX && now_us() < until)
			relax();
		rt_print("hotplug: slot %u is %s\n", slot,
			 id_of(slot) == UINT32_MAX ? "empty" : "still there");
	}
}

/* Nothing was asked for, and the registers have no such accesses. */
static void misbehave(void)
{
	outl((uint16_t)(port + EJECT), UINT32_MAX);
	outl((uint16_t)(port + CAME), UINT32_MAX);
	outl((uint16_t)(port + WANTED), UINT32_MAX);
	for (uint16_t at = 0; at < 12; at++) {
		outb((uint16_t)(port + at), 0xff);
		outw((uint16_t)(port + at), 0xffff);
		outl((uint16_t)(port + at), UINT32_MAX);
		if (at % 4) {
			inl((uint16_t)(port + at));
			inw((uint16_t)(port + at));
		}
		inb((uint16_t)(port + at));
	}
}

/* A device with something to end: its reset takes a moment. */
static void connect_vsock(void)
{
	struct packet {
		uint64_t src_cid, dst_cid;
		uint32_t src_port, dst_port, len;
		uint16_t type, op;
		uint32_t flags, buf_alloc, fwd_cnt;
		uint8_t data[1024];
	} __attribute__((packed));
	static struct packet out, in;
	static struct ring rx, tx;
	struct vio v;

	if (!vio_find(VIRTIO_VSOCK, 0, &v) || !vio_negotiate(&v, 0))
		rt_die("no vsock device");
	ring_init(&rx, 1, 8);
	ring_init(&tx, 2, 8);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	ring_desc(&rx, 0, &in, sizeof(in), D_WRITE, 0);
	ring_offer(&rx, 0);
	ring_kick(&v, &rx);
	out.src_cid = vio_config(&v, 0, 8);
	out.dst_cid = 2;
	out.src_port = 1000;
	out.dst_port = 77;
	out.type = 1;
	out.op = 1; /* REQUEST */
	out.buf_alloc = 65536;
	ring_desc(&tx, 0, &out, sizeof(out) - sizeof(out.data), 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	if (!ring_wait(&rx, 5000, NULL, NULL) || in.op != 2)
		rt_die("the host does not answer");
	rt_print("hotplug: connected\n");
}

static void print_slots(void)
{
	for (unsigned slot = 1; slot < 32; slot++)
		if (id_of(slot) != UINT32_MAX)
			rt_print("hotplug: slot %u has virtio %u\n", slot,
				 (id_of(slot) >> 16) - 0x1040);
}

void main(void)
{
	struct acpi_device ged = { 0 };
	uint32_t now = 0;

	events_port = region("GEDR");
	port = region("PHPR");
	acpi_find("ACPI0013", 0, &ged);
	if (!events_port || !port || !ged.gsi)
		rt_die("no registers of hot-plug");
	trap_set(VECTOR, on_event);
	lapic_enable();
	ioapic_route(ged.gsi, VECTOR, ged.irq_flags & 2 ? 0 : IOAPIC_LEVEL);
	if (has("hostile"))
		misbehave();
	print_slots();
	if (has("vsock"))
		connect_vsock();
	rt_print("hotplug: ready\n");
	while (!(now & POWER_BUTTON)) {
		if (has("hostile"))
			misbehave();
		__asm__ volatile("cli");
		now = events;
		events = 0;
		if (!now && !has("hostile"))
			__asm__ volatile("sti; hlt");
		__asm__ volatile("sti");
		if (!(now & HOTPLUG))
			continue;
		came(inl((uint16_t)(port + CAME)));
		give_up(inl((uint16_t)(port + WANTED)));
		if (has("reset"))
			acpi_reset();
	}
	rt_print("hotplug: off\n");
	acpi_poweroff();
	rt_die("still on after S5");
}
