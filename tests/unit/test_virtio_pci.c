/* virtio over PCI: what the common tests in test_virtio.c do not cover. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/core/pci.h"
#include "tests/unit/fake_echo.h"

static unsigned msix_cap_at(struct rig *r)
{
	return fake_config_read(&r->f, 1, PCI_CAP_POINTER, 1);
}

static uint64_t entry(struct rig *r, unsigned vector)
{
	return r->d.base + VIRTIO_PCI_MSIX_TABLE + vector * 16;
}

static void set_control(struct rig *r, uint16_t control)
{
	fake_config_write(&r->f, 1, msix_cap_at(r) + 2, 2, control);
}

Test(virtio_pci, identity)
{
	struct rig r;

	rig_init(&r, RIG_INTX);
	cr_expect_eq(fake_config_read(&r.f, 1, 0, 4), (0x1040 + 42) << 16 | 0x1af4);
	cr_expect_eq(fake_config_read(&r.f, 1, 8, 4), 0x00ff0001);
	cr_expect_eq(fake_config_read(&r.f, 1, 0x2c, 4), (0x40 + 42) << 16 | 0x1af4);
	cr_expect_eq(fake_config_read(&r.f, 1, 0x3c, 2), 0x0111);
	cr_expect_eq(pci_host_slots(r.f.env.pci), 1u << 1 | 1u);
	rig_destroy(&r);
}

Test(virtio_pci, describes_itself)
{
	struct rig r;
	char text[64];

	rig_init(&r, RIG_INTX);
	virtio_describe(&r.echo.v, text, sizeof(text));
	cr_expect_str_eq(text, "PCI 00:01.0, GSI 17");
	rig_destroy(&r);
}

/* Each capability is inside the BAR, none overlaps another; types 1 to 5 occur once each. */
Test(virtio_pci, capabilities)
{
	unsigned at, seen = 0, n = 0;
	struct rig r;

	rig_init(&r, RIG_INTX);
	for (at = msix_cap_at(&r); at; at = fake_config_read(&r.f, 1, at + 1, 1)) {
		cr_assert(++n < 10);
		if (fake_config_read(&r.f, 1, at, 1) == 0x11) {
			cr_expect_eq(fake_config_read(&r.f, 1, at + 2, 2), ECHO_QUEUES);
			cr_expect_eq(fake_config_read(&r.f, 1, at + 4, 4), VIRTIO_PCI_MSIX_TABLE);
			cr_expect_eq(fake_config_read(&r.f, 1, at + 8, 4), VIRTIO_PCI_MSIX_PBA);
			continue;
		}
		cr_expect_eq(fake_config_read(&r.f, 1, at, 1), 0x09);
		seen |= 1u << fake_config_read(&r.f, 1, at + 3, 1);
		cr_expect_eq(fake_config_read(&r.f, 1, at + 4, 1), 0);
		cr_expect(fake_config_read(&r.f, 1, at + 8, 4) +
				  fake_config_read(&r.f, 1, at + 12, 4) <=
			  VIRTIO_PCI_BAR_BYTES);
		if (fake_config_read(&r.f, 1, at + 3, 1) == 2)
			cr_expect_eq(fake_config_read(&r.f, 1, at + 16, 4), 4);
		if (fake_config_read(&r.f, 1, at + 3, 1) == 4)
			cr_expect_eq(fake_config_read(&r.f, 1, at + 12, 4), ECHO_CONFIG);
	}
	cr_expect_eq(seen, 0x3e);
	rig_destroy(&r);
}

