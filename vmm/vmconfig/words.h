/* vmconfig/words: values as the command line writes them, to JSON. Part of vmconfig_impl.h's tables. */
#ifndef BANTAM_VMCONFIG_WORDS_H
#define BANTAM_VMCONFIG_WORDS_H

#include "vmm/vmconfig/vmconfig_impl.h"

struct vmconfig_word {
	const char *what; /* "--disk: readonly", for messages */
	const char *text;
};

/*
 * Returns the JSON that a word means for a field in *out, which the caller owns. Ranges are the
 * tables' matter, later. 0, -EINVAL or -ENOMEM.
 */
int vmconfig_word(const struct vmconfig_word *w, const struct vmconfig_field *f, json_t **out,
		  struct err *err);

/*
 * Returns the part of *text up to sep, outside of brackets and quotes, which the caller frees, and
 * advances *text behind it. *text becomes NULL behind the last part; then the result is NULL.
 */
char *vmconfig_next_part(const char **text, char sep);

#endif
