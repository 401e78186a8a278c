/* virtio: the state machine and the data path, the same on both transports. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "tests/unit/fake_driver.h"

/* A device that copies each chain's readable bytes to its writable ones. */
struct echo {
	struct virtio_device v;
	struct fake_env *f;
	unsigned activated, kicks, resets, config_writes, broken;
	uint32_t config_off, config_len;
	int activate_rc;
	bool slow_reset;	/* answer false; the test calls virtio_reset_done */
};

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
	do {
		virtq_disable_kicks(q);
		while ((rc = virtq_pop(q, &chain, iov, 8)) > 0) {
			size_t n = chain_read(&chain, 0, buf, sizeof(buf));

			virtq_push(q, chain.head, (uint32_t)chain_write(&chain, 0, buf, n));
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

#define ECHO_CONFIG 13u	/* no multiple of 4 */

struct rig {
	struct fake_env f;
	struct echo echo;
	struct fake_driver d;
};

/* Parameter: 0 PCI with MSI-X, 1 PCI with INTx, 2 MMIO. */
static void rig_init(struct rig *r, int how)
{
	struct err err = { "" };

	memset(r, 0, sizeof(*r));
	fake_env_init(&r->f, how == 2 ? FAKE_MMIO : FAKE_PCI);
	virtio_init(&r->echo.v, &echo_class, &r->f.env, 2, 16, 1u << 5, ECHO_CONFIG);
	for (unsigned i = 0; i < ECHO_CONFIG; i++)
		r->echo.v.config[i] = (uint8_t)(0xa0 + i);
	cr_assert_eq(virtio_attach(&r->echo.v, &err), 0, "%s", err.text);
	fake_driver_find(&r->d, &r->f, 0, how == 0);
}

static void rig_destroy(struct rig *r)
{
	virtio_detach(&r->echo.v);
	fake_env_destroy(&r->f);
}

#define EVERY_TRANSPORT(suite, name)                                                               \
	ParameterizedTestParameters(suite, name)                                                   \
	{                                                                                          \
		static int how[] = { 0, 1, 2 };                                                    \
		return cr_make_param_array(int, how, 3);                                           \
	}                                                                                          \
	ParameterizedTest(int *how, suite, name)

/* One echo of len bytes; returns what the used element says. */
static uint32_t echo_once(struct rig *r, unsigned queue, const char *text)
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

EVERY_TRANSPORT(virtio, echo)
{
	struct rig r;

	rig_init(&r, *how);
	cr_assert_eq(fake_driver_offered(&r.d) & 0xffffffff, 0x30000020);
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		fake_driver_start(&r.d, (uint64_t)event_idx << VIRTIO_F_EVENT_IDX, 2, 16);
		cr_assert_eq(r.f.nkicks, 2);
		cr_assert_eq(fake_driver_irqs(&r.d, 1), 0, "an interrupt for nothing");
		for (unsigned i = 0; i < 40; i++) {
			cr_assert_eq(echo_once(&r, 1, "hello"), 5);
			cr_assert_eq(fake_driver_irqs(&r.d, 1), 1);
			if (event_idx)
				fake_ring_set_used_event(&r.d.ring[1], r.d.ring[1].seen);
		}
	}
	cr_assert_eq(r.echo.activated, 2);
	cr_assert_eq(r.echo.resets, 1);
	cr_assert_eq(r.f.binds, 2, "a reset unbinds no kicks");
	rig_destroy(&r);
}
