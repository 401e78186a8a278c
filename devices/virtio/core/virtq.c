/*
 * virtio/virtq: see virtq.h.
 *
 * Theory of operation. virtq_enable resolves the three parts of a ring to host pointers once, when
 * the driver enables the queue. From then on the guest may write any of those bytes at any time,
 * also while the device reads them. So
 *
 * - desc_load copies each descriptor once into registers, and only the copy is checked and used;
 *   the device gets a chain as host iovecs, and its descriptors are never read again;
 * - every loop is bounded by the queue's size or by VIRTQ_MAX_SIZE, never by what the guest wrote;
 * - the device's positions (next_avail, next_used) are private; guest memory holds a copy of them
 *   for the driver.
 *
 * Ordering. The driver writes descriptors and the ring entry before the avail index (the device
 * loads it with acquire); the device writes the used entry before the used index (it stores it with
 * release). Suppression compares two variables (used_event and used index, avail_event and avail
 * index); each side writes one and reads the other, so both sides need a full fence between the
 * write and the read.
 */
#include "devices/virtio/core/virtq.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/core/virtq_stranded.h"

#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY 1u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");

/* Section 2.7.5. Tables of indirect descriptors need not be aligned. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
#define DESC_BYTES 16u
_Static_assert(sizeof(struct desc) == DESC_BYTES, "a descriptor is 16 bytes");

/* Sections 2.7.6 and 2.7.8; used_event and avail_event follow the last entry. */
struct avail {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	_Atomic uint16_t ring[];
};

struct used_elem {
	_Atomic uint32_t id;
	_Atomic uint32_t len;
};

struct used {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	struct used_elem ring[];
};

#define relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define put_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)

static struct avail *avail(const struct virtq *q)
{
	return q->avail_host;
}

static struct used *used(const struct virtq *q)
{
	return q->used_host;
}

static _Atomic uint16_t *used_event(const struct virtq *q)
{
	return &avail(q)->ring[q->s.size];
}

static _Atomic uint16_t *avail_event(const struct virtq *q)
{
	return (_Atomic uint16_t *)(void *)&used(q)->ring[q->s.size];
}

static int broke(struct virtq *q, const char *why)
{
	q->s.broken = true;
	q->broken_why = why;
	return -EPROTO;
}

/*
 * Returns the host address of one part of the ring, or NULL. Guest and host address are both
 * aligned: the host's is for the atomics.
 */
static void *ring_part(const struct mem *mem, gpa_t base, uint64_t len_bytes, uint64_t align)
{
	void *host = base.v % align ? NULL : mem_slice(mem, base, len_bytes);

	return (uintptr_t)host % align ? NULL : host;
}

int virtq_enable(struct virtq *q, const struct mem *mem, bool event_idx)
{
	uint64_t n = q->s.size;

	if (!n || n & (n - 1) || n > q->size_max || n > VIRTQ_MAX_SIZE)
		return -EINVAL;
	q->desc_host = ring_part(mem, q->s.desc, n * DESC_BYTES, 16);
	q->avail_host = ring_part(mem, q->s.avail, 4 + n * 2 + 2, 2);
	q->used_host = ring_part(mem, q->s.used, 4 + n * sizeof(struct used_elem) + 2, 4);
	if (!q->desc_host || !q->avail_host || !q->used_host)
		return -EINVAL;
	q->mem = mem;
	q->s.event_idx = event_idx;
	q->s.next_avail = q->s.next_used = 0;
	q->avail_idx = q->s.avail_event = 0;
	q->s.signalled_used = 0;
	q->s.signalled_valid = true;
	q->s.broken = q->s.kicks_off = q->can_unpop = false;
	q->broken_why = NULL;
	memset(q->s.in_flight, 0, sizeof(q->s.in_flight));
	q->s.ready = true;
	return 0;
}

void virtq_host_parts(const struct virtq *q, void **desc, void **avail_part, void **used_part)
{
	*desc = q->desc_host;
	*avail_part = q->avail_host;
	*used_part = q->used_host;
}

