/*
 * agent/session: see session.h.
 *
 * Theory of operation. What is to be said waits as a flag, a mask or a number (agent_session_fill says it
 * in the order of importance), never as a queue of frames: whatever the owner and the guest do, the
 * session needs no more memory, and a frame that ends the command never waits behind input that the
 * guest does not take.
 *
 * What a frame may do depends on the state (may_come). WIRE_KMSG flows from HELLO to BYE; the
 * command's output from STARTED to BYE, since its children may write when it has ended.
 */
#include "vmm/agent/session.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "vmm/core/bytes.h"

/* Frames of a grant are worth their header: let so many bytes come together. */
#define GRANT_LEAST (WIRE_WINDOW / 4)

void agent_session_init(struct agent_session *s, const struct agent_owner *owner)
{
	*s = (struct agent_session){ .owner = owner };
	for (unsigned i = 0; i < WIRE_STREAMS; i++)
		s->credit[i] = WIRE_WINDOW;
}

static void lose(struct agent_session *s, const char *why)
{
	if (s->state == AGENT_LOST || s->state == AGENT_GONE)
		return;
	s->state = AGENT_LOST;
	s->owner->lost(s->owner->opaque, why);
}

void agent_session_closed(struct agent_session *s, const char *why)
{
	lose(s, why);
}

/* --- from the guest ------------------------------------------------------------------------ */

static bool from_guest(unsigned stream)
{
	return stream == WIRE_STDOUT || stream == WIRE_STDERR || stream == WIRE_KMSG;
}

static void printable(char *to, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = isascii(bytes[i]) && isprint(bytes[i]) ? (char)bytes[i] : '?';
	to[len] = 0;
}

static void on_hello(struct agent_session *s, const uint8_t *p, size_t len)
{
	struct agent_hello hello = {
		.version = get_le32(p + WIRE_HELLO_VERSION),
		.realtime_ns = get_le64(p + WIRE_HELLO_REALTIME),
		.monotonic_ns = get_le64(p + WIRE_HELLO_MONOTONIC),
		.coreinfo_addr = get_le64(p + WIRE_HELLO_COREINFO),
		.coreinfo_bytes = get_le64(p + WIRE_HELLO_COREINFO_LEN),
		.taint = get_le64(p + WIRE_HELLO_TAINT),
	};

	len -= WIRE_HELLO_BYTES;
	printable(hello.release, p + WIRE_HELLO_BYTES,
		  len < WIRE_RELEASE_MAX ? len : WIRE_RELEASE_MAX);
	s->state = AGENT_GREETED;
	s->owner->hello(s->owner->opaque, &hello);
}

static void on_exit(struct agent_session *s, const uint8_t *p)
{
	struct agent_exit exit = {
		.wait_status = (int)get_le32(p + WIRE_EXIT_STATUS),
		.utime_us = get_le64(p + WIRE_EXIT_UTIME),
		.stime_us = get_le64(p + WIRE_EXIT_STIME),
		.maxrss_kib = get_le64(p + WIRE_EXIT_MAXRSS),
		.minflt = get_le64(p + WIRE_EXIT_MINFLT),
		.majflt = get_le64(p + WIRE_EXIT_MAJFLT),
		.taint = get_le64(p + WIRE_EXIT_TAINT),
		.oom_kills = get_le64(p + WIRE_EXIT_OOM_KILLS),
	};
	unsigned signo = (unsigned)exit.wait_status & 0x7f;

	/* Exited, or killed (bit 7: it dumped core); a stopped command has not ended. */
	if (signo > 64 || (unsigned)exit.wait_status > (signo ? 0xff : 0xffff) ||
	    (!signo && exit.wait_status & 0x80)) {
		lose(s, "it sent an exit status that does not exist");
		return;
	}
	s->state = AGENT_ENDED;
	s->ack = true;
	s->owner->exited(s->owner->opaque, &exit);
}

static void on_refused(struct agent_session *s, const uint8_t *p)
{
	uint32_t code = get_le32(p + 4);

	s->state = AGENT_ENDED;
	s->ack = true;
	s->owner->refused(s->owner->opaque, get_le32(p), code && code < 4096 ? (int)code : EIO);
}

/* Only the log flows before there is a command. */
static bool flows(const struct agent_session *s, unsigned stream)
{
	bool commands = s->state == AGENT_RUNNING || s->state == AGENT_ENDED;

	return from_guest(stream) && !s->eof[stream] && (stream == WIRE_KMSG || commands);
}

