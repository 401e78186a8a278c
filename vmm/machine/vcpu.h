/*
 * vcpu: one virtual CPU and its exit switch.
 *
 * The machine's own thread prepares and runs the first vCPU (the guest would have to
 * wait for a hand-over to another thread). Each further vCPU has a thread of its own,
 * which prepares it while the machine is built. Only the thread that runs a vCPU uses
 * it; any thread may call vcpu_stop, vcpu_pause, vcpu_resume, vcpu_nmi and vcpu_sample.
 */
#ifndef BANTAM_MACHINE_VCPU_H
#define BANTAM_MACHINE_VCPU_H

#include <stdint.h>

#include "vmm/arch/arch.h"
#include "vmm/config.h"

/* Why a vCPU ended the VM. */
enum vcpu_end {
	VCPU_END_CRASHED, /* the processor has shut down (x86: triple fault) */
	VCPU_END_KVM,	  /* KVM cannot run this guest: text says why */
};

struct vcpu_env {
	const struct kvm *kvm;
	struct arch_vm *arch;
	struct bus *mmio;
	const struct config_cpus *cpus; /* the host CPUs of further vCPUs' threads */
	/* Called in the vCPU's thread; the vCPU runs no guest code afterwards. */
	void (*ended)(void *opaque, enum vcpu_end end, const char *text);
	/* The thread calls this last, whatever the reason for its end. */
	void (*finished)(void *opaque);
	void *opaque;
};

struct vcpu;

int vcpu_create(const struct vcpu_env *env, unsigned id, struct vcpu **out, struct err *err);
/* Waits until a further vCPU is prepared, then lets it run in its thread, with the caller's errands (errand/errand.h). */
int vcpu_go(struct vcpu *vcpu, struct err *err);
/*
 * vcpu_boot sets the first vCPU to boot's entry point; vcpu_run_first then runs it in this thread
 * until a stop.
 */
int vcpu_boot(struct vcpu *vcpu, const struct boot_info *boot, struct err *err);
void vcpu_run_first(struct vcpu *vcpu);
/* Asks the vCPU to leave guest mode and end; any thread. */
void vcpu_stop(struct vcpu *vcpu);
/*
 * Asks the vCPU to leave guest mode and rest. vcpu_await_rest then waits until it rests; it returns
 * false if the vCPU was stopped instead, which also ends the wait. vcpu_resume lets a resting vCPU
 * run again. Any thread but the vCPU's, after vcpu_go; no pause and resume overlap.
 */
void vcpu_pause(struct vcpu *vcpu);
bool vcpu_await_rest(struct vcpu *vcpu);
void vcpu_resume(struct vcpu *vcpu);
/* Sends the guest an NMI, to a resting vCPU when it is resumed; any thread, after vcpu_go. */
void vcpu_nmi(struct vcpu *vcpu);
/*
 * Fills *out with what the vCPU does, running or resting. Returns 0; -ETIMEDOUT: it did not leave guest
 * and devices within timeout_ms; -ECANCELED: it was stopped; or -errno of KVM. Any thread but the
 * vCPU's, after vcpu_go; several threads may ask at once.
 */
int vcpu_sample(struct vcpu *vcpu, unsigned timeout_ms, struct arch_sample *out);
/* Stops a further vCPU and waits for its thread's end; the machine's thread. May be repeated. */
void vcpu_join(struct vcpu *vcpu);
/* Stops, joins and frees the vCPU; accepts NULL. */
void vcpu_destroy(struct vcpu *vcpu);

/* arch_vcpu_emergency for the calling thread's vCPU, which asked for a reset; else false. */
bool vcpu_emergency(void);

/* Gets name and count of the exit reason index (from 0). Returns false after the last reason. */
bool vcpu_exit_count(const struct vcpu *vcpu, unsigned index, const char **name, uint64_t *count);

#endif