Test(virtio_pci, common_registers)
{
	struct rig r;
	uint64_t at;

	rig_init(&r, RIG_INTX);
	at = r.d.base;
	cr_expect_eq(fake_read(&r.f, at + 0x12, 2), ECHO_QUEUES);
	cr_expect_eq(fake_read(&r.f, at + 0x10, 2), 0xffff);
	fake_write(&r.f, at + 0x10, 2, 2);
	cr_expect_eq(fake_read(&r.f, at + 0x10, 2), 2);
	fake_write(&r.f, at + 0x10, 2, 3);
	cr_expect_eq(fake_read(&r.f, at + 0x10, 2), 0xffff, "no such vector");
	fake_write(&r.f, at + 0x16, 2, 1);
	cr_expect_eq(fake_read(&r.f, at + 0x18, 2), ECHO_SIZE);
	cr_expect_eq(fake_read(&r.f, at + 0x1e, 2), 1, "notify offset");
	cr_expect_eq(fake_read(&r.f, at + 0x14, 8), 0xffff001000010000ull, "any width");
	cr_expect_eq(fake_read(&r.f, at + 0x15, 4), 0x10000100);
	fake_write(&r.f, at + 0x20, 8, 0x1122334455667788ull);
	cr_expect_eq(fake_read(&r.f, at + 0x20, 8), 0x1122334455667788ull);
	cr_expect_eq(fake_read(&r.f, at + 0x23, 2), 0x4455);
	fake_write(&r.f, at + 0x18, 4, 8);
	fake_write(&r.f, at + 0x18, 1, 8);
	cr_expect_eq(fake_read(&r.f, at + 0x18, 2), ECHO_SIZE, "a field has one width");
	fake_write(&r.f, at + 0x1c, 2, 2);
	cr_expect_eq(fake_read(&r.f, at + 0x1c, 2), 0, "1 enables");
	fake_write(&r.f, at + 0x16, 2, 2);
	cr_expect_eq(fake_read(&r.f, at + 0x18, 2), 0, "no such queue");
	cr_expect_eq(fake_read(&r.f, at + 0x20, 8), 0);
	fake_write(&r.f, at + 0x1a, 2, 0);
	fake_write(&r.f, at + 0x1c, 2, 1);
	fake_write(&r.f, at, 4, 7);
	cr_expect_eq(fake_read(&r.f, at + 4, 4), 0, "features beyond bit 63");
	fake_write(&r.f, at + 8, 4, 7);
	fake_write(&r.f, at + 12, 4, 7);
	cr_expect_eq(fake_read(&r.f, at + 12, 4), 0);
	/* All offsets, holes too. */
	for (unsigned off = 0; off < VIRTIO_PCI_BAR_BYTES; off++)
		for (unsigned size = 1; size <= 8; size *= 2)
			(void)fake_read(&r.f, at + off, size);
	cr_expect_eq(fake_read(&r.f, at + 0x38, 8), 0);
	cr_expect_eq(fake_read(&r.f, at + 0x800, 4), 0);
	rig_destroy(&r);
}

/* --- interrupts ------------------------------------------------------------------- */

Test(virtio_pci, msix_mask_and_pending)
{
	struct rig r;

	rig_init(&r, RIG_MSIX);
	fake_driver_start(&r.d, 0, 2, 16);
	cr_expect_eq(r.f.msi_binds, 0, "nothing is routed before its first use");
	fake_write(&r.f, entry(&r, 2) + 12, 4, 1);
	rig_echo(&r, 1, "a");
	rig_echo(&r, 1, "b");
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 0);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 8), 4);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 4), 4);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA + 8, 4), 0);
	fake_write(&r.f, entry(&r, 2) + 12, 4, 0);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 1);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 8), 0);
	cr_expect_eq(r.f.msi_binds, 1);
	/* The function mask, while one vector is masked individually. */
	set_control(&r, 0xc000);
	fake_write(&r.f, entry(&r, 1) + 12, 4, 1);
	rig_echo(&r, 0, "c");
	rig_echo(&r, 1, "d");
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 8), 6);
	set_control(&r, 0x8000);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 1);
	cr_expect_eq(fake_driver_irqs(&r.d, 0), 0);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 8), 2);
	/* A reset of the device clears pending bits; the table stays. */
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 8), 0);
	cr_expect_eq(fake_read(&r.f, entry(&r, 1) + 8, 8), 0x100000001ull);
	cr_expect_eq(r.f.rises[17], 0, "no INTx beside MSI-X");
	rig_destroy(&r);
}

