/* test/terminal: see terminal.h. */
#include "vmm/test/streams/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/backend/chardev/terminal.h"

#define FOREGROUND_NS 300000000ull /* how often a background process looks again */

struct test_terminal {
	struct test_terminal_owner owner;
	bool open;  /* stdin is a terminal */
	bool wants; /* the command runs */
	bool raw;
	bool escape; /* Ctrl-A came last */
	int size_fd; /* the terminal whose size counts, -1: none */
	uint16_t rows, cols;
	struct loop_watch *event, *again; /* again: timer */
};

static void set_raw(struct test_terminal *t, bool raw)
{
	if (t->raw == raw)
		return;
	t->raw = raw;
	t->owner.raw(t->owner.opaque, raw);
}

/* A background process leaves the terminal as it is, and looks again. */
static void take(void *opaque)
{
	struct test_terminal *t = opaque;

	if (!t->open || !t->wants)
		return;
	if (chardev_terminal_take())
		set_raw(t, true);
	else
		loop_timer_arm(t->again, FOREGROUND_NS);
}

static void look_at_size(struct test_terminal *t)
{
	struct winsize ws;

	if (t->size_fd >= 0 && !ioctl(t->size_fd, TIOCGWINSZ, &ws) && ws.ws_row && ws.ws_col) {
		t->rows = ws.ws_row;
		t->cols = ws.ws_col;
	}
}

/* SIGWINCH, or SIGCONT, before which another program may have changed the terminal. */
static void on_signal(void *opaque)
{
	struct test_terminal *t = opaque;
	uint16_t rows = t->rows, cols = t->cols;

	if (!chardev_terminal_signalled())
		return;
	take(t);
	look_at_size(t);
	if (rows != t->rows || cols != t->cols)
		t->owner.resized(t->owner.opaque, t->rows, t->cols);
}

int test_terminal_create(struct loop *loop, const struct test_terminal_owner *owner,
			 struct test_terminal **out, struct err *err)
{
	struct test_terminal *t = calloc(1, sizeof(*t));
	int event_fd, rc = t ? 0 : -ENOMEM;

	*out = NULL;
	if (!rc)
		rc = loop_watch_event(loop, on_signal, t, &t->event, &event_fd);
	if (!rc)
		rc = loop_watch_timer(loop, take, t, &t->again);
	if (rc) {
		test_terminal_destroy(t);
		return err_sys(err, -rc, "--tty");
	}
	t->owner = *owner;
	t->rows = 24;
	t->cols = 80;
	t->open = chardev_terminal_open(event_fd);
	t->size_fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : t->open ? STDIN_FILENO : -1;
	look_at_size(t);
	*out = t;
	return 0;
}

void test_terminal_destroy(struct test_terminal *t)
{
	if (!t)
		return;
	if (t->open)
		chardev_terminal_close();
	loop_unwatch(t->again);
	loop_unwatch(t->event);
	free(t);
}

void test_terminal_size(const struct test_terminal *t, uint16_t *rows, uint16_t *cols)
{
	*rows = t->rows;
	*cols = t->cols;
}

void test_terminal_begin(struct test_terminal *t)
{
	t->wants = true;
	take(t);
}

void test_terminal_end(struct test_terminal *t)
{
	t->wants = false;
	loop_timer_arm(t->again, 0);
	if (t->open)
		chardev_terminal_give_back();
	set_raw(t, false);
}

static void escaped(void *opaque, uint8_t key)
{
	static const char help[] = "\r\nCtrl-A x  end the test\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n";
	struct test_terminal *t = opaque;

	if (key == 'x' || key == 'X')
		t->owner.quit(t->owner.opaque);
	else if (key == 'h' || key == '?')
		t->owner.say(t->owner.opaque, help, sizeof(help) - 1);
}

size_t test_terminal_filter(struct test_terminal *t, uint8_t *buf, size_t len)
{
	return t->raw ? chardev_terminal_filter(&t->escape, buf, len, escaped, t) : len;
}
