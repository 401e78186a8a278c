/* store_qcow2: not there yet. */
#include "devices/backend/store.h"

#include <errno.h>
#include <stddef.h>

int store_qcow2_open(const struct store_options *options, struct store **out, struct err *err)
{
	*out = NULL;
	return err_set(err, ENOTSUP, "disk %s: qcow2 is not supported yet", options->path);
}

int store_qcow2_create(const struct store_create *create, struct err *err)
{
	return err_set(err, ENOTSUP, "disk %s: qcow2 is not supported yet", create->path);
}
