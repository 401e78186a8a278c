/* plug_threads: see plug_threads.h. */
#include "tests/unit/plug_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/pci.h"
#include "vmm/core/bus.h"
#include "vmm/core/err.h"

#define READERS 3
#define WRITERS 2
#define ALIVE 0x600dcafe600dcafeull
#define DEAD 0xdeaddeaddeaddeadull

static struct {
	atomic_ulong dead_calls, wrong_answers, hits, removals;
	atomic_bool stop;
	atomic_uint seed;
	unsigned rounds;
} run;

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void linger(unsigned *seed)
{
	if (next_random(seed) % 4 == 0)
		sched_yield();
}

/* --- the bus -------------------------------------------------------------------------- */

#define SPACE 0x1000ull /* one range, or the place for one */
#define PLACES 16	/* the even ones come and go, the odd ones stay */

struct victim {
	uint64_t mark; /* plain: TSan reports accesses that nothing orders */
	unsigned seed;
};

static struct bus bus;

static uint64_t victim_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct victim *v = opaque;
	unsigned seed = (unsigned)off;

	for (unsigned i = 0; i < 4; i++) {
		if (v->mark != ALIVE)
			atomic_fetch_add(&run.dead_calls, 1);
		linger(&seed);
	}
	atomic_fetch_add_explicit(&run.hits, 1, memory_order_relaxed);
	return 0x55;
}

static void victim_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	victim_read(opaque, off, size_bytes);
}

static uint64_t stay_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return (uintptr_t)opaque;
}

/* An access from inside a callback, as PCI makes it. */
static uint64_t nested_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return bus_read(&bus, off, size_bytes) == 0x55 ? 0x55 : 0xff;
}

static const struct bus_ops victim_ops = { victim_read, victim_write };
static const struct bus_ops stay_ops = { stay_read, NULL };
static const struct bus_ops nested_ops = { nested_read, NULL };

static void *bus_reader(void *opaque)
{
	unsigned seed = atomic_fetch_add(&run.seed, 77);

	while (!atomic_load(&run.stop)) {
		unsigned place = next_random(&seed) % PLACES;
		uint64_t at = place * SPACE + next_random(&seed) % SPACE;
		uint64_t val;

		if (place % 2) {
			val = bus_read(&bus, at, 1);
			if (val != place)
				atomic_fetch_add(&run.wrong_answers, 1);
			continue;
		}
		if (next_random(&seed) % 4 == 0)
			bus_write(&bus, at, 1, 0);
		val = bus_read(&bus, next_random(&seed) % 2 ? at : PLACES * SPACE + at, 1);
		if (val != 0x55 && val != 0xff)
			atomic_fetch_add(&run.wrong_answers, 1);
	}
	return NULL;
}

/* Each writer has places of its own: 0, 4, 8 …, and 2, 6, 10 … */
static void *bus_writer(void *opaque)
{
	unsigned seed = atomic_fetch_add(&run.seed, 77), me = (unsigned)(uintptr_t)opaque;

	for (unsigned i = 0; i < run.rounds || !atomic_load(&run.hits); i++) {
		uint64_t base = (next_random(&seed) % (PLACES / 4) * 4 + me * 2) * SPACE;
		struct victim *v = malloc(sizeof(*v));

		BUG_ON(!v);
		v->mark = ALIVE;
		BUG_ON(bus_add(&bus, base, SPACE, &victim_ops, v));
		linger(&seed);
		if (i % 8 == 0)
			sched_yield();
		bus_remove(&bus, base);
		v->mark = DEAD;
		if (bus_read(&bus, base, 1) != 0xff)
			atomic_fetch_add(&run.wrong_answers, 1);
		free(v);
		atomic_fetch_add(&run.removals, 1);
	}
	return NULL;
}

static struct plug_result race(void *(*reader)(void *), void *(*writer)(void *), unsigned rounds)
{
	pthread_t readers[READERS], writers[WRITERS];

