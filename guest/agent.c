/*
 * agent: runs one command in a guest for the host, by the channel of wire.h.
 *
 * As PID 1 it makes a system of the bare kernel (system.h), opens the channel, and says HELLO;
 * later it powers the machine off. As another process ("agent FD") it does the same without
 * system and power: the channel is descriptor FD, and a closed channel ends it.
 *
 * Theory of operation. One thread, one poll. What is to be said waits as flags and numbers, and
 * compose makes the next frame of the most important one when the last frame is written: what ends the
 * command, then the rest, then output. Output is read only when it can be sent, straight into its frame,
 * so nothing is buffered and nothing is lost; the pipes hold the command back. With a stream for which
 * the host grants no credit nothing else waits.
 *
 * The end. EXIT is sent as soon as the command has ended. Its output is sent until the pipes are closed;
 * processes that it left may hold them open, so after QUIET_MS without output they count as
 * closed. Then come the EOFs, and after the host's ACK, BYE. BYE is written with a blocking write, so that
 * the host has all bytes before the power goes.
 */
#include <linux/poll.h>
#include <linux/reboot.h>
#include <linux/time.h>
#include <linux/wait.h>

#include "guest/sys.h"
#include "guest/frame.h"

#define QUIET_MS 500u
#define SIGCHLD_BIT (1ull << 16)
#define SIGPIPE_BIT (1ull << 12)
#define OUT_STREAMS 3u
#define KMSG_RECORD_MAX 8192u /* CONSOLE_EXT_LOG_MAX */

#define say(fmt, ...) out("bantam-agent: " fmt "\n", ##__VA_ARGS__)

#include "guest/setup.h"
#include "guest/agent_channel.h"
#include "guest/agent_child.h"
#include "guest/agent_facts.h"
#include "guest/system.h"

static const uint8_t out_stream[OUT_STREAMS] = { WIRE_STDOUT, WIRE_STDERR, WIRE_KMSG };

static struct {
	bool pid1;
	int channel, signals, kmsg;

