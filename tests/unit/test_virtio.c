/* virtio: the state machine and the data path, the same on both transports. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/fake_echo.h"

#define EVERY_TRANSPORT(suite, name)                                                               \
	ParameterizedTestParameters(suite, name)                                                   \
	{                                                                                          \
		static int how[] = { RIG_MSIX, RIG_INTX, RIG_MMIO };                               \
		return cr_make_param_array(int, how, RIG_HOWS);                                    \
	}                                                                                          \
	ParameterizedTest(int *how, suite, name)

#define F_VERSION (1ull << VIRTIO_F_VERSION_1)
#define F_EVENT (1ull << VIRTIO_F_EVENT_IDX)

EVERY_TRANSPORT(virtio, echo)
{
	struct rig r;

	rig_init(&r, *how);
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		fake_driver_start(&r.d, event_idx ? F_EVENT : 0, 2, 16);
		cr_assert_eq(r.f.nkicks, 2);
		cr_assert_eq(fake_driver_irqs(&r.d, 1), 0, "an interrupt for nothing");
		for (unsigned i = 0; i < 40; i++) {
			cr_assert_eq(rig_echo(&r, 1, "hello"), 5);
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

EVERY_TRANSPORT(virtio, features)
{
	static const struct {
		uint64_t accept;
		bool ok;
	} row[] = {
		{ F_VERSION, true },
		{ 0, false },
		{ 1u << ECHO_FEATURE, false }, /* legacy drivers are refused */
		{ F_VERSION | 1u << ECHO_FEATURE | F_EVENT, true },
		{ F_VERSION | 1, false }, /* not offered */
		{ F_VERSION | 1ull << 63, false },
		{ ~0ull, false },
	};
	struct rig r;

	rig_init(&r, *how);
	cr_expect_eq(fake_driver_offered(&r.d),
		     F_VERSION | F_EVENT | 1u << VIRTIO_F_INDIRECT_DESC | 1u << ECHO_FEATURE);
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		fake_driver_set_status(&r.d, 0);
		fake_driver_set_status(&r.d, 1);
		fake_driver_set_status(&r.d, 3);
		fake_driver_accept(&r.d, row[i].accept);
		fake_driver_set_status(&r.d, 11);
		cr_expect_eq(fake_driver_status(&r.d), row[i].ok ? 11 : 3, "row %u", i);
		/* Now the features are final: a later change has no effect. */
		fake_driver_accept(&r.d, F_VERSION);
		if (row[i].ok)
			cr_expect_eq(r.echo.v.s.acked, row[i].accept);
		else
			cr_expect_eq(r.echo.v.s.acked, F_VERSION, "and it may be tried again");
	}
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, status_transitions)
{
	struct rig r;

	rig_init(&r, *how);
	cr_expect_eq(fake_driver_status(&r.d), 0);
	fake_driver_set_status(&r.d, 4);
	cr_expect_eq(fake_driver_status(&r.d), 0, "DRIVER_OK needs FEATURES_OK");
	fake_driver_set_status(&r.d, 1);
	fake_driver_set_status(&r.d, 2);
	cr_expect_eq(fake_driver_status(&r.d), 3, "bits are only ever added");
	fake_driver_set_status(&r.d, 3 | 64 | 32 | 16);
	cr_expect_eq(fake_driver_status(&r.d), 3,
		     "only the device sets NEEDS_RESET; other bits have no meaning");
	fake_driver_set_status(&r.d, 3 | 128);
	cr_expect_eq(fake_driver_status(&r.d), 131, "FAILED");
	cr_expect_eq(r.echo.activated + r.echo.resets, 0);
	/* All status bits in one write, which no driver does. */
	fake_driver_set_status(&r.d, 0);
	fake_driver_accept(&r.d, F_VERSION);
	fake_driver_set_status(&r.d, 15);
	cr_expect_eq(fake_driver_status(&r.d), 15);
	cr_expect_eq(r.echo.activated, 1);
	fake_driver_set_status(&r.d, 15);
	cr_expect_eq(r.echo.activated, 1, "once only");
	fake_driver_set_status(&r.d, 0);
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(r.echo.resets, 1, "reset is for what was activated");
	cr_expect(r.f.drivers[true] == 1 && r.f.drivers[false] == 1, "and so are reports of it");
	cr_expect_eq(fake_driver_status(&r.d), 0);
	cr_expect_eq(r.echo.v.s.acked, 0);
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, activate_fails)
{
	struct rig r;

	rig_init(&r, *how);
	r.echo.activate_rc = -EIO;
	fake_driver_accept(&r.d, F_VERSION);
	fake_driver_set_status(&r.d, 15);
	cr_expect_eq(fake_driver_status(&r.d), 15 | 64);
	cr_expect_eq(fake_driver_config_irqs(&r.d), *how == RIG_MSIX ? 0 : 1, "no vector was set");
	fake_driver_kick(&r.d, 0);
	cr_expect_eq(r.echo.kicks, 0);
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(r.echo.resets, 0);
	cr_expect_eq(r.f.drivers[true] + r.f.drivers[false], 0);
	r.echo.activate_rc = 0;
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "again");
	cr_expect_eq(r.f.drivers[true], 1);
	virtio_detach(&r.echo.v);
	cr_expect_eq(r.f.drivers[false], 0, "the end of the VM is no driver's reset");
	rig_destroy(&r);
}

