/*
 * kvm: the ioctls on /dev/kvm and on the VM's fd that every architecture has (Linux
 * Documentation/virt/kvm/api.rst); vmm/arch calls kvm_ioctl for its own.
 *
 * Only this module and vcpu.c hold KVM's fds. Only kvm.c, irq.c, vcpu.c and vmm/arch
 * include <linux/kvm.h>. Thread: the builder calls kvm_open … kvm_create_vcpu; any
 * thread may make the interrupt calls.
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
 * A capability that bantam uses; a list ends with name NULL. kvm_needs lists those of every
 * architecture, arch_needs (vmm/arch/arch.h) those of the host's.
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

/*
 * kvm_open opens /dev/kvm; kvm_create_vm then creates an empty VM. kvm_close also accepts *kvm
 * after kvm_open has failed.
 */
int kvm_open(struct kvm *kvm, struct err *err);
int kvm_create_vm(struct kvm *kvm, struct err *err);
void kvm_close(struct kvm *kvm);

/*
 * Begins in a thread of its own what the next kvm_open and kvm_create_vm do, and then calls ask: half a
 * millisecond that the caller has other work for. The two then take what is there, and do themselves what is not, so
 * that errors are theirs. The thread has ended when kvm_create_vm returns, or kvm_end_ahead, which
 * closes what was not taken. All in the builder's thread.
 */
void kvm_begin_ahead(void (*ask)(const struct kvm *kvm));
void kvm_end_ahead(void);

/* KVM_CHECK_EXTENSION on the VM, or on /dev/kvm if there is no VM yet. */
int kvm_check(const struct kvm *kvm, unsigned cap);
/* Sets *max to the vCPUs that a VM may have, *recommended to KVM's recommendation. */
void kvm_vcpu_limits(const struct kvm *kvm, int *max, int *recommended);

int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint64_t gpa, uint64_t len_bytes,
		   void *host, struct err *err);

/*
 * Creates a vCPU: its fd and its shared page *run, of which it returns the size in bytes, or
 * -errno. The caller unmaps *run and closes *fd.
 */
int kvm_create_vcpu(const struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run,
		    struct err *err);

/* These return -errno without a text: devices call them on behalf of a guest. */
int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data);
int kvm_irqfd(const struct kvm *kvm, int fd, unsigned gsi, bool assign);
/* An ioeventfd: a guest's write to addr signals fd without an exit. */
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

/* Calls ioctl on any KVM fd, and repeats it on EINTR. Returns 0 or more, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

#endif
