/*
 * bus: an address space of device registers (port I/O, MMIO).
 *
 * Ranges are added while the machine is built and never change once the vCPUs
 * run; bus_read and bus_write may then be called from any vCPU thread without
 * a lock (a device locks itself). An access that no range claims reads as all
 * ones and is dropped when written, as on a PC.
 */
#ifndef BANTAM_BUS_H
#define BANTAM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_MAX_RANGES 96

/*
 * off is relative to the range; size_bytes is 1, 2, 4 or 8 and never crosses
 * the range's end (bus_read and bus_write take other sizes as unclaimed). Values are little-endian numbers, zero-extended.
 */
struct bus_ops {
	uint64_t (*read)(void *opaque, uint64_t off, unsigned size_bytes);
	void (*write)(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val);
};

struct bus_range {
	uint64_t base;
	uint64_t len_bytes;
	const struct bus_ops *ops;
	void *opaque;
};

struct bus {
	struct bus_range range[BUS_MAX_RANGES]; /* sorted by base */
	unsigned nranges;
};

/* 0, -EEXIST on overlap, -ENOSPC when full, -EINVAL on an empty or wrapping range. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *opaque);
void bus_remove(struct bus *bus, uint64_t base);

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size_bytes);
void bus_write(struct bus *bus, uint64_t addr, unsigned size_bytes, uint64_t val);

#endif
