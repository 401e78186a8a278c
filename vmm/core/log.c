/*
 * log: see log.h.
 *
 * Theory of operation. The log may be a pipe that nobody reads, or a terminal that was stopped. No thread
 * waits for it: a line that does not fit now is lost, and the next one that fits tells how many were.
 *
 * Other processes hold standard error, too, so its O_NONBLOCK is theirs as much as ours. Therefore the first
 * line opens a pipe or a terminal again through /proc: the new description belongs to this process alone. A
 * socket is written with MSG_DONTWAIT. Where the kernel refuses the second opening (another user's terminal,
 * no /proc), fd_write_now does what that kernel can do.
 *
 * The limit of a cause is one number, the time up to which its lines are used up. Each line moves it one
 * period further, from now at least; a line that would move it more than LOG_LIMIT_LINES periods beyond now
 * is dropped. A limit that has dropped a line is in a list for ever, so that log_end finds it.
 */
#include "vmm/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/printable.h"

#define LINE_BYTES 600
#define LAST_MS 1000

enum how { HOW_UNKNOWN, HOW_WRITE, HOW_SEND, HOW_ASK };

static _Atomic int level_now = LOG_WARN;
static _Atomic int crlf;
static _Atomic int show_level;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_how = HOW_UNKNOWN;
static _Atomic int own_fd = -1; /* log_fd, if it was opened here */
static _Atomic unsigned lost;
static struct log_limit *_Atomic dropping;

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
	int own = atomic_exchange(&own_fd, -1);

	log_fd = fd;
	log_how = HOW_UNKNOWN;
	if (own >= 0)
		close(own);
}

void log_show_level(int on)
{
	show_level = on;
}

/* --- one line ------------------------------------------------------------------------ */

/* Finds out how to write to log_fd. Two threads may do it at once: then one's descriptor is closed. */
static int prepare(void)
{
	int fd = log_fd, shared = fd, own, how = HOW_WRITE;
	struct stat st;

	if (fd_stat(fd, &st))
		return HOW_WRITE;
	if (S_ISSOCK(st.st_mode))
		how = HOW_SEND;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		own = fd_open_again(fd, O_WRONLY | O_NONBLOCK);
		if (own < 0)
			how = HOW_ASK;
		else if (atomic_compare_exchange_strong(&log_fd, &shared, own))
			own_fd = own;
		else
			close(own);
	}
	log_how = how;
	return how;
}

void log_open(void)
{
	if (log_how == HOW_UNKNOWN)
		prepare();
}

bool log_is_plain(void)
{
	return log_how == HOW_WRITE;
}

/* As much as fits: the first bytes, or -1 with errno. */
static ssize_t put_parts(const char *bytes, size_t len)
{
	ssize_t first = fd_write_now(log_fd, bytes, len), n = first;

	while (n > 0 && (size_t)n < len) {
		bytes += n;
		len -= (size_t)n;
		n = fd_write_now(log_fd, bytes, len);
	}
	return first;
}

