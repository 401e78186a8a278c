/*
 * log: see log.h.
 *
 * The log may be a pipe that nobody reads, or a terminal that was stopped. No thread waits for it: a
 * line that does not fit now is lost, and the next one that fits tells how many were. Two threads may
 * both find the last room in a pipe; then one of them waits, as it would without all this.
 */
#include "vmm/core/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/printable.h"

static _Atomic int level_now = LOG_WARN;
static _Atomic int crlf;
static _Atomic int show_level;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic unsigned lost;

static const char level_word[][5] = {
	[LOG_ERROR] = "ERRO",
	[LOG_WARN] = "WARN",
	[LOG_INFO] = "INFO",
	[LOG_DEBUG] = "DEBG",
};

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

void log_set_fd(int fd)
{
	log_fd = fd;
}

void log_show_level(int on)
{
	show_level = on;
}

/* Has the log room for a line? A pipe that is ready takes PIPE_BUF bytes. */
static bool has_room(void)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };

	return poll(&p, 1, 0) != 0;
}

/* line has room for the line's end behind n bytes. */
static void put_line(char *line, int n)
{
	if (crlf)
		line[n++] = '\r';
	line[n++] = '\n';
	(void)!write(log_fd, line, (size_t)n);
}

static void report_lost(void)
{
	unsigned n = atomic_exchange(&lost, 0);
	char line[96];

	if (n)
		put_line(line, snprintf(line, sizeof(line) - 2, "bantam: %s%u log lines were lost",
					show_level ? "WARN: " : "", n));
}

void log_put(enum log_level level, const char *fmt, ...)
{
	char line[600];
	va_list ap;
	int n, len;

	if ((int)level > level_now)
		return;
	if (lost && has_room())
		report_lost();
	if (!has_room()) {
		lost++;
		return;
	}
	n = snprintf(line, sizeof(line), "bantam: %s%s", show_level ? level_word[level] : "",
		     show_level ? ": " : "");
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
	put_line(line, n);
}

int log_limit_ok(struct log_limit *limit)
{
	uint64_t now = clock_now_ns(), start = limit->window_ns;

	if (!start || now - start > CLOCK_NS_PER_S) {
		limit->window_ns = now;
		limit->count = 0;
	}
	return atomic_fetch_add(&limit->count, 1) < 5;
}