Test(virtio_pci, msix_messages_are_updated_when_used)
{
	struct rig r;

	rig_init(&r, RIG_MSIX);
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "a");
	cr_expect_eq(fake_take_msis(&r.f, 1), 1);
	/* The same message again causes no update; another message, written twice, causes one. */
	fake_write(&r.f, entry(&r, 1) + 8, 4, 1);
	rig_echo(&r, 0, "b");
	cr_expect_eq(r.f.msi_updates, 0);
	fake_write(&r.f, entry(&r, 1) + 12, 4, 1);
	fake_write(&r.f, entry(&r, 1) + 8, 4, 70);
	fake_write(&r.f, entry(&r, 1), 8, 0x1fee01003ull);
	fake_write(&r.f, entry(&r, 1) + 8, 4, 71);
	fake_write(&r.f, entry(&r, 1) + 12, 4, 0);
	cr_expect_eq(r.f.msi_updates, 0);
	rig_echo(&r, 0, "c");
	rig_echo(&r, 0, "d");
	cr_expect_eq(r.f.msi_updates, 1);
	cr_expect_eq(r.f.msi[0].addr, 0x1fee01000ull, "a dword address");
	cr_expect_eq(fake_take_msis(&r.f, 71), 3, "and the one of b, not yet taken");
	/* A change of only the data, or only the address, makes another message. */
	fake_write(&r.f, entry(&r, 1) + 8, 4, 72);
	rig_echo(&r, 0, "e");
	cr_expect_eq(r.f.msi_updates, 2);
	cr_expect_eq(r.f.msi[0].data, 72);
	fake_write(&r.f, entry(&r, 1), 4, 0xfee02000);
	rig_echo(&r, 0, "f");
	cr_expect_eq(r.f.msi_updates, 3);
	cr_expect_eq(r.f.msi[0].addr, 0x1fee02000ull);
	fake_write(&r.f, entry(&r, 1) + 8, 4, 71);
	/* Narrow and unaligned writes have no effect; beyond the table there is nothing. */
	fake_write(&r.f, entry(&r, 1) + 8, 2, 1);
	fake_write(&r.f, entry(&r, 1) + 9, 4, 1);
	fake_write(&r.f, entry(&r, 3), 4, 1);
	fake_write(&r.f, r.d.base + VIRTIO_PCI_MSIX_PBA, 4, 1);
	cr_expect_eq(fake_read(&r.f, entry(&r, 1) + 8, 4), 71);
	cr_expect_eq(fake_read(&r.f, entry(&r, 1) + 9, 1), 0);
	cr_expect_eq(fake_read(&r.f, entry(&r, 3), 8), 0);
	rig_destroy(&r);
}

Test(virtio_pci, msix_cannot_be_routed)
{
	struct rig r;

	rig_init(&r, RIG_MSIX);
	fake_driver_start(&r.d, 0, 2, 16);
	r.f.fail_msi_bind = ENOSPC;
	rig_echo(&r, 0, "a");
	r.f.fail_msi_bind = 0;
	rig_echo(&r, 0, "b");
	cr_expect_eq(fake_driver_irqs(&r.d, 0), 1);
	rig_destroy(&r);
}

Test(virtio_pci, vectors_shared_or_none)
{
	struct rig r;

	rig_init(&r, RIG_MSIX);
	fake_driver_start(&r.d, 0, 2, 16);
	fake_write(&r.f, r.d.base + 0x16, 2, 0);
	fake_write(&r.f, r.d.base + 0x1a, 2, 2);
	rig_echo(&r, 0, "a");
	rig_echo(&r, 1, "a");
	cr_expect_eq(fake_take_msis(&r.f, 2), 2);
	fake_write(&r.f, r.d.base + 0x1a, 2, 0xffff);
	rig_echo(&r, 0, "b");
	cr_expect_eq(fake_take_msis(&r.f, 2), 0);
	rig_destroy(&r);
}