	/* the frame that is being written */
	uint8_t frame[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
	uint32_t len, sent;

	/* what is to be said */
	bool hello, note, started, refused, exit, pong, bye;
	bool eof[WIRE_STREAMS], eof_sent[WIRE_STREAMS];
	uint64_t pong_value;
	uint32_t grant[WIRE_STREAMS];
	struct refusal why;
	uint8_t exit_payload[WIRE_EXIT_BYTES];
	uint32_t credit[WIRE_STREAMS]; /* bytes of output that may be sent */

	/* the command */
	struct wire_decoder in;
	struct spec spec;
	uint32_t spec_len, spec_have;
	bool starting, running, ended, acked, off;
	struct child child;
	uint8_t input[WIRE_WINDOW]; /* a ring of what the command has not taken */
	uint32_t input_at, input_len;
	bool input_end;
	uint64_t quiet_since_ms;
} me;

static char spec_text[WIRE_SPEC_MAX];

static _Noreturn void leave(int status)
{
	SYS(sync, 0);
	if (me.pid1)
		SYS(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF,
		    0);
	for (;;)
		SYS(exit_group, status);
}

/* --- what is said --------------------------------------------------------------------------------- */

static uint8_t *compose_frame(uint8_t type, uint8_t stream, uint32_t len)
{
	wire_encode(me.frame, type, stream, len);
	me.len = WIRE_HEADER_BYTES + len;
	me.sent = 0;
	return me.frame + WIRE_HEADER_BYTES;
}

static void compose_hello(void)
{
	char release[WIRE_RELEASE_MAX + 1];
	uint64_t addr, bytes;
	uint8_t *p;
	long n = file_read("/proc/sys/kernel/osrelease", release, sizeof(release));

	n = n > 0 ? n : 0;
	p = compose_frame(WIRE_HELLO, 0, WIRE_HELLO_BYTES + (uint32_t)n);
	memset(p, 0, WIRE_HELLO_BYTES);
	put_le32(p + WIRE_HELLO_VERSION, WIRE_VERSION);
	put_le64(p + WIRE_HELLO_REALTIME, clock_ns(CLOCK_REALTIME));
	put_le64(p + WIRE_HELLO_MONOTONIC, clock_ns(CLOCK_MONOTONIC));
	put_le64(p + WIRE_HELLO_TAINT, number_in("/proc/sys/kernel/tainted"));
	coreinfo(&addr, &bytes);
	put_le64(p + WIRE_HELLO_COREINFO, addr);
	put_le64(p + WIRE_HELLO_COREINFO_LEN, bytes);
	memcpy(p + WIRE_HELLO_BYTES, release, (size_t)n);
}

static int *output_fd(unsigned stream)
{
	return stream == WIRE_STDOUT ? &me.child.out :
	       stream == WIRE_STDERR ? &me.child.err :
				       &me.kmsg;
}

static void close_output(unsigned stream)
{
	int *fd = output_fd(stream);

	if (*fd >= 0 && !(me.spec.tty && *fd == me.child.in))
		sys_close(*fd);
	*fd = -1;
	me.eof[stream] = true;
}

/* The least credit that is worth a read: /dev/kmsg gives one record at a time, and no part of one. */
static uint32_t least(unsigned stream)
{
	return stream == WIRE_KMSG ? KMSG_RECORD_MAX : 1;
}

/* Reads what there is into one frame. */
static bool compose_output(unsigned stream)
{
	uint32_t max = me.credit[stream] < WIRE_PAYLOAD_MAX ? me.credit[stream] : WIRE_PAYLOAD_MAX,
		 len = 0;
	int fd = *output_fd(stream);
	long n = 0;

	if (fd < 0 || max < least(stream))
		return false;
	do {
		n = sys_read(fd, me.frame + WIRE_HEADER_BYTES + len, max - len);
		if (n > 0)
			len += (uint32_t)n;
	} while (stream == WIRE_KMSG && (n > 0 || n == -EPIPE) && max - len >= KMSG_RECORD_MAX);
	/* A terminal without a process is EIO. The log never ends. */
	if (stream != WIRE_KMSG && n <= 0 && n != -EAGAIN && n != -EINTR)
		close_output(stream);
	if (!len)
		return false;
	if (stream != WIRE_KMSG) /* a kernel that goes on printing keeps no stream open */
		me.quiet_since_ms = sys_clock_ms(CLOCK_MONOTONIC);
	me.credit[stream] -= len;
	compose_frame(WIRE_DATA, (uint8_t)stream, len);
	return true;
}

static bool compose_grant(void)
{
	for (unsigned i = 0; i < WIRE_STREAMS; i++) {
		if (me.grant[i] < WIRE_WINDOW / 4)
			continue;
		put_le32(compose_frame(WIRE_GRANT, (uint8_t)i, 4), me.grant[i]);
		me.grant[i] = 0;
		return true;
	}
	return false;
}

static bool compose_streams(void)
{
	static unsigned first;

	/* Each stream is the first one in turn. */
	first++;
	for (unsigned i = 0; i < OUT_STREAMS; i++)
		if (compose_output(out_stream[(first + i) % OUT_STREAMS]))
			return true;
	for (unsigned i = 0; i < OUT_STREAMS; i++) {
		unsigned stream = out_stream[i];

		if (!me.eof[stream] || me.eof_sent[stream])
			continue;
		me.eof_sent[stream] = true;
		compose_frame(WIRE_EOF, (uint8_t)stream, 0);
		return true;
	}
	return false;
}

static bool taken(bool *flag)
{
	bool was = *flag;

	*flag = false;
	return was;
}

/* Makes the next frame. Returns false if there is nothing to say. */
static bool compose(void)
{
	uint8_t *p;

	if (taken(&me.hello)) {
		compose_hello();
	} else if (taken(&me.note)) {
		p = me.frame + WIRE_HEADER_BYTES;
		compose_frame(WIRE_NOTE, 0, failed_modules((char *)p, WIRE_PAYLOAD_MAX));
	} else if (taken(&me.started)) {
		put_le32(compose_frame(WIRE_STARTED, 0, 4), (uint32_t)me.child.pid);
	} else if (taken(&me.refused)) {
		p = compose_frame(WIRE_REFUSED, 0, 8);
		put_le32(p, me.why.step);
		put_le32(p + 4, me.why.code);
	} else if (taken(&me.exit)) {
		memcpy(compose_frame(WIRE_EXIT, 0, WIRE_EXIT_BYTES), me.exit_payload,
		       WIRE_EXIT_BYTES);
	} else if (taken(&me.pong)) {
		put_le64(compose_frame(WIRE_PONG, 0, 8), me.pong_value);
	} else if (!compose_grant() && !compose_streams()) {
		return false;
	}
	return true;
}

/* Writes until the channel takes no more or there is no more. Returns true if it takes no more. */
static bool flush(void)
{
	for (;;) {
		long n;

		if (me.sent == me.len && !compose())
			return false;
		n = sys_write(me.channel, me.frame + me.sent, me.len - me.sent);
		if (n == -EAGAIN)
			return true;
		if (n < 0 && n != -EINTR) {
			say("the channel is broken: error %ld", -n);
			leave(1);
		}
		me.sent += n > 0 ? (uint32_t)n : 0;
	}
}

/* --- what is heard --------------------------------------------------------------------------------- */

static void refuse_command(uint32_t step, uint32_t code)
{
	me.why = (struct refusal){ step, code };
	me.refused = me.ended = true;
	me.eof[WIRE_STDOUT] = me.eof[WIRE_STDERR] = true;
}

/* Splits the text of WIRE_SPEC into n strings; words[n] becomes NULL. Returns the place behind, or NULL. */
static char *split(char *at, const char *end, char **words, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!at || at >= end)
			return NULL;
		words[i] = at;
		at += strlen(at) + 1;
	}
	words[n] = NULL;
	return at;
}

