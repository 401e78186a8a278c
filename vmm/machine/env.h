/*
 * env: device_env's operations on KVM: devices get ioeventfds, irqfds and interrupt
 * lines through them.
 */
#ifndef BANTAM_MACHINE_ENV_H
#define BANTAM_MACHINE_ENV_H

#include <stdatomic.h>

#include "devices/device.h"
#include "vmm/arch/arch.h"

struct env {
	const struct kvm *kvm;
	struct irq *irq;
	struct arch_vm *arch;
	void (*event)(void *opaque, enum vm_event event);
	void (*driver)(void *opaque, const char *id, bool active);
	void (*forwarded)(void *opaque, const char *id, const char *proto, const char *host,
			  const char *guest);
	void *opaque;
	/* The VM is being destroyed: KVM drops every binding itself, and each unbind would wait
	 * for a grace period. */
	atomic_bool closing;
};

/* device_env.ops for a struct env as device_env.vm. */
extern const struct env_ops env_ops;

#endif
