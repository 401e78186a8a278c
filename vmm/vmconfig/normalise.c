/* vmconfig/normalise: the checks of a whole request body. */
#include "vmm/vmconfig/vmconfig_impl.h"

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

	if (!rc)
		vmconfig_take_descriptors(&w);
	if (!rc)
		vmconfig_order(object, checked);
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
		rc = vmconfig_check_machine(checked, err);
	if (!rc)
		vmconfig_take_descriptors(&w);
	if (!rc)
		vmconfig_order(VMCONFIG_VM, checked);
	return finish(rc, checked, out);
}
