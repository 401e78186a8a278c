/*
 * vm: see vm.h.
 *
 * Theory of operation. The executor takes one thing at a time: first the end of a machine, else the
 * next job; but two ends in a row have a job between them, because a guest may reset itself at once, for
 * ever. Before each it removes the devices that the guest has given up (hotplug.c). A job that boots starts the thread vcpu0 and waits until the guest runs or the machine
 * has failed. vcpu0 creates the machine, shows it (vm->machine, under the lock: the functions for any
 * thread use it only there), becomes its first vCPU, hides it, destroys it and sets ended.
 *
 * The configuration is a tree of JSON that is never changed after it has been published; only the
 * executor has references to it, and vm_info copies it under the lock. Each machine gets a struct config made from
 * it, except that of a VM which bantam run describes (adopted), whose own options are the source.
 *
 * Consoles, and what the back ends leave in keep, outlive the machines: a reset in the guest must not
 * take a user's terminal away, nor a tap out of its bridge.
 */
#include "vmm/vm/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/core/thread.h"
#include "vmm/vm/vm_impl.h"

#define NS_PER_S 1000000000l
#define IDLE_NS (20 * NS_PER_S / 1000)

int vm_post(struct vm *vm, void (*fn)(void *opaque), void *opaque)
{
	struct vm_job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = (struct vm_job){ .fn = fn, .opaque = opaque };
	pthread_mutex_lock(&vm->lock);
	STAILQ_INSERT_TAIL(&vm->jobs, job, next);
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

/* Has the machine ended by itself? One that was told to end is joined by the job that deletes it. */
static bool ended(const struct vm *vm)
{
	return vm->ended && !vm->stopping;
}

/* Lock held. Starts the digest if it is wanted and no change comes for a moment. */
static void wait_for_change(struct vm *vm)
{
	struct timespec until;

	if (!vm->digest_wanted) {
		pthread_cond_wait(&vm->cond, &vm->lock);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += IDLE_NS;
	until.tv_sec += until.tv_nsec / NS_PER_S;
	until.tv_nsec %= NS_PER_S;
	if (pthread_cond_timedwait(&vm->cond, &vm->lock, &until) != ETIMEDOUT)
		return;
	pthread_mutex_unlock(&vm->lock);
	vm_start_digest(vm);
	pthread_mutex_lock(&vm->lock);
}

/*
 * Waits for work. Returns false at the end; true: *job is the next one, or NULL; *end: a machine has ended; neither: the
 * guest has given up a device.
 */
static bool next(struct vm *vm, struct vm_job **job, bool *end)
{
	bool more, jobs;

	*job = NULL;
	pthread_mutex_lock(&vm->lock);
	while (!ended(vm) && STAILQ_EMPTY(&vm->jobs) && !vm->quit && !vm->ejected)
		wait_for_change(vm);
	jobs = !STAILQ_EMPTY(&vm->jobs);
	more = ended(vm) || jobs || vm->ejected;
	if (jobs && (!ended(vm) || vm->was_end)) {
		*job = STAILQ_FIRST(&vm->jobs);
		STAILQ_REMOVE_HEAD(&vm->jobs, next);
	}
	*end = !*job && ended(vm);
	vm->was_end = *end;
	pthread_mutex_unlock(&vm->lock);
	return more;
}

/* fenced: in the executor of one VM, until that is gone. */
static void serve(struct vm *vm, bool fenced)
{
	struct vm_job *job;
	bool end;

	while (!(fenced && !vm->config) && next(vm, &job, &end)) {
		vm_finish_removals(vm);
		if (job)
			job->fn(job->opaque);
		else if (end)
			vm_on_end(vm);
		free(job);
		vm_serve_fenced(vm);
	}
}

static void *executor_main(void *opaque)
{
	struct vm *vm = opaque;

	/* What it starts inherits it: machines, consoles, helpers. */
	thread_confine();
	serve(vm, false);
	vm_delete(vm);
	return NULL;
}

int vm_start(const struct vm_setup *setup, struct vm **out, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int rc;

	*out = NULL;
	if (!vm)
		return err_sys(err, ENOMEM, "VM");
	vm->setup = *setup;
	STAILQ_INIT(&vm->jobs);
	vm->fence.serve = serve;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->cond, NULL);
	rc = thread_start(&vm->executor, THREAD_EXECUTOR, "vm", VM_EXECUTOR_STACK_BYTES,
			  executor_main, vm);
	if (rc) {
		pthread_cond_destroy(&vm->cond);
		pthread_mutex_destroy(&vm->lock);
		free(vm);
		return err_sys(err, -rc, "cannot start a thread");
	}
	*out = vm;
	return 0;
}

void vm_end(struct vm *vm)
{
	if (!vm)
		return;
	pthread_mutex_lock(&vm->lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	pthread_join(vm->executor, NULL);
	pthread_cond_destroy(&vm->cond);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
