/* backlog: see backlog.h. A ring of copies. */
#include "tools/bantam-net-user/backlog.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES 4096u
#define BYTES_FULL (1u << 20) /* above: stop reading from the host */
#define BYTES_MAX (16u << 20) /* above: drop frames */

struct frame {
	uint32_t len;
	uint8_t *bytes;
};

static struct {
	const struct guest_end *guest;
	struct frame queue[FRAMES];
	unsigned first, nqueued;
	size_t queued_bytes;
} me;

static void drop_first(void)
{
	struct frame *f = &me.queue[me.first];

	me.queued_bytes -= f->len;
	free(f->bytes);
	me.first = (me.first + 1) % FRAMES;
	me.nqueued--;
}

void backlog_open(const struct guest_end *guest)
{
	while (me.nqueued)
		drop_first();
	me.guest = guest;
}

void backlog_flush(void)
{
	while (me.nqueued && me.guest->send(me.queue[me.first].bytes, me.queue[me.first].len))
		drop_first();
}

void backlog_send(const void *frame, size_t len_bytes)
{
	struct frame *f = &me.queue[(me.first + me.nqueued) % FRAMES];

	if (!me.nqueued && me.guest->send(frame, len_bytes))
		return;
	if (me.nqueued == FRAMES || me.queued_bytes + len_bytes > BYTES_MAX)
		return;
	f->bytes = malloc(len_bytes);
	if (!f->bytes) {
		/* Part of it may be in the guest's buffers already. */
		if (!me.nqueued && me.guest->cut)
			me.guest->cut();
		return;
	}
	memcpy(f->bytes, frame, len_bytes);
	f->len = (uint32_t)len_bytes;
	me.queued_bytes += len_bytes;
	me.nqueued++;
}

bool backlog_full(void)
{
	return me.queued_bytes > BYTES_FULL;
}
