/*
 * fence: landlock_enable: the threads that make and run the VM open what its configuration names, and no other file. See vm_impl.h.
 *
 * Theory of operation. Landlock binds a thread and those that it starts, as long as they live; but the process may
 * serve another VM afterwards. So vm_create goes on in a second executor, which takes the rules on itself before it
 * opens the first file: consoles, machines, devices that come later and helpers come from it. When its VM is gone that
 * thread ends, and the first executor, which has waited for it, takes the next job. (A process of Cloud Hypervisor has the
 * rules of its first VM until it ends.)
 *
 * A rule is for a file that is there: what is to be opened later has to exist when the VM is created, or the folder
 * in which it will be is in landlock_rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "vmm/confine/plan.h"
#include "vmm/core/thread.h"
#include "vmm/vm/vm_impl.h"

/* What the new thread does first; the one that starts it waits. */
struct opening {
	struct vm *vm;
	const struct confine_plan *plan;
	int (*fn)(void *opaque, struct err *err);
	void *opaque;
	struct err *err;
	int rc;
};

static int add_rules(struct confine_plan *plan, const json_t *vmconfig, struct err *err)
{
	json_t *rule;
	size_t i;
	int rc = 0;

	json_array_foreach(json_object_get(vmconfig, "landlock_rules"), i, rule)
	{
		const char *path = json_string_value(json_object_get(rule, "path"));
		const char *access_of = json_string_value(json_object_get(rule, "access"));

		if (access(path, F_OK))
			return err_sys(err, errno, "landlock_rules[%zu].path: %s", i, path);
		rc = confine_add_path(plan, path, strlen(path),
				      (strchr(access_of, 'r') ? CONFINE_READ : 0) |
					      (strchr(access_of, 'w') ?
						       CONFINE_WRITE | CONFINE_FILL | CONFINE_NAME :
						       0),
				      err);
		if (rc)
			break;
	}
	return rc;
}

static bool path_of(const struct confine_path *p, char path[PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%.*s", (int)p->len, p->path) < PATH_MAX;
}

/*
 * The files of consoles, which are opened next: where there is one, the rule is for it, and not for its folder. made: those
 * that were not there. What opens a file says why that fails.
 */
static void make_files(const struct confine_plan *plan, bool made[CONFINE_PATHS_MAX])
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < plan->npaths; i++) {
		int fd = plan->path[i].access & CONFINE_MAKE && path_of(&plan->path[i], path) ?
				 open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC,
				      0600) :
				 -1;

		made[i] = fd >= 0;
		if (fd >= 0)
			close(fd);
	}
}

/* There is no VM: it leaves nothing. */
static void remove_files(const struct confine_plan *plan, const bool made[CONFINE_PATHS_MAX])
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < plan->npaths; i++)
		if (made[i] && path_of(&plan->path[i], path))
			unlink(path);
}

static int make_plan(struct vm *vm, const json_t *vmconfig, const struct config *config,
		     struct confine_plan *plan, struct err *err)
{
	const char *folder;
	int rc = confine_plan_config(plan, config, err);

	for (unsigned i = 0; !rc && (folder = store_allowed_folder(i)); i++)
		rc = confine_add_path(plan, folder, strlen(folder), CONFINE_READ, err);
	if (!rc && vm->setup.cache_dir)
		rc = confine_add_path(plan, vm->setup.cache_dir, strlen(vm->setup.cache_dir),
				      CONFINE_READ | CONFINE_FILL, err);
	return rc ? rc : add_rules(plan, vmconfig, err);
}

static void *fenced_main(void *opaque)
{
	struct opening *o = opaque;
	struct vm *vm = o->vm;
	int rc = confine_files(o->plan);

	if (rc == -ENOTSUP)
		err_set(o->err, ENOTSUP, "landlock_enable: not with --confine off");
	else if (rc)
		err_sys(o->err, -rc,
			"landlock_enable: this host refuses it (bantam doctor --verbose says more)");
	else
		rc = o->fn(o->opaque, o->err);
	o->rc = rc;
	pthread_mutex_lock(&vm->lock);
	vm->fence.opened = true;
	pthread_cond_broadcast(&vm->cond);
	/* From here on *o may be gone. */
	while (!rc && !vm->fence.serves)
		pthread_cond_wait(&vm->cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	if (!rc)
		vm->fence.serve(vm, true);
	return NULL;
}

static int start(struct vm *vm, struct opening *o, struct err *err)
{
	int rc = thread_start(&vm->fence.thread, THREAD_EXECUTOR, "vm", VM_EXECUTOR_STACK_BYTES,
			      fenced_main, o);

	if (rc)
		return err_sys(err, -rc, "landlock_enable: cannot start a thread");
	pthread_mutex_lock(&vm->lock);
	while (!vm->fence.opened)
		pthread_cond_wait(&vm->cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	vm->fence.up = !o->rc;
	if (o->rc)
		pthread_join(vm->fence.thread, NULL);
	vm->fence.opened = false;
	return o->rc;
}

int vm_fence(struct vm *vm, const json_t *vmconfig, const struct config *config,
	     int (*fn)(void *opaque, struct err *err), void *opaque, struct err *err)
{
	struct confine_plan plan = { 0 };
	struct opening o = { vm, &plan, fn, opaque, err, 0 };
	bool made[CONFINE_PATHS_MAX];
	int rc;

	if (!json_is_true(json_object_get(vmconfig, "landlock_enable")))
		return fn(opaque, err);
	rc = make_plan(vm, vmconfig, config, &plan, err);
	if (rc)
		return rc;
	make_files(&plan, made);
	rc = start(vm, &o, err);
	if (rc)
		remove_files(&plan, made);
	return rc;
}

void vm_serve_fenced(struct vm *vm)
{
	/* The VM's own executor comes here, too. */
	if (!vm->fence.up || vm->fence.serves)
		return;
	pthread_mutex_lock(&vm->lock);
	vm->fence.serves = true;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	pthread_join(vm->fence.thread, NULL);
	vm->fence.up = vm->fence.serves = false;
}

int vm_fenced_error(const struct vm *vm, int rc, struct err *err)
{
	struct err why = *err;

	if (rc != -EACCES || !json_is_true(json_object_get(vm->config, "landlock_enable")))
		return rc;
	return err_set(
		err, EACCES,
		"%s; landlock_enable permits what vm.create has named: the files and programs of its devices, and landlock_rules",
		why.text);
}
