/* virtio over MMIO: what the common tests in test_virtio.c do not cover. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/fake_echo.h"

static uint32_t rd(struct rig *r, unsigned off)
{
	return (uint32_t)fake_read(&r->f, r->d.base + off, 4);
}

static void wr(struct rig *r, unsigned off, uint32_t val)
{
	fake_write(&r->f, r->d.base + off, 4, val);
}

Test(virtio_mmio, registers)
{
	struct rig r;
	char text[64];

	rig_init(&r, RIG_MMIO);
	cr_expect_eq(rd(&r, 0x00), 0x74726976);
	cr_expect_eq(rd(&r, 0x04), 2);
	cr_expect_eq(rd(&r, 0x08), 42);
	cr_expect_eq(rd(&r, 0x0c), 0x1af4);
	cr_expect_eq(rd(&r, 0x34), ECHO_SIZE);
	wr(&r, 0x30, 2);
	cr_expect_eq(rd(&r, 0x34), 0, "no such queue");
	wr(&r, 0x44, 1);
	wr(&r, 0x44, 0);
	cr_expect_eq(rd(&r, 0x44), 0);
	for (unsigned off = 0xb0; off <= 0xbc; off += 4)
		cr_expect_eq(rd(&r, off), 0xffffffff, "no shared memory");
	wr(&r, 0x14, 2);
	cr_expect_eq(rd(&r, 0x10), 0, "features beyond bit 63");
	/* Registers are aligned dwords; other accesses have no effect. */
	for (unsigned off = 0; off < 0x100; off++)
		for (unsigned size = 1; size <= 8; size *= 2)
			if (size != 4 || off % 4) {
				cr_expect_eq(fake_read(&r.f, r.d.base + off, size), 0);
				fake_write(&r.f, r.d.base + off, size, 0xff);
			}
	cr_expect_eq(rd(&r, 0x70), 0);
	virtio_describe(&r.echo.v, text, sizeof(text));
	cr_expect_str_eq(text, "MMIO 0xd0000000, GSI 5");
	rig_destroy(&r);
}

Test(virtio_mmio, queue_ready)
{
	struct fake_ring ring;
	struct rig r;

	rig_init(&r, RIG_MMIO);
	fake_driver_accept(&r.d, 1ull << VIRTIO_F_VERSION_1);
	fake_driver_set_status(&r.d, 11);
	fake_ring_init(&ring, &r.f, 16);
	fake_driver_enable_queue(&r.d, 0, &ring);
	cr_expect_eq(rd(&r, 0x44), 1);
	wr(&r, 0x44, 0);
	cr_expect_eq(rd(&r, 0x44), 0, "taken back before DRIVER_OK");
	wr(&r, 0x44, 1);
	fake_driver_set_status(&r.d, 15);
	wr(&r, 0x44, 0);
	cr_expect_eq(rd(&r, 0x44), 1, "not while the device runs");
	r.d.ring[0] = ring;
	rig_echo(&r, 0, "still");
	/* A size that does not fit its field is as bad as 0. */
	fake_driver_set_status(&r.d, 0);
	fake_driver_accept(&r.d, 1ull << VIRTIO_F_VERSION_1);
	fake_driver_set_status(&r.d, 11);
	wr(&r, 0x30, 0);
	wr(&r, 0x38, 0x10010);
	wr(&r, 0x44, 1);
	cr_expect_eq(rd(&r, 0x70), 11 | 64);
	rig_destroy(&r);
}

Test(virtio_mmio, interrupts)
{
	struct rig r;

	rig_init(&r, RIG_MMIO);
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "a");
	rig_echo(&r, 1, "b");
	cr_expect_eq(fake_take_rises(&r.f, 5), 2, "each is an edge");
	cr_expect_eq(r.f.line[5], 0);
	virtio_lock(&r.echo.v);
	virtio_config_changed(&r.echo.v);
	virtio_unlock(&r.echo.v);
	cr_expect_eq(rd(&r, 0x60), 3);
	wr(&r, 0x64, 1);
	cr_expect_eq(rd(&r, 0x60), 2);
	wr(&r, 0x64, 0xffffffff);
	cr_expect_eq(rd(&r, 0x60), 0);
	rig_echo(&r, 0, "c");
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(rd(&r, 0x60), 0);
	rig_destroy(&r);
}

Test(virtio_mmio, kicks)
{
	struct rig r;

	rig_init(&r, RIG_MMIO);
	fake_driver_start(&r.d, 0, 2, 16);
	cr_assert_eq(r.f.nkicks, 2);
	for (unsigned i = 0; i < 2; i++)
		cr_expect(r.f.kick[i].addr == r.d.base + 0x50 && r.f.kick[i].len_bytes == 4 &&
			  r.f.kick[i].match && r.f.kick[i].value == i);
	/* Other writes reach the bus. */
	r.echo.kicks = 0;
	wr(&r, 0x50, 2);
	wr(&r, 0x50, 0xffffffff);
	fake_run(&r.f);
	cr_expect_eq(r.echo.kicks, 0);
	bus_write(&r.f.mmio, r.d.base + 0x50, 4, 1);
	fake_run(&r.f);
	cr_expect_eq(r.echo.kicked[1], 2, "at DRIVER_OK and now");
	rig_destroy(&r);
}

Test(virtio_mmio, no_slot_left)
{
	static struct echo echo[9];
	struct fake_env f;
	struct err err = { "" };

	fake_env_init(&f, FAKE_MMIO);
	for (unsigned i = 0; i < 9; i++) {
		echo_init(&echo[i], &f);
		cr_assert_eq(virtio_attach(&echo[i].v, &err), i < 8 ? 0 : -ENOSPC);
	}
	cr_expect_str_not_empty(err.text);
	cr_expect_eq(f.slots.used, 8);
	for (unsigned i = 0; i < 9; i++)
		virtio_detach(&echo[i].v);
	fake_env_destroy(&f);
}
