/*
 * console: bantam ctl console. Joins standard input and output with the guest's serial port or
 * console, which vm.info names: a pseudo-terminal, a Unix socket or a file.
 *
 * Theory of operation. The server keeps the last output and gives it to whoever attaches; of a file
 * we print the last part, and then what is appended. One poll loop moves bytes both ways. If standard
 * input is a terminal, it is raw, so that every key reaches the guest; Ctrl-A d detaches. A guest
 * that takes no input must not keep the loop from seeing these keys: input that the guest does not
 * take is dropped if it comes from a terminal, and else left unread.
 *
 * Signals only set a flag, which ends the loop: the terminal is restored on every way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/unix_socket.h"

#define ESCAPE 1u /* Ctrl-A */
#define REPLAY_BYTES (64 << 10)
#define FILE_LOOK_MS 100

struct attached {
	struct ctl *ctl;
	const char *name; /* "serial" or "console" */
	char where[160];
	int fd;
	bool file; /* no input, and poll cannot wait for output */
	bool tty;  /* standard input is a terminal, and raw */
	bool in_ended;
	bool escape; /* Ctrl-A came last */
	bool detach;
	uint8_t in[4096]; /* for the guest */
	size_t in_bytes;
};

static struct termios saved;
static volatile sig_atomic_t ended_by, resized;

static void on_signal(int signo)
{
	if (signo == SIGWINCH)
		resized = 1;
	else
		ended_by = signo;
}

static void catch_signals(void)
{
	static const int signals[] = { SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGWINCH };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &(struct sigaction){ .sa_handler = on_signal }, NULL);
}

/* --- opening ------------------------------------------------------------------------- */

static bool attachable(json_t *console)
{
	const char *mode = json_string_value(json_object_get(console, "mode"));

	return mode && (!strcmp(mode, "Pty") || !strcmp(mode, "Socket") || !strcmp(mode, "File"));
}

static int open_where(struct attached *a, const char *mode, const char *path)
{
	struct ctl *ctl = a->ctl;
	int flags = O_NOCTTY | O_NONBLOCK | O_CLOEXEC;

	snprintf(a->where, sizeof(a->where), "%s", path);
	a->file = !strcmp(mode, "File");
	flags |= a->file ? O_RDONLY : O_RDWR;
	if (!strcmp(mode, "Socket"))
		a->fd = unix_socket_connect(path, SOCK_NONBLOCK);
	else
		a->fd = open(path, flags);
	if (a->fd == -1 && strcmp(mode, "Socket"))
		a->fd = -errno;
	if (a->fd < 0)
		return ctl_fail(ctl, CTL_ERROR, "the guest's %s is at %s: %s", a->name, path,
				strerror(-a->fd));
	if (a->file && lseek(a->fd, -REPLAY_BYTES, SEEK_END) < 0)
		lseek(a->fd, 0, SEEK_SET);
	return CTL_OK;
}

/* Finds the console that the user named, or else the first that can be attached. */
static int find(struct attached *a, json_t *config)
{
	struct ctl *ctl = a->ctl;
	json_t *serial = json_object_get(config, "serial");
	json_t *console = json_object_get(config, "console"), *one;
	const char *mode, *path;

	a->name = attachable(serial) || !attachable(console) ? "serial" : "console";
	if (ctl->nargs)
		a->name = ctl->arg[0];
	if (strcmp(a->name, "serial") && strcmp(a->name, "console"))
		return ctl_fail(ctl, CTL_USAGE, "\"%.40s\" is neither serial nor console", a->name);
	one = json_object_get(config, a->name);
	mode = json_string_value(json_object_get(one, "mode"));
	if (!attachable(one))
		return ctl_fail(
			ctl, CTL_ERROR,
			"the guest's %s has mode %.20s; bantam ctl can attach to Pty, Socket "
			"and File",
			a->name, mode ? mode : "Off");
	path = json_string_value(json_object_get(one, !strcmp(mode, "Socket") ? "socket" : "file"));
	if (!path)
		return ctl_fail(ctl, CTL_ERROR, "vm.info does not say where the guest's %s is",
				a->name);
	return open_where(a, mode, path);
}

/* --- the terminal -------------------------------------------------------------------- */

static void tell_size(const struct attached *a)
{
	struct winsize ws;

	/* Of a socket or file it fails, which is right. */
	if (a->tty && !ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) && ws.ws_col)
		ioctl(a->fd, TIOCSWINSZ, &ws);
}

