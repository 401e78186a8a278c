/* fake_echo: see fake_echo.h. */
#include "tests/unit/fake_echo.h"

#include <criterion/criterion.h>
#include <string.h>

static struct echo *of(struct virtio_device *v)
{
	return (struct echo *)v;
}

static int echo_activate(struct virtio_device *v)
{
	of(v)->activated++;
	return of(v)->activate_rc;
}

static void echo_kick(struct virtio_device *v, unsigned queue)
{
	struct virtq *q = &v->queue[queue];
	struct iovec iov[8];
	struct chain chain;
	uint8_t buf[256];
	int rc;

	of(v)->kicks++;
	of(v)->kicked[queue]++;
	do {
		virtq_disable_kicks(q);
		while ((rc = virtq_pop(q, &chain, iov, 8)) > 0) {
			size_t n = virtq_chain_read(&chain, 0, buf, sizeof(buf));

			virtq_push(q, chain.head, (uint32_t)virtq_chain_write(&chain, 0, buf, n));
		}
	} while (!rc && virtq_enable_kicks(q));
	if (rc < 0)
		virtio_broken(v, q->broken_why);
	virtio_interrupt(v, queue);
}

static void echo_write_config(struct virtio_device *v, uint32_t off, uint32_t len)
{
	of(v)->config_writes++;
	of(v)->config_off = off;
	of(v)->config_len = len;
}

static bool echo_reset(struct virtio_device *v)
{
	of(v)->resets++;
	return !of(v)->slow_reset;
}

static const struct virtio_class echo_class = {
	.name = "virtio-echo",
	.device_id = 42,
	.pci_class = 0x00ff00,
	.activate = echo_activate,
	.kick = echo_kick,
	.write_config = echo_write_config,
	.reset = echo_reset,
};

void echo_init(struct echo *echo, struct fake_env *f)
{
	memset(echo, 0, sizeof(*echo));
	virtio_init(&echo->v, &echo_class, &f->env, ECHO_QUEUES, ECHO_SIZE, 1u << ECHO_FEATURE,
		    ECHO_CONFIG);
	for (unsigned i = 0; i < ECHO_CONFIG; i++)
		echo->v.s.config[i] = (uint8_t)(0xa0 + i);
}

void rig_init(struct rig *r, enum rig_how how)
{
	struct err err = { "" };

	memset(r, 0, sizeof(*r));
	fake_env_init(&r->f, how == RIG_MMIO ? FAKE_MMIO : FAKE_PCI);
	echo_init(&r->echo, &r->f);
	cr_assert_eq(virtio_attach(&r->echo.v, &err), 0, "%s", err.text);
	fake_driver_find(&r->d, &r->f, 0, how == RIG_MSIX);
}

void rig_destroy(struct rig *r)
{
	virtio_detach(&r->echo.v);
	fake_env_destroy(&r->f);
}

uint32_t rig_echo(struct rig *r, unsigned queue, const char *text)
{
	struct fake_ring *ring = &r->d.ring[queue];
	uint32_t len = (uint32_t)strlen(text);
	gpa_t buf = fake_alloc(&r->f, 512);
	struct fake_buf out = { buf.v, len }, in = { buf.v + 256, 256 };
	struct fake_used_elem e = { 0 };
	uint16_t head;

	memcpy(fake_at(&r->f, buf, len), text, len);
	head = fake_ring_add(ring, &out, 1, &in, 1);
	fake_driver_kick(&r->d, queue);
	cr_assert(fake_ring_take(ring, &e));
	cr_assert_eq(e.id, head);
	cr_assert_arr_eq(fake_at(&r->f, gpa(in.addr), len), text, len);
	return e.len;
}