	memset(&run, 0, sizeof(run));
	run.rounds = rounds;
	for (uintptr_t i = 0; i < READERS; i++)
		BUG_ON(pthread_create(&readers[i], NULL, reader, (void *)i));
	for (uintptr_t i = 0; i < WRITERS; i++)
		BUG_ON(pthread_create(&writers[i], NULL, writer, (void *)i));
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	atomic_store(&run.stop, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	return (struct plug_result){ run.dead_calls, run.wrong_answers, run.hits, run.removals };
}

struct plug_result plug_threads_bus(unsigned rounds)
{
	struct plug_result result;

	for (uintptr_t place = 1; place < PLACES; place += 2)
		BUG_ON(bus_add(&bus, place * SPACE, SPACE, &stay_ops, (void *)place));
	BUG_ON(bus_add(&bus, PLACES * SPACE, PLACES * SPACE, &nested_ops, NULL));
	result = race(bus_reader, bus_writer, rounds);
	for (uintptr_t place = 1; place <= PLACES; place += place == PLACES - 1 ? 1 : 2)
		bus_remove(&bus, place * SPACE);
	result.wrong_answers += bus_count(&bus);
	return result;
}

/* --- PCI ----------------------------------------------------------------------------------- */

#define ECAM 0xb0000000ull
#define LOW 0xc0000000ull
#define LOW_BYTES 0x20000ull /* few places, so that what the guest moves lies where others are */
#define HIGH 0x800000000ull
#define FIXED_SLOT 30
#define PLUGGED_SLOTS 3

struct func {
	struct pci_func f;
	uint64_t mark;
};

static struct pci_host *host;
static struct bus mmio;

static void check_func(struct pci_func *f)
{
	struct func *t = (struct func *)f;
	unsigned seed = f->slot;

	for (unsigned i = 0; i < 4; i++) {
		if (t->mark != ALIVE)
			atomic_fetch_add(&run.dead_calls, 1);
		linger(&seed);
	}
	if (f->slot != FIXED_SLOT)
		atomic_fetch_add_explicit(&run.hits, 1, memory_order_relaxed);
}

static uint64_t func_read(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes)
{
	check_func(f);
	return 0x55;
}

static void func_write(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
		       uint64_t val)
{
	check_func(f);
	pci_func_intx(f, val & 1);
}

static uint32_t func_config_read(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	check_func(f);
	return pci_func_get(f, off, size_bytes);
}

static void func_config_written(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	uint64_t base;

	check_func(f);
	(void)pci_func_bar_base(f, 0, &base);
}

static const struct pci_func_ops func_ops = { func_read, func_write, func_config_read,
					      func_config_written };

/* Under the host's lock, so it may look at what is not atomic. */
static uint32_t lines;

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	lines = level ? lines | 1u << holder : lines & ~(1u << holder);
}

static void event(void *vm, enum vm_event event)
{
}

static const struct env_ops env_ops = { .set_line = set_line, .event = event };

static struct func *create_func(unsigned slot, unsigned function)
{
	static const uint8_t body[4] = { 1, 2, 3, 4 };
	struct func *t = calloc(1, sizeof(*t));
	struct err err;
	int rc;

	BUG_ON(!t);
	t->mark = ALIVE;
	pci_func_init(&t->f, &func_ops, 0x1234, 0x5678, 0x020000);
	pci_func_bar(&t->f, 0, 0x1000, 0);
	pci_func_bar(&t->f, 2, 0x2000, PCI_BAR_64);
	BUG_ON(pci_func_ext_cap(&t->f, 3, 1, body, NULL, sizeof(body)) < 0);
	rc = pci_func_add(host, &t->f, slot, function, &err);
	BUG_ON(rc);
	return t;
}

static void free_func(struct func *t)
{
	pci_func_remove(&t->f);
	memset(t, 0xde, sizeof(*t));
	free(t);
}

static uint64_t config_addr(unsigned slot, unsigned function, unsigned reg)
{
	return ECAM + slot * 0x8000u + function * 0x1000u + reg;
}

