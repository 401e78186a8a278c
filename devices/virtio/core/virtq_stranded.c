/*
 * virtio/virtq_stranded: see virtq_stranded.h.
 *
 * Theory of operation. Both rings are histories of their last size events, but they do not show how
 * the two histories interleave. If the first B entries of both rings name the same requests (B is a
 * boundary: the server answered all requests before it before any after it), then an outstanding
 * request was made available since B and not used since B. Let D(i) be the heads of avail[0, i)
 * minus those of used[0, i), with multiplicity: D has the same value at every boundary. So
 * by_boundary takes the most frequent value of D, and the last position that has it. A server that
 * answers in order makes every i a boundary; a pool of threads makes one now and then.
 *
 * In a deep queue that the server answers at random, no boundary appears for a long time. Then
 * by_distance decides. Assume that the driver keeps d requests in flight and reuses each free head
 * at once. A head made available at p and last used at k is then outstanding if p - k >= d;
 * otherwise it was answered.
 */
#include "devices/virtio/core/virtq_stranded.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Fewer equal values than this may be chance. */
#define EVIDENCE 3u
#define NEVER (-1)

struct work {
	const struct stranded_rings *r;
	unsigned n; /* number of outstanding requests */
	unsigned size;
	/*
	 * Positions count from the oldest avail entry: avail has [0, size), used ends at size - n
	 * and begins n before 0.
	 */
	int end; /* end of used: size - n */
	struct {
		int avail, used; /* the newest positions, or NEVER (avail), INT16_MIN (used) */
		int balance;	 /* since the boundary: times made available minus times used */
	} head[1024];
	uint64_t sum[1025]; /* D(i), hashed */
};

static uint16_t avail_at(const struct work *w, int pos)
{
	return w->r->avail[(uint16_t)(w->r->avail_idx - w->size + (unsigned)pos) % w->size];
}

static uint16_t used_at(const struct work *w, int pos)
{
	return w->r->used[(uint16_t)(w->r->avail_idx - w->size + (unsigned)pos) % w->size];
}

static uint64_t hash(uint64_t head)
{
	uint64_t x = (head + 1) * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 27;
}

static void prepare(struct work *w)
{
	for (unsigned h = 0; h < w->size; h++) {
		w->head[h].avail = NEVER;
		w->head[h].used = INT16_MIN;
	}
	for (int i = 0; i < (int)w->size; i++)
		if (avail_at(w, i) < w->size)
			w->head[avail_at(w, i)].avail = i;
	for (int i = w->end - (int)w->size; i < w->end; i++)
		if (used_at(w, i) < w->size)
			w->head[used_at(w, i)].used = i;
	for (int i = 0; i < w->end; i++)
		w->sum[i + 1] = w->sum[i] + hash(avail_at(w, i)) - hash(used_at(w, i));
}

/*
 * Returns true if head h was certainly answered since it was last made available: the k-th use is
 * of one of the first k chains made available.
 */
static bool surely_used(const struct work *w, unsigned h)
{
	return w->head[h].avail == NEVER || w->head[h].used >= w->head[h].avail;
}

/* Returns true if the balances since a boundary agree with what is known of each head. */
static bool agrees(const struct work *w)
{
	for (unsigned h = 0; h < w->size; h++) {
		if (w->head[h].balance ? surely_used(w, h) :
					 w->head[h].avail != NEVER && w->head[h].used == INT16_MIN)
			return false;
	}
	return true;
}

/* Add by to the balance of head h; *odd counts the heads whose balance is neither 0 nor 1. */
static void weigh(struct work *w, unsigned h, int by, unsigned *odd)
{
	int before;

	if (h >= w->size)
		return;
	before = w->head[h].balance;
	w->head[h].balance += by;
	*odd -= before != 0 && before != 1;
	*odd += w->head[h].balance != 0 && w->head[h].balance != 1;
}

static unsigned count_equal(const struct work *w, int boundary)
{
	unsigned n = 0;

	for (int i = 0; i <= w->end; i++)
		n += w->sum[i] == w->sum[boundary];
	return n;
}

static void note(const struct work *w, uint64_t *set)
{
	unsigned left = w->n;

	memset(set, 0, (w->size + 63) / 64 * sizeof(*set));
	for (unsigned h = 0; h < w->size && left; h++) {
		if (!w->head[h].balance)
			continue;
		set[h / 64] |= 1ull << (h % 64);
		left--;
	}
}

static bool by_boundary(struct work *w, uint64_t *set)
{
	unsigned odd = 0, best = EVIDENCE - 1, n;

	for (int i = w->end; i < (int)w->size; i++)
		weigh(w, avail_at(w, i), 1, &odd);
	for (int b = w->end; b >= 0; b--) {
		if (b < w->end) {
			weigh(w, avail_at(w, b), 1, &odd);
			weigh(w, used_at(w, b), -1, &odd);
		}
		n = odd ? 0 : count_equal(w, b);
		if (n > best && agrees(w)) {
			best = n;
			note(w, set);
			/* All requests were answered in order: no other boundary can be better. */
			if (n == (unsigned)w->end + 1)
				break;
		}
	}
	return best >= EVIDENCE;
}

/*
 * Take the n heads with the longest distance from their last use to when they were last made
 * available.
 */
static void by_distance(const struct work *w, uint64_t *set)
{
	for (unsigned left = w->n; left; left--) {
		int best = 0, best_distance = 0;

		for (unsigned h = 0; h < w->size; h++) {
			int distance = w->head[h].avail - w->head[h].used;

			if (!surely_used(w, h) && !(set[h / 64] >> (h % 64) & 1) &&
			    distance > best_distance) {
				best = (int)h;
				best_distance = distance;
			}
		}
		if (!best_distance)
			return;
		set[best / 64] |= 1ull << (best % 64);
	}
}

int virtq_stranded(const struct stranded_rings *rings, uint64_t *set)
{
	unsigned n = (uint16_t)(rings->avail_idx - rings->used_idx);
	struct work *w;

	if (!n || n > rings->size || rings->size > 1024)
		return n ? -EINVAL : 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->r = rings;
	w->n = n;
	w->size = rings->size;
	w->end = (int)(w->size - n);
	prepare(w);
	if (!by_boundary(w, set))
		by_distance(w, set);
	free(w);
	return 0;
}
