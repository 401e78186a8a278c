/*
 * runner: the thread of a machine, and what the executor does with it. See vm.h.
 *
 * vcpu0 creates the machine, shows it (vm->machine, under the lock), becomes its first vCPU, hides it,
 * destroys it and sets ended. The executor joins it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/confine/plan.h"
#include "vmm/errand/errand.h"
#include "vmm/core/loop.h"
#include "vmm/core/thread.h"
#include "vmm/vm/vm_impl.h"

#define VCPU0_STACK_BYTES (512u << 10)

static void on_state(void *opaque, enum machine_state state)
{
	struct vm *vm = opaque;

	if (state != MACHINE_RUNNING)
		return;
	pthread_mutex_lock(&vm->lock);
	vm->started = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

static void on_panicked(void *opaque, bool crash_kernel)
{
	struct vm *vm = opaque;
	const char *props[] = { "event", crash_kernel ? "crash_loaded" : "panic", NULL };

	events_emit(vm->setup.events, "guest", "panic", props);
}

static void on_device(void *opaque, const char *id, bool activated)
{
	struct vm *vm = opaque;
	const char *props[] = { "id", id, NULL };

	events_emit(vm->setup.events, "virtio-device", activated ? "activated" : "reset", props);
}

static void on_forwarded(void *opaque, const char *id, const char *proto, const char *host,
			 const char *guest)
{
	struct vm *vm = opaque;
	const char *props[] = { "id", id, "proto", proto, "host", host, "guest", guest, NULL };

	events_emit(vm->setup.events, "bantam", "forwarded", props);
}

/* A vCPU's thread. */
static void on_ejected(void *opaque)
{
	struct vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	vm->ejected = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

static void show(struct vm *vm, struct machine *m)
{
	pthread_mutex_lock(&vm->lock);
	vm->machine = m;
	vm->creating = false;
	if (vm->stopping)
		machine_stop(m, vm->stop.outcome, vm->stop.why.text);
	if (vm->pressed)
		machine_power_button(m);
	vm->pressed = false;
	pthread_mutex_unlock(&vm->lock);
}

static void hide(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->machine = NULL;
	while (vm->borrowed)
		pthread_cond_wait(&vm->cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

struct remains {
	struct vm *vm;
	struct machine *machine;
	struct loop *loop;
	bool shown;
};

static void clear_away(void *opaque)
{
	struct remains *r = opaque;

	if (r->shown && keys_num(&r->vm->machine_config.vm, CONFIG_STATS))
		machine_print_stats(r->machine, stderr);
	machine_destroy(r->machine);
	loop_destroy(r->loop);
}

static int live(struct vm *vm)
{
	struct machine_setup setup = {
		.config = &vm->machine_config,
		.cache_dir = vm->setup.cache_dir,
		.keep = vm->keep,
		.consoles = vm->consoles,
		.hotplug = true,
		.viewer = vm->setup.viewer,
		.ignore_panic = vm->setup.panic == VM_IGNORE,
		.restarts = vm->setup.reboot == VM_RESTART,
		.events = { .opaque = vm,
			    .state = on_state,
			    .panicked = on_panicked,
			    .device = on_device,
			    .ejected = on_ejected,
			    .forwarded = on_forwarded },
	};
	struct remains remains = { .vm = vm };
	struct errands *errands = NULL;
	int rc = loop_create(&setup.loop, &vm->err);

	if (!rc)
		rc = machine_create(&setup, &remains.machine, &vm->err);
	if (!rc)
		rc = errands_start(true, &errands, &vm->err);
	errands_use(errands);
	remains.shown = !rc;
	if (!rc) {
		show(vm, remains.machine);
		rc = machine_run(remains.machine, &vm->end, &vm->err);
	}
	remains.loop = setup.loop;
	/* No errand: who has borrowed the machine may wait for a loop of it, which may wait for an errand. */
	if (remains.shown)
		hide(vm);
	errand_run(clear_away, &remains);
	errands_end(errands);
	return rc;
}

static void *vcpu0_main(void *opaque)
{
	struct vm *vm = opaque;
	int rc = live(vm);

	pthread_mutex_lock(&vm->lock);
	vm->rc = rc;
	vm->creating = false;
	vm->ended = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/*
 * Lets the executor use the machine for long, without the lock: vcpu0 does not destroy it before
 * give_back. Returns NULL if there is none now.
 */
static struct machine *borrow(struct vm *vm)
{
	struct machine *m;

	pthread_mutex_lock(&vm->lock);
	m = vm->machine;
	vm->borrowed = m;
	pthread_mutex_unlock(&vm->lock);
	return m;
}

static void give_back(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->borrowed = false;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

int vm_with_machine(struct vm *vm, int (*fn)(struct machine *m, void *opaque, struct err *err),
		    void *opaque, struct err *err)
{
	struct machine *m = borrow(vm);
	int rc = m ? fn(m, opaque, err) : err_set(err, EBUSY, "VM is not running");

	give_back(vm);
	return rc;
}

/* --- the executor ------------------------------------------------------------------------- */

bool vm_join_machine(struct vm *vm)
{
	bool by_itself;

	if (!vm->vcpu0_runs)
		return false;
	pthread_join(vm->vcpu0, NULL);
	if (vm->rc)
		vm->end = (struct machine_end){ OUTCOME_ERROR, vm->err };
	pthread_mutex_lock(&vm->lock);
	/* An error on the way to the end replaces the reason that it was told. */
	by_itself = !vm->stopping || (vm->end.outcome != OUTCOME_ERROR &&
				      strcmp(vm->end.why.text, vm->stop.why.text) != 0);
	vm->vcpu0_runs = vm->ended = vm->started = vm->stopping = false;
	pthread_mutex_unlock(&vm->lock);
	vm_settle_removals(vm);
	return by_itself;
}

bool vm_end_machine(struct vm *vm, int outcome, const char *why)
{
	if (!vm->vcpu0_runs)
		return false;
	pthread_mutex_lock(&vm->lock);
	vm_stop_locked(vm, outcome, why);
	pthread_mutex_unlock(&vm->lock);
	return vm_join_machine(vm);
}

/* Makes machine_config of the published configuration. */
static int configure(struct vm *vm, struct err *err)
{
	struct config *c = &vm->machine_config, old = *c;
	int rc = 0;

	if (!vm->adopted) {
		rc = vmconfig_to_config(vm->config, c, err);
		if (!rc && vm->pinned)
			vm_keep_slots(c, &old);
		config_clear(&old);
	}
	for (unsigned i = 0; !rc && i < c->ndevices; i++)
		rc = vm_copy_descriptors(&c->device[i], err);
	return rc;
}

/* What the machine calls by an option of bantam run has another name in a VmConfig. */
static int name_field(int rc, struct err *err)
{
	static const char names[][2][20] = { { "--kernel ", "payload.kernel: " },
					     { "--initrd ", "payload.initramfs: " },
					     { "--cmdline: ", "payload.cmdline: " },
					     { "--memory ", "memory.size: " },
					     { "--memory: ", "memory.size: " } };
	struct err why = *err;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i][0]);

		if (!strncmp(why.text, names[i][0], n))
			return err_set(err, -rc, "%s%s", names[i][1], why.text + n);
	}
	return rc;
}

/* Waits until the guest runs. Returns false if vcpu0 has ended, and the guest has not run. */
static bool wait_for_guest(struct vm *vm)
{
	bool started;

	pthread_mutex_lock(&vm->lock);
	while (!vm->started && !vm->ended)
		pthread_cond_wait(&vm->cond, &vm->lock);
	started = vm->started;
	pthread_mutex_unlock(&vm->lock);
	return started;
}

int vm_confine(const struct config *config, struct err *err)
{
	struct confine_plan plan = { 0 };
	struct err why;

	/* Too many names are too many for the machine, too, which says it. */
	return confine_plan_config(&plan, config, &why) ? 0 : confine_machine(&plan, err);
}

static int start(struct vm *vm, struct err *err)
{
	int rc = configure(vm, err);

	if (rc)
		return rc;
	rc = vm_confine(&vm->machine_config, err);
	if (rc)
		return rc;
	if (!vm_begin_creating(vm))
		return err_set(err, EBUSY, "this process ends");
	rc = thread_start(&vm->vcpu0, THREAD_VCPU, "vcpu0", VCPU0_STACK_BYTES, vcpu0_main, vm);
	if (rc) {
		pthread_mutex_lock(&vm->lock);
		vm->creating = vm->stopping = false;
		pthread_mutex_unlock(&vm->lock);
		return err_sys(err, -rc, "cannot start a thread");
	}
	vm->vcpu0_runs = true;
	if (wait_for_guest(vm))
		return 0;
	vm_join_machine(vm);
	if (vm->rc)
		*err = vm->err;
	if (vm->rc && !vm->adopted)
		return name_field(vm->rc, err);
	return vm->rc ? vm->rc : err_set(err, ECANCELED, "%s", vm->end.why.text);
}

int vm_start_machine(struct vm *vm, struct err *err)
{
	int rc = start(vm, err);

	if (rc) {
		pthread_mutex_lock(&vm->lock);
		vm->pressed = false;
		pthread_mutex_unlock(&vm->lock);
	}
	return rc;
}
