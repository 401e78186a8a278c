/*
 * chardev/ring: the bytes between a device and its sink. Positions count all bytes since the start;
 * head - tail bytes are in the ring, never more than it holds.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <string.h>

/* len is at most ring_bytes. */
static void append(struct chardev *chr, const uint8_t *buf, size_t len)
{
	size_t at = chr->head & (chr->ring_bytes - 1);
	size_t first = chr->ring_bytes - at;

	if (first > len)
		first = len;
	memcpy(chr->ring + at, buf, first);
	memcpy(chr->ring, buf + first, len - first);
	chr->head += len;
}

/* Put all of buf; the oldest bytes go. */
static void put_lossy(struct chardev *chr, const uint8_t *buf, size_t len)
{
	uint64_t from;

	if (len > chr->ring_bytes) {
		size_t skip = len - chr->ring_bytes;

		chr->head += skip;
		buf += skip;
		len -= skip;
	}
	append(chr, buf, len);
	from = chr->head > chr->ring_bytes ? chr->head - chr->ring_bytes : 0;
	if (chr->tail < from) {
		if (chr->connected)
			chr->dropped += from - chr->tail;
		chr->tail = from;
	}
}

size_t chardev_ring_put(struct chardev *chr, const void *buf, size_t len)
{
	size_t room = chr->ring_bytes - (size_t)(chr->head - chr->tail);

	if (chr->lossy && !chr->exact) {
		put_lossy(chr, buf, len);
		return len;
	}
	if (len > room)
		len = room;
	append(chr, buf, len);
	return len;
}

size_t chardev_ring_peek(struct chardev *chr, uint8_t *buf, size_t len, uint64_t *pos)
{
	size_t at, first, used;

	pthread_mutex_lock(&chr->lock);
	used = (size_t)(chr->head - chr->tail);
	if (chr->failed || (chr->lossy && !chr->connected))
		used = 0;
	if (len > used)
		len = used;
	at = chr->tail & (chr->ring_bytes - 1);
	first = chr->ring_bytes - at;
	if (first > len)
		first = len;
	memcpy(buf, chr->ring + at, first);
	memcpy(buf + first, chr->ring, len - first);
	*pos = chr->tail;
	chr->urgent = false;
	pthread_mutex_unlock(&chr->lock);
	return len;
}

void chardev_ring_taken(struct chardev *chr, uint64_t pos)
{
	pthread_mutex_lock(&chr->lock);
	if (chr->tail < pos)
		chr->tail = pos;
	pthread_mutex_unlock(&chr->lock);
}
