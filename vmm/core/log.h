/*
 * log: what bantam prints on stderr, or into a file, while a VM runs.
 *
 * Lines never interleave, and no thread waits for a reader: what does not fit is lost, and counted.
 *
 * Each cause of lines is limited, so that a guest, a daemon, an API client or a network peer cannot flood
 * the host: 5 lines at once, then one a minute. The lines that are left out are counted; the cause's next
 * line tells their number, and log_end tells the rest. A cause is a place in the source (log_put), or a
 * place together with a device, a file or another name (log_put_for). The second form is for places that
 * many devices share: a device that floods does not silence another one. Its memory is fixed: names with
 * the same hash share a limit. log_always has no limit; it is for lines whose number the user sets: once
 * for each device, option or process, and never from the running guest or a request.
 *
 * Any thread may call; no lock is taken.
 */
#ifndef BANTAM_LOG_H
#define BANTAM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Default LOG_WARN. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* Where lines go instead of stderr; fd stays the caller's, and open. Call it before other threads run. */
void log_set_fd(int fd);
/* Prepare for the first line now: for a program that confines itself, and may open nothing later. */
void log_open(void);
/* Whether each line takes pwritev2 only: false before log_open, and for a socket, or what could not be opened again. */
bool log_is_plain(void);
/* Begin lines with the level, as "WARN:", for programs that sort them. */
void log_show_level(int on);

/* End lines with CR LF, as a terminal in raw mode needs. The stdio sink of chardev sets it. */
void log_set_crlf(int on);

/* The limit of one cause; it lives as long as the process. Zero at first. */
struct log_limit {
	_Atomic uint64_t
		busy_until_ns;	  /* the cause has used its lines up to here: see log_limit_take */
	_Atomic uint32_t dropped; /* lines that no line has told of yet */
	atomic_bool listed;
	enum log_level level; /* of the first line that was dropped, with its format */
	const char *format;
	struct log_limit *next; /* those that have dropped a line */
};

#define LOG_LIMIT_LINES 5u
#define LOG_LIMIT_PERIOD_NS 60000000000ull

/*
 * Returns true if the cause may print at now_ns: LOG_LIMIT_LINES at once, and one more for each period that
 * has passed. Else it counts the line.
 */
bool log_limit_take(struct log_limit *limit, uint64_t now_ns);

/* The limit of what, one of n. what may be NULL. */
struct log_limit *log_limit_of(struct log_limit *limits, unsigned n, const char *what);

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_put(level, ...)                                                                        \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		log_limited(&limit_, level, __VA_ARGS__);                                          \
	} while (0)

/* what: the name of a device or a file, as a string. */
#define log_put_for(what, level, ...)                                                              \
	do {                                                                                       \
		static struct log_limit limits_[64];                                               \
		log_limited(log_limit_of(limits_, 64, what), level, __VA_ARGS__);                  \
	} while (0)

void log_always(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Tells of all lines that were dropped or lost and are not told yet. Call it when the process ends. */
void log_end(void);
/*
 * log_end, then the process's last line, of any level. A reader that is only slow gets it: waits for room, at
 * most a second.
 */
void log_last(const char *text);

#endif
