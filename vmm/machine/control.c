/*
 * control: what other threads may learn from the devices of a running machine, and change in them.
 * See machine.h.
 */
#include "vmm/machine/machine_impl.h"

struct counters {
	const char *id;
	void (*fn)(void *opaque, const char *id, const char *name, uint64_t value);
	void *opaque;
};

static void counter(void *opaque, const char *name, uint64_t value)
{
	const struct counters *c = opaque;

	c->fn(c->opaque, c->id, name, value);
}

void machine_walk_counters(struct machine *m,
			   void (*fn)(void *opaque, const char *id, const char *name,
				      uint64_t value),
			   void *opaque)
{
	pthread_mutex_lock(&m->devices_lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];
		struct counters c = { dev->id, fn, opaque };

		if (dev->ops->counters)
			dev->ops->counters(dev, counter, &c);
	}
	pthread_mutex_unlock(&m->devices_lock);
}