/* Invalid queues stop only the device, and a reset repairs it. */
EVERY_TRANSPORT(virtio, bad_queues)
{
	static const struct {
		const char *what;
		uint16_t size;
		uint64_t desc; /* 0: the allocated address */
	} row[] = {
		{ "size 0", 0, 0 },	      { "not a power of two", 12, 0 },
		{ "too large", 32, 0 },	      { "32768", 32768, 0 },
		{ "misaligned", 16, 0x1004 }, { "no memory there", 16, 0xfffffffffffff000ull },
	};
	struct rig r;

	rig_init(&r, *how);
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct fake_ring ring;

		fake_ring_init(&ring, &r.f, row[i].size);
		if (row[i].desc)
			ring.desc_at = gpa(row[i].desc);
		fake_driver_set_status(&r.d, 0);
		fake_driver_accept(&r.d, F_VERSION);
		fake_driver_set_status(&r.d, 11);
		fake_driver_enable_queue(&r.d, 0, &ring);
		cr_expect_eq(fake_driver_status(&r.d), 11 | 64, "%s", row[i].what);
		fake_driver_set_status(&r.d, 15);
		cr_expect_eq(fake_driver_status(&r.d), 15 | 64, "%s", row[i].what);
		fake_driver_kick(&r.d, 0);
	}
	cr_expect_eq(r.echo.activated + r.echo.kicks, 0);
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "healed");
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, queues_are_fixed_while_running)
{
	struct fake_ring other;
	struct rig r;

	rig_init(&r, *how);
	fake_driver_start(&r.d, 0, 1, 16);
	fake_ring_init(&other, &r.f, 8);
	fake_driver_enable_queue(&r.d, 0, &other);
	fake_driver_enable_queue(&r.d, 1, &other);
	fake_driver_enable_queue(&r.d, 7, &other);
	cr_expect_eq(r.echo.v.queue[0].s.size, 16);
	cr_expect(!r.echo.v.queue[1].s.ready);
	rig_echo(&r, 0, "same");
	fake_driver_kick(&r.d, 1);
	fake_driver_kick(&r.d, 7);
	cr_expect_eq(r.echo.kicked[1], 0, "a queue that is not ready is not kicked");
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, broken_ring)
{
	struct rig r;

	rig_init(&r, *how);
	fake_driver_start(&r.d, 0, 2, 16);
	fake_ring_offer(&r.d.ring[0], 99);
	fake_driver_kick(&r.d, 0);
	cr_expect_eq(fake_driver_status(&r.d), 15 | 64);
	cr_expect_eq(fake_driver_config_irqs(&r.d), 1);
	cr_expect_eq(r.echo.kicks, 3, "two at DRIVER_OK, one");
	fake_driver_kick(&r.d, 0);
	fake_driver_kick(&r.d, 1);
	cr_expect_eq(r.echo.kicks, 3, "no kicks until reset");
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(r.echo.resets, 1, "what was activated is reset, broken or not");
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "healed");
	rig_destroy(&r);
}

/* Every width at every offset, across the end and beyond it. */
EVERY_TRANSPORT(virtio, config_reads)
{
	struct rig r;

	rig_init(&r, *how);
	for (unsigned size = 1; size <= 8; size *= 2) {
		for (unsigned off = 0; off + size <= 256; off++) {
			uint64_t want = 0, base = r.d.base + (r.d.pci ? 0x200 : 0x100);

			for (unsigned i = 0; i < size; i++)
				if (off + i < ECHO_CONFIG)
					want |= (uint64_t)(0xa0 + off + i) << (i * 8);
			cr_expect_eq(fake_read(&r.f, base + off, size), want, "%u at %u", size,
				     off);
		}
	}
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, config_writes)
{
	struct rig r;

	rig_init(&r, *how);
	for (unsigned size = 1; size <= 4; size *= 2) {
		for (unsigned off = 0; off < 20; off++) {
			unsigned inside = off >= ECHO_CONFIG	   ? 0 :
					  off + size > ECHO_CONFIG ? ECHO_CONFIG - off :
								     size;
			uint8_t before[ECHO_CONFIG];

			memcpy(before, r.echo.v.s.config, ECHO_CONFIG);
			r.echo.config_writes = 0;
			fake_driver_set_config(&r.d, off, size, 0x44332211);
			for (unsigned i = 0; i < inside; i++)
				before[off + i] = (uint8_t)(0x11 * (i + 1));
			cr_expect_arr_eq(r.echo.v.s.config, before, ECHO_CONFIG);
			cr_expect_eq(r.echo.config_writes, inside ? 1 : 0);
			if (inside)
				cr_expect(r.echo.config_off == off && r.echo.config_len == inside);
			cr_expect_eq(r.echo.v.s.config[ECHO_CONFIG], 0);
		}
	}
	rig_destroy(&r);
}

