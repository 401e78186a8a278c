/*
 * err: the one line that tells a person what went wrong.
 *
 * User and host errors travel as a negative errno plus one struct err, filled
 * once, where the cause is known: what was asked, what failed, what to do.
 * Only main.c prints it. Guest errors are results that the device handles;
 * bugs are BUG_ON. The three are never mixed.
 */
#ifndef BANTAM_ERR_H
#define BANTAM_ERR_H

#include <stdarg.h>

struct err {
	char text[512]; /* one printable line, NUL-terminated; "" = none */
};

/* Fill err (NULL is allowed) and return -code; code is a positive errno. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": " and the text of the errno. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

_Noreturn void err_bug(const char *cond, const char *file, int line);

/* A bug in bantam itself. Always compiled in; cond has no side effects. */
#define BUG_ON(cond)                                                                               \
	do {                                                                                       \
		if (__builtin_expect(!!(cond), 0))                                                 \
			err_bug(#cond, __FILE__, __LINE__);                                        \
	} while (0)

#endif