Test(virtio_pci, intx)
{
	struct rig r;

	rig_init(&r, RIG_INTX);
	fake_driver_start(&r.d, 0, 2, 16);
	rig_echo(&r, 0, "a");
	rig_echo(&r, 1, "b");
	cr_expect_eq(r.f.line[17], 2);
	cr_expect_eq(r.f.rises[17], 1);
	virtio_lock(&r.echo.v);
	virtio_config_changed(&r.echo.v);
	virtio_unlock(&r.echo.v);
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_ISR, 1), 3);
	cr_expect_eq(r.f.line[17], 0, "reading clears");
	cr_expect_eq(fake_read(&r.f, r.d.base + VIRTIO_PCI_ISR, 1), 0);
	fake_config_write(&r.f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF);
	rig_echo(&r, 0, "c");
	cr_expect_eq(r.f.line[17], 0);
	fake_config_write(&r.f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(r.f.line[17], 2);
	/* Enabling MSI-X lowers the line. A reset lowers it as well. */
	set_control(&r, 0x8000);
	cr_expect_eq(r.f.line[17], 0);
	set_control(&r, 0);
	cr_expect_eq(r.f.line[17], 2);
	fake_driver_set_status(&r.d, 0);
	cr_expect_eq(r.f.line[17], 0);
	rig_destroy(&r);
}

/* --- kicks -------------------------------------------------------------------------- */

Test(virtio_pci, kicks_of_any_width_and_value)
{
	struct rig r;

	rig_init(&r, RIG_INTX);
	r.f.fail_bind_kick = ENOSPC; /* all kicks come through the bus */
	fake_driver_start(&r.d, 0, 2, 16);
	cr_expect_eq(r.f.nkicks, 0);
	rig_echo(&r, 0, "slow");
	r.echo.kicked[1] = 0;
	for (unsigned size = 1; size <= 8; size *= 2) {
		fake_write(&r.f, r.d.base + VIRTIO_PCI_NOTIFY + 4, size, 12345);
		fake_run(&r.f);
	}
	cr_expect_eq(r.echo.kicked[1], 4);
	fake_write(&r.f, r.d.base + VIRTIO_PCI_NOTIFY + 8, 2, 1);
	fake_write(&r.f, r.d.base + VIRTIO_PCI_NOTIFY + 0xffc, 2, 1);
	fake_run(&r.f);
	cr_expect_eq(r.echo.kicked[1], 4);
	rig_destroy(&r);
}

