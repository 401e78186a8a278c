/* traits: the constants of x86. See vmm/arch/arch.h. */
#include <linux/kvm.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/ioapic.h"

const struct arch_traits arch_traits = {
	.modules = { "kvm_intel", "kvm_amd", "kvm_pvm" },
	.modules_text = "kvm_intel or kvm_amd",
	.virtualisation = "VMX or SVM",
	.npins = IOAPIC_PINS,
	.has_ports = true,
};

const struct kvm_need arch_needs[] = {
	KVM_NEED(KVM_CAP_SPLIT_IRQCHIP, true, "local APICs in the kernel"),
	KVM_NEED(KVM_CAP_EXT_CPUID, true, "CPUID"),
	KVM_NEED(KVM_CAP_TSC_DEADLINE_TIMER, false, "the guest's timer"),
	KVM_NEED(KVM_CAP_ADJUST_CLOCK, false, "kvmclock"),
	KVM_NEED(KVM_CAP_X2APIC_API, false, "x2APIC"),
	KVM_NEED(KVM_CAP_PIT2, false, "8259 and 8254 (noapic)"),
	{ 0 },
};
