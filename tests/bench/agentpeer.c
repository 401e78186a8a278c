/*
 * agentpeer: runs one command in a guest of another monitor, by bantam's agent.
 *
 *   agentpeer MONITOR [ARG…] -- COMMAND [ARG…]
 *
 * MONITOR gets one end of a socket as descriptor 3, behind which the guest has the agent's channel. COMMAND runs
 * in the guest. Ends when the monitor has ended, with COMMAND's exit status; 125: there was none.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/agent/session.h"

static struct agent_session session;
static struct agent_command command;
static int status = 125;

static void on_hello(void *opaque, const struct agent_hello *hello)
{
}

static void on_started(void *opaque, uint32_t pid)
{
}

static void on_refused(void *opaque, uint32_t step, int code)
{
	fprintf(stderr, "agentpeer: refused: %s\n", strerror(code));
}

static void on_output(void *opaque, unsigned stream, const uint8_t *bytes, size_t len)
{
	agent_session_taken(&session, stream, len);
}

static void on_eof(void *opaque, unsigned stream)
{
}

static void on_exited(void *opaque, const struct agent_exit *exit)
{
	status = WIFEXITED(exit->wait_status) ? WEXITSTATUS(exit->wait_status) :
						128 + WTERMSIG(exit->wait_status);
}

static void on_pong(void *opaque, uint64_t value)
{
}

static void on_text(void *opaque, const char *text)
{
	fprintf(stderr, "agentpeer: %s\n", text);
}

static void on_bye(void *opaque)
{
}

static size_t on_input(void *opaque, uint8_t *buf, size_t max)
{
	return 0;
}

static const struct agent_owner owner = {
	.hello = on_hello,
	.started = on_started,
	.refused = on_refused,
	.output = on_output,
	.eof = on_eof,
	.exited = on_exited,
	.pong = on_pong,
	.note = on_text,
	.bye = on_bye,
	.lost = on_text,
	.input = on_input,
};

static int send_all(int fd)
{
	uint8_t buf[AGENT_FILL_MIN];
	size_t n;

	while ((n = agent_session_fill(&session, buf, sizeof(buf))))
		for (size_t at = 0; at < n;) {
			ssize_t w = send(fd, buf + at, n - at, MSG_NOSIGNAL);

			if (w <= 0)
				return -1;
			at += (size_t)w;
		}
	return 0;
}

/* Until the monitor has closed its end. */
static void talk(int fd)
{
	uint8_t buf[1 << 16];
	struct err err;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		agent_session_feed(&session, buf, (size_t)n);
		if (session.state == AGENT_GREETED)
			agent_session_start(&session, &command, &err);
		if (session.state == AGENT_RUNNING)
			agent_session_input_end(&session);
		if (send_all(fd))
			return;
	}
}

int main(int argc, char **argv)
{
	static char *env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int at = 1, ends[2], rc;
	pid_t pid;

	while (at < argc && strcmp(argv[at], "--"))
		at++;
	if (at < 2 || at + 1 >= argc || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return 2;
	argv[at] = NULL;
	command = (struct agent_command){
		.argv = argv + at + 1, .envp = env, .cwd = "/", .user = "root", .host_name = "guest"
	};
	pid = fork();
	if (!pid) {
		close(ends[0]);
		if (dup2(ends[1], 3) == 3 && ends[1] != 3)
			close(ends[1]);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	close(ends[1]);
	agent_session_init(&session, &owner);
	talk(ends[0]);
	waitpid(pid, &rc, 0);
	return status;
}
