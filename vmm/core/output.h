/*
 * output: the standard output of a command that prints. What did not get out is an error of the
 * command: "bantam run --dry-run >file" on a full disk must not end with 0.
 *
 * Main thread: output_begin before anything is opened or printed, output_end last.
 */
#ifndef BANTAM_CORE_OUTPUT_H
#define BANTAM_CORE_OUTPUT_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static inline ssize_t output_refuse(void *cookie, const char *buf, size_t len)
{
	errno = EBADF;
	return 0;
}

/*
 * If standard input, output or error is closed, the next file that we open would take its number: a
 * disk would get our messages. /dev/null takes it. A closed standard output stays an error for what
 * is printed on stdout (not for what is written to the descriptor, such as a guest's console).
 * Returns whether standard output was open.
 */
static inline bool output_begin(void)
{
	bool is_open = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
	int fd;

	if (!is_open) {
		FILE *closed = fopencookie(NULL, "w",
					   (cookie_io_functions_t){ .write = output_refuse });

		if (closed)
			stdout = closed;
	} else if (fcntl(STDIN_FILENO, F_GETFD) >= 0 && fcntl(STDERR_FILENO, F_GETFD) >= 0) {
		return true;
	}
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return is_open;
}

/*
 * Writes what is still buffered. Returns status, or failed (with a line on standard error) if the
 * command did its work and its text did not get out.
 */
static inline int output_end(int status, int failed)
{
	int rc = fflush(stdout) ? errno : ferror(stdout) ? EIO : 0;

	if (!rc || status)
		return status;
	fprintf(stderr, "bantam: cannot write to standard output: %s\n", strerror(rc));
	return failed;
}

#endif