static void on_data(struct agent_session *s, const struct wire_frame *f)
{
	if (!flows(s, f->stream)) {
		lose(s, "it sent data of a stream that it has none of");
	} else if (f->len > s->credit[f->stream]) {
		lose(s, "it sent more than its credit");
	} else {
		s->credit[f->stream] -= f->len;
		s->owner->output(s->owner->opaque, f->stream, f->payload, f->len);
	}
}

static void on_eof(struct agent_session *s, unsigned stream)
{
	if (!flows(s, stream)) {
		lose(s, "it ended a stream that it has none of");
		return;
	}
	s->eof[stream] = true;
	s->owner->eof(s->owner->opaque, stream);
}

static void on_grant(struct agent_session *s, unsigned stream, uint32_t bytes)
{
	if (stream != WIRE_STDIN && stream != WIRE_SPEC)
		lose(s, "it granted credit for its own stream");
	else if (__builtin_add_overflow(s->credit[stream], bytes, &s->credit[stream]))
		lose(s, "it granted more credit than there is");
}

static void on_pong(struct agent_session *s, uint64_t value)
{
	if (!s->pings) {
		lose(s, "it answered a ping that was not sent");
		return;
	}
	s->pings--;
	s->owner->pong(s->owner->opaque, value);
}

static void on_note(struct agent_session *s, const struct wire_frame *f)
{
	char text[256];

	printable(text, f->payload, f->len < sizeof(text) ? f->len : sizeof(text) - 1);
	s->owner->note(s->owner->opaque, text);
}

/* What each type needs: the states in which it may come, and the least payload. */
#define IN(state) (1u << (state))
#define GREETED_ON (IN(AGENT_GREETED) | IN(AGENT_STARTING) | IN(AGENT_RUNNING) | IN(AGENT_ENDED))
static const struct {
	uint8_t states, least;
} may_come[WIRE_TYPES] = {
	[WIRE_HELLO] = { IN(AGENT_SILENT), WIRE_HELLO_BYTES },
	[WIRE_STARTED] = { IN(AGENT_STARTING), 4 },
	[WIRE_REFUSED] = { IN(AGENT_STARTING), 8 },
	[WIRE_EXIT] = { IN(AGENT_RUNNING), WIRE_EXIT_BYTES },
	[WIRE_DATA] = { GREETED_ON, 1 },
	[WIRE_EOF] = { GREETED_ON, 0 },
	[WIRE_GRANT] = { GREETED_ON, 4 },
	[WIRE_PONG] = { GREETED_ON, 8 },
	[WIRE_NOTE] = { GREETED_ON, 0 },
	[WIRE_BYE] = { IN(AGENT_ENDED), 0 },
};

static void on_frame(struct agent_session *s, const struct wire_frame *f)
{
	if (!(may_come[f->type].states & IN(s->state))) {
		lose(s, "it sent a frame out of order");
		return;
	}
	if (f->len < may_come[f->type].least) {
		lose(s, "it sent a frame that is too short");
		return;
	}
	/* The owner's strings last only until the answer. */
	if (s->start || (f->type == WIRE_STARTED && s->spec_bytes)) {
		if (f->type == WIRE_STARTED || f->type == WIRE_REFUSED) {
			lose(s, "it answered what it was not yet asked");
			return;
		}
	}
	switch (f->type) {
	case WIRE_HELLO:
		on_hello(s, f->payload, f->len);
		break;
	case WIRE_STARTED:
		s->state = AGENT_RUNNING;
		s->owner->started(s->owner->opaque, get_le32(f->payload));
		break;
	case WIRE_REFUSED:
		on_refused(s, f->payload);
		break;
	case WIRE_EXIT:
		on_exit(s, f->payload);
		break;
	case WIRE_DATA:
		on_data(s, f);
		break;
	case WIRE_EOF:
		on_eof(s, f->stream);
		break;
	case WIRE_GRANT:
		on_grant(s, f->stream, get_le32(f->payload));
		break;
	case WIRE_PONG:
		on_pong(s, get_le64(f->payload));
		break;
	case WIRE_NOTE:
		on_note(s, f);
		break;
	case WIRE_BYE:
		s->state = AGENT_GONE;
		s->owner->bye(s->owner->opaque);
		break;
	}
}

