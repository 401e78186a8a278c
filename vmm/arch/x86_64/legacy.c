/*
 * legacy: see legacy.h.
 *
 * KVM_SET_GSI_ROUTING replaces all routes, so irq.c has to know those of the pins: a GSI below 16 goes
 * to the 8259s and to the I/O APIC's pin of that number, any other to the I/O APIC only. The 8254
 * drives GSI 0.
 */
#include "vmm/arch/x86_64/legacy.h"

#include <errno.h>
#include <linux/kvm.h>

#define PIC_PINS 8u
#define IRQ_CASCADE 2u

bool legacy_possible(const struct kvm *kvm)
{
	return kvm_check(kvm, KVM_CAP_IRQCHIP) > 0 && kvm_check(kvm, KVM_CAP_PIT2) > 0;
}

/* As a BIOS leaves it: all interrupts masked. */
static int start_pic(const struct kvm *kvm, unsigned chip_id, uint8_t elcr)
{
	struct kvm_irqchip chip = { .chip_id = chip_id };
	int rc = kvm_ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip);

	if (rc < 0)
		return rc;
	chip.chip.pic.elcr = elcr;
	chip.chip.pic.imr = 0xff;
	rc = kvm_ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
	return rc < 0 ? rc : 0;
}

int legacy_create(const struct kvm *kvm, uint16_t level_irqs, struct err *err)
{
	/* The 8254's second and third counters belong to port 0x61. */
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	/* Ticks of a pause are lost, as kvmclock expects: they would come all at once. */
	struct kvm_reinject_control once = { .pit_reinject = 0 };
	int rc = kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);

	if (rc >= 0)
		rc = start_pic(kvm, KVM_IRQCHIP_PIC_MASTER, (uint8_t)level_irqs);
	if (rc >= 0)
		rc = start_pic(kvm, KVM_IRQCHIP_PIC_SLAVE, (uint8_t)(level_irqs >> PIC_PINS));
	if (rc >= 0)
		rc = kvm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	if (rc >= 0)
		rc = kvm_ioctl(kvm->vm_fd, KVM_REINJECT_CONTROL, &once);
	return rc < 0 ? err_sys(err, -rc, "/dev/kvm: an 8259 and an 8254 for the guest") : 0;
}

static struct kvm_irq_routing_entry pin_route(unsigned gsi, unsigned chip, unsigned pin)
{
	return (struct kvm_irq_routing_entry){ .gsi = gsi,
					       .type = KVM_IRQ_ROUTING_IRQCHIP,
					       .u.irqchip = { .irqchip = chip, .pin = pin } };
}

int legacy_init(struct legacy *legacy, const struct kvm *kvm, struct irq *irq)
{
	struct kvm_irq_routing_entry route[IRQ_MAX_FIXED];
	unsigned n = 0;

	*legacy = (struct legacy){ .kvm = kvm };
	pthread_mutex_init(&legacy->lock, NULL);
	for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < 2 * PIC_PINS && gsi != IRQ_CASCADE)
			route[n++] = pin_route(gsi,
					       gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER :
								KVM_IRQCHIP_PIC_SLAVE,
					       gsi % PIC_PINS);
		route[n++] = pin_route(gsi, KVM_IRQCHIP_IOAPIC, gsi);
	}
	return irq_set_fixed(irq, route, n);
}

void legacy_destroy(struct legacy *legacy)
{
	pthread_mutex_destroy(&legacy->lock);
}

void legacy_set_line(struct legacy *legacy, unsigned pin, unsigned holder, bool level)
{
	uint32_t before;

	if (pin >= IOAPIC_PINS || holder >= 32)
		return;
	pthread_mutex_lock(&legacy->lock);
	before = legacy->line[pin];
	if (level)
		legacy->line[pin] |= 1u << holder;
	else
		legacy->line[pin] &= ~(1u << holder);
	if (!before != !legacy->line[pin]) {
		struct kvm_irq_level set = { .irq = pin, .level = legacy->line[pin] != 0 };

		kvm_ioctl(legacy->kvm->vm_fd, KVM_IRQ_LINE, &set);
	}
	pthread_mutex_unlock(&legacy->lock);
}

bool legacy_live(const struct legacy *legacy)
{
	struct kvm_irqchip pic = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	struct kvm_irqchip ioapic = { .chip_id = KVM_IRQCHIP_IOAPIC };

	/* The slave's interrupts come through the master. */
	if (kvm_ioctl(legacy->kvm->vm_fd, KVM_GET_IRQCHIP, &pic) >= 0 && pic.chip.pic.imr != 0xff)
		return true;
	if (kvm_ioctl(legacy->kvm->vm_fd, KVM_GET_IRQCHIP, &ioapic) < 0)
		return false;
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		if (!ioapic.chip.ioapic.redirtbl[i].fields.mask)
			return true;
	return false;
}
