/*
 * bus: an address space of device registers (port I/O, MMIO, PCI's own).
 *
 * A read that no range claims returns all ones, and such a write is dropped, as on a
 * PC. A range's callbacks run in the thread of the access, without a lock of the bus: each
 * device has its own lock.
 *
 * Threads. Every function may be called from any thread at any time, also while
 * vCPUs access the same bus. bus_read and bus_write take no lock, never wait and never
 * retry. Adding and removing take one lock of all buses, a leaf: no callback runs with it held.
 *
 * Removing has two steps. After bus_unmap, no new access reaches the range. After bus_wait,
 * the range's running callbacks have returned, so the caller may free what they use.
 * bus_remove does both. The caller of bus_wait holds no lock that the range's callbacks take,
 * and is not a loop for whose work they wait; otherwise the two wait for each other. A
 * callback never waits for its own range (BUG_ON). It must not wait for another range either,
 * because two vCPUs could then wait for each other. So if the guest ejects a device by a register
 * write, the device posts its removal to the loop. A callback may map and unmap (PCI does when the
 * guest moves a BAR).
 */
#ifndef BANTAM_BUS_H
#define BANTAM_BUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The most nested accesses in one thread: a callback of one bus may read or write another. */
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

/* All zeros is an empty bus. A bus holds memory only while it has ranges, and needs no destroy. */
struct bus {
	struct bus_table *_Atomic table; /* accesses read it; NULL: no range */
	struct bus_table *spare;	 /* the next change fills it */
};

/* A range in its owner's memory. The owner fills the first four and leaves the rest zero. */
struct bus_range {
	uint64_t base;
	uint64_t len_bytes;
	const struct bus_ops *ops;
	void *opaque;
	struct bus *bus; /* the bus that it is mapped on, or NULL; set by bus_map and bus_unmap */
	bool allocated;	 /* bus_add allocated it */
};

/*
 * Returns 0, -EEXIST on overlap, -EINVAL on an empty or wrapping range, or -ENOMEM. The owner
 * does not change r's fields until bus_unmap has returned, nor free r until bus_wait has returned.
 */
int bus_map(struct bus *bus, struct bus_range *r);
/* Cannot fail; ignores a range that is not mapped. The owner may then map r elsewhere at once. */
void bus_unmap(struct bus_range *r);
/* Waits until no thread is in a callback of r. The caller has unmapped r. */
void bus_wait(const struct bus_range *r);

/* As bus_map, for a range that the bus allocates and that its base identifies. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *opaque);
/* Unmaps the range of bus_add at base, waits, and frees it. Does nothing if there is none. */
void bus_remove(struct bus *bus, uint64_t base);

/* All bits of an access's width: what an access that no range claims reads. */
static inline uint64_t bus_ones(unsigned size_bytes)
{
	return size_bytes >= 8 ? ~0ull : (1ull << (size_bytes * 8)) - 1;
}

/* Returns the number of ranges on the bus. */
unsigned bus_count(struct bus *bus);

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size_bytes);
void bus_write(struct bus *bus, uint64_t addr, unsigned size_bytes, uint64_t val);

#endif