static bool parse_spec(void)
{
	char *rest[4], *at, *end = spec_text + me.spec_len, **words;
	uint64_t most = (uint64_t)me.spec.argc + me.spec.envc + 4;

	if (!me.spec_len || end[-1] || !me.spec.argc || most > me.spec_len + 4)
		return false;
	words = (char **)SYS(mmap, 0, most * sizeof(*words), 3 /* read, write */,
			     0x22 /* private, anonymous */, -1, 0);
	if ((unsigned long)words > -4096ul)
		return false;
	me.spec.argv = words + 1; /* run_file puts a word before them */
	me.spec.envp = me.spec.argv + me.spec.argc + 1;
	at = split(spec_text, end, me.spec.argv, me.spec.argc);
	at = split(at, end, me.spec.envp, me.spec.envc);
	at = split(at, end, rest, 3);
	me.spec.cwd = rest[0];
	me.spec.user = rest[1];
	me.spec.host_name = rest[2];
	return at == end;
}

static void start_command(void)
{
	me.starting = false;
	if (!parse_spec()) {
		refuse_command(WIRE_STEP_SPEC, EINVAL);
		return;
	}
	if (me.pid1 && *me.spec.host_name)
		SYS(sethostname, me.spec.host_name, strlen(me.spec.host_name));
	if (!child_start(&me.spec, &me.child, &me.why)) {
		refuse_command(me.why.step, me.why.code);
		return;
	}
	me.started = me.running = true;
	me.eof[WIRE_STDERR] = me.child.err < 0; /* of a terminal */
}

static void on_start(const struct wire_frame *f)
{
	if (f->len < WIRE_START_BYTES || me.starting || me.running || me.ended)
		return;
	me.spec.tty = get_le32(f->payload + WIRE_START_FLAGS) & WIRE_START_TTY;
	me.spec.argc = get_le32(f->payload + WIRE_START_ARGC);
	me.spec.envc = get_le32(f->payload + WIRE_START_ENVC);
	me.spec.rows = get_le16(f->payload + WIRE_START_ROWS);
	me.spec.cols = get_le16(f->payload + WIRE_START_COLS);
	me.spec_len = get_le32(f->payload + WIRE_START_LEN);
	me.starting = true;
	if (me.spec_len > WIRE_SPEC_MAX)
		me.spec_len = 0;
	if (!me.spec_len)
		start_command();
}

static void on_data(const struct wire_frame *f)
{
	if (f->stream == WIRE_SPEC && me.starting && f->len <= me.spec_len - me.spec_have) {
		memcpy(spec_text + me.spec_have, f->payload, f->len);
		me.spec_have += f->len;
		me.grant[WIRE_SPEC] += f->len;
		if (me.spec_have == me.spec_len)
			start_command();
	} else if (f->stream == WIRE_STDIN && f->len <= sizeof(me.input) - me.input_len) {
		for (uint32_t i = 0; i < f->len; i++)
			me.input[(me.input_at + me.input_len + i) % sizeof(me.input)] =
				f->payload[i];
		me.input_len += f->len;
	}
}