static void begin(struct attached *a)
{
	struct termios raw;

	a->tty = !tcgetattr(STDIN_FILENO, &saved);
	fprintf(stderr, "bantam: the guest's %s, %s%s\n", a->name, a->where,
		a->tty ? "; Ctrl-A d detaches" : "");
	if (!a->tty)
		return;
	raw = saved;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	tell_size(a);
}

static void end(const struct attached *a, const char *why)
{
	if (!a->tty)
		return;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	fprintf(stderr, "\nbantam: %s\n", why);
}

/* --- bytes --------------------------------------------------------------------------- */

static bool print(const uint8_t *buf, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, buf, len);

		if (n < 0 && errno == EINTR && !ended_by)
			continue;
		if (n <= 0)
			return false;
		buf += n;
		len -= (size_t)n;
	}
	return true;
}

/* Returns 1 after output, 0 if there is none now, -1 at its end. */
static int move_out(struct attached *a)
{
	uint8_t buf[16384];
	ssize_t n = read(a->fd, buf, sizeof(buf));
	struct stat st;

	if (n > 0)
		return print(buf, (size_t)n) ? 1 : -1;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (!a->file)
		return -1;
	/* The file may have been emptied. */
	if (!fstat(a->fd, &st) && st.st_size < lseek(a->fd, 0, SEEK_CUR))
		lseek(a->fd, 0, SEEK_SET);
	return 0;
}

/* Takes keys, and looks for Ctrl-A d. */
static void take_input(struct attached *a)
{
	uint8_t buf[1024];
	size_t room = sizeof(a->in) - a->in_bytes;
	ssize_t n = read(STDIN_FILENO, buf, a->tty || room > sizeof(buf) ? sizeof(buf) : room);

	if (n < 0 && errno == EINTR)
		return;
	a->in_ended = n <= 0;
	for (ssize_t i = 0; i < n; i++) {
		uint8_t c = buf[i];

		if (a->tty && !a->escape && c == ESCAPE) {
			a->escape = true;
			continue;
		}
		if (a->escape && c != ESCAPE) {
			a->escape = false;
			a->detach |= c == 'd' || c == 'D';
			continue;
		}
		a->escape = false;
		if (a->in_bytes < sizeof(a->in) && !a->file)
			a->in[a->in_bytes++] = c;
	}
}

/* Returns false if the other end is gone. */
static bool move_in(struct attached *a)
{
	ssize_t n = write(a->fd, a->in, a->in_bytes);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	a->in_bytes -= (size_t)n;
	memmove(a->in, a->in + n, a->in_bytes);
	return true;
}

/* Returns true if the process that writes the file has ended. */
static bool process_ended(struct attached *a)
{
	struct client *c = &a->ctl->client;
	struct err err;
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_DONTWAIT);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return false;
	/* A server that has many connections closes idle ones. */
	client_close(c);
	return client_connect(c, a->ctl->socket, &err) < 0;
}

/* Moves bytes until an end; returns the reason. */
static const char *serve(struct attached *a)
{
	static const char gone[] = "the VM has closed its console";

	while (!ended_by && !a->detach) {
		struct pollfd p[2] = { { .fd = a->in_ended ? -1 : STDIN_FILENO, .events = POLLIN },
				       { .fd = a->file ? -1 : a->fd, .events = POLLIN } };
		int out;

		if (a->in_bytes)
			p[1].events |= POLLOUT;
		if (!a->tty && a->in_bytes == sizeof(a->in))
			p[0].fd = -1;
		if (resized) {
			resized = 0;
			tell_size(a);
		}
		if (poll(p, 2, a->file ? FILE_LOOK_MS : -1) < 0 && errno != EINTR)
			return strerror(errno);
		if (p[0].revents)
			take_input(a);
		if (a->in_bytes && p[1].revents & POLLOUT && !move_in(a))
			return gone;
		if (!a->file && !p[1].revents)
			continue;
		do {
			bool last = a->file && process_ended(a);

			out = move_out(a);
			if (out < 0 || (last && !out))
				return gone;
		} while (out > 0 && a->file && !ended_by);
	}
	return ended_by ? "ended by a signal" : "detached; the VM goes on";
}

int ctl_console(struct ctl *ctl)
{
	struct attached a = { .ctl = ctl, .fd = -1 };
	json_t *info;
	int status = ctl_ask_json(ctl, "vm.info", &info);

	if (!status)
		status = find(&a, json_object_get(info, "config"));
	json_decref(info);
	if (status)
		return status;
	catch_signals();
	begin(&a);
	end(&a, serve(&a));
	close(a.fd);
	return ended_by ? 128 + ended_by : CTL_OK;
}
