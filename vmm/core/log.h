/*
 * log: what bantam prints on stderr, or into a file, while a VM runs.
 *
 * Lines never interleave, and no thread waits for a reader: what does not fit is lost, and counted. Any
 * thread may call. log_guest is for what a
 * guest did wrong: each call site prints at most 5 lines a second, so that a guest cannot flood its
 * host.
 */
#ifndef BANTAM_LOG_H
#define BANTAM_LOG_H

#include <stdatomic.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Default LOG_WARN. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* Where lines go instead of stderr; fd stays the caller's, and open. Call it before other threads run. */
void log_set_fd(int fd);
/* Begin lines with the level, as "WARN:", for programs that sort them. */
void log_show_level(int on);

/* End lines with CR LF, as a terminal in raw mode needs. The stdio sink of chardev sets it. */
void log_set_crlf(int on);

void log_put(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct log_limit {
	_Atomic uint64_t window_ns;
	_Atomic unsigned count;
};

/* Returns true if the call site may print now: at most 5 lines a second for each. */
int log_limit_ok(struct log_limit *limit);

#define log_guest(...)                                                                             \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		if (log_limit_ok(&limit_))                                                         \
			log_put(LOG_WARN, __VA_ARGS__);                                            \
	} while (0)

#endif
