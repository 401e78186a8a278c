/*
 * bus: see bus.h.
 *
 * Theory of operation. A bus points to a table of ranges, sorted by base, that
 * never changes while a thread may read it. A writer fills another table, publishes it
 * in the old one's place, and waits until no thread reads the old one any more. That
 * wait is short, because a reader only does a binary search in the table. A bus
 * has two tables that take turns, so unmapping allocates nothing and cannot fail.
 *
 * Each thread that accesses a bus has a record: `walks`, odd while the thread reads a table,
 * and the ranges whose callbacks the thread is in. Only the thread writes its record, so
 * an access costs one full barrier, which makes walks odd, and no cache line moves
 * between vCPUs. The barrier orders the store of walks before the load of the table. A writer
 * stores the table and then loads walks. So either the writer sees the odd number and waits,
 * or the thread sees the new table. Before the thread makes walks even, it records the range
 * that it enters. Once the writer sees an even number, or a different odd one, the thread has left
 * that walk. Its record then shows whether it is inside the unmapped range, and it cannot enter
 * that range any more. bus_wait polls the records until no thread is in the range.
 */
#include "vmm/core/bus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/core/err.h"

#define FIRST_ROOM 16u
#define FIRST_NAP_NS 20000l
#define LONGEST_NAP_NS 1000000l

struct bus_table {
	unsigned n, room;
	struct {
		uint64_t base; /* a copy of the range's: the search reads only the table */
		struct bus_range *range;
	} at[];
};

/* The record of one thread, for all buses; only the thread writes the first three fields. */
struct reader {
	atomic_uint walks;
	const struct bus_range *_Atomic inside[BUS_NESTING];
	unsigned depth; /* of inside */
	bool listed;
	struct reader *next, **link;
};

/* For writers and for the list of readers. No thread holds it in a callback or while it sleeps. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct reader *readers;
static _Thread_local struct reader self;
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

/* --- readers ------------------------------------------------------------------ */

static void thread_exits(void *opaque)
{
	struct reader *me = opaque;

	BUG_ON(me->depth);
	pthread_mutex_lock(&lock);
	*me->link = me->next;
	if (me->next)
		me->next->link = me->link;
	pthread_mutex_unlock(&lock);
	me->listed = false;
}

static void make_exit_key(void)
{
	int rc = pthread_key_create(&exit_key, thread_exits);

	BUG_ON(rc);
}

/* Adds a thread to the list of readers, at its first access to any bus. */
static void enlist(struct reader *me)
{
	int rc;

	pthread_once(&exit_once, make_exit_key);
	rc = pthread_setspecific(exit_key, me);
	BUG_ON(rc);
	pthread_mutex_lock(&lock);
	me->next = readers;
	me->link = &readers;
	if (readers)
		readers->link = &me->next;
	readers = me;
	pthread_mutex_unlock(&lock);
	me->listed = true;
}

