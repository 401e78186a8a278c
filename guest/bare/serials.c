/*
 * serials: two serial ports. Each echoes what it receives by interrupt, with its own name before each
 * line; "q" at the beginning of a line ends it, and the guest, once both have ended.
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

#define LSR_DR 0x01
#define LSR_THRE 0x20
#define VECTOR 0x44

static struct port {
	uint16_t base;
	uint8_t pin; /* of the IOAPIC */
	char name;
	bool in_line;
	volatile uint32_t ended;
	uint32_t interrupts;
} port[] = { { 0x3f8, 4, '1', false, 0, 0 }, { 0x2f8, 3, '2', false, 0, 0 } };

static void put(const struct port *p, char c)
{
	while (!(inb(p->base + 5) & LSR_THRE))
		relax();
	outb(p->base, (uint8_t)c);
}

static void echo(struct port *p, char c)
{
	if (!p->in_line && c == 'q') {
		p->ended = 1;
		return;
	}
	if (!p->in_line) {
		put(p, p->name);
		put(p, ':');
	}
	put(p, c);
	p->in_line = c != '\n';
}

static void receive(struct port *p)
{
	p->interrupts++;
	while (!p->ended && inb(p->base + 5) & LSR_DR)
		echo(p, (char)inb(p->base));
}

static void on_first(struct trap_frame *f)
{
	receive(&port[0]);
}

static void on_second(struct trap_frame *f)
{
	receive(&port[1]);
}

void main(void)
{
	trap_set(VECTOR, on_first);
	trap_set(VECTOR + 1, on_second);
	lapic_enable();
	for (unsigned i = 0; i < 2; i++) {
		ioapic_route(port[i].pin, VECTOR + i, 0);
		outb(port[i].base + 4, 8); /* OUT2 gates the interrupt on a PC */
		outb(port[i].base + 1, 1); /* the receive interrupt */
	}
	for (unsigned i = 0; i < 2; i++)
		wait_for(&port[i].ended, 1, 20000);
	for (unsigned i = 0; i < 2; i++)
		ok(port[i].ended && port[i].interrupts, "port %x has its line and its interrupt",
		   port[i].base);
}
