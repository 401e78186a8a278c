/*
 * test_agent_guest: the agent of the guest itself (build/guest/agent), which this host's kernel runs as a
 * plain process, against vmm/agent: the whole way of a command but the VM.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/agent/session.h"
#include "vmm/core/clock.h"

#define LIMIT_MS 60000u

struct collected {
	char text[70000];
	size_t len;
	uint64_t bytes; /* all, also beyond text */
	uint32_t sum;
	bool ended;
};

static struct agent_session s;
static struct collected got[WIRE_STREAMS];
static int channel;
static pid_t agent;
static uint8_t unsent[2 * AGENT_FILL_MIN];
static size_t unsent_at, unsent_len;
static const char *input = "";
static size_t input_len;
static int channel_bytes; /* that the channel holds; 0: the host's default */
static bool hold_stdout;  /* the owner takes no output of stdout */
static int status;	  /* of wait, or -1 */
static uint32_t refused_step;
static int refused_code;
static char why_lost[200];
static struct agent_exit usage;

static void on_hello(void *opaque, const struct agent_hello *h)
{
	cr_expect_eq(h->version, WIRE_VERSION);
	cr_expect_gt(strlen(h->release), 2);
}

static void on_started(void *opaque, uint32_t pid)
{
	cr_expect_gt(pid, 1);
}

static void on_refused(void *opaque, uint32_t step, int code)
{
	refused_step = step;
	refused_code = code;
}

static void on_output(void *opaque, unsigned stream, const uint8_t *bytes, size_t len)
{
	struct collected *c = &got[stream];

	for (size_t i = 0; i < len; i++) {
		if (c->len + 1 < sizeof(c->text))
			c->text[c->len++] = (char)bytes[i];
		c->sum = c->sum * 31 + bytes[i];
	}
	c->bytes += len;
	if (stream != WIRE_STDOUT || !hold_stdout)
		agent_session_taken(&s, stream, len);
}

static void on_eof(void *opaque, unsigned stream)
{
	got[stream].ended = true;
}

static void on_exited(void *opaque, const struct agent_exit *e)
{
	usage = *e;
	status = e->wait_status;
}

static void on_pong(void *opaque, uint64_t value)
{
}

static void on_note(void *opaque, const char *text)
{
}

static void on_bye(void *opaque)
{
}

static void on_lost(void *opaque, const char *why)
{
	snprintf(why_lost, sizeof(why_lost), "%s", why);
}

static size_t on_input(void *opaque, uint8_t *buf, size_t max)
{
	size_t n = input_len < max ? input_len : max;

	memcpy(buf, input, n);
	input += n;
	input_len -= n;
	return n;
}

