/* env: see env.h. */
#include "vmm/machine/env.h"

#include "vmm/errand/errand.h"

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

/* --- what changes the VM: errands of a vCPU, see errand/errand.h ------------------------- */

struct change {
	struct env *env;
	const struct kick *kick;
	bool assign;
	uint64_t addr;
	uint32_t data;
	unsigned id;
	int fd, rc;
};

static void do_kick(void *opaque)
{
	struct change *c = opaque;

	c->rc = bind(c->env, c->kick, c->assign);
}

static int bind_kick(void *vm, const struct kick *kick)
{
	struct change c = { .env = vm, .kick = kick, .assign = true };

	errand_run(do_kick, &c);
	return c.rc;
}

static void unbind_kick(void *vm, const struct kick *kick)
{
	struct change c = { .env = vm, .kick = kick };

	if (!atomic_load(&c.env->closing))
		errand_run(do_kick, &c);
}

static void do_msi_bind(void *opaque)
{
	struct change *c = opaque;

	c->rc = irq_msi_bind(c->env->irq, c->addr, c->data, &c->id, &c->fd);
}

static int msi_bind(void *vm, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	struct change c = { .env = vm, .addr = addr, .data = data };

	errand_run(do_msi_bind, &c);
	*id = c.id;
	*fd = c.fd;
	return c.rc;
}

static void do_msi_update(void *opaque)
{
	struct change *c = opaque;

	c->rc = irq_msi_update(c->env->irq, c->id, c->addr, c->data);
}

static int msi_update(void *vm, unsigned id, uint64_t addr, uint32_t data)
{
	struct change c = { .env = vm, .addr = addr, .data = data, .id = id };

	errand_run(do_msi_update, &c);
	return c.rc;
}

static void do_msi_unbind(void *opaque)
{
	struct change *c = opaque;

	irq_msi_unbind(c->env->irq, c->id);
}

static void msi_unbind(void *vm, unsigned id)
{
	struct change c = { .env = vm, .id = id };

	if (!atomic_load(&c.env->closing))
		errand_run(do_msi_unbind, &c);
}

/* --- the data path --------------------------------------------------------------------- */

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
