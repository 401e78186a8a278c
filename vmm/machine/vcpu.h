/*
 * vcpu: one virtual CPU and its exit switch.
 *
 * The first vCPU is prepared and run by the machine's own thread (a hand-over to
 * another one is time that the guest waits for); each further one has a thread
 * of its own, which prepares it while the machine is built. A vCPU belongs to
 * the thread that runs it; vcpu_stop may come from any.
 */
#ifndef BANTAM_MACHINE_VCPU_H
#define BANTAM_MACHINE_VCPU_H

#include <stdint.h>

#include "vmm/arch/arch.h"

/* Why a vCPU ended the VM. */
enum vcpu_end {
	VCPU_END_CRASHED, /* the processor stopped (x86: triple fault) */
	VCPU_END_KVM,	  /* KVM cannot run this guest: text says why */
};

struct vcpu_env {
	const struct kvm *kvm;
	struct arch_vm *arch;
	struct bus *mmio;
	/* Called in the vCPU's thread; the vCPU runs no guest code afterwards. */
	void (*ended)(void *opaque, enum vcpu_end end, const char *text);
	/* The last thing that the thread does, for whatever reason it ends. */
	void (*finished)(void *opaque);
	void *opaque;
};

struct vcpu;

int vcpu_create(const struct vcpu_env *env, unsigned id, struct vcpu **out, struct err *err);
/* A further vCPU: wait until it is prepared, then let it run in its thread. */
int vcpu_go(struct vcpu *vcpu, struct err *err);
/* The first vCPU: run it in this thread, from boot's entry point until it is stopped. */
int vcpu_run_first(struct vcpu *vcpu, const struct boot_info *boot, struct err *err);
/* Ask the vCPU to leave guest mode and end; any thread. */
void vcpu_stop(struct vcpu *vcpu);
/* Stop a further vCPU and wait for its thread's end; the machine's thread. May be repeated. */
void vcpu_join(struct vcpu *vcpu);
/* Stop, join, free; accepts NULL. */
void vcpu_destroy(struct vcpu *vcpu);

/* The calling thread's vCPU asked for a reset: as arch_vcpu_emergency. false on other threads. */
bool vcpu_emergency(void);

/* Exits by reason: name and count; index from 0, returns false after the last. */
bool vcpu_exit_count(const struct vcpu *vcpu, unsigned index, const char **name, uint64_t *count);

#endif
