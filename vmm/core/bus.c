/* bus: see bus.h. */
#include "vmm/core/bus.h"

#include <errno.h>
#include <string.h>

/* Index of the first range whose base is above addr. */
static unsigned upper(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0, hi = bus->nranges;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (bus->range[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct bus_range *find(const struct bus *bus, uint64_t addr, unsigned size_bytes)
{
	unsigned at = upper(bus, addr);
	const struct bus_range *r;

	/* KVM cuts an access that crosses a page into pieces of any size; no register wants them. */
	if (!at || !size_bytes || size_bytes > 8 || (size_bytes & (size_bytes - 1)))
		return NULL;
	r = &bus->range[at - 1];
	if (addr - r->base >= r->len_bytes || size_bytes > r->len_bytes - (addr - r->base))
		return NULL;
	return r;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *opaque)
{
	unsigned at = upper(bus, base);

	if (!len_bytes || base + len_bytes - 1 < base)
		return -EINVAL;
	if (bus->nranges == BUS_MAX_RANGES)
		return -ENOSPC;
	if (at && base - bus->range[at - 1].base < bus->range[at - 1].len_bytes)
		return -EEXIST;
	if (at < bus->nranges && bus->range[at].base - base < len_bytes)
		return -EEXIST;
	memmove(&bus->range[at + 1], &bus->range[at], (bus->nranges - at) * sizeof(bus->range[0]));
	bus->range[at] = (struct bus_range){ base, len_bytes, ops, opaque };
	bus->nranges++;
	return 0;
}

void bus_remove(struct bus *bus, uint64_t base)
{
	unsigned at = upper(bus, base);

	if (!at || bus->range[at - 1].base != base)
		return;
	memmove(&bus->range[at - 1], &bus->range[at], (bus->nranges - at) * sizeof(bus->range[0]));
	bus->nranges--;
}

static uint64_t mask(unsigned size_bytes)
{
	return size_bytes >= 8 ? ~0ull : (1ull << (size_bytes * 8)) - 1;
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size_bytes)
{
	const struct bus_range *r = find(bus, addr, size_bytes);

	if (!r || !r->ops->read)
		return mask(size_bytes);
	return r->ops->read(r->opaque, addr - r->base, size_bytes) & mask(size_bytes);
}

void bus_write(struct bus *bus, uint64_t addr, unsigned size_bytes, uint64_t val)
{
	const struct bus_range *r = find(bus, addr, size_bytes);

	if (r && r->ops->write)
		r->ops->write(r->opaque, addr - r->base, size_bytes, val & mask(size_bytes));
}