/* Returns false if there is no room now. */
static bool put(const char *bytes, size_t len)
{
	int saved = errno, error, how = log_how;
	ssize_t n;

	if (how == HOW_UNKNOWN)
		how = prepare();
	if (how == HOW_SEND)
		n = send(log_fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (how == HOW_ASK)
		n = put_parts(bytes, len);
	else
		n = fd_rw_write(log_fd, bytes, len);
	error = errno;
	errno = saved;
	return n >= 0 || error != EAGAIN;
}

/* line has room for the line's end behind n bytes. */
static bool put_line(char *line, int n)
{
	if (n > LINE_BYTES - 3)
		n = LINE_BYTES - 3;
	line[n] = 0;
	printable(line);
	if (crlf)
		line[n++] = '\r';
	line[n++] = '\n';
	return put(line, (size_t)n);
}

static int begin(char *line, enum log_level level)
{
	return snprintf(line, LINE_BYTES, "bantam: %s%s", show_level ? level_word[level] : "",
			show_level ? ": " : "");
}

static bool report_lost(void)
{
	unsigned n = atomic_exchange(&lost, 0);
	char line[LINE_BYTES];
	int len;

	if (!n)
		return true;
	len = begin(line, LOG_WARN);
	len += snprintf(line + len, sizeof(line) - (size_t)len, "%u log lines were lost", n);
	if (put_line(line, len))
		return true;
	lost += n;
	return false;
}

__attribute__((format(printf, 3, 0))) static void say(enum log_level level, unsigned dropped,
						      const char *format, va_list ap)
{
	char line[LINE_BYTES], more[56] = "";
	int n = begin(line, level), len;
	size_t room;

	if (dropped)
		snprintf(more, sizeof(more), " (%u more lines like this were left out)", dropped);
	room = sizeof(line) - (size_t)n - strlen(more) - 2;
	len = vsnprintf(line + n, room, format, ap);
	if (len < 0)
		return;
	n += len < (int)room ? len : (int)room - 1;
	strcpy(line + n, more);
	n += (int)strlen(more);
	if (!report_lost() || !put_line(line, n))
		lost += 1 + dropped;
}

void log_always(enum log_level level, const char *format, ...)
{
	va_list ap;

	if ((int)level > level_now)
		return;
	va_start(ap, format);
	say(level, 0, format, ap);
	va_end(ap);
}

/* --- limits -------------------------------------------------------------------------- */

bool log_limit_take(struct log_limit *limit, uint64_t now_ns)
{
	uint64_t was = limit->busy_until_ns, next;

	do {
		next = (was > now_ns ? was : now_ns) + LOG_LIMIT_PERIOD_NS;
		if (next - now_ns > LOG_LIMIT_LINES * LOG_LIMIT_PERIOD_NS) {
			limit->dropped++;
			return false;
		}
	} while (!atomic_compare_exchange_weak(&limit->busy_until_ns, &was, next));
	return true;
}

struct log_limit *log_limit_of(struct log_limit *limits, unsigned n, const char *what)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; what && *what; what++)
		hash = (hash ^ (unsigned char)*what) * 16777619u;
	return &limits[(hash ^ hash >> 16) % n];
}

static void list(struct log_limit *limit, enum log_level level, const char *format)
{
	if (atomic_exchange(&limit->listed, true))
		return;
	limit->level = level;
	limit->format = format;
	limit->next = dropping;
	while (!atomic_compare_exchange_weak(&dropping, &limit->next, limit))
		;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
	va_list ap;

	if ((int)level > level_now)
		return;
	if (!log_limit_take(limit, clock_coarse_ns())) {
		list(limit, level, format);
		return;
	}
	va_start(ap, format);
	say(level, atomic_exchange(&limit->dropped, 0), format, ap);
	va_end(ap);
}

/* Appends format with "..." for each conversion: "%s: tap %.*s" becomes "...: tap ...". */
static int append_format(char *out, size_t room, const char *format)
{
	size_t n = 0;

	while (*format && n + 4 < room) {
		if (*format != '%') {
			out[n++] = *format++;
			continue;
		}
		if (*++format == '%') {
			out[n++] = *format++;
			continue;
		}
		format += strcspn(format, "diouxXcspmgGfFeE");
		format += *format != 0;
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = 0;
	return (int)n;
}

void log_end(void)
{
	char line[LINE_BYTES];

	report_lost();
	for (struct log_limit *l = dropping; l; l = l->next) {
		unsigned dropped = atomic_exchange(&l->dropped, 0);
		int n = begin(line, l->level);

		if (!dropped)
			continue;
		n += snprintf(line + n, sizeof(line) - (size_t)n,
			      "%u more lines like this were left out: ", dropped);
		n += append_format(line + n, sizeof(line) - (size_t)n, l->format);
		if (!put_line(line, n))
			lost++;
	}
}

void log_last(const char *text)
{
	struct pollfd p = { .events = POLLOUT };
	char line[LINE_BYTES];
	int n;

	log_end();
	n = snprintf(line, sizeof(line), "bantam: %s", text);
	if (put_line(line, n))
		return;
	p.fd = log_fd;
	poll(&p, 1, LAST_MS);
	report_lost();
	put_line(line, n);
}
