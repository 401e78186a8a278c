/*
 * hotplug: the registers of PCI hot-plug, see platform.h.
 *
 * Theory of operation. The host puts a device into a slot, or asks the guest for one, and the Generic Event Device raises an
 * event. The guest's AML then reads both registers and notifies the slots (Device Check, Eject Request). A driver that
 * gives its device up ends with the slot's _EJ0, which writes the slot's bit. The host removes the device later, in another
 * thread: the write runs in a vCPU, which must not wait for the accesses of others to the device that it ends.
 *
 * The guest may write what it likes, as often as it likes. A slot's bit counts once for each time that the
 * guest was asked: "asked" goes where "ejected" comes, in one exchange.
 *
 * Threads: any vCPU reads and writes the registers, the host's threads set bits; all fields are atomic.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/board/platform.h"

enum { CAME = 0, WANTED = 4, EJECT = 8 };

/* A snapshot will save exactly this. Bit n is slot n. */
struct hotplug_state {
	_Atomic uint32_t came, wanted; /* raised and not read */
	_Atomic uint32_t asked;	       /* and not ejected */
	_Atomic uint32_t ejected;      /* and not taken */
};

struct hotplug {
	struct device dev;
	struct hotplug_state s;
	const struct device_env *env;
	struct hotplug_config config;
};

static const struct device_type hotplug_type = { .name = "hotplug" };

static uint64_t hotplug_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct hotplug *h = opaque;

	if (size_bytes != 4)
		return 0;
	if (off == CAME)
		return atomic_exchange(&h->s.came, 0);
	if (off == WANTED)
		return atomic_exchange(&h->s.wanted, 0);
	return 0;
}

static void hotplug_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct hotplug *h = opaque;
	uint32_t slots = (uint32_t)val;

	if (off != EJECT || size_bytes != 4)
		return;
	slots &= atomic_fetch_and(&h->s.asked, ~slots);
	if (!slots)
		return;
	atomic_fetch_or(&h->s.ejected, slots);
	h->config.ejected(h->config.opaque);
}

static const struct bus_ops hotplug_bus = { hotplug_read, hotplug_write };

void hotplug_came(struct device *dev, unsigned slot)
{
	struct hotplug *h = (struct hotplug *)dev;

	atomic_fetch_or(&h->s.came, 1u << slot);
}

void hotplug_ask(struct device *dev, unsigned slot)
{
	struct hotplug *h = (struct hotplug *)dev;

	atomic_fetch_or(&h->s.asked, 1u << slot);
	atomic_fetch_or(&h->s.wanted, 1u << slot);
}

uint32_t hotplug_take_ejected(struct device *dev)
{
	struct hotplug *h = (struct hotplug *)dev;
	uint32_t slots = atomic_exchange(&h->s.ejected, 0);

	/* What the guest has not read yet would be said of the slot's next device. */
	atomic_fetch_and(&h->s.came, ~slots);
	atomic_fetch_and(&h->s.wanted, ~slots);
	atomic_fetch_and(&h->s.asked, ~slots);
	return slots;
}

static void hotplug_destroy(struct device *dev)
{
	struct hotplug *h = (struct hotplug *)dev;

	bus_remove(h->env->pio, h->config.port);
	free(h);
}

static void hotplug_describe(struct device *dev, char *buf, size_t len)
{
	snprintf(buf, len, "ports from 0x%x", ((struct hotplug *)dev)->config.port);
}

static const struct device_ops hotplug_ops = {
	.destroy = hotplug_destroy,
	.describe = hotplug_describe,
};

int hotplug_create(const struct device_env *env, const struct hotplug_config *config,
		   struct device **out, struct err *err)
{
	struct hotplug *h = calloc(1, sizeof(*h));
	int rc;

	*out = NULL;
	if (!h)
		return err_sys(err, ENOMEM, "hotplug");
	h->dev = (struct device){ &hotplug_type, &hotplug_ops, "hotplug" };
	h->env = env;
	h->config = *config;
	rc = bus_add(env->pio, config->port, HOTPLUG_PORT_BYTES, &hotplug_bus, h);
	if (rc) {
		err_sys(err, -rc, "hotplug: port 0x%x", config->port);
		free(h);
		return rc;
	}
	*out = &h->dev;
	return 0;
}
