/* ioapic: the serial port's transmitter interrupt arrives at pin 4; masking and edges work. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define COM1 0x3f8
#define COM1_PIN 4
#define VECTOR 0x44
static volatile uint32_t hits, cause;

static void on_serial(struct trap_frame *f)
{
	hits++;
	cause = inb(COM1 + 2) & 0xf;
}

static void arm(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 1, 2); /* transmitter empty: true at once */
}

void main(void)
{
	trap_set(VECTOR, on_serial);
	lapic_enable();
	ok(ioapic_pins() >= 24, "%u pins, version %x", ioapic_pins(), ioapic_read(1) & 0xff);
	bool kept = true;
	for (unsigned pin = 0; pin < 24; pin++) {
		ioapic_write(0x11 + 2 * pin, pin << 24);
		ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED | (0x30 + pin));
		kept = kept && ioapic_read(0x11 + 2 * pin) == pin << 24 &&
		       (ioapic_read(0x10 + 2 * pin) & 0x100ff) == (IOAPIC_MASKED | (0x30 + pin));
	}
	ok(kept, "every pin's entry keeps what is written");
	outb(COM1 + 4, 8); /* OUT2 gates the interrupt on a PC */
	ioapic_route(COM1_PIN, VECTOR, IOAPIC_MASKED);
	/* Print only between the trials: printing makes the transmitter busy, then empty again. */
	arm();
	bool masked = !wait_for(&hits, 1, 20);
	outb(COM1 + 1, 0);
	inb(COM1 + 2);
	ok(masked, "a masked pin stays silent");
	hits = 0;
	ioapic_route(COM1_PIN, VECTOR, 0);
	arm();
	bool came = wait_for(&hits, 1, 1000), once = !wait_for(&hits, 2, 20);
	arm();
	bool again = wait_for(&hits, 2, 1000);
	outb(COM1 + 1, 0);
	ok(came, "the transmitter's interrupt arrives");
	ok(cause == 2, "and is identified as such (%x)", cause);
	ok(once, "once");
	ok(again, "and again after re-arming");
}
