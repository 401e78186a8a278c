/* digest: finds the digest of a VM's definition beside its life. See vm.h. */
#include <stdio.h>
#include <string.h>

#include "vmm/core/log.h"
#include "vmm/vm/vm_impl.h"

/* The digest's thread. */
static void on_digest(void *opaque, const char *hex, const struct err *err)
{
	struct vm *vm = opaque;
	const char *props[] = { "digest", hex, NULL };
	bool same;

	if (!hex)
		log_put(LOG_INFO, "no digest: %s", err->text);
	hex = hex ? hex : "";
	pthread_mutex_lock(&vm->lock);
	same = !strcmp(vm->digest, hex);
	snprintf(vm->digest, sizeof(vm->digest), "%s", hex);
	pthread_mutex_unlock(&vm->lock);
	if (!same && *hex)
		events_emit(vm->setup.events, "bantam", "machine", props);
}

void vm_want_digest(struct vm *vm)
{
	vm->digest_wanted = true;
}

void vm_start_digest(struct vm *vm)
{
	json_t *definition = NULL;
	struct err err = { "" };
	int rc = 0;

	vm->digest_wanted = false;
	if (!vm->digesting)
		rc = digest_create(on_digest, vm, &vm->digesting, &err);
	if (!rc)
		digest_cancel(vm->digesting);
	if (!rc && vm->adopted)
		rc = definition_of_run(&vm->machine_config, &definition, &err);
	if (!rc)
		rc = digest_start(vm->digesting, definition ? definition : vm->config, &err);
	json_decref(definition);
	if (rc)
		log_put(LOG_INFO, "no digest: %s", err.text);
}

void vm_end_digest(struct vm *vm)
{
	vm->digest_wanted = false;
	digest_destroy(vm->digesting);
	vm->digesting = NULL;
	pthread_mutex_lock(&vm->lock);
	vm->digest[0] = 0;
	pthread_mutex_unlock(&vm->lock);
}
