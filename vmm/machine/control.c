/*
 * control: what other threads may learn from the devices of a running machine, and change in them.
 * See machine.h.
 *
 * Theory of operation. Under devices_lock a thread finds only devices that are not being destroyed,
 * but it may not wait with that lock held: other threads look at the devices too. So what takes longer
 * than a moment borrows the device: it marks it under the lock, works without the lock, and gives it
 * back. One thread at a time borrows a device, and a device is not destroyed before it is back
 * (machine_destroy_devices).
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio/balloon.h"
#include "vmm/core/parse.h"
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

/* --- one device -------------------------------------------------------------------------- */

/* Returns the first device of this type (NULL: any) and id (NULL: any), or NULL. */
static struct device *find_locked(const struct machine *m, const struct device_type *type,
				  const char *id)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];

		if (dev->type && (!type || dev->type == type) && (!id || !strcmp(dev->id, id)))
			return dev;
	}
	return NULL;
}

/* As find_locked. The caller gives the device back. */
static struct device *borrow(struct machine *m, const struct device_type *type, const char *id)
{
	struct device *dev;

	pthread_mutex_lock(&m->devices_lock);
	while ((dev = find_locked(m, type, id)) && dev->borrowed)
		pthread_cond_wait(&m->device_back, &m->devices_lock);
	if (dev)
		dev->borrowed = true;
	pthread_mutex_unlock(&m->devices_lock);
	return dev;
}

static void give_back(struct machine *m, struct device *dev)
{
	pthread_mutex_lock(&m->devices_lock);
	dev->borrowed = false;
	pthread_cond_broadcast(&m->device_back);
	pthread_mutex_unlock(&m->devices_lock);
}

int machine_set_balloon(struct machine *m, uint64_t bytes, struct err *err)
{
	struct device *dev = borrow(m, &virtio_balloon_type, NULL);
	char size[32], all[32];
	int rc;

	if (!dev)
		return err_set(err, EINVAL, "this VM has no balloon");
	rc = balloon_set_target(dev, bytes);
	give_back(m, dev);
	if (!rc)
		return 0;
	return err_set(err, EINVAL, "a balloon of %s: the guest has only %s",
		       parse_size_text(bytes, size, sizeof(size)),
		       parse_size_text(m->mem.total_bytes, all, sizeof(all)));
}

uint64_t machine_memory_actual(struct machine *m)
{
	const struct device *dev;
	uint64_t held = 0;

	pthread_mutex_lock(&m->devices_lock);
	dev = find_locked(m, &virtio_balloon_type, NULL);
	if (dev)
		held = balloon_held_bytes(dev);
	pthread_mutex_unlock(&m->devices_lock);
	/* The guest tells how much it is, and may say anything. */
	return held < m->mem.total_bytes ? m->mem.total_bytes - held : 0;
}

int machine_resize_disk(struct machine *m, const char *id, uint64_t bytes, struct err *err)
{
	struct device *dev = borrow(m, NULL, id);
	int rc;

	if (dev && dev->ops->resize)
		rc = dev->ops->resize(dev, bytes, err);
	else
		rc = err_set(err, ENODEV, "no disk has the id \"%.64s\"", id);
	if (dev)
		give_back(m, dev);
	return rc;
}

/* --- all devices, in the loop's thread ----------------------------------------------------- */

static void press_power_button(void *opaque)
{
	machine_press_power_button(opaque);
}

static void refresh_devices(void *opaque)
{
	machine_refresh_devices(opaque);
}

/* If there is no memory for the post, nothing happens. */
void machine_power_button(struct machine *m)
{
	loop_post(m->loop, press_power_button, m);
}

void machine_refresh(struct machine *m)
{
	loop_post(m->loop, refresh_devices, m);
}