void virtq_reset(struct virtq *q)
{
	uint16_t size_max = q->size_max;

	memset(q, 0, sizeof(*q));
	q->s.size = q->size_max = size_max;
}

/*
 * Copy a descriptor, once. The empty asm makes the compiler believe that the copies were changed,
 * so it cannot read guest memory again for them.
 */
static inline struct desc desc_load(const void *table, unsigned index)
{
	const uint8_t *at = (const uint8_t *)table + (size_t)index * DESC_BYTES;
	uint64_t lo, hi;

	memcpy(&lo, at, 8);
	memcpy(&hi, at + 8, 8);
	__asm__("" : "+r"(lo), "+r"(hi));
	return (struct desc){ lo, (uint32_t)hi, (uint16_t)(hi >> 32), (uint16_t)(hi >> 48) };
}

/* Add one buffer to the chain. Returns NULL, or why the ring is broken. */
static inline const char *chain_add(const struct virtq *q, struct chain *c, unsigned iov_max,
				    const struct desc *d)
{
	unsigned n = (unsigned)c->nreadable + c->nwritable;
	void *host;

	if (!d->len)
		return "a descriptor of length 0";
	if (n >= iov_max)
		return "a chain of more descriptors than the device takes";
	host = mem_slice(q->mem, gpa(d->addr), d->len);
	if (!host)
		return "a buffer outside memory";
	if (d->flags & DESC_F_WRITE) {
		c->nwritable++;
		c->writable_bytes += d->len;
	} else {
		if (c->nwritable)
			return "a readable descriptor after a writable one";
		c->nreadable++;
		c->readable_bytes += d->len;
	}
	c->iov[n] = (struct iovec){ host, d->len };
	return NULL;
}

/*
 * Returns the table that an indirect descriptor points to; NULL and *why if the table is invalid.
 */
static const void *indirect_table(const struct virtq *q, const struct desc *d, const char **why)
{
	*why = "an indirect descriptor with a next one";
	if (d->flags & DESC_F_NEXT)
		return NULL;
	*why = "an indirect table that is empty, too long or no multiple of 16 bytes";
	if (!d->len || d->len % DESC_BYTES || d->len / DESC_BYTES > VIRTQ_MAX_SIZE)
		return NULL;
	*why = "an indirect table outside memory";
	return mem_slice(q->mem, gpa(d->addr), d->len);
}

/* Follow the chain from head. Returns NULL, or why the ring is broken. */
static const char *chain_walk(const struct virtq *q, struct chain *c, unsigned iov_max)
{
	const void *table = q->desc_host;
	unsigned n = q->s.size, left = n, i = c->head;
	bool indirect = false;
	const char *why;

	for (;;) {
		struct desc d;

		if (i >= n)
			return "a descriptor index out of range";
		if (!left--)
			return "a chain that loops";
		d = desc_load(table, i);
		if (d.flags & DESC_F_INDIRECT) {
			if (indirect)
				return "an indirect descriptor in an indirect table";
			/* The write flag of this descriptor itself means nothing (2.7.5.3.2). */
			table = indirect_table(q, &d, &why);
			if (!table)
				return why;
			indirect = true;
			n = left = d.len / DESC_BYTES;
			i = 0;
			continue;
		}
		why = chain_add(q, c, iov_max, &d);
		if (why)
			return why;
		if (!(d.flags & DESC_F_NEXT))
			break;
		i = d.next;
	}
	if (c->readable_bytes > UINT32_MAX || c->writable_bytes > UINT32_MAX)
		return "a chain of 4 GiB or more";
	return NULL;
}

/* Publish how far the device has read the avail ring, then load the avail index again. */
static void publish_avail_event(struct virtq *q)
{
	put_relaxed(avail_event(q), q->s.next_avail);
	q->s.avail_event = q->s.next_avail;
	atomic_thread_fence(memory_order_seq_cst);
	q->avail_idx = atomic_load_explicit(&avail(q)->idx, memory_order_acquire);
}

/*
 * Returns the number of chains that wait. Reads the driver's index only if all known chains are
 * popped.
 */
