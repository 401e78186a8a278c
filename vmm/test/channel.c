/*
 * test/channel: the kernel's console and the two ways to the agent, between the devices and the sessions.
 *
 * Theory of operation. A sink that the process owns gives the guest's bytes to a function here, in the first
 * thread. The console's bytes go to the verdict and to the output, as many as the output has room for; the
 * rest waits in the device, as with a slow terminal. A channel's bytes go to its session, all of them: what a
 * session may get is limited by the credit that it gave.
 *
 * Each channel has a session, since any program of the guest may write to the second serial port. The first
 * session that hears HELLO is the agent's; from then on only that one counts. What the port, which
 * belongs to the agent alone, gets in place of a HELLO is the loss of the agent.
 *
 * A session's functions must not be called within its own callbacks, so what it has to send goes
 * out later: test_pump wakes the loop, which then fills and sends until the device is full.
 */
#include <errno.h>
#include <string.h>

#include "vmm/test/test_impl.h"

/* --- the kernel's console ------------------------------------------------------------------ */

static size_t on_console(void *opaque, const uint8_t *buf, size_t len)
{
	struct test *t = opaque;
	size_t room = test_output_room(t->output, TEST_CONSOLE);

	t->console_full = len > room;
	if (t->console_full)
		len = room;
	test_drain(t);
	if (!len)
		return 0;
	verdict_case_log(test_verdict(t), VERDICT_CONSOLE, buf, len);
	test_output_write(t->output, TEST_CONSOLE, buf, len);
	test_timers_active(t, TEST_CONSOLE);
	test_look(t);
	return len;
}

static const struct chardev_program_ops console_ops = { .output = on_console };

/* --- the agent's channels ------------------------------------------------------------------ */

static void send(struct test_channel *c)
{
	while (!c->full) {
		if (c->out_at == c->out_len) {
			c->out_at = 0;
			c->out_len = agent_session_fill(&c->session, c->out, sizeof(c->out));
		}
		if (!c->out_len)
			return;
		c->out_at += chardev_program_send(c->chr, c->out + c->out_at,
						  c->out_len - c->out_at);
		c->full = c->out_at < c->out_len;
	}
}

static void on_pump(void *opaque)
{
	struct test *t = opaque;

	for (unsigned i = 0; i < TEST_CHANNELS; i++)
		if (t->channel[i].chr)
			send(&t->channel[i]);
}

/*
 * Looks for the begin of HELLO among what other programs write, and gives it to the session. Returns how many
 * bytes it took.
 */
static size_t seek_hello(struct test_channel *c, const uint8_t *buf, size_t len)
{
	static const uint8_t hello[] = { WIRE_MAGIC & 0xff, WIRE_MAGIC >> 8, WIRE_HELLO, 0 };
	size_t at = 0;

	while (at < len && c->sought < sizeof(hello)) {
		bool next = buf[at] == hello[c->sought];

		c->sought = next ? c->sought + 1 : buf[at] == hello[0];
		at++;
	}
	if (c->sought == sizeof(hello) && c->session.state == AGENT_SILENT && !c->session.in.have)
		agent_session_feed(&c->session, hello, sizeof(hello));
	return at;
}

static size_t on_output(void *opaque, const uint8_t *buf, size_t len)
{
	struct test_channel *c = opaque;
	size_t at = c->shared ? seek_hello(c, buf, len) : 0;

	if (!c->test->agent || c->test->agent == c)
		agent_session_feed(&c->session, buf + at, len - at);
	/* It only looked like a HELLO. */
	if (c->shared && !c->test->agent && c->session.state == AGENT_LOST) {
		test_agent_init(c);
		c->sought = 0;
	}
	test_pump(c->test);
	test_look(c->test);
	return len;
}

static void on_room(void *opaque)
{
	struct test_channel *c = opaque;

	c->full = false;
	test_pump(c->test);
}

static void on_guest_open(void *opaque, bool open)
{
	struct test_channel *c = opaque;

	/* Before its HELLO the agent may look at the port as often as it likes. */
	if (!open && c->test->agent == c)
		agent_session_closed(&c->session, "it has closed its port");
}

static const struct chardev_program_ops channel_ops = { .output = on_output,
							.room = on_room,
							.guest_open = on_guest_open };

/* --- life ---------------------------------------------------------------------------------- */

static int open_channel(struct test *t, struct test_channel *c, const char *option, unsigned n,
			struct err *err)
{
	char id[DEVICE_ID_BYTES];

	if (!test_config_id(&t->config, option, n, id))
		return 0;
	c->test = t;
	test_agent_init(c);
	return chardev_pool_open_program(t->consoles, id, &channel_ops, c, &c->chr, err);
}

int test_channels_open(struct test *t, struct err *err)
{
	char id[DEVICE_ID_BYTES];
	int rc = loop_watch_event(t->loop, on_pump, t, &t->pump, NULL);

	if (rc)
		return err_sys(err, -rc, "event");
	rc = chardev_pool_create_on(t->loop, &t->consoles, err);
	if (!rc && test_config_id(&t->config, "--serial", 0, id))
		rc = chardev_pool_open_program(t->consoles, id, &console_ops, t, &t->console, err);
	if (!rc)
		rc = open_channel(t, &t->channel[0], "--port", 0, err);
	if (!rc)
		rc = open_channel(t, &t->channel[1], "--serial", 1, err);
	t->channel[1].shared = true;
	return rc;
}

void test_channels_close(struct test *t)
{
	chardev_pool_destroy(t->consoles);
	t->consoles = NULL;
	t->console = NULL;
	for (unsigned i = 0; i < TEST_CHANNELS; i++)
		t->channel[i].chr = NULL;
	loop_unwatch(t->pump);
	t->pump = NULL;
}