static void on_frame(const struct wire_frame *f)
{
	struct winsize size = { 0 };

	switch (f->type) {
	case WIRE_START:
		on_start(f);
		break;
	case WIRE_DATA:
		on_data(f);
		break;
	case WIRE_EOF:
		me.input_end |= f->stream == WIRE_STDIN;
		break;
	case WIRE_GRANT:
		if (f->len >= 4)
			me.credit[f->stream] += get_le32(f->payload);
		break;
	case WIRE_SIGNAL:
		if (f->len >= 4 && me.running)
			SYS(kill, -me.child.pid, get_le32(f->payload));
		break;
	case WIRE_WINSIZE:
		if (f->len < 4 || !me.spec.tty || me.child.in < 0)
			break;
		size.ws_row = get_le16(f->payload);
		size.ws_col = get_le16(f->payload + 2);
		SYS(ioctl, me.child.in, TIOCSWINSZ, &size);
		break;
	case WIRE_PING:
		me.pong = f->len >= 8;
		me.pong_value = me.pong ? get_le64(f->payload) : 0;
		break;
	case WIRE_ACK:
		me.acked = true;
		break;
	case WIRE_BYE:
		me.off = true;
		break;
	}
}

static void hear(void)
{
	static uint8_t buf[4096];
	struct wire_frame frame;
	long n = sys_read(me.channel, buf, sizeof(buf));
	size_t used;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		say("the host has closed the channel");
		leave(1);
	}
	for (size_t at = 0; at < (size_t)n; at += used) {
		int rc = wire_decode(&me.in, buf + at, (size_t)n - at, &used, &frame);

		if (rc > 0)
			on_frame(&frame);
		if (rc < 0) {
			say("the host: %s", me.in.why);
			leave(1);
		}
	}
}

/* --- the command ------------------------------------------------------------------------------------- */

static void close_input(void)
{
	/* The end of a terminal's input is a character; its master stays open for the output. */
	if (me.spec.tty)
		sys_write(me.child.in, "\4", 1);
	else
		sys_close(me.child.in);
	me.child.in = me.spec.tty ? me.child.in : -1;
	me.input_end = false;
}

static void feed_input(void)
{
	while (me.input_len) {
		uint32_t n = (uint32_t)sizeof(me.input) - me.input_at;
		long done;

		n = n < me.input_len ? n : me.input_len;
		done = me.child.in < 0 ? (long)n :
					 sys_write(me.child.in, me.input + me.input_at, n);
		if (done == -EAGAIN)
			return;
		/* The command has closed its input: the rest is read by nobody, which is no error. */
		done = done < 0 ? (long)n : done;
		me.input_at = (me.input_at + (uint32_t)done) % sizeof(me.input);
		me.input_len -= (uint32_t)done;
		me.grant[WIRE_STDIN] += (uint32_t)done;
	}
	if (me.input_end && me.child.in >= 0)
		close_input();
}

/* struct rusage of the kernel: two struct timeval, then longs. */
struct usage {
	int64_t utime[2], stime[2], maxrss, ixrss, idrss, isrss, minflt, majflt, rest[8];
};

static void command_ended(int status, const struct usage *u)
{
	uint8_t *p = me.exit_payload;

	put_le32(p + WIRE_EXIT_STATUS, (uint32_t)status);
	put_le64(p + WIRE_EXIT_UTIME, (uint64_t)(u->utime[0] * 1000000 + u->utime[1]));
	put_le64(p + WIRE_EXIT_STIME, (uint64_t)(u->stime[0] * 1000000 + u->stime[1]));
	put_le64(p + WIRE_EXIT_MAXRSS, (uint64_t)u->maxrss);
	put_le64(p + WIRE_EXIT_MINFLT, (uint64_t)u->minflt);
	put_le64(p + WIRE_EXIT_MAJFLT, (uint64_t)u->majflt);
	put_le64(p + WIRE_EXIT_TAINT, number_in("/proc/sys/kernel/tainted"));
	put_le64(p + WIRE_EXIT_OOM_KILLS, oom_kills());
	me.exit = me.ended = true;
	me.running = false;
	me.quiet_since_ms = sys_clock_ms(CLOCK_MONOTONIC);
}

static void reap(void)
{
	struct usage usage;
	int status;
	long pid;

	while ((pid = SYS(wait4, -1, &status, WNOHANG, &usage)) > 0)
		if (pid == me.child.pid && me.running)
			command_ended(status, &usage);
}

/* Is the stream empty, and would its bytes be read if there were any? */
static bool is_silent(unsigned stream)
{
	struct pollfd p = { *output_fd(stream), POLLIN, 0 };
	struct sys_timespec now = { 0, 0 };

	/* A channel or a credit that is used up is the host's business. */
	if (me.sent != me.len || !me.credit[stream])
		return false;
	SYS(ppoll, &p, 1, &now, 0, 8);
	return !(p.revents & POLLIN);
}

