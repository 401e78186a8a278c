/* memory: every RAM range of the boot protocol is RAM, to its last page; no other address is. */
#include "guest/bare/lib/rt.h"

#define PAGE 4096ull

static bool holds(uint64_t addr)
{
	volatile uint64_t *p = (volatile uint64_t *)addr;
	uint64_t old = *p, want = addr ^ 0x5a5a5a5a5a5a5a5aull;
	bool good;

	*p = want;
	good = *p == want;
	*p = old;
	return good;
}

static void try_range(const struct ram_range *r)
{
	/* Skip the guest's own image and page 0. */
	uint64_t first = (r->base + PAGE - 1) & ~(PAGE - 1), end = (r->base + r->len) & ~(PAGE - 1);

	if (end <= first)
		return;
	map_range(first, end - first);
	if (first == 0)
		first = PAGE;
	bool good = holds(first) && holds(end - 8) && holds(end - PAGE);
	for (uint64_t a = first; a < end; a += (end - first) / 7 & ~(PAGE - 1) ?: PAGE)
		if (a < 0x100000 || a >= (uint64_t)image_end)
			good = good && holds(a);
	ok(good, "RAM %lx - %lx holds what is written", r->base, r->base + r->len);
}

void main(void)
{
	uint64_t total = 0, last = 0;
	bool sorted = true;

	for (unsigned i = 0; i < ram_ranges; i++) {
		const struct ram_range *r = &ram_range[i];
		rt_print("# %lx - %lx type %u\n", r->base, r->base + r->len, r->type);
		sorted = sorted && r->base >= last;
		last = r->base + r->len;
		if (r->type != 1)
			continue;
		total += r->len;
		try_range(r);
	}
	ok(ram_ranges > 0 && sorted, "%u ranges, sorted, no overlap", ram_ranges);
	rt_print("total %lu KiB\n", total >> 10);
}
