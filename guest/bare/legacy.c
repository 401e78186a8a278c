/*
 * legacy: a kernel that does without APICs (--cmdline nolapic): the timer of an 8254, interrupts of the
 * serial port and of a PCI device by the 8259s, and ACPI's fixed power management.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define COM1 0x3f8
#define COM1_IRQ 4
#define MASTER 0x20
#define SLAVE 0xa0
#define BASE 0x40 /* vector of IRQ 0 */
#define EOI 0x20
#define PCI_IRQ_LINE 0x3c
#define PIT_HZ 1193182u

static struct vio v;
static struct ring r;
static uint8_t random[64];
static volatile uint32_t ticks, serial, hits;

static void on_tick(struct trap_frame *f)
{
	ticks++;
	outb(MASTER, EOI);
}

static void on_serial(struct trap_frame *f)
{
	if ((inb(COM1 + 2) & 0xf) == 2)
		serial++;
	outb(MASTER, EOI);
}

static void on_pci(struct trap_frame *f)
{
	if (vio_isr(&v) & 1)
		hits++;
	outb(SLAVE, EOI);
	outb(MASTER, EOI);
}

static void pic_start(void)
{
	outb(MASTER, 0x11); /* ICW1: edge, cascade, ICW4 follows */
	outb(MASTER + 1, BASE);
	outb(MASTER + 1, 1 << 2); /* the slave is at IRQ 2 */
	outb(MASTER + 1, 1);	  /* 8086 */
	outb(SLAVE, 0x11);
	outb(SLAVE + 1, BASE + 8);
	outb(SLAVE + 1, 2);
	outb(SLAVE + 1, 1);
	outb(MASTER + 1, 0xff);
	outb(SLAVE + 1, 0xff);
}

static void unmask(unsigned irq)
{
	uint16_t port = irq < 8 ? MASTER + 1 : SLAVE + 1;

	outb(port, inb(port) & (uint8_t) ~(1u << irq % 8));
	if (irq >= 8)
		unmask(2);
}

static void check_timer(void)
{
	uint64_t start = now_us(), us;
	unsigned count = PIT_HZ / 200;

	trap_set(BASE, on_tick);
	unmask(0);
	outb(0x43, 0x34); /* counter 0: rate generator */
	outb(0x40, (uint8_t)count);
	outb(0x40, (uint8_t)(count >> 8));
	ok(wait_for(&ticks, 20, 10000), "the timer ticks");
	us = now_us() - start;
	ok(us > 50000, "20 ticks of 5 ms take %lu us", us);
	outb(MASTER + 1, inb(MASTER + 1) | 1);
}

static void check_serial(void)
{
	bool came;

	trap_set(BASE + COM1_IRQ, on_serial);
	outb(COM1 + 4, 8); /* OUT2 gates the interrupt on a PC */
	unmask(COM1_IRQ);
	outb(COM1 + 1, 0);
	outb(COM1 + 1, 2); /* transmitter empty: true at once */
	came = wait_for(&serial, 1, 2000);
	outb(COM1 + 1, 0);
	ok(came, "the serial port's interrupt comes");
}

static void check_pci(void)
{
	uint32_t got;
	unsigned irq;

	if (!vio_find(VIRTIO_RNG, 0, &v) || !v.is_pci)
		rt_die("no virtio-rng device on PCI");
	irq = pci_read(v.bdf, PCI_IRQ_LINE, 1);
	ok(irq >= 8 && irq < 16, "the interrupt line is IRQ %u", irq);
	ok(inb(0x4d1) >> (irq - 8) & 1, "which is level-triggered");
	trap_set(BASE + irq, on_pci);
	unmask(irq);
	ok(vio_negotiate(&v, 0), "the driver is accepted");
	ring_init(&r, 0, 8);
	ring_enable(&v, &r, 0, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	for (uint32_t i = 1; i <= 3; i++) {
		ring_desc(&r, 0, random, sizeof(random), D_WRITE, 0);
		ring_offer(&r, 0);
		ring_kick(&v, &r);
		ok(ring_wait(&r, 5000, NULL, &got) && wait_for(&hits, i, 5000),
		   "request %u: its interrupt comes", i);
	}
}

void main(void)
{
	ok(!acpi.hw_reduced && acpi.pm1a_control.addr, "ACPI has fixed power management");
	ok(inw((uint16_t)acpi.pm1a_control.addr) & 1, "and is on");
	pic_start();
	check_timer();
	check_serial();
	check_pci();
}
