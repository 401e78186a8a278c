/*
 * arch: what a CPU architecture supplies to the monitor; one directory each.
 *
 * Thread: arch_vm_* belong to the builder, arch_vcpu_* to the vCPU's own thread.
 */
#ifndef BANTAM_ARCH_H
#define BANTAM_ARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "boot/board.h"
#include "boot/boot.h"
#include "devices/device.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"

/* The architecture's part of a VM: interrupt controller, CPUID template, … */
struct arch_vm;

/* After kvm_create_vm. buses and irq outlive it. */
int arch_vm_create(const struct kvm *kvm, struct irq *irq, struct bus *mmio, unsigned ncpus,
		   struct arch_vm **out, struct err *err);
void arch_vm_destroy(struct arch_vm *vm);

/* The board's fixed addresses and pins; the machine fills in what is present. */
void arch_board_init(struct board *board);
/* The lines of the memory map that only this architecture's board has. */
void arch_board_describe(const struct board *board, FILE *out);
/* Where RAM ends below the hole and goes on above it. */
void arch_memory_hole(uint64_t *start, uint64_t *end);

/* Interrupt line of a device; any thread. */
void arch_set_line(struct arch_vm *vm, unsigned gsi, unsigned holder, bool level);

/* A fresh vCPU: CPUID, MSRs, local APIC. */
int arch_vcpu_init(struct arch_vm *vm, int vcpu_fd, unsigned id, struct err *err);
/* The first vCPU's registers at the kernel's entry. */
int arch_vcpu_boot(struct arch_vm *vm, int vcpu_fd, const struct boot_info *info, struct err *err);
/* An exit that only this architecture knows; false: nobody does. */
bool arch_vcpu_exit(struct arch_vm *vm, int vcpu_fd, struct kvm_run *run);
/*
 * Whether the guest's kernel left in a hurry: it asked for a reset while interrupts
 * were still routed. Before an orderly reboot Linux masks the I/O APIC and switches
 * the local ones off; sysrq-b does neither, a panic (panic=N) only the latter.
 */
bool arch_vcpu_emergency(struct arch_vm *vm, int vcpu_fd);
/* "rip 0x… cr3 …": where a vCPU stands, for messages. */
void arch_vcpu_where(int vcpu_fd, char *buf, size_t len);

#endif
