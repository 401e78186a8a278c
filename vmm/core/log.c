/* log: see log.h. */
#include "vmm/core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/printable.h"

static _Atomic int level_now = LOG_WARN;
static _Atomic int crlf;

void log_set_level(enum log_level level)
{
	level_now = level;
}

enum log_level log_level(void)
{
	return level_now;
}

void log_set_crlf(int on)
{
	crlf = on;
}

void log_put(enum log_level level, const char *fmt, ...)
{
	char line[600];
	va_list ap;
	int n, len;

	if ((int)level > level_now)
		return;
	n = snprintf(line, sizeof(line), "bantam: ");
	va_start(ap, fmt);
	len = vsnprintf(line + n, sizeof(line) - (size_t)n - 2, fmt, ap);
	va_end(ap);
	if (len < 0)
		return;
	n += len;
	if (n > (int)sizeof(line) - 3)
		n = (int)sizeof(line) - 3;
	line[n] = 0;
	printable(line);
	if (crlf)
		line[n++] = '\r';
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n);
}

int log_limit_ok(struct log_limit *limit)
{
	struct timespec ts;
	uint64_t now, start = limit->window_ns;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	if (!start || now - start > 1000000000) {
		limit->window_ns = now;
		limit->count = 0;
	}
	return atomic_fetch_add(&limit->count, 1) < 5;
}
