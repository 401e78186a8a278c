/*
 * fuzz_virtq: hostile ring bytes, which change between any two steps.
 *
 * Input: a header (queue size, event_idx, addresses of the three parts), then
 * steps of one byte and its operands: actions of the device, and writes of the guest.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/core/virtq.h"

#define LOW_BYTES 0x10000u
#define HIGH_BASE 0x100000000ull
#define HIGH_BYTES 0x1000u
#define IOV_MAX_FUZZ 40u

struct input {
	const uint8_t *at;
	size_t left;
};

static uint32_t take(struct input *in, unsigned nbytes)
{
	uint32_t val = 0;

	for (unsigned i = 0; i < nbytes && in->left; i++, in->left--)
		val |= (uint32_t)*in->at++ << (i * 8);
	return val;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool inside(const struct mem *mem, const void *host, size_t len)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];
		const uint8_t *at = host;

		if (at >= r->host && at < r->host + r->len_bytes &&
		    len <= (size_t)(r->host + r->len_bytes - at))
			return true;
	}
	return false;
}

static void check_chain(const struct virtq *q, const struct chain *c, unsigned iov_max)
{
	uint64_t sum[2] = { 0, 0 };

	check(c->head < q->s.size);
	check((unsigned)c->nreadable + c->nwritable <= iov_max);
	for (unsigned i = 0; i < (unsigned)c->nreadable + c->nwritable; i++) {
		check(c->iov[i].iov_len && inside(q->mem, c->iov[i].iov_base, c->iov[i].iov_len));
		sum[i >= c->nreadable] += c->iov[i].iov_len;
	}
	check(sum[0] == c->readable_bytes && sum[0] <= UINT32_MAX);
	check(sum[1] == c->writable_bytes && sum[1] <= UINT32_MAX);
}

/* The heads that a device holds: popped and not pushed yet. */
struct device {
	uint16_t held[VIRTQ_MAX_SIZE];
	unsigned nheld;
	bool may_unpop;
	struct chain chain;
	struct iovec iov[IOV_MAX_FUZZ];
};

static void pop(struct virtq *q, struct device *d, unsigned iov_max)
{
	int rc = virtq_pop(q, &d->chain, d->iov, iov_max);

	check(rc == 1 || rc == 0 || rc == -71);
	check((rc < 0) == q->s.broken);
	if (rc != 1)
		return;
	check_chain(q, &d->chain, iov_max);
	for (unsigned i = 0; i < d->nheld; i++)
		check(d->held[i] != d->chain.head);
	check(d->nheld < q->s.size);
	d->held[d->nheld++] = d->chain.head;
	d->may_unpop = true;
}

static void copy(struct device *d, struct input *in)
{
	static uint8_t buf[300];
	uint64_t off = take(in, 2);
	size_t len = take(in, 1), n;

	if (!d->may_unpop)
		return; /* no chain, or a chain already given back */
	n = virtq_chain_read(&d->chain, off, buf, len);
	check(n <= len && off + n <= d->chain.readable_bytes + (n ? 0 : off));
	n = virtq_chain_write(&d->chain, off, buf, len);
	check(n <= len && off + n <= d->chain.writable_bytes + (n ? 0 : off));
}

/* Takes the ring over from another server that has died; drops the heads that we hold. */
static void take_over(struct virtq *q, struct device *d)
{
	int rc = virtq_take_over(q);
	unsigned n = 0;

	d->nheld = 0;
	d->may_unpop = false;
	check(rc == 0 || rc == -71);
	check((rc < 0) <= q->s.broken);
	while ((rc = virtq_pop_outstanding(q, &d->chain, d->iov, IOV_MAX_FUZZ)) > 0) {
		check(n++ < q->s.size);
		check_chain(q, &d->chain, IOV_MAX_FUZZ);
		virtq_push(q, d->chain.head, n);
	}
	check((rc < 0) == q->s.broken);
}

static void step(struct virtq *q, struct device *d, uint8_t *ram, struct input *in)
{
	uint32_t off, n, op = take(in, 1);

	if (op == 255) {
		take_over(q, d);
		return;
	}
	switch (op % 10) {
	case 0:
	case 1:
		pop(q, d, take(in, 1) % (IOV_MAX_FUZZ + 1));
		break;
	case 2:
		if (!d->nheld)
			break;
		n = take(in, 1) % d->nheld;
		virtq_push(q, d->held[n], take(in, 4));
		d->held[n] = d->held[--d->nheld];
		d->may_unpop = false;
		break;
	case 3:
		(void)virtq_wants_interrupt(q);
		check(!virtq_wants_interrupt(q));
		break;
	case 4:
		virtq_disable_kicks(q);
		break;
	case 5:
		(void)virtq_enable_kicks(q);
		break;
	case 6:
		if (d->may_unpop) {
			virtq_unpop(q);
			d->nheld--;
		}
		d->may_unpop = false;
		break;
	case 7:
		/* Bytes anywhere, mostly in the ring. */
		off = take(in, 2);
		for (n = take(in, 1) % 64; n; n--, off++)
			ram[off % LOW_BYTES] = (uint8_t)take(in, 1);
		break;
	case 8:
		/* Makes a head available, as a driver does. */
		off = (uint32_t)q->s.avail.v;
		n = ram[(off + 2) % LOW_BYTES] | ram[(off + 3) % LOW_BYTES] << 8;
		ram[(off + 4 + n % q->s.size * 2) % LOW_BYTES] = (uint8_t)take(in, 1);
		ram[(off + 5 + n % q->s.size * 2) % LOW_BYTES] = 0;
		n++;
		ram[(off + 2) % LOW_BYTES] = (uint8_t)n;
		ram[(off + 3) % LOW_BYTES] = (uint8_t)(n >> 8);
		break;
	case 9:
		copy(d, in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(4096) uint8_t low[LOW_BYTES], high[HIGH_BYTES];
	static struct device device;
	struct input in = { data, size };
	struct mem mem = { 0 };
	struct virtq q = { .size_max = VIRTQ_MAX_SIZE };
	uint8_t how;

	memset(low, 0, sizeof(low));
	device.nheld = 0;
	device.may_unpop = false;
	mem_add(&mem, gpa(0), LOW_BYTES, low);
	mem_add(&mem, gpa(HIGH_BASE), HIGH_BYTES, high);
	how = (uint8_t)take(&in, 1);
	q.s.size = how & 0x40 ? (uint16_t)take(&in, 2) : (uint16_t)(1u << (how & 0xf));
	q.s.desc = gpa((uint64_t)take(&in, 2) << 4);
	q.s.avail = gpa(take(&in, 2));
	q.s.used = gpa(take(&in, 2));
	if (virtq_enable(&q, &mem, how & 0x80))
		return 0;
	while (in.left)
		step(&q, &device, low, &in);
	virtq_reset(&q);
	return 0;
}