static uint16_t pending(struct virtq *q)
{
	if (q->avail_idx == q->s.next_avail) {
		q->avail_idx = atomic_load_explicit(&avail(q)->idx, memory_order_acquire);
		if (q->avail_idx == q->s.next_avail && q->s.event_idx && !q->s.kicks_off &&
		    q->s.avail_event != q->s.next_avail)
			publish_avail_event(q);
	}
	return (uint16_t)(q->avail_idx - q->s.next_avail);
}

bool virtq_has_more(struct virtq *q)
{
	return q->s.ready && !q->s.broken && pending(q);
}

int virtq_pop(struct virtq *q, struct chain *chain, struct iovec *iov, unsigned iov_max)
{
	uint16_t head, n;
	uint64_t *word, bit;
	const char *why;

	if (q->s.broken)
		return -EPROTO;
	if (!q->s.ready)
		return 0;
	n = pending(q);
	if (!n)
		return 0;
	if (n > q->s.size)
		return broke(q, "an avail index that jumped by more than the queue's size");
	head = relaxed(&avail(q)->ring[q->s.next_avail & (q->s.size - 1)]);
	if (head >= q->s.size)
		return broke(q, "a head out of range");
	word = &q->s.in_flight[head / 64];
	bit = 1ull << (head % 64);
	if (*word & bit)
		return broke(q, "a head that is already in flight");
	*chain = (struct chain){ .head = head, .iov = iov };
	why = chain_walk(q, chain, iov_max);
	if (why)
		return broke(q, why);
	*word |= bit;
	q->last_head = head;
	q->can_unpop = true;
	q->s.next_avail++;
	return 1;
}

void virtq_unpop(struct virtq *q)
{
	if (!q->s.ready)
		return;
	BUG_ON(!q->can_unpop);
	q->can_unpop = false;
	q->s.in_flight[q->last_head / 64] &= ~(1ull << (q->last_head % 64));
	q->s.next_avail--;
}

void virtq_put(struct virtq *q, uint16_t head, uint32_t written_bytes)
{
	struct used_elem *e;
	uint64_t bit = 1ull << (head % 64);

	if (!q->s.ready)
		return;
	BUG_ON(head >= q->s.size || !(q->s.in_flight[head / 64] & bit));
	q->s.in_flight[head / 64] &= ~bit;
	q->can_unpop = false;
	e = &used(q)->ring[q->s.next_used & (q->s.size - 1)];
	put_relaxed(&e->id, head);
	put_relaxed(&e->len, written_bytes);
	q->s.next_used++;
	/* 65536 pushes without an interrupt decision: the distance is no longer known. */
	if (q->s.next_used == q->s.signalled_used)
		q->s.signalled_valid = false;
}

void virtq_publish(struct virtq *q)
{
	if (q->s.ready)
		atomic_store_explicit(&used(q)->idx, q->s.next_used, memory_order_release);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written_bytes)
{
	virtq_put(q, head, written_bytes);
	virtq_publish(q);
}

