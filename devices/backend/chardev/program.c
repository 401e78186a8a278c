/*
 * chardev/program: see program.h.
 *
 * Theory of operation. Output takes the way that it takes to any sink: the device's thread puts it into the ring,
 * and the loop's thread takes it out. It only never goes out from the device's thread, because the
 * owner's callbacks belong to the loop (chardev.hold stays set). A short output sets out_wait, as a
 * full descriptor does, and resume stands for the descriptor that is writable again.
 *
 * resume wakes the loop and does nothing else: so an owner that resumes in each output and takes nothing
 * there has a turn of the loop at a time, and no call comes back into itself.
 *
 * The device tells in its own thread that the guest has opened or closed the port. Only the number of
 * changes is kept: odd is open. The loop's thread tells the owner what is new, at most two calls a time, and
 * only when the output from before the last change is out.
 */
#include "devices/backend/chardev/program.h"

#include <errno.h>

#include "devices/backend/chardev/chardev_impl.h"

struct program {
	struct chardev chr;
	const struct chardev_program_ops *ops;
	void *opaque;
	bool wants_room; /* a send was short */
	bool resumed;	 /* since the last output began */
	unsigned told;	 /* changes that the owner knows */

	/* chr.lock guards these */
	unsigned changes;    /* how often the guest has opened and closed its end */
	uint64_t changed_at; /* chr.head at the last one */
};

static struct program *program_of(struct chardev *chr)
{
	return (struct program *)chr;
}

static ssize_t program_put(struct chardev *chr, const uint8_t *buf, size_t len)
{
	struct program *p = program_of(chr);
	size_t n;

	p->resumed = false;
	n = p->ops->output(p->opaque, buf, len);
	BUG_ON(n > len);
	chr->out_wait = n < len;
	return n ? (ssize_t)n : -EAGAIN;
}

static void program_poked(struct chardev *chr)
{
	if (program_of(chr)->resumed)
		chr->out_wait = false;
}

static void tell_open(struct program *p, bool open)
{
	if (p->ops->guest_open)
		p->ops->guest_open(p->opaque, open);
}

static void program_looked(struct chardev *chr)
{
	struct program *p = program_of(chr);
	unsigned changes, told = p->told;
	bool due;

	if (p->wants_room && chr->attached && !chr->in_len) {
		p->wants_room = false;
		if (p->ops->room)
			p->ops->room(p->opaque);
	}
	pthread_mutex_lock(&chr->lock);
	changes = p->changes;
	due = chr->tail >= p->changed_at;
	pthread_mutex_unlock(&chr->lock);
	if (changes == told || !due)
		return;
	p->told = changes;
	if ((changes - told) % 2 == 0)
		tell_open(p, !(told % 2));
	tell_open(p, changes % 2);
}

static void program_guest_open(struct chardev *chr, bool open)
{
	struct program *p = program_of(chr);
	bool changed;

	pthread_mutex_lock(&chr->lock);
	changed = p->changes % 2 != open;
	p->changes += changed;
	p->changed_at = changed ? chr->head : p->changed_at;
	pthread_mutex_unlock(&chr->lock);
	if (changed)
		chardev_wake(chr);
}

/* The device's last words are here before its machine's end is known. */
static void program_detached(struct chardev *chr)
{
	program_guest_open(chr, false);
	program_poked(chr);
	if (!chr->out_wait)
		chardev_flush(chr);
	program_looked(chr);
}

static const struct chardev_ops program_ops = {
	.put = program_put,
	.poked = program_poked,
	.looked = program_looked,
	.guest_open = program_guest_open,
	.detached = program_detached,
};

struct opening {
	struct chardev_pool *pool;
	const char *id;
	struct chardev *chr;
	struct err *err;
	int rc;
};

/* The pool's thread. */
static void open_here(void *opaque)
{
	struct opening *o = opaque;
	struct keyvals cfg = { .option = o->id };

	o->rc = chardev_new(&cfg, chardev_pool_loop(o->pool), &program_ops, sizeof(struct program),
			    CHARDEV_PROGRAM_BYTES, &o->chr, o->err, "bantam");
}

int chardev_pool_open_program(struct chardev_pool *pool, const char *id,
			      const struct chardev_program_ops *ops, void *opaque,
			      struct chardev **out, struct err *err)
{
	struct opening o = { .pool = pool, .id = id, .err = err };
	int rc = 0;

	*out = NULL;
	if (chardev_pool_find(pool, id))
		return err_set(err, EEXIST, "%s: there is another console of this name", id);
	rc = chardev_pool_start(pool, err);
	if (rc)
		return rc;
	chardev_pool_call(pool, open_here, &o);
	if (o.rc)
		return o.rc;
	program_of(o.chr)->ops = ops;
	program_of(o.chr)->opaque = opaque;
	o.chr->hold = true;
	rc = chardev_pool_add(pool, id, o.chr, err);
	if (!rc)
		*out = o.chr;
	return rc;
}

size_t chardev_program_send(struct chardev *chr, const void *buf, size_t len)
{
	size_t n = chardev_give(chr, buf, len);

	program_of(chr)->wants_room |= n < len;
	return n;
}

void chardev_program_resume(struct chardev *chr)
{
	program_of(chr)->resumed = true;
	loop_event_soon(chr->event_watch);
}