/* Returns the index of the first range whose base is above addr. */
static unsigned upper(const struct bus_table *t, uint64_t addr)
{
	unsigned lo = 0, hi = t ? t->n : 0;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (t->at[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct bus_range *find(const struct bus_table *t, uint64_t addr, unsigned size_bytes)
{
	unsigned at = upper(t, addr);
	const struct bus_range *r;

	if (!at)
		return NULL;
	r = t->at[at - 1].range;
	if (addr - r->base >= r->len_bytes || size_bytes > r->len_bytes - (addr - r->base))
		return NULL;
	return r;
}

struct access {
	const struct bus_ops *ops;
	void *opaque;
	uint64_t off;
};

/* Returns true if a range claims the access; then the thread is inside it until leave. */
static bool enter(struct bus *bus, uint64_t addr, unsigned size_bytes, struct access *access)
{
	struct reader *me = &self;
	unsigned walks = atomic_load_explicit(&me->walks, memory_order_relaxed);
	const struct bus_range *r;

	/* KVM cuts an access that crosses a page into pieces of any size; no register takes them. */
	if (!size_bytes || size_bytes > 8 || (size_bytes & (size_bytes - 1)))
		return false;
	if (!me->listed)
		enlist(me);
	BUG_ON(me->depth == BUS_NESTING);
	/* This store and load are sequentially consistent, and so are the writer's. */
	atomic_store(&me->walks, walks + 1);
	r = find(atomic_load(&bus->table), addr, size_bytes);
	if (r) {
		/* A copy: the owner may change the range as soon as walks is even. */
		*access = (struct access){ r->ops, r->opaque, addr - r->base };
		atomic_store_explicit(&me->inside[me->depth++], r, memory_order_relaxed);
	}
	atomic_store_explicit(&me->walks, walks + 2, memory_order_release);
	return r;
}

static void leave(void)
{
	atomic_store_explicit(&self.inside[--self.depth], NULL, memory_order_release);
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size_bytes)
{
	uint64_t val = ~0ull;
	struct access a;

	if (enter(bus, addr, size_bytes, &a)) {
		if (a.ops->read)
			val = a.ops->read(a.opaque, a.off, size_bytes);
		leave();
	}
	return val & bus_ones(size_bytes);
}

void bus_write(struct bus *bus, uint64_t addr, unsigned size_bytes, uint64_t val)
{
	struct access a;

	if (!enter(bus, addr, size_bytes, &a))
		return;
	if (a.ops->write)
		a.ops->write(a.opaque, a.off, size_bytes, val & bus_ones(size_bytes));
	leave();
}

/* --- writers, lock held --------------------------------------------------------- */

/* Waits until no thread reads a table that it loaded before the call. */
static void wait_for_walks(void)
{
	for (struct reader *r = readers; r; r = r->next) {
		unsigned walks = atomic_load(&r->walks);

		while (walks & 1 && atomic_load(&r->walks) == walks)
			sched_yield();
	}
}

/* Replaces the bus's table. table NULL: the bus is now empty, and its memory is freed. */
static void publish(struct bus *bus, struct bus_table *table)
{
	struct bus_table *old = atomic_load_explicit(&bus->table, memory_order_relaxed);

	atomic_store(&bus->table, table);
	wait_for_walks();
	if (table) {
		bus->spare = old;
		return;
	}
	free(old);
	free(bus->spare);
	bus->spare = NULL;
}

static int make_room(struct bus *bus, unsigned n)
{
	struct bus_table *spare = bus->spare;
	unsigned room = n < FIRST_ROOM ? FIRST_ROOM : n * 2;

	if (spare && spare->room >= n)
		return 0;
	spare = malloc(sizeof(*spare) + room * sizeof(spare->at[0]));
	if (!spare)
		return -ENOMEM;
	spare->room = room;
	free(bus->spare);
	bus->spare = spare;
	return 0;
}

static int map(struct bus *bus, struct bus_range *r)
{
	const struct bus_table *t = atomic_load_explicit(&bus->table, memory_order_relaxed);
	unsigned at = upper(t, r->base), n = t ? t->n : 0;
	struct bus_table *new;

	if (at && r->base - t->at[at - 1].base < t->at[at - 1].range->len_bytes)
		return -EEXIST;
	if (at < n && t->at[at].base - r->base < r->len_bytes)
		return -EEXIST;
	if (make_room(bus, n + 1))
		return -ENOMEM;
	new = bus->spare;
	if (n) {
		memcpy(new->at, t->at, at * sizeof(t->at[0]));
		memcpy(&new->at[at + 1], &t->at[at], (n - at) * sizeof(t->at[0]));
	}
	new->at[at].base = r->base;
	new->at[at].range = r;
	new->n = n + 1;
	r->bus = bus;
	publish(bus, new);
	return 0;
}

static void unmap(struct bus_range *r)
{
	struct bus *bus = r->bus;
	const struct bus_table *t = atomic_load_explicit(&bus->table, memory_order_relaxed);
	unsigned at = upper(t, r->base) - 1;
	struct bus_table *new = t->n > 1 ? bus->spare : NULL;

	BUG_ON(at >= t->n || t->at[at].range != r);
	if (new) {
		/* The spare table held one range less or one more than t, so it has the room. */
		BUG_ON(new->room < t->n - 1);
		memcpy(new->at, t->at, at * sizeof(t->at[0]));
		memcpy(&new->at[at], &t->at[at + 1], (t->n - at - 1) * sizeof(t->at[0]));
		new->n = t->n - 1;
	}
	r->bus = NULL;
	publish(bus, new);
}

static bool is_entered(const struct bus_range *r)
{
	for (struct reader *reader = readers; reader; reader = reader->next)
		for (unsigned i = 0; i < BUS_NESTING; i++)
			if (atomic_load_explicit(&reader->inside[i], memory_order_acquire) == r)
				return true;
	return false;
}

/* --- writers ----------------------------------------------------------------------- */

int bus_map(struct bus *bus, struct bus_range *r)
{
	int rc;

	if (!r->len_bytes || r->base + r->len_bytes - 1 < r->base)
		return -EINVAL;
	pthread_mutex_lock(&lock);
	BUG_ON(r->bus);
	rc = map(bus, r);
	pthread_mutex_unlock(&lock);
	return rc;
}

void bus_unmap(struct bus_range *r)
{
	pthread_mutex_lock(&lock);
	if (r->bus)
		unmap(r);
	pthread_mutex_unlock(&lock);
}

void bus_wait(const struct bus_range *r)
{
	struct timespec nap = { .tv_nsec = FIRST_NAP_NS };
	bool entered;

	for (unsigned i = 0; i < self.depth; i++)
		BUG_ON(self.inside[i] == r);
	for (;;) {
		pthread_mutex_lock(&lock);
		BUG_ON(r->bus);
		entered = is_entered(r);
		pthread_mutex_unlock(&lock);
		if (!entered)
			return;
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < LONGEST_NAP_NS)
			nap.tv_nsec *= 2;
	}
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *opaque)
{
	struct bus_range *r = malloc(sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	*r = (struct bus_range){ base, len_bytes, ops, opaque, NULL, true };
	rc = bus_map(bus, r);
	if (rc)
		free(r);
	return rc;
}

void bus_remove(struct bus *bus, uint64_t base)
{
	const struct bus_table *t;
	struct bus_range *r = NULL;
	unsigned at;

	pthread_mutex_lock(&lock);
	t = atomic_load_explicit(&bus->table, memory_order_relaxed);
	at = upper(t, base);
	if (at && t->at[at - 1].base == base && t->at[at - 1].range->allocated) {
		r = t->at[at - 1].range;
		unmap(r);
	}
	pthread_mutex_unlock(&lock);
	if (!r)
		return;
	bus_wait(r);
	free(r);
}

unsigned bus_count(struct bus *bus)
{
	const struct bus_table *t;
	unsigned n;

	pthread_mutex_lock(&lock);
	t = atomic_load_explicit(&bus->table, memory_order_relaxed);
	n = t ? t->n : 0;
	pthread_mutex_unlock(&lock);
	return n;
}
