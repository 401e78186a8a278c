/*
 * test/agent: what the agent says, for the verdict and the output. See test_impl.h.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/test/test_impl.h"

uint64_t test_off_ns = 15 * CLOCK_NS_PER_S, test_lost_ns = 3 * CLOCK_NS_PER_S;

static void on_hello(void *opaque, const struct agent_hello *hello)
{
	struct test_channel *c = opaque;
	struct test *t = c->test;
	struct err err;

	if (t->agent)
		return;
	t->agent = c;
	verdict_case_hello(test_verdict(t), hello->release, hello->taint);
	if (!t->command.argv) {
		test_timers_booted(t);
		agent_session_end(&c->session);
		test_timers_end(t, test_off_ns);
		return;
	}
	if (agent_session_start(&c->session, &t->command, &err)) {
		verdict_case_no_test(test_verdict(t), false, err.text);
		test_stop(t);
	}
	/* Of a stdin that ended before, this session may not know: a false HELLO has made it anew. */
	if (test_input_is_over(t->input))
		agent_session_input_end(&c->session);
}

static void on_started(void *opaque, uint32_t pid)
{
	struct test *t = ((struct test_channel *)opaque)->test;

	verdict_case_started(test_verdict(t));
	test_timers_booted(t);
	test_timers_started(t);
	if (t->terminal)
		test_terminal_begin(t->terminal);
}

/* What the agent was at; NULL: the program itself could not be executed. */
static const char *step_text(uint32_t step)
{
	static const char *const texts[] = {
		[WIRE_STEP_SPEC] = "the agent cannot take the command",
		[WIRE_STEP_USER] = "--user",
		[WIRE_STEP_CWD] = "--cwd",
		[WIRE_STEP_TTY] = "the guest has no terminal for --tty",
		[WIRE_STEP_FORK] = "the agent cannot start a process",
	};

	return step < sizeof(texts) / sizeof(texts[0]) && texts[step] ? texts[step] : "the agent";
}

static void ended(struct test *t)
{
	test_timers_booted(t);
	test_timers_end(t, test_off_ns);
	test_input_stop(t->input);
	if (t->terminal)
		test_terminal_end(t->terminal);
}

static void on_refused(void *opaque, uint32_t step, int code)
{
	struct test *t = ((struct test_channel *)opaque)->test;
	bool exec = step == WIRE_STEP_EXEC;

	verdict_case_refused(test_verdict(t), exec, code,
			     exec ? t->command.argv[0] : step_text(step));
	ended(t);
}

static void on_exited(void *opaque, const struct agent_exit *exit)
{
	struct test *t = ((struct test_channel *)opaque)->test;

	verdict_case_exited(test_verdict(t), exit->wait_status, exit->taint, exit->oom_kills);
	ended(t);
}

static enum test_stream stream_of(unsigned wire)
{
	return wire == WIRE_STDOUT ? TEST_STDOUT : wire == WIRE_STDERR ? TEST_STDERR : TEST_KMSG;
}

static void on_output(void *opaque, unsigned stream, const uint8_t *bytes, size_t len)
{
	struct test *t = ((struct test_channel *)opaque)->test;
	enum test_stream to = stream_of(stream);

	if (stream == WIRE_KMSG)
		verdict_case_log(test_verdict(t), VERDICT_KMSG, bytes, len);
	test_timers_active(t, to);
	/* The session's credit is what the output has room for. */
	test_output_write(t->output, to, bytes, len);
}

/* A program whose output no process reads ends by SIGPIPE; the pipes in the guest do not know. */
static void tell_reader_gone(struct test *t, enum test_stream stream)
{
	if (t->reader_gone || test_output_loss(t->output, stream).error != EPIPE)
		return;
	t->reader_gone = true;
	agent_session_signal(&t->agent->session, SIGPIPE);
}

void test_agent_taken(void *opaque, enum test_stream stream, size_t len)
{
	static const uint8_t wire[] = {
		[TEST_STDOUT] = WIRE_STDOUT, [TEST_STDERR] = WIRE_STDERR, [TEST_KMSG] = WIRE_KMSG
	};
	struct test *t = opaque;

	test_timers_active(t, stream);
	if (stream != TEST_CONSOLE) {
		agent_session_taken(&t->agent->session, wire[stream], len);
		if (stream != TEST_KMSG)
			tell_reader_gone(t, stream);
		test_pump(t);
	} else if (t->console_full && t->console) {
		/* on_console finds out whether that was all. */
		chardev_program_resume(t->console);
	}
}

static void on_eof(void *opaque, unsigned stream)
{
	struct test *t = ((struct test_channel *)opaque)->test;

	test_output_eof(t->output, stream_of(stream));
}

static void on_pong(void *opaque, uint64_t value)
{
}

static void on_note(void *opaque, const char *text)
{
	log_put(LOG_WARN, "the agent: %s", text);
}

static void on_bye(void *opaque)
{
	struct test *t = ((struct test_channel *)opaque)->test;

	verdict_case_bye(test_verdict(t));
	test_timers_end(t, test_off_ns);
}

static void on_lost(void *opaque, const char *why)
{
	struct test_channel *c = opaque;
	struct test *t = c->test;

	if (t->agent ? t->agent != c : c->shared)
		return;
	verdict_case_lost(test_verdict(t), why);
	test_timers_end(t, test_lost_ns);
}

static size_t on_input(void *opaque, uint8_t *buf, size_t max)
{
	struct test *t = ((struct test_channel *)opaque)->test;

	return test_input_read(t->input, buf, max);
}

void test_agent_init(struct test_channel *c)
{
	c->owner = (struct agent_owner){
		.opaque = c,
		.hello = on_hello,
		.started = on_started,
		.refused = on_refused,
		.output = on_output,
		.eof = on_eof,
		.exited = on_exited,
		.pong = on_pong,
		.note = on_note,
		.bye = on_bye,
		.lost = on_lost,
		.input = on_input,
	};
	agent_session_init(&c->session, &c->owner);
}
