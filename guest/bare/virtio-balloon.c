/*
 * virtio-balloon: gives pages to the balloon and reads zeroes from them; reports free pages.
 * The device survives pages that are not memory, and a ring that the driver gives away.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define F_REPORTING (1ull << 5)
#define PAGES 32

static struct vio v;
static struct ring inflate, deflate, report;
static uint8_t page[PAGES][4096] __attribute__((aligned(4096)));
static uint32_t pfn[256];

static bool start(void)
{
	if (!vio_negotiate(&v, F_INDIRECT | F_REPORTING))
		return false;
	ring_init(&inflate, 0, 8);
	ring_init(&deflate, 1, 8);
	ring_init(&report, 2, 8);
	ring_enable(&v, &inflate, 0, NO_VECTOR);
	ring_enable(&v, &deflate, 1, NO_VECTOR);
	ring_enable(&v, &report, 2, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return true;
}

static bool put(struct ring *r, const void *p, uint32_t len, uint16_t flags)
{
	ring_desc(r, 0, p, len, flags, 0);
	ring_offer(r, 0);
	ring_kick(&v, r);
	return ring_wait(r, 5000, NULL, NULL);
}

static void fill(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		memset(page[i], 0x5a, sizeof(page[i]));
}

static uint32_t number(unsigned i)
{
	return (uint32_t)((uint64_t)page[i] >> 12);
}

static bool zero(unsigned i)
{
	for (unsigned k = 0; k < 4096; k++)
		if (((volatile uint8_t *)page[i])[k])
			return false;
	return true;
}

void main(void)
{
	static const uint32_t bad[] = { 0xffffffff, 0x80000000, 0xfee00, 0xc0000 };
	bool good = true;

	if (!vio_find(VIRTIO_BALLOON, 0, &v))
		rt_die("no virtio-balloon device");
	ok(vio_config(&v, 0, 4) == 1024, "the target is %lu pages", vio_config(&v, 0, 4));
	ok(start(), "the driver is accepted");
	fill();
	for (unsigned i = 0; i < PAGES / 2; i++)
		pfn[i] = number(PAGES - 1 - 2 * i); /* every second page, from the end */
	ok(put(&inflate, pfn, PAGES / 2 * 4, 0), "pages are taken");
	for (unsigned i = 0; i < PAGES; i++)
		good = good && (i & 1 ? zero(i) : page[i][0] == 0x5a && page[i][4095] == 0x5a);
	ok(good, "they are zero, and the other pages are unchanged");
	ok(put(&deflate, pfn, PAGES / 2 * 4, 0), "pages are given back");
	memset(page[1], 1, 4096);
	ok(page[1][7] == 1, "and can be used");
	fill();
	ok(put(&report, page, 4 * 4096, D_WRITE) && zero(0) && zero(3) && page[4][0] == 0x5a,
	   "reported pages are zero");
	ok(put(&inflate, bad, sizeof(bad), 0), "pages that are not memory");
	pfn[0] = (uint32_t)((uint64_t)inflate.used >> 12);
	put(&inflate, pfn, 4, 0);
	ok(start() && put(&inflate, pfn + 1, 4, 0), "works after its ring was given away");
}
