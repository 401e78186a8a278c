/* state: what any thread may see and ask of a VM. See vm.h. */
#include <stdio.h>

#include "vmm/vm/vm_impl.h"

enum vm_state vm_state(struct vm *vm)
{
	enum vm_state state;

	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	return state;
}

void vm_set_state(struct vm *vm, enum vm_state state)
{
	pthread_mutex_lock(&vm->lock);
	vm->state = state;
	pthread_mutex_unlock(&vm->lock);
}

void vm_publish(struct vm *vm, json_t *config, enum vm_state state)
{
	json_t *old;

	pthread_mutex_lock(&vm->lock);
	old = vm->config;
	vm->config = config;
	vm->state = state;
	vm->creating = false;
	pthread_mutex_unlock(&vm->lock);
	json_decref(old);
}

bool vm_begin_creating(struct vm *vm)
{
	bool may;

	pthread_mutex_lock(&vm->lock);
	may = vm->creating = !vm->ending;
	pthread_mutex_unlock(&vm->lock);
	return may;
}

bool vm_is_creating(struct vm *vm)
{
	bool creating;

	pthread_mutex_lock(&vm->lock);
	creating = vm->creating;
	pthread_mutex_unlock(&vm->lock);
	return creating;
}

static void with_machine(struct vm *vm, void (*fn)(struct machine *m))
{
	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		fn(vm->machine);
	pthread_mutex_unlock(&vm->lock);
}

void vm_power_button(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->machine)
		machine_power_button(vm->machine);
	else if (vm->creating || vm->state == VM_RUNNING || vm->state == VM_PAUSED)
		vm->pressed = true;
	pthread_mutex_unlock(&vm->lock);
}

void vm_nmi(struct vm *vm)
{
	with_machine(vm, machine_nmi);
}

void vm_refresh(struct vm *vm)
{
	with_machine(vm, machine_refresh);
}

void vm_stop_locked(struct vm *vm, int outcome, const char *why)
{
	if (vm->ended || vm->stopping)
		return;
	vm->stopping = true;
	vm->stop.outcome = outcome;
	snprintf(vm->stop.why.text, sizeof(vm->stop.why.text), "%s", why);
	if (vm->machine)
		machine_stop(vm->machine, outcome, why);
}

void vm_begin_end(struct vm *vm, int outcome, const char *why)
{
	pthread_mutex_lock(&vm->lock);
	vm->ending = true;
	if (vm->creating || vm->machine || vm->started)
		vm_stop_locked(vm, outcome, why);
	pthread_mutex_unlock(&vm->lock);
}

bool vm_is_ending(struct vm *vm)
{
	bool ending;

	pthread_mutex_lock(&vm->lock);
	ending = vm->ending;
	pthread_mutex_unlock(&vm->lock);
	return ending;
}
