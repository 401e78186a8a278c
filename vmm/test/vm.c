/*
 * test/vm: see vm.h.
 *
 * Theory of operation. The machine's thread shows the machine to the owner (vm->machine, under the lock)
 * between its creation and its destruction, so a stop finds it or is kept for it. The machine says how it
 * ends in any thread, perhaps under a device's lock; the first cause is recorded with its time, and the
 * owner hears of it when the machine is gone: by then all sinks have what the devices wrote.
 */
#include "vmm/test/vm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cachedir.h"
#include "vmm/confine/confine.h"
#include "vmm/core/clock.h"
#include "vmm/errand/errand.h"
#include "vmm/core/thread.h"

#define STACK_BYTES (512u << 10)
/* No guest ends with it: the test stopped the machine. */
#define OUTCOME_STOPPED (OUTCOME_SIGNAL + SIGTERM)

struct test_vm {
	const struct config *config;
	struct chardev_pool *consoles;
	const struct test_vm_owner *owner;
	pthread_t thread;
	struct loop_watch *news; /* in the owner's loop */
	int news_fd;

	pthread_mutex_t lock;	 /* protects the fields below */
	struct machine *machine; /* NULL: not yet built, or about to be destroyed */
	bool stopping;
	bool created; /* not yet told to the owner */
	bool gone;

	/* Set in any thread, perhaps under a device's lock. */
	atomic_bool panicked, crash_kernel; /* not yet told to the owner */
	_Atomic uint64_t ended_ns;	    /* 0: no outcome yet */
	struct test_vm_end end;		    /* of the machine's thread, until gone */
};

/* --- the machine's threads ----------------------------------------------------------------- */

/* Wakes the owner. When it has seen gone, it closes news_fd; gone is told with the lock held. */
static void tell(struct test_vm *vm)
{
	uint64_t one = 1;

	/* It fails only when the counter is full, and then the loop is awake. */
	(void)!write(vm->news_fd, &one, sizeof(one));
}

static void on_ending(void *opaque, const struct machine_end *end)
{
	struct test_vm *vm = opaque;

	atomic_store(&vm->ended_ns, clock_now_ns());
}

static void on_panicked(void *opaque, bool crash_kernel)
{
	struct test_vm *vm = opaque;

	if (crash_kernel)
		atomic_store(&vm->crash_kernel, true);
	atomic_store(&vm->panicked, true);
	tell(vm);
}

/* bantam run's outcome of a machine, as the verdict knows it. */
static enum verdict_end how_it_ended(int outcome)
{
	switch (outcome) {
	case OUTCOME_POWEROFF:
		return VERDICT_END_POWER_OFF;
	case OUTCOME_REBOOT:
	case OUTCOME_EMERGENCY: /* the log tells whether a panic was the reason */
		return VERDICT_END_RESET;
	case OUTCOME_PANIC:
		return VERDICT_END_PANIC;
	case OUTCOME_TRIPLE_FAULT:
		return VERDICT_END_TRIPLE_FAULT;
	case OUTCOME_STOPPED:
		return VERDICT_END_STOPPED;
	default:
		return VERDICT_END_ERROR;
	}
}

static void show(struct test_vm *vm, struct machine *m)
{
	pthread_mutex_lock(&vm->lock);
	vm->machine = m;
	if (m) {
		vm->created = true;
		tell(vm);
	}
	if (m && vm->stopping)
		machine_stop(m, OUTCOME_STOPPED, "the test is over");
	pthread_mutex_unlock(&vm->lock);
}

struct remains {
	struct test_vm *vm;
	struct machine *machine;
	struct loop *loop;
};

static void clear_away(void *opaque)
{
	struct remains *r = opaque;

	if (r->machine)
		show(r->vm, NULL);
	machine_destroy(r->machine);
	loop_destroy(r->loop);
}

static int live(struct test_vm *vm, struct machine_end *end, struct err *err)
{
	struct machine_setup setup = {
		.config = vm->config,
		.consoles = vm->consoles,
		.events = { .opaque = vm, .ending = on_ending, .panicked = on_panicked },
	};
	struct remains remains = { .vm = vm };
	char *cache_dir = cachedir_default();
	struct errands *errands = NULL;
	int rc = loop_create(&setup.loop, err);

	setup.cache_dir = cache_dir;
	if (!rc)
		rc = machine_create(&setup, &remains.machine, err);
	free(cache_dir);
	if (!rc)
		rc = confine_finish(err);
	if (!rc)
		rc = errands_start(false, &errands, err);
	errands_use(errands);
	if (!rc) {
		show(vm, remains.machine);
		rc = machine_run(remains.machine, end, err);
	}
	remains.loop = setup.loop;
	errand_run(clear_away, &remains);
	errands_end(errands);
	return rc;
}