Test(virtio_pci, kicks_follow_the_bar)
{
	struct rig r;
	uint32_t was, to = (uint32_t)FAKE_BARS + 0x80000;

	rig_init(&r, RIG_INTX);
	fake_driver_start(&r.d, 0, 1, 16);
	cr_expect_eq(r.f.nkicks, 1, "only queues that are ready");
	cr_expect_eq(r.f.kick[0].addr, r.d.base + VIRTIO_PCI_NOTIFY);
	cr_expect(!r.f.kick[0].len_bytes && !r.f.kick[0].match);
	/* Sizing with decode off, as an operating system does it: no unbinding. */
	was = fake_config_read(&r.f, 1, PCI_BAR0, 4);
	fake_config_write(&r.f, 1, PCI_COMMAND, 2, 0);
	fake_config_write(&r.f, 1, PCI_BAR0, 4, 0xffffffff);
	fake_config_write(&r.f, 1, PCI_BAR0, 4, was);
	fake_config_write(&r.f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(r.f.unbinds, 0);
	fake_config_write(&r.f, 1, PCI_BAR0, 4, to);
	cr_expect_eq(r.f.unbinds, 1);
	cr_assert_eq(r.f.nkicks, 1);
	cr_expect_eq(r.f.kick[0].addr, to + VIRTIO_PCI_NOTIFY);
	r.d.base = to;
	rig_echo(&r, 0, "moved");
	/* If the BAR moves while idle, the start binds the kicks again. */
	fake_driver_set_status(&r.d, 0);
	fake_config_write(&r.f, 1, PCI_BAR0, 4, was);
	cr_expect_eq(r.f.nkicks, 0);
	r.d.base = was;
	fake_driver_start(&r.d, 0, 2, 16);
	cr_expect_eq(r.f.nkicks, 2);
	rig_echo(&r, 1, "back");
	rig_destroy(&r);
}

/* Section 4.1.4.9: access to the BAR through configuration space. */
Test(virtio_pci, access_window)
{
	unsigned at, data;
	struct rig r;

	rig_init(&r, RIG_INTX);
	fake_config_write(&r.f, 1, PCI_COMMAND, 2, 0);
	for (at = msix_cap_at(&r);
	     fake_config_read(&r.f, 1, at, 1) != 9 || fake_config_read(&r.f, 1, at + 3, 1) != 5;)
		at = fake_config_read(&r.f, 1, at + 1, 1);
	data = at + 16;
	/* num_queues */
	fake_config_write(&r.f, 1, at + 8, 4, 0x12);
	fake_config_write(&r.f, 1, at + 12, 4, 2);
	cr_expect_eq(fake_config_read(&r.f, 1, data, 2), ECHO_QUEUES);
	/* status */
	fake_config_write(&r.f, 1, at + 8, 4, 0x14);
	fake_config_write(&r.f, 1, at + 12, 4, 1);
	fake_config_write(&r.f, 1, data, 1, 3);
	cr_expect_eq(r.echo.v.s.status, 3);
	cr_expect_eq(fake_config_read(&r.f, 1, data, 4) & 0xff, 3);
	/* No access: another BAR, a bad length, a misaligned offset, one beyond the end. */
	fake_config_write(&r.f, 1, at + 4, 1, 1);
	fake_config_write(&r.f, 1, data, 1, 7);
	fake_config_write(&r.f, 1, at + 4, 1, 0);
	fake_config_write(&r.f, 1, at + 12, 4, 0x10001);
	fake_config_write(&r.f, 1, data, 1, 7);
	fake_config_write(&r.f, 1, at + 12, 4, 0);
	fake_config_write(&r.f, 1, data, 1, 7);
	fake_config_write(&r.f, 1, at + 12, 4, 8);
	fake_config_write(&r.f, 1, data, 4, 7);
	fake_config_write(&r.f, 1, at + 12, 4, 2);
	fake_config_write(&r.f, 1, at + 8, 4, 0x15);
	fake_config_write(&r.f, 1, data, 2, 7);
	fake_config_write(&r.f, 1, at + 8, 4, VIRTIO_PCI_BAR_BYTES);
	fake_config_write(&r.f, 1, data, 2, 7);
	cr_expect_eq(fake_config_read(&r.f, 1, data, 2), 7, "no access: what was written stays");
	fake_config_write(&r.f, 1, at + 8, 4, 0xfffffffe);
	(void)fake_config_read(&r.f, 1, data, 2);
	cr_expect_eq(r.echo.v.s.status, 3);
	rig_destroy(&r);
}

Test(virtio_pci, no_slot_left)
{
	static struct echo echo[32];
	struct fake_env f;
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	for (unsigned i = 0; i < 32; i++) {
		echo_init(&echo[i], &f);
		cr_assert_eq(virtio_attach(&echo[i].v, &err), i < 31 ? 0 : -ENOSPC);
	}
	cr_expect_str_not_empty(err.text);
	for (unsigned i = 0; i < 32; i++)
		virtio_detach(&echo[i].v);
	fake_env_destroy(&f);
}

/* Another server has queue 1: kicks and interrupts go by eventfd, in any state of the vector. */
Test(virtio_pci, a_queue_that_is_served_elsewhere)
{
	struct rig r = { 0 };
	struct err err;
	eventfd_t count;
	int call, relay;

	fake_env_init(&r.f, FAKE_PCI);
	echo_init(&r.echo, &r.f);
	r.echo.v.elsewhere = 2;
	cr_assert_eq(virtio_attach(&r.echo.v, &err), 0);
	fake_driver_find(&r.d, &r.f, 0, true);
	fake_driver_start(&r.d, 0, ECHO_QUEUES, ECHO_SIZE);
	r.echo.kicked[1] = 0;
	/* The server's first kick is there from the start. */
	cr_expect(!eventfd_read(virtio_kick_fd(&r.echo.v, 1), &count) && count == 1);
	fake_driver_kick(&r.d, 1);
	cr_expect_eq(r.echo.kicked[1], 0);
	cr_expect(!eventfd_read(virtio_kick_fd(&r.echo.v, 1), &count) && count == 1);
	rig_echo(&r, 0, "the other one is ours");
	/* Directly to the guest. */
	call = virtio_call_fd(&r.echo.v, 1);
	cr_assert_eq(eventfd_write(call, 1), 0);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 1);
	/* Masked: we relay the interrupt, and it is pending until the unmasking. */
	fake_write(&r.f, entry(&r, 2) + 12, 4, 1);
	relay = virtio_call_fd(&r.echo.v, 1);
	cr_assert_neq(relay, call);
	cr_assert_eq(eventfd_write(relay, 1), 0);
	fake_run(&r.f);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 0);
	fake_write(&r.f, entry(&r, 2) + 12, 4, 0);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 1);
	cr_expect_eq(virtio_call_fd(&r.echo.v, 1), call);
	/* Without MSI-X: by the pin. */
	set_control(&r, 0);
	cr_expect_eq(virtio_call_fd(&r.echo.v, 1), relay);
	cr_assert_eq(eventfd_write(relay, 1), 0);
	fake_run(&r.f);
	cr_expect_eq(fake_driver_irqs(&r.d, 1), 1);
	rig_destroy(&r);
}

