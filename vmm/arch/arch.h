/*
 * arch: what a CPU architecture supplies to the monitor. Each has a directory, vmm/arch/ARCH.
 *
 * Thread: the builder calls arch_vm_*, the vCPU's own thread calls arch_vcpu_*.
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

/* Constants of the architecture that common code reads. */
struct arch_traits {
	const char *modules[4];	    /* that may provide /dev/kvm; ends with NULL */
	const char *modules_text;   /* the modules to load: "kvm_intel or kvm_amd" */
	const char *virtualisation; /* the processor feature that KVM needs: "VMX or SVM" */
	unsigned npins;		    /* GSIs 0 … npins-1 are bantam's interrupt controller */
	bool has_ports;		    /* the processor has I/O ports */
};
extern const struct arch_traits arch_traits;

/* The architecture's own additions to kvm_needs. */
extern const struct kvm_need arch_needs[];

/*
 * The legacy board also has the chips of old machines, in the host kernel (x86: 8259 and 8254), for
 * a guest that uses nothing else. A guest gets it whose command line asks for them
 * (arch_needs_legacy), since these chips cost time and more of the host kernel within its reach.
 */
bool arch_has_legacy(const struct kvm *kvm);

/*
 * Creates the part of the interrupt controller that is in the host kernel. Call it right after
 * kvm_create_vm. Returns 0 or -errno.
 */
int arch_create_irqchip(const struct kvm *kvm, bool legacy, struct err *err);

/*
 * What arch_vm_create asks of the host's KVM: the next one finds the answer. In another thread, which has ended before
 * arch_vm_create is called.
 */
void arch_ask_ahead(const struct kvm *kvm);

/* The architecture's part of a VM: the interrupt controller, the CPUs' features, … */
struct arch_vm;

/* How the guest sees its vCPUs: a thread of a core of a die of a package each, in this order. */
struct arch_topology {
	unsigned threads_per_core, cores_per_die, dies_per_package, packages; /* 1 or more */
};
/* 0 or -EINVAL: it has fewer places than ncpus, or needs numbers that the processors do not have. */
int arch_check_topology(const struct arch_topology *t, unsigned ncpus, struct err *err);

struct arch_vm_config {
	const struct kvm *kvm;
	struct irq *irq;
	struct bus *pio; /* NULL without arch_traits.has_ports */
	struct bus *mmio;
	struct arch_topology topology; /* checked */
	bool legacy;		       /* as for arch_create_irqchip */
};

/* Call it after the memory is set up; all that config points to outlives *out. */
int arch_vm_create(const struct arch_vm_config *config, struct arch_vm **out, struct err *err);
void arch_vm_destroy(struct arch_vm *vm);

/* Sets the board's fixed addresses and pins; the machine then adds the devices that it has. */
void arch_board_init(struct board *board, bool legacy);
/* Sets the board's processors; *t is checked. */
void arch_board_cpus(struct board *board, const struct arch_topology *t, unsigned ncpus);
/*
 * What Linux's command line asks of the board. Words are told apart as the kernel does it; those after
 * "--" are for init. arch_needs_legacy: an option works on the legacy board only. arch_hides_acpi: the
 * kernel does not look at the ACPI tables. arch_check_cmdline calls warn with one line for each option
 * that cannot work on this board, or works with less than the user may expect (kvm NULL: in a dry run).
 */
bool arch_needs_legacy(const char *cmdline);
bool arch_hides_acpi(const char *cmdline);
void arch_check_cmdline(const char *cmdline, const struct board *board, const struct kvm *kvm,
			void (*warn)(void *opaque, const char *line), void *opaque);
/* Prints the lines of the memory map that only this architecture's board has. */
/* What the board has at addresses of its own, for --dry-run; at most ARCH_REGIONS_MAX. Returns how many. */
#define ARCH_REGIONS_MAX 4u
struct arch_region {
	uint64_t base, len_bytes;
	const char *what;
};
unsigned arch_board_regions(const struct board *board, struct arch_region out[ARCH_REGIONS_MAX]);
/* What it has besides, in lines. */
void arch_board_describe(const struct board *board, FILE *out);
/* The hole in RAM: RAM ends at *start and continues at *end. */
void arch_memory_hole(uint64_t *start, uint64_t *end);

/* Sets the level of a device's interrupt line (holder is the device's number); any thread. */
void arch_set_line(struct arch_vm *vm, unsigned gsi, unsigned holder, bool level);

/* The id by which KVM knows the vCPU of this number (kvm_create_vcpu). */
unsigned arch_vcpu_kvm_id(const struct arch_vm *vm, unsigned id);
/* Initialises a fresh vCPU: its CPU features, and its registers as after a reset. */
int arch_vcpu_init(struct arch_vm *vm, int vcpu_fd, unsigned id, struct err *err);
/* Sets the first vCPU's registers for the kernel's entry, from info->entry_addr and info->regs. */
int arch_vcpu_boot(struct arch_vm *vm, int vcpu_fd, const struct boot_info *info, struct err *err);
/*
 * Tells the guest that this vCPU was paused: time went on, but its watchdog must not complain. The
 * vCPU runs next.
 */
void arch_vcpu_resumed(int vcpu_fd);
/* Sends this vCPU a non-maskable interrupt; one that the guest has not started ignores it. */
void arch_vcpu_nmi(int vcpu_fd);
/* What a vCPU does at this moment. */
struct arch_sample {
	uint64_t pc;	 /* x86: RIP, without the code segment's base */
	unsigned level;	 /* of privilege; x86: CPL */
	bool halted;	 /* it waits for an interrupt, or for the guest to start it */
	bool interrupts; /* it takes them (x86: RFLAGS.IF), or the guest has not started it */
};
/* Fills *out, and changes nothing in the vCPU, which is outside the guest. Returns 0 or -errno. */
int arch_vcpu_sample(int vcpu_fd, struct arch_sample *out);
/* The result of an exit that common code does not handle. */
enum arch_exit {
	ARCH_EXIT_DONE,	   /* handled: the vCPU may run again */
	ARCH_EXIT_CRASHED, /* the processor has shut down (x86: triple fault) */
	ARCH_EXIT_UNKNOWN, /* the architecture does not know this exit either */
};
enum arch_exit arch_vcpu_exit(struct arch_vm *vm, struct kvm_run *run);
/* Returns the name of such an exit reason, or NULL. */
const char *arch_exit_name(unsigned reason);
/*
 * Returns true if the guest's kernel asked for a reset while interrupts could still reach it: an
 * emergency restart. An orderly reboot disables interrupts first.
 */
bool arch_vcpu_emergency(struct arch_vm *vm, int vcpu_fd);
/* Writes a vCPU's main registers ("rip 0x… cr3 …") to buf, for messages. */
void arch_vcpu_where(int vcpu_fd, char *buf, size_t len);

#endif