bool virtq_wants_interrupt(struct virtq *q)
{
	uint16_t old = q->s.signalled_used, now = q->s.next_used, event;
	bool valid = q->s.signalled_valid;

	if (!q->s.ready || (valid && now == old))
		return false;
	q->s.signalled_used = now;
	q->s.signalled_valid = true;
	/* The driver must see the used index before the device reads what the driver asks for. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->s.event_idx)
		return !(relaxed(&avail(q)->flags) & AVAIL_F_NO_INTERRUPT);
	if (!valid)
		return true;
	/*
	 * Section 2.7.7: interrupt if the used index has moved past used_event since the last
	 * decision.
	 */
	event = relaxed(used_event(q));
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

void virtq_disable_kicks(struct virtq *q)
{
	if (!q->s.ready || q->s.kicks_off)
		return;
	q->s.kicks_off = true;
	if (!q->s.event_idx) {
		put_relaxed(&used(q)->flags, USED_F_NO_NOTIFY);
		return;
	}
	/*
	 * An old avail_event suppresses kicks by itself. Only if it equals the driver's next index
	 * must we move it back.
	 */
	if (q->s.avail_event == q->s.next_avail &&
	    atomic_load_explicit(&avail(q)->idx, memory_order_relaxed) == q->s.next_avail) {
		q->s.avail_event = (uint16_t)(q->s.next_avail - 1);
		put_relaxed(avail_event(q), q->s.avail_event);
	}
}

bool virtq_enable_kicks(struct virtq *q)
{
	if (!q->s.ready || q->s.broken)
		return false;
	q->s.kicks_off = false;
	if (q->s.event_idx) {
		publish_avail_event(q);
	} else {
		put_relaxed(&used(q)->flags, 0);
		atomic_thread_fence(memory_order_seq_cst);
		q->avail_idx = atomic_load_explicit(&avail(q)->idx, memory_order_acquire);
	}
	return q->avail_idx != q->s.next_avail;
}

int virtq_take_over(struct virtq *q)
{
	uint16_t avail_idx = atomic_load_explicit(&avail(q)->idx, memory_order_acquire);
	uint16_t used_idx = atomic_load_explicit(&used(q)->idx, memory_order_acquire);
	struct stranded_rings rings = { .size = q->s.size,
					.avail_idx = avail_idx,
					.used_idx = used_idx };
	uint16_t *heads;
	int rc;

	q->can_unpop = false;
	q->s.signalled_valid = false;
	q->s.next_avail = q->avail_idx = avail_idx;
	q->s.next_used = used_idx;
	memset(q->s.in_flight, 0, sizeof(q->s.in_flight));
	if ((uint16_t)(avail_idx - used_idx) > q->s.size)
		return broke(q, "an avail index that jumped by more than the queue's size");
	heads = malloc(2 * q->s.size * sizeof(*heads));
	if (!heads)
		return -ENOMEM;
	for (unsigned i = 0; i < q->s.size; i++) {
		uint32_t id = relaxed(&used(q)->ring[i].id);

		heads[i] = relaxed(&avail(q)->ring[i]);
		heads[q->s.size + i] = id < q->s.size ? (uint16_t)id : UINT16_MAX;
	}
	rings.avail = heads;
	rings.used = heads + q->s.size;
	rc = virtq_stranded(&rings, q->s.in_flight);
	free(heads);
	/* The previous server may have disabled kicks. */
	virtq_enable_kicks(q);
	return rc;
}

int virtq_pop_outstanding(struct virtq *q, struct chain *chain, struct iovec *iov, unsigned iov_max)
{
	const char *why;

	if (q->s.broken)
		return -EPROTO;
	for (unsigned i = 0; q->s.ready && i < VIRTQ_MAX_SIZE / 64; i++) {
		if (!q->s.in_flight[i])
			continue;
		*chain = (struct chain){ .iov = iov };
		chain->head = (uint16_t)(i * 64 + (unsigned)__builtin_ctzll(q->s.in_flight[i]));
		why = chain_walk(q, chain, iov_max);
		return why ? broke(q, why) : 1;
	}
	return 0;
}

/*
 * Copy the bytes [off, off + len_bytes) of n iovecs to buf, or from buf if write. Returns the bytes
 * copied.
 */
static size_t copy(const struct iovec *iov, unsigned n, uint64_t off, void *buf, size_t len_bytes,
		   bool write)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len_bytes; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - off;
		if (part > len_bytes - done)
			part = len_bytes - done;
		if (write)
			memcpy((uint8_t *)iov[i].iov_base + off, (uint8_t *)buf + done, part);
		else
			memcpy((uint8_t *)buf + done, (uint8_t *)iov[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t virtq_chain_read(const struct chain *chain, uint64_t off, void *dst, size_t len_bytes)
{
	return copy(chain->iov, chain->nreadable, off, dst, len_bytes, false);
}

size_t virtq_chain_write(const struct chain *chain, uint64_t off, const void *src, size_t len_bytes)
{
	return copy(chain->iov + chain->nreadable, chain->nwritable, off, (void *)(uintptr_t)src,
		    len_bytes, true);
}