void agent_session_feed(struct agent_session *s, const uint8_t *bytes, size_t len)
{
	while (len && s->state != AGENT_LOST && s->state != AGENT_GONE) {
		struct wire_frame frame;
		size_t used;
		int rc = wire_decode(&s->in, bytes, len, &used, &frame);

		bytes += used;
		len -= used;
		if (rc > 0)
			on_frame(s, &frame);
		else if (rc < 0)
			lose(s, s->in.why);
	}
}

/* --- to the guest: what the owner asks ----------------------------------------------------- */

static uint32_t count(char *const *words, uint64_t *bytes)
{
	uint32_t n = 0;

	for (; words[n]; n++)
		*bytes += strlen(words[n]) + 1;
	return n;
}

int agent_session_start(struct agent_session *s, const struct agent_command *command,
			struct err *err)
{
	uint64_t bytes = strlen(command->cwd) + strlen(command->user) + strlen(command->host_name) +
			 3;

	BUG_ON(s->state != AGENT_GREETED);
	s->argc = count(command->argv, &bytes);
	s->envc = count(command->envp, &bytes);
	if (bytes > WIRE_SPEC_MAX)
		return err_set(
			err, E2BIG,
			"the command has %llu bytes of arguments and environment; at most %u",
			(unsigned long long)bytes, WIRE_SPEC_MAX);
	s->spec_bytes = (uint32_t)bytes;
	s->command = command;
	s->start = true;
	s->state = AGENT_STARTING;
	return 0;
}

void agent_session_end(struct agent_session *s)
{
	BUG_ON(s->state != AGENT_GREETED);
	s->bye = true;
	s->state = AGENT_ENDED;
}

void agent_session_taken(struct agent_session *s, unsigned stream, size_t len)
{
	BUG_ON(!from_guest(stream) || s->grant[stream] + len > WIRE_WINDOW);
	s->grant[stream] += (uint32_t)len;
}

void agent_session_input_end(struct agent_session *s)
{
	s->input_end = true;
}

void agent_session_signal(struct agent_session *s, unsigned signo)
{
	if (s->state == AGENT_RUNNING && signo >= 1 && signo <= 64)
		s->signals |= 1ull << (signo - 1);
}

void agent_session_winsize(struct agent_session *s, uint16_t rows, uint16_t cols)
{
	s->winsize = true;
	s->rows = rows;
	s->cols = cols;
}

void agent_session_ping(struct agent_session *s, uint64_t value)
{
	s->ping = true;
	s->ping_value = value;
}

/* --- to the guest: frames ---------------------------------------------------------------------- */

/* Where fill writes; each frame is written whole or not at all. */
struct out {
	uint8_t *buf;
	size_t at, max;
};

/* Returns the payload's place, or NULL: there is no room for it. */
static uint8_t *put(struct out *o, uint8_t type, uint8_t stream, uint32_t len)
{
	uint8_t *at = o->buf + o->at;

	if (o->max - o->at < WIRE_HEADER_BYTES + len)
		return NULL;
	wire_encode(at, type, stream, len);
	o->at += WIRE_HEADER_BYTES + len;
	return at + WIRE_HEADER_BYTES;
}

/* Bytes of DATA that may follow in this frame. */
static uint32_t room(const struct agent_session *s, const struct out *o, unsigned stream)
{
	size_t n = o->max - o->at;

	n = n > WIRE_HEADER_BYTES ? n - WIRE_HEADER_BYTES : 0;
	if (n > WIRE_PAYLOAD_MAX)
		n = WIRE_PAYLOAD_MAX;
	return n < s->credit[stream] ? (uint32_t)n : s->credit[stream];
}

static void put_start(struct agent_session *s, struct out *o)
{
	uint8_t *p = put(o, WIRE_START, 0, WIRE_START_BYTES);

	if (!p)
		return;
	put_le32(p + WIRE_START_FLAGS, s->command->tty ? WIRE_START_TTY : 0);
	put_le32(p + WIRE_START_ARGC, s->argc);
	put_le32(p + WIRE_START_ENVC, s->envc);
	put_le32(p + WIRE_START_LEN, s->spec_bytes);
	put_le16(p + WIRE_START_ROWS, s->command->rows);
	put_le16(p + WIRE_START_COLS, s->command->cols);
	s->start = false;
}