EVERY_TRANSPORT(virtio, config_changes)
{
	uint8_t generation;
	struct rig r;

	rig_init(&r, *how);
	generation = fake_driver_generation(&r.d);
	virtio_lock(&r.echo.v);
	virtio_config_changed(&r.echo.v);
	virtio_unlock(&r.echo.v);
	cr_expect_neq(fake_driver_generation(&r.d), generation);
	cr_expect_eq(fake_driver_config_irqs(&r.d), 0, "no interrupt before DRIVER_OK");
	fake_driver_start(&r.d, 0, 2, 16);
	(void)fake_driver_config_irqs(&r.d);
	virtio_lock(&r.echo.v);
	virtio_config_changed(&r.echo.v);
	virtio_unlock(&r.echo.v);
	cr_expect_eq(fake_driver_config_irqs(&r.d), 1);
	rig_destroy(&r);
}

/* --- reset with I/O in flight ------------------------------------------------------ */

static void *reset_from_vcpu(void *arg)
{
	struct rig *r = arg;

	fake_driver_set_status(&r->d, 0);
	return NULL;
}

static bool resetting(struct rig *r)
{
	bool is;

	virtio_lock(&r->echo.v);
	is = r->echo.v.resetting;
	virtio_unlock(&r->echo.v);
	return is;
}

EVERY_TRANSPORT(virtio, reset_waits_for_io)
{
	pthread_t vcpu[2];
	struct rig r;

	rig_init(&r, *how);
	for (unsigned round = 0; round < 20; round++) {
		struct fake_ring other;

		fake_driver_start(&r.d, 0, 2, 16);
		r.echo.slow_reset = true;
		pthread_create(&vcpu[0], NULL, reset_from_vcpu, &r);
		while (!resetting(&r))
			usleep(100);
		/* Meanwhile the status keeps its value, and no other access has an effect. */
		pthread_create(&vcpu[1], NULL, reset_from_vcpu, &r);
		cr_assert_eq(fake_driver_status(&r.d), 15);
		fake_ring_init(&other, &r.f, 8);
		fake_driver_enable_queue(&r.d, 0, &other);
		fake_driver_set_config(&r.d, 0, 1, 1);
		cr_assert_eq(r.echo.config_writes, 0);
		cr_assert(r.echo.v.queue[0].s.ready && r.echo.v.queue[0].s.size == 16);
		fake_driver_kick(&r.d, 0);
		virtio_lock(&r.echo.v);
		cr_assert(r.echo.v.resetting);
		virtio_reset_done(&r.echo.v);
		virtio_unlock(&r.echo.v);
		pthread_join(vcpu[0], NULL);
		pthread_join(vcpu[1], NULL);
		cr_assert_eq(fake_driver_status(&r.d), 0);
		cr_assert(!r.echo.v.queue[0].s.ready);
		cr_assert_eq(r.echo.resets, round + 1);
		r.f.next_alloc = 0x1000;
	}
	rig_destroy(&r);
}

static void io_comes_back(void *opaque)
{
	struct rig *r = opaque;

	virtio_lock(&r->echo.v);
	virtio_reset_done(&r->echo.v);
	virtio_unlock(&r->echo.v);
}

EVERY_TRANSPORT(virtio, detach_waits_for_io)
{
	struct rig r;

	rig_init(&r, *how);
	fake_driver_start(&r.d, 0, 2, 16);
	r.echo.slow_reset = true;
	cr_assert_eq(loop_post(r.f.env.loop, io_comes_back, &r), 0);
	loop_stop(r.f.env.loop); /* a stop before the run, which must not end the wait */
	rig_destroy(&r);
}

Test(virtio, detach_of_what_was_never_attached)
{
	struct fake_env f;
	struct echo echo = { 0 };
	char text[8] = "?";

	fake_env_init(&f, FAKE_PCI);
	virtio_detach(&echo.v);
	echo_init(&echo, &f);
	virtio_describe(&echo.v, text, sizeof(text));
	cr_expect_str_empty(text);
	virtio_detach(&echo.v);
	fake_env_destroy(&f);
}
