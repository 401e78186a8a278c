/*
 * chardev/winsize: a sink whose input for the guest is the size of stdio's terminal: lines "ROWS COLUMNS\n"
 * (guest/terminal.h). What the guest writes is gone.
 *
 * Theory of operation. stdio's loop tells each new size. The guest gets the newest one only, when it has taken
 * the line before, and the size as it is whenever it opens its end, since its reader may be another one. The device
 * tells of that in its own thread, which only sets due and wakes the loop.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "devices/backend/chardev/chardev_impl.h"

#define RING_BYTES 4096u

struct winsize_sink {
	struct chardev chr;
	atomic_bool due; /* the guest does not know the size */
};

/* One at a time: there is one stdio. The size may be known before the sink is opened. */
static struct winsize_sink *sink;
static uint16_t cols, rows; /* 0: not known */

static ssize_t winsize_put(struct chardev *chr, const uint8_t *buf, size_t len)
{
	return (ssize_t)len;
}

static void winsize_looked(struct chardev *chr)
{
	struct winsize_sink *w = (struct winsize_sink *)chr;
	char line[16];

	if (!chr->attached || chr->in_len || !rows || !atomic_exchange(&w->due, false))
		return;
	chardev_give(chr, (uint8_t *)line,
		     (size_t)snprintf(line, sizeof(line), "%u %u\n", rows, cols));
}

static void winsize_guest_open(struct chardev *chr, bool open)
{
	if (!open)
		return;
	atomic_store(&((struct winsize_sink *)chr)->due, true);
	chardev_wake(chr);
}

static void winsize_close(struct chardev *chr)
{
	if (sink == (struct winsize_sink *)chr)
		sink = NULL;
}

static const struct chardev_ops winsize_ops = {
	.put = winsize_put,
	.looked = winsize_looked,
	.guest_open = winsize_guest_open,
	.close = winsize_close,
};

void chardev_winsize_tell(uint16_t new_cols, uint16_t new_rows)
{
	cols = new_cols;
	rows = new_rows;
	if (!sink)
		return;
	atomic_store(&sink->due, true);
	chardev_wake(&sink->chr);
}

int chardev_open_winsize(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			 struct err *err)
{
	int rc = chardev_new(cfg, loop, &winsize_ops, sizeof(struct winsize_sink), RING_BYTES, out,
			     err, "the terminal's size");

	if (!rc)
		sink = (struct winsize_sink *)*out;
	return rc;
}
