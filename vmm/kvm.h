/*
 * kvm: the ioctls on /dev/kvm and the VM's fd that every architecture has (Linux
 * Documentation/virt/kvm/api.rst); vmm/arch makes its own by kvm_ioctl.
 *
 * The fds live here and in vcpu.c, nowhere else. <linux/kvm.h> is for kvm.c, irq.c,
 * vcpu.c and vmm/arch alone. Thread: kvm_open … kvm_create_vcpu belong to the builder;
 * the interrupt calls may come from any thread.
 */
#ifndef BANTAM_KVM_H
#define BANTAM_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

/* The API version that kvm_open requires; Linux will not change it. */
#define KVM_VERSION 12

struct kvm_run;		/* <linux/kvm.h> */
struct kvm_irq_routing; /* the same */

struct kvm {
	int dev_fd; /* /dev/kvm */
	int vm_fd;  /* -1: no VM yet */
};

/*
 * A capability that bantam uses; a list ends with name NULL. kvm_needs are those of every
 * architecture, arch_needs (vmm/arch/arch.h) those of this one.
 */
struct kvm_need {
	unsigned cap;
	const char *name;
	bool required;
	const char *why;
};
#define KVM_NEED(cap, required, why)                                                               \
	{                                                                                          \
		cap, #cap, required, why                                                           \
	}
extern const struct kvm_need kvm_needs[];

/* /dev/kvm itself; then a VM with nothing in it. kvm_close accepts one that kvm_open refused. */
int kvm_open(struct kvm *kvm, struct err *err);
int kvm_create_vm(struct kvm *kvm, struct err *err);
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION on the VM, or on /dev/kvm while there is none. */
int kvm_check(const struct kvm *kvm, unsigned cap);
/* How many vCPUs a VM may have, and how many KVM recommends. */
void kvm_vcpu_limits(const struct kvm *kvm, int *max, int *recommended);

int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint64_t gpa, uint64_t len_bytes,
		   void *host, struct err *err);

/* A new vCPU's fd and shared page: returns the page's bytes; the caller unmaps and closes. */
int kvm_create_vcpu(const struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run,
		    struct err *err);

/* -errno, no text: the callers are devices, on behalf of a guest. */
int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data);
int kvm_irqfd(const struct kvm *kvm, int fd, unsigned gsi, bool assign);
/* A guest's write that signals fd without an exit (ioeventfd). */
struct kvm_kick {
	bool pio; /* addr is an I/O port */
	uint64_t addr;
	unsigned len_bytes; /* 0: any */
	bool match;	    /* writes of value only */
	uint64_t value;
	int fd;
};
int kvm_bind_kick(const struct kvm *kvm, const struct kvm_kick *kick, bool assign);
int kvm_set_routes(const struct kvm *kvm, const struct kvm_irq_routing *table);

/* ioctl on any KVM fd, repeated on EINTR; 0 or more, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

#endif
