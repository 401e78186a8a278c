/* vmconfig/normalise: the checks of a whole request body. */
#include "vmm/vmconfig/vmconfig_impl.h"

/* What only the machine's own tables know is asked of them: a device's keys that exclude others. */
static int check_machine(const json_t *vm, struct err *err)
{
	struct config config;
	int rc = vmconfig_to_config(vm, &config, err);

	config_clear(&config);
	return rc;
}

static int finish(int rc, json_t *checked, json_t **out)
{
	if (rc) {
		json_decref(checked);
		checked = NULL;
	}
	*out = checked;
	return rc;
}

int vmconfig_check_object(enum vmconfig_object object, const json_t *in,
			  const struct vmconfig_notes *notes, json_t **out, struct err *err)
{
	struct vmconfig_walk w = { .notes = notes, .err = err };
	json_t *checked;
	int rc = vmconfig_check(&w, object, in, &checked);

	return finish(rc, checked, out);
}

int vmconfig_normalise(const json_t *in, const struct vmconfig_notes *notes, json_t **out,
		       struct err *err)
{
	struct vmconfig_walk w = { .notes = notes, .err = err };
	json_t *checked;
	int rc = vmconfig_check(&w, VMCONFIG_VM, in, &checked);

	if (!rc)
		rc = vmconfig_vm_rules(&w, checked);
	if (!rc)
		rc = check_machine(checked, err);
	return finish(rc, checked, out);
}
