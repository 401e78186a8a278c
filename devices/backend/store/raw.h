/* store/raw: the format raw, for store/open.c. See store.h. */
#ifndef BANTAM_STORE_RAW_H
#define BANTAM_STORE_RAW_H

#include "devices/backend/store/store.h"

/* As store_open and store_create, for raw images only. */
int store_raw_open(const struct store_options *options, struct store **out, struct err *err);
int store_raw_create(const struct store_create *create, struct err *err);

#endif
