/* cachedir: see cachedir.h. */
#include "vmm/cachedir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *cachedir_default(void)
{
	const char *base = getenv("BANTAM_CACHE");
	char *dir = NULL;

	if (base && *base)
		return strdup(base);
	base = getenv("XDG_CACHE_HOME");
	if (base && *base)
		return asprintf(&dir, "%s/bantam", base) < 0 ? NULL : dir;
	base = getenv("HOME");
	if (base && *base)
		return asprintf(&dir, "%s/.cache/bantam", base) < 0 ? NULL : dir;
	return NULL;
}