static const struct agent_owner owner = {
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

/* One turn: sends what there is and takes what comes. Returns false when the agent has closed. */
static bool turn(void)
{
	struct pollfd p = { channel, POLLIN, 0 };
	static uint8_t buf[65536];
	ssize_t n;

	if (unsent_at == unsent_len) {
		unsent_at = 0;
		unsent_len = agent_session_fill(&s, unsent, sizeof(unsent));
	}
	if (unsent_len > unsent_at)
		p.events |= POLLOUT;
	cr_assert_eq(poll(&p, 1, LIMIT_MS), 1, "the agent is silent");
	if (p.revents & POLLOUT) {
		n = send(channel, unsent + unsent_at, unsent_len - unsent_at,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		unsent_at += n > 0 ? (size_t)n : 0;
	}
	if (!(p.revents & (POLLIN | POLLHUP)))
		return true;
	n = recv(channel, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		agent_session_feed(&s, buf, (size_t)n);
	return n > 0;
}

static void begin(void)
{
	char number[12];
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	if (channel_bytes)
		setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &channel_bytes, sizeof(channel_bytes));
	agent = fork();
	if (!agent) {
		snprintf(number, sizeof(number), "%d", fcntl(fd[1], F_DUPFD, 50));
		execl("build/guest/agent", "agent", number, NULL);
		_exit(1);
	}
	close(fd[1]);
	channel = fd[0];
	agent_session_init(&s, &owner);
	memset(got, 0, sizeof(got));
	unsent_at = unsent_len = input_len = 0;
	input = "";
	hold_stdout = false;
	status = -1;
	refused_step = 0;
	why_lost[0] = 0;
	while (s.state == AGENT_SILENT && turn())
		;
	cr_assert_eq(s.state, AGENT_GREETED, "%s", why_lost);
}

static char *const nothing[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=1", NULL };

static struct agent_command shell(char *text)
{
	static char *argv[4] = { "sh", "-c" };

	argv[2] = text;
	return (struct agent_command){ argv, nothing, "/tmp", "root", "" };
}

static void start(const struct agent_command *command)
{
	struct err err;

	cr_assert_eq(agent_session_start(&s, command, &err), 0, "%s", err.text);
}

/* Until the agent has closed the channel in order. */
static void finish(void)
{
	int ended;

	while (turn())
		;
	cr_expect_eq(s.state, AGENT_GONE, "%s", why_lost);
	cr_assert_eq(waitpid(agent, &ended, 0), agent);
	cr_expect_eq(ended, 0);
	close(channel);
}

static void run_shell(char *text)
{
	struct agent_command c = shell(text);

	begin();
	agent_session_input_end(&s);
	start(&c);
	finish();
}

TestSuite(agent_guest, .timeout = 120);

/* Every status and every signal, exactly. */
Test(agent_guest, statuses)
{
	char text[40];

	for (int i = 0; i < 256; i++) {
		snprintf(text, sizeof(text), "exit %d", i);
		run_shell(text);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == i, "%d: %x", i, status);
	}
}

Test(agent_guest, signals)
{
	for (int i = 1; i <= 64; i++) {
		bool stops = i == SIGSTOP || i == SIGTSTP || i == SIGTTIN || i == SIGTTOU;
		char text[80];

		/* A command that stops has not ended. */
		snprintf(text, sizeof(text), "%skill -%d $$; exit 200",
			 stops ? "(sleep 0.1; kill -CONT $$) & " : "", i);
		run_shell(text);
		if (stops || i == SIGCHLD || i == SIGCONT || i == SIGURG || i == SIGWINCH)
			cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 200, "%d: %x", i,
				  status);
		else
			cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == i, "%d: %x", i,
				  status);
	}
}

/* What is printed where; every form of a descriptor that scripts use. */
Test(agent_guest, output)
{
	static const struct {
		char *command;
		const char *out, *err;
	} rows[] = {
		{ "echo out; echo err >&2", "out\n", "err\n" },
		{ "echo a >/dev/stdout; echo b >/dev/stderr", "a\n", "b\n" },
		{ "echo c | tee /dev/stderr", "c\n", "c\n" },
		{ "exec 2>&1; echo d >&2", "d\n", "" },
		{ "printf 'no newline'", "no newline", "" },
		{ "printf 'a\\000b' | od -c | head -1", "0000000   a  \\0   b\n", "" },
		{ "cat; echo end", "end\n", "" },
		{ "cat </dev/null; echo $A; pwd", "1\n/tmp\n", "" },
		{ "test -t 0 || test -t 1 || echo no tty", "no tty\n", "" },
		{ "exec 0<&- 1>&-; echo x >&2", "", "x\n" },
		{ "sh -c 'kill -STOP $$; echo on' & sleep 0.2; kill -CONT $!; wait", "on\n", "" },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		run_shell(rows[i].command);
		cr_expect_str_eq(got[WIRE_STDOUT].text, rows[i].out, "%s: %s", rows[i].command,
				 got[WIRE_STDOUT].text);
		cr_expect_str_eq(got[WIRE_STDERR].text, rows[i].err, "%s: %s", rows[i].command,
				 got[WIRE_STDERR].text);
		cr_expect(got[WIRE_STDOUT].ended && got[WIRE_STDERR].ended);
		cr_expect_eq(status, 0, "%s: %x", rows[i].command, status);
	}
}

