/* helper: see helper.h. */
#include "vmm/core/helper.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool runs(char *path, size_t len, const char *dir, const char *sub, const char *name)
{
	return snprintf(path, len, "%s%s%s", dir, sub, name) < (int)len && !access(path, X_OK);
}

bool helper_find(const char *name, char *path, size_t len)
{
	/* SAN=… builds are one folder deeper than the helpers. */
	static const char *const subs[] = { "/", "/../", "/../libexec/bantam/" };
	const char *set = getenv("BANTAM_LIBEXEC");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (set && *set)
		return runs(path, len, set, "/", name);
	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = 0;
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (runs(path, len, self, subs[i], name))
			return true;
	return false;
}
