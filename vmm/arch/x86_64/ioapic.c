/* ioapic: see ioapic.h. */
#include "vmm/arch/x86_64/ioapic.h"

#include <string.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/errand/errand.h"

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI 0x40

#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

/* Redirection entry, bits. */
#define RTE_VECTOR 0xffull
#define RTE_DEST_LOGICAL (1ull << 11)
#define RTE_DELIVERY_STATUS (1ull << 12)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_READ_ONLY (RTE_DELIVERY_STATUS | RTE_REMOTE_IRR)
#define RTE_RESERVED 0x00fffffffffe0000ull

void ioapic_init(struct ioapic *io, const struct ioapic_ops *ops, void *opaque)
{
	memset(io, 0, sizeof(*io));
	pthread_mutex_init(&io->lock, NULL);
	io->ops = ops;
	io->opaque = opaque;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		io->s.entry[i] = RTE_MASKED;
}

void ioapic_destroy(struct ioapic *io)
{
	pthread_mutex_destroy(&io->lock);
}

/* The message address and data of an entry: Intel SDM volume 3, 11.11. */
static uint64_t message_addr(uint64_t entry)
{
	return LAYOUT_LAPIC | (entry >> 56) << 12 | (entry & RTE_DEST_LOGICAL ? 4 : 0);
}

static uint32_t message_data(uint64_t entry)
{
	return (uint32_t)((entry & RTE_VECTOR) | (entry & 0x700) | 1u << 14 | (entry & RTE_LEVEL));
}

static void deliver(struct ioapic *io, unsigned pin)
{
	uint64_t *entry = &io->s.entry[pin];

	if (*entry & RTE_MASKED)
		return;
	if (*entry & RTE_LEVEL) {
		if (*entry & RTE_REMOTE_IRR)
			return;
		*entry |= RTE_REMOTE_IRR;
	}
	io->ops->message(io->opaque, message_addr(*entry), message_data(*entry));
}

void ioapic_set_line(struct ioapic *io, unsigned pin, unsigned holder, bool level)
{
	uint32_t before;

	if (pin >= IOAPIC_PINS || holder >= 32)
		return;
	pthread_mutex_lock(&io->lock);
	before = io->s.line[pin];
	if (level)
		io->s.line[pin] |= 1u << holder;
	else
		io->s.line[pin] &= ~(1u << holder);
	if (!before && io->s.line[pin])
		deliver(io, pin);
	pthread_mutex_unlock(&io->lock);
}

static void eoi(struct ioapic *io, uint8_t vector)
{
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		uint64_t *entry = &io->s.entry[i];

		if (!(*entry & RTE_REMOTE_IRR) || (*entry & RTE_VECTOR) != vector)
			continue;
		*entry &= ~RTE_REMOTE_IRR;
		if (io->s.line[i])
			deliver(io, i);
	}
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	pthread_mutex_lock(&io->lock);
	eoi(io, vector);
	pthread_mutex_unlock(&io->lock);
}

static void write_entry(struct ioapic *io, unsigned pin, bool high, uint32_t val)
{
	uint64_t old = io->s.entry[pin], new;

	if (high)
		new = (old & 0xffffffff) | (uint64_t)val << 32;
	else
		new = (old & ~0xffffffffull) | val;
	new &= ~(RTE_READ_ONLY | RTE_RESERVED);
	new |= old &RTE_READ_ONLY;
	/* An edge-triggered pin has no remote IRR: a switch to edge mode clears it. */
	if (!(new &RTE_LEVEL))
		new &= ~RTE_REMOTE_IRR;
	io->s.entry[pin] = new;

	/*
	 * A masked pin stays watched: guests mask a line and then send its EOI (Linux does so
	 * for threaded handlers and to move an interrupt). If bantam missed that EOI, the
	 * remote IRR would block the pin for ever.
	 */
	if (!(new &RTE_LEVEL)) {
		if (io->watched & 1u << pin)
			io->ops->watch_eoi(io->opaque, pin, 0, 0);
		io->watched &= ~(1u << pin);
	} else if (!(new &RTE_MASKED)) {
		io->watched |= 1u << pin;
		io->ops->watch_eoi(io->opaque, pin, message_addr(new), message_data(new));
		if (io->s.line[pin])
			deliver(io, pin);
	}
}

static uint32_t window_read(const struct ioapic *io)
{
	unsigned pin = (io->s.select - 0x10u) / 2;

	switch (io->s.select) {
	case 0:
	case 2:
		return (uint32_t)io->s.id << 24;
	case 1:
		return VERSION;
	default:
		if (io->s.select < 0x10 || pin >= IOAPIC_PINS)
			return 0;
		return (uint32_t)(io->s.entry[pin] >> (io->s.select & 1 ? 32 : 0));
	}
}

bool ioapic_live(struct ioapic *io)
{
	bool live = false;

	pthread_mutex_lock(&io->lock);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		live |= !(io->s.entry[i] & RTE_MASKED);
	pthread_mutex_unlock(&io->lock);
	return live;
}

static uint64_t ioapic_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct ioapic *io = opaque;
	uint32_t val = 0;

	pthread_mutex_lock(&io->lock);
	if (off == REG_SELECT)
		val = io->s.select;
	else if (off == REG_WINDOW)
		val = window_read(io);
	pthread_mutex_unlock(&io->lock);
	return val;
}

struct write {
	struct ioapic *io;
	uint64_t off, val;
};

/* Lock held. */
static void write_locked(const struct write *w)
{
	struct ioapic *io = w->io;
	unsigned pin = (io->s.select - 0x10u) / 2;

	if (w->off == REG_SELECT)
		io->s.select = (uint8_t)w->val;
	else if (w->off == REG_EOI)
		eoi(io, (uint8_t)w->val);
	else if (w->off == REG_WINDOW && io->s.select == 0)
		io->s.id = (uint8_t)(w->val >> 24) & 0x0f;
	else if (w->off == REG_WINDOW && io->s.select >= 0x10 && pin < IOAPIC_PINS)
		write_entry(io, pin, io->s.select & 1, (uint32_t)w->val);
}

static void store(void *opaque)
{
	const struct write *w = opaque;

	pthread_mutex_lock(&w->io->lock);
	write_locked(w);
	pthread_mutex_unlock(&w->io->lock);
}

/* Lock held. Returns true if the write may change KVM's routes: an entry becomes, was or is level-triggered. */
static bool may_route(const struct ioapic *io, const struct write *w)
{
	unsigned pin = (io->s.select - 0x10u) / 2;

	return w->off == REG_WINDOW && io->s.select >= 0x10 && pin < IOAPIC_PINS &&
	       (io->watched >> pin & 1 || io->s.entry[pin] & RTE_LEVEL ||
		(!(io->s.select & 1) && w->val & RTE_LEVEL));
}

static void ioapic_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct write w = { opaque, off, val };
	bool route;

	pthread_mutex_lock(&w.io->lock);
	route = may_route(w.io, &w);
	if (!route)
		write_locked(&w);
	pthread_mutex_unlock(&w.io->lock);
	if (route)
		errand_run(store, &w);
}

const struct bus_ops ioapic_bus_ops = { ioapic_read, ioapic_write };