/* Why a command could not be started. */
Test(agent_guest, refusals)
{
	static char *no[] = { "no-such-command", NULL }, *path[] = { "/no/such", NULL },
		    *text[] = { "/etc/passwd", NULL }, *folder[] = { "/tmp", NULL },
		    *empty[] = { "", NULL }, *yes[] = { "true", NULL };
	static const struct {
		char **argv;
		const char *cwd, *user;
		uint32_t step;
		int code;
	} rows[] = {
		{ no, "/", "root", WIRE_STEP_EXEC, ENOENT },
		{ path, "/", "root", WIRE_STEP_EXEC, ENOENT },
		{ empty, "/", "root", WIRE_STEP_EXEC, ENOENT },
		{ text, "/", "root", WIRE_STEP_EXEC, EACCES },
		{ folder, "/", "root", WIRE_STEP_EXEC, EACCES },
		{ yes, "/no/such", "root", WIRE_STEP_CWD, ENOENT },
		{ yes, "/", "no-such-user", WIRE_STEP_USER, ENOENT },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct agent_command c = { rows[i].argv, nothing, rows[i].cwd, rows[i].user, "" };

		begin();
		start(&c);
		finish();
		cr_expect_eq(refused_step, rows[i].step, "%u: %u", i, refused_step);
		cr_expect_eq(refused_code, rows[i].code, "%u: %d", i, refused_code);
		cr_expect_eq(status, -1);
	}
}

Test(agent_guest, users)
{
	struct agent_command c = shell("id -u; id -g; pwd");

	if (getuid())
		cr_skip_test("only root becomes another user");
	c.user = "nobody";
	c.cwd = "/";
	begin();
	start(&c);
	finish();
	cr_expect_str_eq(got[WIRE_STDOUT].text, "65534\n65534\n/\n");
	c.user = "4711"; /* is in no table */
	begin();
	start(&c);
	finish();
	cr_expect_str_eq(got[WIRE_STDOUT].text, "4711\n4711\n/\n");
}

/* Input of any bytes comes back, also more than all windows and pipes hold. */
Test(agent_guest, input)
{
	struct agent_command c = shell("cat");
	size_t len = 3 << 20;
	char *text = malloc(len);
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		text[i] = (char)(i * 7 + i / 251);
		sum = sum * 31 + (uint8_t)text[i];
	}
	begin();
	input = text;
	input_len = len;
	agent_session_input_end(&s);
	start(&c);
	finish();
	cr_expect_eq(got[WIRE_STDOUT].bytes, len);
	cr_expect_eq(got[WIRE_STDOUT].sum, sum);
	/* A command that does not read it ends all the same. */
	c = shell("exit 3");
	begin();
	input = text;
	input_len = len;
	agent_session_input_end(&s);
	start(&c);
	finish();
	cr_expect_eq(WEXITSTATUS(status), 3);
	free(text);
}

/* Much of both streams at once. */
Test(agent_guest, flood)
{
	run_shell("yes out | head -c 20000000 & yes error | head -c 20000000 >&2; wait");
	cr_expect_eq(got[WIRE_STDOUT].bytes, 20000000);
	cr_expect_eq(got[WIRE_STDERR].bytes, 20000000);
	cr_expect_eq(status, 0);
}

/* A reader that does not take stdout stops neither stderr nor the status; what waits is not lost. */
Test(agent_guest, stuck_reader)
{
	struct agent_command c = shell("(yes | head -c 100000) & echo one >&2; kill $$");

	begin();
	hold_stdout = true;
	agent_session_input_end(&s);
	start(&c);
	while (status == -1 && turn())
		;
	cr_expect_eq(WTERMSIG(status), SIGTERM);
	while (!got[WIRE_STDERR].ended && turn())
		;
	cr_expect_str_eq(got[WIRE_STDERR].text, "one\n");
	while (got[WIRE_STDOUT].bytes < WIRE_WINDOW && turn())
		;
	cr_expect_eq(got[WIRE_STDOUT].bytes, WIRE_WINDOW);
	hold_stdout = false;
	agent_session_taken(&s, WIRE_STDOUT, WIRE_WINDOW);
	finish();
	cr_expect_eq(got[WIRE_STDOUT].bytes, 100000);
}

