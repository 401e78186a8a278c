/*
 * qcow2/meta: the set of clusters that hold metadata. See meta.h. Open addressing with linear
 * probing, at most half full.
 */
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64u

static size_t place(const struct qcow2 *q, uint64_t offset)
{
	return (size_t)(((offset >> q->file.cluster_bits) * 0x9e3779b97f4a7c15ull) >> 20) &
	       (q->meta.room - 1);
}

bool qcow2_meta_has(const struct qcow2 *q, uint64_t offset)
{
	size_t i;

	offset &= ~(q->file.cluster_bytes - 1);
	/* The header. */
	if (!offset)
		return true;
	if (!q->meta.room)
		return false;
	for (i = place(q, offset); q->meta.place[i]; i = (i + 1) & (q->meta.room - 1))
		if (q->meta.place[i] == offset)
			return true;
	return false;
}

static void put(struct qcow2 *q, uint64_t offset)
{
	size_t i = place(q, offset);

	while (q->meta.place[i])
		i = (i + 1) & (q->meta.room - 1);
	q->meta.place[i] = offset;
}

static int grow(struct qcow2 *q)
{
	size_t room = q->meta.room, want = room ? room * 2 : FIRST_ROOM;
	uint64_t *old = q->meta.place, *new = calloc(want, sizeof(*new));

	if (!new)
		return -ENOMEM;
	q->meta.place = new;
	q->meta.room = want;
	for (size_t i = 0; i < room; i++)
		if (old[i])
			put(q, old[i]);
	free(old);
	return 0;
}

int qcow2_meta_add(struct qcow2 *q, uint64_t offset)
{
	int rc = 0;

	if (qcow2_meta_has(q, offset))
		return -EEXIST;
	if (2 * (q->meta.n + 1) > q->meta.room)
		rc = grow(q);
	if (rc)
		return rc;
	put(q, offset);
	q->meta.n++;
	return 0;
}

int qcow2_meta_add_run(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	int rc = 0;

	for (uint64_t at = offset; !rc && at < offset + len; at += q->file.cluster_bytes)
		rc = qcow2_meta_add(q, at);
	return rc;
}

void qcow2_meta_remove(struct qcow2 *q, uint64_t offset)
{
	size_t mask = q->meta.room - 1, i, hole;

	if (!q->meta.room)
		return;
	for (i = place(q, offset); q->meta.place[i] != offset; i = (i + 1) & mask)
		if (!q->meta.place[i])
			return;
	q->meta.n--;
	/* Offsets that were put behind this place because it was taken must still be found. */
	for (hole = i;;) {
		q->meta.place[hole] = 0;
		for (;;) {
			size_t home;

			i = (i + 1) & mask;
			if (!q->meta.place[i])
				return;
			home = place(q, q->meta.place[i]);
			if (((i - home) & mask) >= ((i - hole) & mask))
				break;
		}
		q->meta.place[hole] = q->meta.place[i];
		hole = i;
	}
}
