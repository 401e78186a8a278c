/* irq: routes and irqfds of a real VM without a guest; skipped on a host without KVM. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/legacy.h"
#include "vmm/irq.h"

#define LAPIC 0xfee00000ull

static struct kvm kvm = { -1, -1 };
static struct irq irq;
static struct err err;

static void setup(void)
{
	if (access("/dev/kvm", R_OK | W_OK))
		return;
	cr_assert_eq(kvm_open(&kvm, &err), 0, "%s", err.text);
	cr_assert_eq(kvm_create_vm(&kvm, &err), 0, "%s", err.text);
	cr_assert_eq(arch_create_irqchip(&kvm, false, &err), 0, "%s", err.text);
	irq_init(&irq, &kvm, arch_traits.npins);
}

static void teardown(void)
{
	if (kvm.vm_fd < 0)
		return;
	irq_destroy(&irq);
	kvm_close(&kvm);
}

TestSuite(irq, .init = setup, .fini = teardown, .timeout = 60);

#define NEED_KVM()                                                                                 \
	do {                                                                                       \
		if (kvm.vm_fd < 0)                                                                 \
			cr_skip_test("no usable /dev/kvm");                                        \
	} while (0)

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) != -1;
}

/* Makes a vCPU that never runs. Its enabled local APIC shows which interrupts arrived. */
static int make_vcpu(void)
{
	struct kvm_lapic_state lapic;
	struct kvm_run *run;
	uint32_t spiv = 0x1ff;
	int fd;

	cr_assert_gt(kvm_create_vcpu(&kvm, 0, &fd, &run, &err), 0, "%s", err.text);
	cr_assert_geq(kvm_ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	memcpy(lapic.regs + 0xf0, &spiv, sizeof(spiv));
	cr_assert_geq(kvm_ioctl(fd, KVM_SET_LAPIC, &lapic), 0);
	return fd;
}

static bool pending(int vcpu, uint8_t vector)
{
	struct kvm_lapic_state lapic;
	uint32_t irr;

	cr_assert_geq(kvm_ioctl(vcpu, KVM_GET_LAPIC, &lapic), 0);
	memcpy(&irr, lapic.regs + 0x200 + vector / 32 * 0x10, sizeof(irr));
	return irr >> vector % 32 & 1;
}

/* Waits, because an irqfd may take a moment. */
static bool arrives(int vcpu, uint8_t vector)
{
	for (int i = 0; i < 1000; i++) {
		if (pending(vcpu, vector))
			return true;
		usleep(1000);
	}
	return false;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, 8), 8);
}

Test(irq, a_write_delivers_the_message)
{
	unsigned id;
	int vcpu, fd;

	NEED_KVM();
	vcpu = make_vcpu();
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
	cr_expect_geq(id, irq.npins, "the pins are not for messages");
	cr_expect_not(pending(vcpu, 0x41));
	signal_fd(fd);
	cr_expect(arrives(vcpu, 0x41));
	/* After the update, the next write sends the new message. */
	cr_expect_eq(irq_msi_update(&irq, id, LAPIC, 0x62), 0);
	cr_expect_eq(irq_msi_update(&irq, id, LAPIC, 0x62), 0);
	cr_expect_not(pending(vcpu, 0x62));
	signal_fd(fd);
	cr_expect(arrives(vcpu, 0x62));
	irq_msi_unbind(&irq, id);
	cr_expect_not(is_open(fd));
}

Test(irq, ids_are_used_again)
{
	unsigned id[40], again;
	int fd[40], fd_again;

	NEED_KVM();
	for (int i = 0; i < 40; i++) {
		cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x30u + (unsigned)i, &id[i], &fd[i]), 0);
		for (int j = 0; j < i; j++)
			cr_expect(id[i] != id[j] && fd[i] != fd[j]);
	}
	irq_msi_unbind(&irq, id[7]);
	irq_msi_unbind(&irq, id[3]);
	cr_expect(is_open(fd[8]));
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x31, &again, &fd_again), 0);
	cr_expect(again == id[3] || again == id[7]);
	/* irq_destroy closes the rest. */
}