/* A host that is slow to read the channel loses nothing of what the command has left in its pipes. */
Test(agent_guest, slow_host)
{
	struct agent_command c = shell("(yes | head -c 60000); yes error | head -c 60000 >&2");

	channel_bytes = 4096;
	begin();
	agent_session_input_end(&s);
	start(&c);
	cr_assert(turn());
	usleep(1500000); /* more than the agent waits for silent processes */
	finish();
	cr_expect_eq(got[WIRE_STDOUT].bytes, 60000);
	cr_expect_eq(got[WIRE_STDERR].bytes, 60000);
}

/* A process that the command leaves holds its pipes: the end does not wait for it. */
Test(agent_guest, left_over_process)
{
	uint64_t began = clock_now_ms();

	run_shell("sleep 100 & echo text");
	cr_expect_str_eq(got[WIRE_STDOUT].text, "text\n");
	cr_expect_lt(clock_now_ms() - began, 50000);
}

Test(agent_guest, host_signals)
{
	struct agent_command c = shell(
		"trap 'echo int; exit 5' INT; echo up; while :; do sleep 0.05; done");

	begin();
	start(&c);
	while (!got[WIRE_STDOUT].len && turn())
		;
	agent_session_signal(&s, SIGINT);
	finish();
	cr_expect_str_eq(got[WIRE_STDOUT].text, "up\nint\n");
	cr_expect_eq(WEXITSTATUS(status), 5);
}

Test(agent_guest, terminal)
{
	struct agent_command c = shell(
		"test -t 0 && test -t 1 && test -t 2 && stty size; read x; echo got $x; "
		"stty size; read y || echo end");

	begin();
	c.tty = true;
	c.rows = 24;
	c.cols = 80;
	start(&c);
	while (!strchr(got[WIRE_STDOUT].text, '\n') && turn())
		;
	cr_expect_str_eq(got[WIRE_STDOUT].text, "24 80\r\n");
	agent_session_winsize(&s, 50, 132);
	while (s.winsize && turn())
		;
	input = "word\n";
	input_len = 5;
	while (!strstr(got[WIRE_STDOUT].text, "50 132") && turn())
		;
	agent_session_input_end(&s);
	finish();
	cr_expect_not_null(strstr(got[WIRE_STDOUT].text, "got word\r\n50 132\r\n"), "%s",
			   got[WIRE_STDOUT].text);
	cr_expect_not_null(strstr(got[WIRE_STDOUT].text, "end\r\n"), "%s", got[WIRE_STDOUT].text);
	cr_expect_eq(status, 0);
}

/* As long a command line as the kernel takes. */
Test(agent_guest, long_arguments)
{
	static char word[100001], *argv[14] = { "sh", "-c", "echo $# ${#1} ${#10}", "sh" };
	struct agent_command c = { argv, nothing, "/", "root", "" };

	memset(word, 'w', sizeof(word) - 1);
	for (unsigned i = 4; i < 13; i++)
		argv[i] = word;
	begin();
	start(&c);
	finish();
	cr_expect_str_eq(got[WIRE_STDOUT].text, "9 100000 0\n");
}

/* The host's end closes at any moment: the agent goes, too, and takes no harm. */
Test(agent_guest, host_goes)
{
	for (unsigned turns = 0; turns < 8; turns++) {
		struct agent_command c = shell("yes");
		int ended;

		begin();
		start(&c);
		for (unsigned i = 0; i < turns; i++)
			turn();
		close(channel);
		cr_assert_eq(waitpid(agent, &ended, 0), agent);
		cr_expect(WIFEXITED(ended), "%x", ended);
	}
}

/* No command: the agent only says goodbye. */
Test(agent_guest, no_command)
{
	begin();
	agent_session_end(&s);
	finish();
	cr_expect_eq(status, -1);
}
