/* env: see env.h. */
#include "vmm/machine/env.h"

static struct kvm_ioeventfd as_ioeventfd(const struct kick *kick)
{
	return (struct kvm_ioeventfd){
		.addr = kick->addr,
		.len = kick->len_bytes,
		.fd = kick->fd,
		.datamatch = kick->value,
		.flags = (kick->space == KICK_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
			 (kick->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u),
	};
}

static int bind_kick(void *vm, const struct kick *kick)
{
	struct env *env = vm;
	struct kvm_ioeventfd arg = as_ioeventfd(kick);

	return kvm_ioeventfd(env->kvm, &arg);
}

static void unbind_kick(void *vm, const struct kick *kick)
{
	struct env *env = vm;
	struct kvm_ioeventfd arg = as_ioeventfd(kick);

	if (atomic_load(&env->closing))
		return;
	arg.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	kvm_ioeventfd(env->kvm, &arg);
}

static int msi_bind(void *vm, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	return irq_msi_bind(((struct env *)vm)->irq, addr, data, id, fd);
}

static int msi_update(void *vm, unsigned id, uint64_t addr, uint32_t data)
{
	return irq_msi_update(((struct env *)vm)->irq, id, addr, data);
}

static void msi_unbind(void *vm, unsigned id)
{
	struct env *env = vm;

	if (!atomic_load(&env->closing))
		irq_msi_unbind(env->irq, id);
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	arch_set_line(((struct env *)vm)->arch, gsi, holder, level);
}

static void event(void *vm, enum vm_event what)
{
	struct env *env = vm;

	env->event(env->opaque, what);
}

const struct env_ops env_ops = {
	.bind_kick = bind_kick,
	.unbind_kick = unbind_kick,
	.msi_bind = msi_bind,
	.msi_update = msi_update,
	.msi_unbind = msi_unbind,
	.set_line = set_line,
	.event = event,
};
