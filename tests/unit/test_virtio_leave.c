/* virtio: a device leaves while vCPUs use it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "devices/virtio/core/pci.h"
#include "tests/unit/fake_echo.h"
#include "vmm/core/log.h"

#define VCPUS 2
#define ROUNDS 60

struct guest {
	struct rig r;
	atomic_bool stop, slow;
	atomic_uint starts; /* times that a driver wrote DRIVER_OK */
	pthread_t vcpu[VCPUS], disk;
};

static void reg_write(struct guest *g, unsigned pci, unsigned pci_bytes, unsigned mmio,
		      uint32_t val)
{
	const struct fake_driver *d = &g->r.d;

	bus_write(&g->r.f.mmio, d->base + (d->pci ? pci : mmio), d->pci ? pci_bytes : 4, val);
}

static void set_addr(struct guest *g, unsigned pci, unsigned mmio, gpa_t at)
{
	reg_write(g, pci, 4, mmio, (uint32_t)at.v);
	reg_write(g, pci + 4, 4, mmio + 4, (uint32_t)(at.v >> 32));
}

/* A whole start of a driver, from reset to kick, as the other vCPU may make at the same time. */
static void *vcpu_main(void *opaque)
{
	struct guest *g = opaque;
	const struct fake_ring *ring = &g->r.d.ring[0];

	while (!atomic_load(&g->stop)) {
		reg_write(g, 0x14, 1, 0x70, 0);
		reg_write(g, 0x14, 1, 0x70, 3);
		reg_write(g, 0x08, 4, 0x24, 1);
		reg_write(g, 0x0c, 4, 0x20, 1); /* VERSION_1 */
		reg_write(g, 0x14, 1, 0x70, 11);
		reg_write(g, 0x16, 2, 0x30, 0);
		reg_write(g, 0x18, 2, 0x38, ring->size);
		set_addr(g, 0x20, 0x80, ring->desc_at);
		set_addr(g, 0x28, 0x90, ring->avail_at);
		set_addr(g, 0x30, 0xa0, ring->used_at);
		reg_write(g, 0x1c, 2, 0x44, 1);
		reg_write(g, 0x14, 1, 0x70, 15);
		atomic_fetch_add(&g->starts, 1);
		reg_write(g, VIRTIO_PCI_NOTIFY, 2, 0x50, 0);
		reg_write(g, VIRTIO_PCI_DEVICE, 1, 0x100, 7);
		if (g->r.d.pci)
			bus_write(&g->r.f.mmio, FAKE_ECAM + (1 << 15) + PCI_COMMAND, 2,
				  PCI_COMMAND_MEMORY);
	}
	return NULL;
}

static void io_done(void *opaque)
{
	struct virtio_device *v = opaque;

	virtio_lock(v);
	if (v->io_pending)
		virtio_reset_done(v);
	virtio_unlock(v);
}

/* I/O of the device ends in its loop, some time after a reset has begun. */
static void *disk_main(void *opaque)
{
	struct guest *g = opaque;
	struct timespec nap = { .tv_nsec = 50000 };

	while (atomic_load(&g->slow)) {
		(void)loop_post(g->r.f.env.loop, io_done, &g->r.echo.v);
		nanosleep(&nap, NULL);
	}
	return NULL;
}

static void one_round(enum rig_how how, bool slow, unsigned round)
{
	static struct guest g;
	unsigned before;

	log_set_level(LOG_ERROR); /* drivers that get in each other's way are reported otherwise */
	memset(&g, 0, sizeof(g));
	rig_init(&g.r, how);
	fake_ring_init(&g.r.d.ring[0], &g.r.f, ECHO_SIZE);
	g.r.echo.slow_reset = slow;
	atomic_store(&g.slow, slow);
	for (unsigned i = 0; i < VCPUS; i++)
		cr_assert_eq(pthread_create(&g.vcpu[i], NULL, vcpu_main, &g), 0);
	if (slow)
		cr_assert_eq(pthread_create(&g.disk, NULL, disk_main, &g), 0);
	for (unsigned want = round % 8 + 1; atomic_load(&g.starts) < want;)
		fake_run(&g.r.f);
	/* Callbacks of the disk's thread need the device until it has left. */
	virtio_stop_last(&g.r.echo.v);
	if (slow) {
		atomic_store(&g.slow, false);
		pthread_join(g.disk, NULL);
		fake_run(&g.r.f);
	}
	virtio_detach(&g.r.echo.v);
	cr_expect_eq(g.r.f.nkicks, 0);
	/* The vCPUs go on, and reach nothing. */
	before = g.r.echo.activated;
	memset(&g.r.echo, 0xde, sizeof(g.r.echo));
	g.r.echo.activated = before;
	for (unsigned want = atomic_load(&g.starts) + 4; atomic_load(&g.starts) < want;)
		fake_run(&g.r.f);
	atomic_store(&g.stop, true);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(g.vcpu[i], NULL);
	cr_expect_eq(g.r.echo.activated, before);
	fake_env_destroy(&g.r.f);
}

Test(virtio_leave, while_vcpus_start_and_reset_it)
{
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned how = 0; how < RIG_HOWS; how++)
			one_round(how, false, round);
}

Test(virtio_leave, while_a_reset_waits_for_io)
{
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned how = 0; how < RIG_HOWS; how++)
			one_round(how, true, round);
}