static void *machine_main(void *opaque)
{
	struct test_vm *vm = opaque;
	struct machine_end end = { .outcome = OUTCOME_ERROR };
	int rc = live(vm, &end, &vm->end.why);

	if (!rc) {
		vm->end.why = end.why;
		vm->end.how = how_it_ended(end.outcome);
	} else {
		vm->end.how = VERDICT_END_ERROR;
	}
	vm->end.at_ns = atomic_load(&vm->ended_ns);
	if (!vm->end.at_ns)
		vm->end.at_ns = clock_now_ns();
	pthread_mutex_lock(&vm->lock);
	vm->gone = true;
	tell(vm);
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/* --- the owner's thread -------------------------------------------------------------------- */

/* For CI's runners, where no login follows with which the user has a new group. */
#define UDEV_RULE                                                                                  \
	"; on a CI runner, as root: echo 'KERNEL==\"kvm\", MODE=\"0666\"' "                        \
	">/etc/udev/rules.d/99-kvm.rules; udevadm control --reload; udevadm trigger "              \
	"--name-match=kvm"

int test_vm_check(struct err *err)
{
	int rc = machine_check_host(err);
	size_t at = strlen(err->text);

	if (rc == -EACCES && at + sizeof(UDEV_RULE) <= sizeof(err->text))
		memcpy(err->text + at, UDEV_RULE, sizeof(UDEV_RULE));
	return rc;
}

int test_vm_describe(const struct config *config, FILE *out, struct err *err)
{
	struct machine_setup setup = { .config = config };
	struct machine *m = NULL;
	int rc = loop_create(&setup.loop, err);

	if (!rc)
		rc = machine_create(&setup, &m, err);
	if (!rc)
		machine_describe(m, out);
	machine_destroy(m);
	loop_destroy(setup.loop);
	return rc;
}

static void on_news(void *opaque)
{
	struct test_vm *vm = opaque;
	bool created, gone;

	pthread_mutex_lock(&vm->lock);
	created = vm->created;
	vm->created = false;
	gone = vm->gone;
	pthread_mutex_unlock(&vm->lock);
	if (created)
		vm->owner->created(vm->owner->opaque);
	if (atomic_exchange(&vm->panicked, false))
		vm->owner->panicked(vm->owner->opaque, atomic_load(&vm->crash_kernel));
	if (!gone || !vm->news)
		return;
	loop_unwatch(vm->news);
	vm->news = NULL;
	vm->owner->over(vm->owner->opaque, &vm->end);
}

int test_vm_start(const struct config *config, struct loop *loop, struct chardev_pool *consoles,
		  const struct test_vm_owner *owner, struct test_vm **out, struct err *err)
{
	struct test_vm *vm = calloc(1, sizeof(*vm));
	int rc;

	*out = NULL;
	if (!vm)
		return err_sys(err, ENOMEM, "machine");
	vm->config = config;
	vm->consoles = consoles;
	vm->owner = owner;
	pthread_mutex_init(&vm->lock, NULL);
	rc = loop_watch_event(loop, on_news, vm, &vm->news, &vm->news_fd);
	if (!rc)
		rc = thread_start(&vm->thread, THREAD_VCPU, "vcpu0", STACK_BYTES, machine_main, vm);
	if (!rc) {
		*out = vm;
		return 0;
	}
	loop_unwatch(vm->news);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	return err_sys(err, -rc, "cannot start the machine's thread");
}

void test_vm_stop(struct test_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->stopping = true;
	if (vm->machine)
		machine_stop(vm->machine, OUTCOME_STOPPED, "the test is over");
	pthread_mutex_unlock(&vm->lock);
}

/* With the lock, so that the machine is not destroyed meanwhile; its thread then waits a moment for that. */
int test_vm_sample(struct test_vm *vm, unsigned vcpu, struct verdict_sample *out)
{
	struct machine_sample sample;
	struct err err;
	int rc = -EBUSY;

	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		rc = machine_sample(vm->machine, vcpu, &sample, &err);
	pthread_mutex_unlock(&vm->lock);
	if (!rc)
		*out = (struct verdict_sample){ vcpu, sample.rip, sample.cpl, sample.halted,
						sample.interrupts };
	return rc;
}

void test_vm_destroy(struct test_vm *vm)
{
	if (!vm)
		return;
	pthread_join(vm->thread, NULL);
	BUG_ON(vm->news);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
