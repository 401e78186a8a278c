/*
 * kvm: every ioctl on /dev/kvm and the VM's fd (Linux Documentation/virt/kvm/api.rst).
 *
 * The fds live here and in vcpu.c, nowhere else. A VM always has the split
 * irqchip: the kernel keeps the local APICs, bantam keeps the IOAPIC, and there
 * is no PIC or PIT. That is fewer calls at start (each device that the kernel
 * puts on an I/O bus costs an SRCU grace period) and less kernel for a guest to
 * attack. Thread: kvm_open … kvm_set_memory belong to the builder; the
 * interrupt calls may come from any thread.
 */
#ifndef BANTAM_KVM_H
#define BANTAM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

#define KVM_IOAPIC_PINS 24

struct kvm {
	int dev_fd; /* /dev/kvm */
	int vm_fd;  /* -1: no VM yet */
};

/* A capability that bantam uses; the list ends with name NULL. */
struct kvm_need {
	unsigned cap;
	const char *name;
	bool required;
	const char *why;
};
extern const struct kvm_need kvm_needs[];

/* /dev/kvm itself; then the VM with its split irqchip. kvm_close accepts one that kvm_open refused. */
int kvm_open(struct kvm *kvm, struct err *err);
int kvm_create_vm(struct kvm *kvm, struct err *err);
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION on the VM, or on /dev/kvm while there is none. */
int kvm_check(const struct kvm *kvm, unsigned cap);

int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint64_t gpa, uint64_t len_bytes,
		   void *host, struct err *err);

/* A new vCPU's fd and shared page: returns the page's bytes; the caller unmaps and closes. */
int kvm_create_vcpu(const struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run,
		    struct err *err);

/* -errno, no text: the callers are devices, on behalf of a guest. */
int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data);
int kvm_irqfd(const struct kvm *kvm, int fd, unsigned gsi, bool assign);
int kvm_ioeventfd(const struct kvm *kvm, const struct kvm_ioeventfd *arg);
int kvm_set_routes(const struct kvm *kvm, const struct kvm_irq_routing *table);

/* ioctl on any KVM fd, repeated on EINTR; 0 or more, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

#endif
