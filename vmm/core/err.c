/* err: see err.h. */
#include "vmm/core/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/printable.h"

static void put(struct err *err, int sys, const char *fmt, va_list ap)
{
	int n;

	if (!err)
		return;
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	if (n < 0)
		n = 0;
	if (sys && (size_t)n < sizeof(err->text))
		snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", strerror(sys));
	/* One line, whatever a file name or a library message contained. */
	printable(err->text);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(err, 0, fmt, ap);
	va_end(ap);
	return -code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(err, code, fmt, ap);
	va_end(ap);
	return -code;
}

void err_bug(const char *cond, const char *file, int line)
{
	fprintf(stderr, "bantam: bug at %s:%d: %s\n", file, line, cond);
	abort();
}
