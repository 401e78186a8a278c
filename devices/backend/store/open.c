/* store/open: the factory: opens and makes images of any format. See store.h. Nobody in this folder calls it. */
#include "devices/backend/store/store.h"

#include <stddef.h>

int store_open(const struct store_options *options, struct store **out, struct err *err)
{
	struct store_options known = *options;
	int rc;

	*out = NULL;
	rc = store_choose_format(&known, err);
	if (rc)
		return rc;
	return known.format == STORE_QCOW2 ? qcow2_store_open(&known, out, err) :
					     store_raw_open(&known, out, err);
}

int store_create(const struct store_create *create, struct err *err)
{
	return create->format == STORE_QCOW2 ? qcow2_store_create(create, err) :
					       store_raw_create(create, err);
}
