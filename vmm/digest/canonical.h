/*
 * canonical: JSON with one form for each value (RFC 8785), for digests.
 *
 * No white space; the keys of an object in the order of their UTF-16 code units; strings in UTF-8
 * with the fewest escapes; integers as ECMAScript prints them, so that those beyond 2^53 are rounded
 * as a double is. Thread: any.
 */
#ifndef BANTAM_API_CANONICAL_H
#define BANTAM_API_CANONICAL_H

#include <jansson.h>

#include "vmm/core/err.h"

/*
 * Returns 0 and the text, which the caller frees; or -EINVAL: the value has a number with a fraction
 * or exponent, which no VmConfig has, or it is too deep.
 */
int canonical_json(const json_t *value, char **out, struct err *err);

#endif
