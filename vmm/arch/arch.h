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

struct kvm_run; /* <linux/kvm.h> */

/* What common code asks of the architecture; constant. */
struct arch_traits {
	const char *modules[4];	    /* that may provide /dev/kvm; ends with NULL */
	const char *modules_text;   /* "kvm_intel or kvm_amd": which to load */
	const char *virtualisation; /* "VMX or SVM": what the processor must have */
	unsigned npins;		    /* of the interrupt controller that bantam keeps: GSIs below */
	bool has_ports;		    /* the processor has I/O ports */
};
extern const struct arch_traits arch_traits;

/* As kvm_needs. */
extern const struct kvm_need arch_needs[];

/* The part of the interrupt controller that is in the kernel: right after kvm_create_vm. */
int arch_create_irqchip(const struct kvm *kvm, struct err *err);

/* The architecture's part of a VM: interrupt controller, description of the CPUs, … */
struct arch_vm;

struct arch_vm_config {
	const struct kvm *kvm;
	struct irq *irq;
	struct bus *pio; /* NULL without arch_traits.has_ports */
	struct bus *mmio;
	unsigned ncpus;
};

/* After the memory; all that config points to outlives it. */
int arch_vm_create(const struct arch_vm_config *config, struct arch_vm **out, struct err *err);
void arch_vm_destroy(struct arch_vm *vm);

/* The board's fixed addresses and pins; the machine fills in what is present. */
void arch_board_init(struct board *board);
/* The lines of the memory map that only this architecture's board has. */
void arch_board_describe(const struct board *board, FILE *out);
/* Where RAM ends below the hole and goes on above it. */
void arch_memory_hole(uint64_t *start, uint64_t *end);

/* Interrupt line of a device; any thread. */
void arch_set_line(struct arch_vm *vm, unsigned gsi, unsigned holder, bool level);

/* A fresh vCPU: what it is, and its registers as after a reset. */
int arch_vcpu_init(struct arch_vm *vm, int vcpu_fd, unsigned id, struct err *err);
/* The first vCPU's registers at the kernel's entry: info->entry_addr and regs. */
int arch_vcpu_boot(struct arch_vm *vm, int vcpu_fd, const struct boot_info *info, struct err *err);
/* What became of an exit that is not the same everywhere. */
enum arch_exit {
	ARCH_EXIT_DONE,	   /* served: the vCPU goes on */
	ARCH_EXIT_CRASHED, /* the processor stopped for good (x86: triple fault) */
	ARCH_EXIT_UNKNOWN, /* not this architecture's either */
};
enum arch_exit arch_vcpu_exit(struct arch_vm *vm, struct kvm_run *run);
/* The name of such an exit reason, or NULL. */
const char *arch_exit_name(unsigned reason);
/*
 * Whether the guest's kernel left in a hurry: it asked for a reset while interrupts could
 * still reach it. An orderly reboot switches them off first.
 */
bool arch_vcpu_emergency(struct arch_vm *vm, int vcpu_fd);
/* Where a vCPU stands ("rip 0x… cr3 …"), for messages. */
void arch_vcpu_where(int vcpu_fd, char *buf, size_t len);

#endif
