/* confine: see confine.h. */
#include "vmm/confine/confine.h"

static enum confine_mode mode = CONFINE_OFF;

enum confine_mode confine_mode(void)
{
	return mode;
}

int confine_begin(const struct confine_plan *plan, struct err *err)
{
	mode = plan->mode;
	return 0;
}

int confine_finish(struct err *err)
{
	return 0;
}

int confine_thread_rights(void)
{
	return 0;
}