/* The string of the command that goes out at this place, or NULL after the last one. */
static const char *string(const struct agent_session *s, uint32_t at)
{
	const struct agent_command *c = s->command;
	const char *const rest[] = { c->cwd, c->user, c->host_name };

	if (at < s->argc)
		return c->argv[at];
	at -= s->argc;
	if (at < s->envc)
		return c->envp[at];
	at -= s->envc;
	return at < 3 ? rest[at] : NULL;
}

/* Copies the next bytes of the command's strings, with their NULs, at most max; returns how many. */
static uint32_t copy_spec(struct agent_session *s, uint8_t *to, uint32_t max)
{
	uint32_t n = 0;
	const char *from;

	while (n < max && (from = string(s, s->string)) != NULL) {
		size_t len = strlen(from) + 1 - s->string_at;
		bool whole = len <= max - n;

		if (!whole)
			len = max - n;
		memcpy(to + n, from + s->string_at, len);
		n += (uint32_t)len;
		s->string_at = whole ? 0 : s->string_at + (uint32_t)len;
		s->string += whole;
	}
	return n;
}

static void put_spec(struct agent_session *s, struct out *o)
{
	uint32_t n;

	while (s->spec_bytes && (n = room(s, o, WIRE_SPEC)) > 0) {
		if (n > s->spec_bytes)
			n = s->spec_bytes;
		BUG_ON(copy_spec(s, put(o, WIRE_DATA, WIRE_SPEC, n), n) != n);
		s->spec_bytes -= n;
		s->credit[WIRE_SPEC] -= n;
	}
}

static void put_input(struct agent_session *s, struct out *o)
{
	uint32_t n;

	while (!s->eof[WIRE_STDIN] && (n = room(s, o, WIRE_STDIN)) > 0) {
		n = (uint32_t)s->owner->input(s->owner->opaque, o->buf + o->at + WIRE_HEADER_BYTES,
					      n);
		if (!n)
			break;
		put(o, WIRE_DATA, WIRE_STDIN, n);
		s->credit[WIRE_STDIN] -= n;
	}
	/* The owner has no more if it gave none, and it was asked. */
	if (s->input_end && !s->eof[WIRE_STDIN] && room(s, o, WIRE_STDIN) &&
	    put(o, WIRE_EOF, WIRE_STDIN, 0))
		s->eof[WIRE_STDIN] = true;
}

static void put_signals(struct agent_session *s, struct out *o)
{
	uint8_t *p;

	while (s->signals) {
		unsigned bit = (unsigned)__builtin_ctzll(s->signals);

		p = put(o, WIRE_SIGNAL, 0, 4);
		if (!p)
			return;
		put_le32(p, bit + 1);
		s->signals &= s->signals - 1;
	}
}

static void put_grants(struct agent_session *s, struct out *o)
{
	for (unsigned i = 0; i < WIRE_STREAMS; i++) {
		uint8_t *p;

		if (s->grant[i] < GRANT_LEAST || !(p = put(o, WIRE_GRANT, (uint8_t)i, 4)))
			continue;
		put_le32(p, s->grant[i]);
		s->credit[i] += s->grant[i];
		s->grant[i] = 0;
	}
}

static void put_small(struct agent_session *s, struct out *o)
{
	uint8_t *p;

	if (s->ack && put(o, WIRE_ACK, 0, 0))
		s->ack = false;
	if (s->bye && put(o, WIRE_BYE, 0, 0))
		s->bye = false;
	if (s->ping && (p = put(o, WIRE_PING, 0, 8)) != NULL) {
		put_le64(p, s->ping_value);
		s->ping = false;
		s->pings++;
	}
	if (s->winsize && s->state == AGENT_RUNNING && (p = put(o, WIRE_WINSIZE, 0, 4)) != NULL) {
		put_le16(p, s->rows);
		put_le16(p + 2, s->cols);
		s->winsize = false;
	}
}

size_t agent_session_fill(struct agent_session *s, uint8_t *buf, size_t max)
{
	struct out o = { buf, 0, max };

	BUG_ON(max < AGENT_FILL_MIN);
	if (s->state == AGENT_SILENT || s->state == AGENT_GONE || s->state == AGENT_LOST)
		return 0;
	put_small(s, &o);
	put_signals(s, &o);
	put_grants(s, &o);
	if (s->start)
		put_start(s, &o);
	if (s->state == AGENT_STARTING && !s->start)
		put_spec(s, &o);
	if (s->state == AGENT_RUNNING)
		put_input(s, &o);
	return o.at;
}