/* A server shares the eventfds that it got: it makes them block and fills them. */
static void make_block(int fd)
{
	cr_assert_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
	cr_assert_eq(eventfd_write(fd, 0xfffffffffffffffe - 1), 0);
	cr_assert_eq(eventfd_write(fd, 1), 0);
}

Test(virtio_pci, a_server_that_makes_its_eventfds_block)
{
	struct rig r = { 0 };
	unsigned sent = 0;
	struct err err;
	int kick, call;

	fake_env_init(&r.f, FAKE_PCI);
	echo_init(&r.echo, &r.f);
	r.echo.v.elsewhere = 2;
	cr_assert_eq(virtio_attach(&r.echo.v, &err), 0);
	fake_driver_find(&r.d, &r.f, 0, true);
	fake_driver_start(&r.d, 0, ECHO_QUEUES, ECHO_SIZE);
	/* As the server keeps them: they outlive what we do with ours. */
	kick = dup(virtio_kick_fd(&r.echo.v, 1));
	call = dup(virtio_call_fd(&r.echo.v, 1));
	cr_assert(kick >= 0 && call >= 0);
	(void)!read(kick, &(eventfd_t){ 0 }, sizeof(eventfd_t));
	make_block(kick);
	make_block(call);
	/* None of these waits; the test's time limit tells. */
	fake_driver_kick(&r.d, 1); /* over the bus */
	virtio_lock(&r.echo.v);
	r.echo.v.transport_ops->signal_queue(&r.echo.v, 1);
	virtio_unlock(&r.echo.v);
	for (unsigned i = 0; i < FAKE_MAX; i++)
		sent += r.f.msi[i].sent;
	cr_expect_eq(sent, 1, "the interrupt takes another way");
	r.echo.kicked[1] = 0;
	virtio_lock(&r.echo.v);
	virtio_serve(&r.echo.v, 1, false);
	virtio_unlock(&r.echo.v);
	fake_run(&r.f);
	cr_expect_eq(r.echo.kicked[1], 1, "what the server had not read");
	fake_driver_kick(&r.d, 1);
	fake_run(&r.f);
	cr_expect_eq(r.echo.kicked[1], 2, "the queue is ours");
	close(kick);
	close(call);
	rig_destroy(&r);
}