/* A guest that does everything with the functions that come and go. */
static void hammer(unsigned *seed)
{
	unsigned slot = 1 + next_random(seed) % PLUGGED_SLOTS, function = next_random(seed) % 2;
	uint64_t low = LOW + next_random(seed) % LOW_BYTES,
		 high = HIGH + next_random(seed) % 0x8000;

	switch (next_random(seed) % 8) {
	case 0:
	case 1:
		bus_write(&mmio, config_addr(slot, function, PCI_COMMAND), 2,
			  next_random(seed) % 4 ? PCI_COMMAND_MEMORY : 0);
		break;
	case 2:
		bus_write(&mmio, config_addr(slot, function, PCI_BAR0), 4, low);
		break;
	case 3:
		bus_write(&mmio, config_addr(slot, function, PCI_BAR0 + 8), 4, low);
		bus_write(&mmio, config_addr(slot, function, PCI_BAR0 + 12), 4,
			  next_random(seed) % 2 ? HIGH >> 32 : 0);
		break;
	case 4:
		(void)bus_read(&mmio, config_addr(slot, function, 0x100), 4);
		break;
	case 5:
		bus_write(&mmio, low, 4, next_random(seed));
		break;
	default:
		(void)bus_read(&mmio, low, 4);
		(void)bus_read(&mmio, high, 8);
	}
}

static void *pci_reader(void *opaque)
{
	unsigned seed = atomic_fetch_add(&run.seed, 77);

	while (!atomic_load(&run.stop)) {
		hammer(&seed);
		if (bus_read(&mmio, config_addr(FIXED_SLOT, 0, 0), 4) != 0x56781234)
			atomic_fetch_add(&run.wrong_answers, 1);
		/* Its BAR never moves; what others do to theirs must not take it away. */
		if (bus_read(&mmio, HIGH + 0x10, 4) != 0x55)
			atomic_fetch_add(&run.wrong_answers, 1);
	}
	return NULL;
}

static void *pci_writer(void *opaque)
{
	unsigned seed = atomic_fetch_add(&run.seed, 77), function = (unsigned)(uintptr_t)opaque;

	for (unsigned i = 0; i < run.rounds || !atomic_load(&run.hits); i++) {
		unsigned slot = 1 + next_random(&seed) % PLUGGED_SLOTS;
		struct func *t = create_func(slot, function);

		bus_write(&mmio, config_addr(slot, function, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
		for (unsigned n = next_random(&seed) % 16; n; n--)
			sched_yield();
		pci_func_intx(&t->f, true);
		free_func(t);
		if (bus_read(&mmio, config_addr(slot, function, 0), 4) != 0xffffffff)
			atomic_fetch_add(&run.wrong_answers, 1);
		atomic_fetch_add(&run.removals, 1);
	}
	return NULL;
}

struct plug_result plug_threads_pci(unsigned rounds)
{
	struct device_env env = { .mmio = &mmio, .ops = &env_ops };
	struct pci_host_config cfg = { .ecam_base = ECAM,
				       .ecam_bytes = 1 << 20,
				       .mmio_base = LOW,
				       .mmio_bytes = LOW_BYTES,
				       .mmio64_base = HIGH,
				       .mmio64_bytes = 0x8000 };
	struct plug_result result;
	struct func *fixed;
	struct err err;

	BUG_ON(pci_host_create(&env, &cfg, &host, &err));
	fixed = create_func(FIXED_SLOT, 0);
	bus_write(&mmio, config_addr(FIXED_SLOT, 0, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
	result = race(pci_reader, pci_writer, rounds);
	/* All lines but one are down, all slots but one are empty. */
	result.wrong_answers += (lines & ~(1u << FIXED_SLOT)) != 0;
	result.wrong_answers += pci_host_slots(host) != (1u | 1u << FIXED_SLOT);
	free_func(fixed);
	pci_host_destroy(host);
	result.wrong_answers += bus_count(&mmio);
	return result;
}