/* Returns true when there is nothing left to send but BYE. */
static bool all_said(void)
{
	uint64_t quiet = sys_clock_ms(CLOCK_MONOTONIC) - me.quiet_since_ms;

	if (me.off)
		return true;
	if (!me.ended)
		return false;
	for (unsigned stream = WIRE_STDOUT; stream <= WIRE_STDERR; stream++)
		if (!me.eof[stream] && quiet >= QUIET_MS && is_silent(stream))
			close_output(stream);
	return me.acked && me.eof_sent[WIRE_STDOUT] && me.eof_sent[WIRE_STDERR];
}

static void say_bye(void)
{
	long flags = SYS(fcntl, me.channel, F_GETFL, 0);

	if (me.pid1)
		system_end_processes();
	SYS(fcntl, me.channel, F_SETFL, flags & ~(long)O_NONBLOCK);
	/* The log's last records, as far as the host takes them. */
	(void)flush();
	me.eof[WIRE_KMSG] = true;
	me.kmsg = -1;
	(void)flush();
	compose_frame(WIRE_BYE, 0, 0);
	(void)flush();
}

/* --- the loop -------------------------------------------------------------------------------------------- */

static void wait_for_events(bool blocked)
{
	struct pollfd fds[6];
	struct sys_timespec quiet = { 0, QUIET_MS * 1000000 / 4 };
	unsigned n = 0;

	fds[n++] = (struct pollfd){ me.channel, (short)(POLLIN | (blocked ? POLLOUT : 0)), 0 };
	fds[n++] = (struct pollfd){ me.signals, POLLIN, 0 };
	if (me.input_len && me.child.in >= 0)
		fds[n++] = (struct pollfd){ me.child.in, POLLOUT, 0 };
	for (unsigned i = 0; i < OUT_STREAMS && !blocked; i++) {
		int fd = *output_fd(out_stream[i]);

		if (fd >= 0 && me.credit[out_stream[i]] >= least(out_stream[i]))
			fds[n++] = (struct pollfd){ fd, POLLIN, 0 };
	}
	SYS(ppoll, fds, n, me.ended ? &quiet : NULL, 0, 8);
	if (fds[1].revents) {
		uint8_t info[128];

		(void)sys_read(me.signals, info, sizeof(info));
		reap();
	}
	if (fds[0].revents)
		hear();
}

static bool begin(int argc, char **argv)
{
	uint64_t child = SIGCHLD_BIT,
		 both = child | SIGPIPE_BIT; /* a write says the latter itself */
	bool has_devtmpfs = true;

	me.child = (struct child){ .in = -1, .out = -1, .err = -1 };
	me.pid1 = SYS(getpid, 0) == 1;
	if (me.pid1) {
		sys_out.closed = SYS(fcntl, 1, F_GETFD, 0) < 0;
		has_devtmpfs = setup_mounts();
		out_reopen("/dev/console");
		setup_modules();
		system_complete(has_devtmpfs);
	}
	me.channel = me.pid1  ? open_channel(has_devtmpfs) :
		     argc > 1 ? (int)str_number(argv[1]) :
				-1;
	if (me.channel < 0) {
		say("%s", me.pid1 ? "there is no channel to the host" : "usage: agent DESCRIPTOR");
		return false;
	}
	SYS(fcntl, me.channel, F_SETFD, 1 /* FD_CLOEXEC */);
	SYS(fcntl, me.channel, F_SETFL, O_RDWR | O_NONBLOCK);
	SYS(rt_sigprocmask, 0 /* SIG_BLOCK */, &both, 0, 8);
	me.signals = (int)SYS(signalfd4, -1, &child, 8, O_CLOEXEC | O_NONBLOCK);
	me.kmsg = me.pid1 ? sys_open("/dev/kmsg", O_RDONLY | O_NONBLOCK, 0) : -1;
	for (unsigned i = 0; i < WIRE_STREAMS; i++)
		me.credit[i] = WIRE_WINDOW;
	me.hello = true;
	me.note = setup_failed.n != 0;
	return true;
}

int main(int argc, char **argv, char **envp)
{
	bool blocked;

	(void)envp;
	if (!begin(argc, argv))
		leave(1);
	do {
		blocked = flush();
		wait_for_events(blocked);
		feed_input();
	} while (!all_said() || flush());
	say_bye();
	leave(0);
}