Test(irq, destroy_closes_what_is_bound)
{
	unsigned id;
	int fd[3];

	NEED_KVM();
	for (int i = 0; i < 3; i++)
		cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x30, &id, &fd[i]), 0);
	irq_msi_unbind(&irq, id);
	cr_expect_eq(irq_set_pin(&irq, 16, LAPIC, 0xc050), 0);
	irq_destroy(&irq);
	cr_expect(!is_open(fd[0]) && !is_open(fd[1]));
	cr_expect(is_open(0), "a pin has no fd to close");
	irq_init(&irq, &kvm, arch_traits.npins);
}

Test(irq, pins)
{
	unsigned id;
	int fd;

	NEED_KVM();
	for (unsigned pin = 0; pin < irq.npins; pin++)
		cr_expect_eq(irq_set_pin(&irq, pin, LAPIC, 0xc030 + pin), 0);
	cr_expect_eq(irq_set_pin(&irq, 3, LAPIC, 0xc033), 0);
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
	for (unsigned pin = 0; pin < irq.npins; pin++)
		cr_expect_eq(irq_set_pin(&irq, pin, 0, 0), 0);
	cr_expect_eq(irq_set_pin(&irq, 3, 0, 0), 0, "out twice");
}

static bool requested(unsigned chip_id, unsigned pin)
{
	struct kvm_irqchip chip = { .chip_id = chip_id };

	cr_assert_geq(kvm_ioctl(kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip_id == KVM_IRQCHIP_IOAPIC ? chip.chip.ioapic.irr >> pin & 1 :
					       chip.chip.pic.irr >> pin & 1;
}

static void mask_pic(uint8_t imr)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	cr_assert_geq(kvm_ioctl(kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	chip.chip.pic.imr = imr;
	cr_assert_geq(kvm_ioctl(kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
}

static void mask_ioapic(unsigned pin, bool mask)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	cr_assert_geq(kvm_ioctl(kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	chip.chip.ioapic.redirtbl[pin].fields.mask = mask;
	cr_assert_geq(kvm_ioctl(kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
}

/* The legacy board's pins are routed on, whatever the devices' messages do to the table. */
Test(irq, pins_of_kvm_itself)
{
	struct legacy legacy;
	unsigned id;
	int fd;

	NEED_KVM();
	teardown();
	cr_assert_eq(kvm_open(&kvm, &err), 0, "%s", err.text);
	if (!legacy_possible(&kvm))
		cr_skip_test("KVM has no 8259");
	cr_assert_eq(kvm_create_vm(&kvm, &err), 0, "%s", err.text);
	cr_assert_eq(arch_create_irqchip(&kvm, true, &err), 0, "%s", err.text);
	irq_init(&irq, &kvm, arch_traits.npins);
	cr_assert_eq(legacy_init(&legacy, &kvm, &irq), 0);
	cr_expect_not(legacy_live(&legacy), "all pins are masked at first");
	mask_pic(0xef);
	cr_expect(legacy_live(&legacy));
	mask_pic(0xff);
	cr_expect_not(legacy_live(&legacy));
	mask_ioapic(23, false);
	cr_expect(legacy_live(&legacy));
	mask_ioapic(23, true);
	cr_expect_not(legacy_live(&legacy));
	for (unsigned bound = 0; bound < 2; bound++) {
		if (bound)
			cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
		for (unsigned pin = 3; pin < IOAPIC_PINS; pin++) {
			/* Two holders of one line. */
			legacy_set_line(&legacy, pin, 1, true);
			legacy_set_line(&legacy, pin, 31, true);
			legacy_set_line(&legacy, pin, 1, false);
			cr_expect(requested(KVM_IRQCHIP_IOAPIC, pin), "pin %u", pin);
			if (pin < 16)
				cr_expect(requested(pin < 8 ? KVM_IRQCHIP_PIC_MASTER :
							      KVM_IRQCHIP_PIC_SLAVE,
						    pin % 8),
					  "IRQ %u", pin);
			legacy_set_line(&legacy, pin, 31, false);
			/* Those of PCI and ACPI are level-triggered, so a request ends with its line. */
			if (pin >= 9 && pin <= 11)
				cr_expect_not(requested(KVM_IRQCHIP_PIC_SLAVE, pin % 8));
		}
	}
	legacy_set_line(&legacy, IOAPIC_PINS, 0, true);
	legacy_set_line(&legacy, 0, 32, true);
	legacy_destroy(&legacy);
}

/* A guest writes any address and data into its MSI-X table. */
Test(irq, hostile_messages)
{
	static const uint64_t addr[] = {
		0, 1, LAPIC | 0xfffff, UINT64_MAX, 1ull << 32 | LAPIC, 0xffffff00ull << 32 | LAPIC
	};
	static const uint32_t data[] = { 0, 0xffffffff, 0x700, 0x4000, 0x8000 };
	unsigned id, good;
	int vcpu, fd, good_fd;

	NEED_KVM();
	vcpu = make_vcpu();
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &good, &good_fd), 0);
	for (size_t a = 0; a < sizeof(addr) / sizeof(addr[0]); a++) {
		for (size_t d = 0; d < sizeof(data) / sizeof(data[0]); d++) {
			if (irq_msi_bind(&irq, addr[a], data[d], &id, &fd))
				continue;
			signal_fd(fd);
			irq_msi_update(&irq, id, addr[a], ~data[d]);
			irq_msi_unbind(&irq, id);
		}
	}
	signal_fd(good_fd);
	cr_expect(arrives(vcpu, 0x41), "another device's interrupt still works");
}

/* With 32-bit APIC ids KVM refuses some addresses, and with them the whole table. */
Test(irq, a_refused_message_spoils_nothing)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API,
				      .args = { KVM_X2APIC_API_USE_32BIT_IDS } };
	unsigned id, other;
	int vcpu, fd, other_fd;

	NEED_KVM();
	if (kvm_ioctl(kvm.vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		cr_skip_test("this KVM has no 32-bit APIC ids");
	vcpu = make_vcpu();
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
	cr_expect_lt(irq_msi_update(&irq, id, 0x11ull << 32 | LAPIC, 0x42), 0);
	cr_expect_lt(irq_msi_bind(&irq, 0x11ull << 32 | LAPIC, 0x42, &other, &other_fd), 0);
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x43, &other, &other_fd), 0);
	signal_fd(other_fd);
	cr_expect(arrives(vcpu, 0x43));
	signal_fd(fd);
	cr_expect(arrives(vcpu, 0x41), "the old message stays");
	cr_expect_lt(irq_set_pin(&irq, 4, 0x11ull << 32, 0xc044), 0);
	cr_expect_eq(irq_set_pin(&irq, 4, LAPIC, 0xc044), 0);
}

Test(irq, the_table_has_an_end)
{
	unsigned id, last;
	int fd;

	NEED_KVM();
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
	/* Fill the table directly: KVM takes milliseconds for each change of a table this long. */
	while (irq.nroutes < 2048) {
		for (unsigned i = irq.npins; i < irq.nroutes; i++)
			if (!irq.route[i].used)
				irq.route[i] = (struct irq_route){ true, -1, LAPIC, 0x41 };
		cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &last, &fd), 0);
	}
	for (unsigned i = last + 1; i < irq.nroutes - 1; i++)
		irq.route[i] = (struct irq_route){ true, -1, LAPIC, 0x41 };
	cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x41, &last, &fd), 0);
	cr_expect_eq(last, 2047);
	fd = 0;
	cr_expect_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), -ENOSPC);
	cr_expect_eq(fd, -1);
	irq_msi_unbind(&irq, last);
	cr_expect_eq(irq_msi_bind(&irq, LAPIC, 0x41, &id, &fd), 0);
	cr_expect_eq(id, last);
}

static void *churn(void *opaque)
{
	for (unsigned i = 0; i < 200; i++) {
		unsigned id[3];
		int fd[3];

		for (unsigned j = 0; j < 3; j++)
			cr_assert_eq(irq_msi_bind(&irq, LAPIC, 0x40 + j, &id[j], &fd[j]), 0);
		cr_assert_eq(irq_msi_update(&irq, id[1], LAPIC, 0x50 + i % 8), 0);
		for (unsigned j = 0; j < 3; j++)
			irq_msi_unbind(&irq, id[j]);
	}
	return NULL;
}

Test(irq, many_threads)
{
	pthread_t t[3];

	NEED_KVM();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, churn, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < irq.nroutes; i++)
		cr_expect_not(irq.route[i].used);
}
