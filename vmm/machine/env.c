/* env: see env.h. */
#include "vmm/machine/env.h"

static int bind(struct env *env, const struct kick *kick, bool assign)
{
	struct kvm_kick k = { .pio = kick->space == KICK_PIO,
			      .addr = kick->addr,
			      .len_bytes = kick->len_bytes,
			      .match = kick->match,
			      .value = kick->value,
			      .fd = kick->fd };

	return kvm_bind_kick(env->kvm, &k, assign);
}

static int bind_kick(void *vm, const struct kick *kick)
{
	return bind(vm, kick, true);
}

static void unbind_kick(void *vm, const struct kick *kick)
{
	struct env *env = vm;

	if (!atomic_load(&env->closing))
		bind(env, kick, false);
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

static int msi_send(void *vm, uint64_t addr, uint32_t data)
{
	return kvm_signal_msi(((struct env *)vm)->kvm, addr, data);
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

static void driver(void *vm, const char *id, bool active)
{
	struct env *env = vm;

	env->driver(env->opaque, id, active);
}

static void forwarded(void *vm, const char *id, const char *proto, const char *host,
		      const char *guest)
{
	struct env *env = vm;

	env->forwarded(env->opaque, id, proto, host, guest);
}

const struct env_ops env_ops = {
	.bind_kick = bind_kick,
	.unbind_kick = unbind_kick,
	.msi_bind = msi_bind,
	.msi_update = msi_update,
	.msi_unbind = msi_unbind,
	.msi_send = msi_send,
	.set_line = set_line,
	.event = event,
	.driver = driver,
	.forwarded = forwarded,
};
