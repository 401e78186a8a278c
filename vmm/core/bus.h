/*
 * bus: an address space of device registers (port I/O, MMIO, PCI's own).
 *
 * An access that no range claims reads as all ones and is dropped when written, as on a
 * PC. A range's callbacks run in the thread of the access, without a lock of the bus: a
 * device locks itself.
 *
 * Threads. Every function may be called from any thread at any time, also while
 * vCPUs access the same bus. bus_read and bus_write take no lock, never wait and never
 * retry. Adding and removing take one lock of all buses, a leaf: no callback runs with it held.
 *
 * Removing has two steps. bus_unmap: no access that begins from now on reaches the
 * range. bus_wait: the callbacks of the range that were running have returned, so what they
 * use may be freed. bus_remove does both. Who waits must not be what such a callback
 * waits for: it holds no lock that the range's callbacks take, and it is not
 * a loop for whose work they wait. A callback never waits for its own range
 * (BUG_ON), and not for another either, since two vCPUs could then wait for each other: a device
 * that the guest ejects by writing a register posts its removal to the loop.
 * A callback may map and unmap (PCI does when the guest moves a BAR).
 */
#ifndef BANTAM_BUS_H
#define BANTAM_BUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Accesses that may be nested in one thread: a callback of one bus reads or writes another. */
#define BUS_NESTING 4

/*
 * off is relative to the range; size_bytes is 1, 2, 4 or 8 and never crosses the range's end
 * (bus_read and bus_write take other sizes as unclaimed). Values are little-endian
 * numbers, zero-extended.
 */
struct bus_ops {
	uint64_t (*read)(void *opaque, uint64_t off, unsigned size_bytes);
	void (*write)(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val);
};

struct bus_table;

/* All zeros is an empty bus. It holds memory as long as it has ranges, and needs no destroy. */
struct bus {
	struct bus_table *_Atomic table; /* what accesses look at; NULL: no range */
	struct bus_table *spare;	 /* the next table is written here */
};

/* A range in its owner's memory. The owner fills the first four and leaves the rest zero. */
struct bus_range {
	uint64_t base;
	uint64_t len_bytes;
	const struct bus_ops *ops;
	void *opaque;
	struct bus *bus; /* where it is mapped, or NULL; bus_map and bus_unmap write it */
	bool allocated;	 /* by bus_add */
};

/*
 * 0, -EEXIST on overlap, -EINVAL on an empty or wrapping range, -ENOMEM. r and its
 * fields stay as they are until bus_unmap has returned, and r stays until bus_wait has.
 */
int bus_map(struct bus *bus, struct bus_range *r);
/* Cannot fail. A range that is not mapped: nothing. It may be mapped elsewhere at once. */
void bus_unmap(struct bus_range *r);
/* Waits until no thread is in a callback of r, which is not mapped. */
void bus_wait(const struct bus_range *r);

/* The same for a range in the bus's own memory, known by its base. Errors as bus_map's. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *opaque);
/* Unmaps, waits and frees. No range that bus_add placed begins at base: nothing. */
void bus_remove(struct bus *bus, uint64_t base);

/* Ranges on the bus. */
unsigned bus_count(struct bus *bus);

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size_bytes);
void bus_write(struct bus *bus, uint64_t addr, unsigned size_bytes, uint64_t val);

#endif
