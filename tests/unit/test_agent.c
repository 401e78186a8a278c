/* test_agent: the channel of the agent in a guest (vmm/agent), whole, in pieces, and with mistakes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/agent/session.h"
#include "vmm/core/bytes.h"

static struct agent_session s;
static char seen[4000]; /* what the session told its owner, a word each */
static const char *input_text;
static bool take; /* the owner takes all output at once */

static void see(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void see(const char *fmt, ...)
{
	size_t at = strlen(seen);
	va_list ap;

	va_start(ap, fmt);
	if (at)
		seen[at++] = ' ';
	vsnprintf(seen + at, sizeof(seen) - at, fmt, ap);
	va_end(ap);
}

static void on_hello(void *opaque, const struct agent_hello *h)
{
	see("hello:%u:%s:%llx", h->version, h->release, (unsigned long long)h->taint);
}

static void on_started(void *opaque, uint32_t pid)
{
	see("started:%u", pid);
}

static void on_refused(void *opaque, uint32_t step, int code)
{
	see("refused:%u:%d", step, code);
}

static void on_output(void *opaque, unsigned stream, const uint8_t *bytes, size_t len)
{
	see("%u:%.*s", stream, len > 20 ? 3 : (int)len, (const char *)bytes);
	if (take)
		agent_session_taken(&s, stream, len);
}

static void on_eof(void *opaque, unsigned stream)
{
	see("eof:%u", stream);
}

static void on_exited(void *opaque, const struct agent_exit *e)
{
	see("exit:%x:%llu", (unsigned)e->wait_status, (unsigned long long)e->oom_kills);
}

static void on_pong(void *opaque, uint64_t value)
{
	see("pong:%llu", (unsigned long long)value);
}

static void on_note(void *opaque, const char *text)
{
	see("note:%s", text);
}

static void on_bye(void *opaque)
{
	see("bye");
}

static void on_lost(void *opaque, const char *why)
{
	see("lost:%s", why);
}

static size_t on_input(void *opaque, uint8_t *buf, size_t max)
{
	size_t n = strlen(input_text);

	n = n < max ? n : max;
	memcpy(buf, input_text, n);
	input_text += n;
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

static void begin(void)
{
	agent_session_init(&s, &owner);
	seen[0] = 0;
	input_text = "";
	take = true;
}

/* --- frames of the guest, as text ---------------------------------------------------------------- */

static uint8_t wire[400000];
static size_t wire_len;

static uint8_t *frame(uint8_t type, uint8_t stream, const void *payload, uint32_t len)
{
	uint8_t *p = wire + wire_len;

	wire_encode(p, type, stream, len);
	if (payload)
		memcpy(p + WIRE_HEADER_BYTES, payload, len);
	else
		memset(p + WIRE_HEADER_BYTES, 'x', len);
	wire_len += WIRE_HEADER_BYTES + len;
	return p + WIRE_HEADER_BYTES;
}

static void number(uint8_t type, uint8_t stream, uint64_t value, uint32_t bytes)
{
	uint8_t buf[8];

	put_le64(buf, value);
	frame(type, stream, buf, bytes);
}

/*
 * One word is one frame: hello started refused exit=STATUS(hex) bye grant=STREAM:BYTES pong=N note=TEXT
 * STREAM:TEXT (data) STREAM*BYTES (data, as long) eof=STREAM.
 */
static void put_word(const char *word)
{
	const char *value = strchr(word, '=');
	uint8_t *p;

	value = value ? value + 1 : "";
	if (!strncmp(word, "hello", 5)) {
		p = frame(WIRE_HELLO, 0, NULL, WIRE_HELLO_BYTES + (uint32_t)strlen("6.1\n"));
		memset(p, 0, WIRE_HELLO_BYTES);
		put_le32(p + WIRE_HELLO_VERSION, WIRE_VERSION);
		put_le64(p + WIRE_HELLO_TAINT, 0x200);
		memcpy(p + WIRE_HELLO_BYTES, "6.1\n", 4);
	} else if (!strcmp(word, "started")) {
		number(WIRE_STARTED, 0, 77, 4);
	} else if (!strcmp(word, "refused")) {
		number(WIRE_REFUSED, 0, WIRE_STEP_EXEC | (uint64_t)ENOENT << 32, 8);
	} else if (!strncmp(word, "exit=", 5)) {
		p = frame(WIRE_EXIT, 0, NULL, WIRE_EXIT_BYTES);
		memset(p, 0, WIRE_EXIT_BYTES);
		put_le32(p, (uint32_t)strtoul(value, NULL, 16));
		put_le64(p + WIRE_EXIT_OOM_KILLS, 2);
	} else if (!strcmp(word, "bye")) {
		frame(WIRE_BYE, 0, "", 0);
	} else if (!strncmp(word, "grant=", 6)) {
		number(WIRE_GRANT, (uint8_t)atoi(value), strtoul(strchr(value, ':') + 1, NULL, 0),
		       4);
	} else if (!strncmp(word, "pong=", 5)) {
		number(WIRE_PONG, 0, strtoul(value, NULL, 0), 8);
	} else if (!strncmp(word, "note=", 5)) {
		frame(WIRE_NOTE, 0, value, (uint32_t)strlen(value));
	} else if (!strncmp(word, "eof=", 4)) {
		frame(WIRE_EOF, (uint8_t)atoi(value), "", 0);
	} else if (word[1] == '*') {
		frame(WIRE_DATA, (uint8_t)(word[0] - '0'), NULL, (uint32_t)atoi(word + 2));
	} else {
		cr_assert_eq(word[1], ':', "%s", word);
		frame(WIRE_DATA, (uint8_t)(word[0] - '0'), word + 2, (uint32_t)strlen(word + 2));
	}
}

static void put_words(const char *words)
{
	char text[1000];

	wire_len = 0;
	snprintf(text, sizeof(text), "%s", words);
	for (char *at = text, *word; (word = strsep(&at, " ")) != NULL;)
		put_word(word);
}

static void feed(const uint8_t *bytes, size_t len, size_t step)
{
	for (size_t at = 0; at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		/* A copy of the right size: a sanitizer sees a read beyond it. */
		uint8_t *piece = malloc(n);

		memcpy(piece, bytes + at, n);
		agent_session_feed(&s, piece, n);
		free(piece);
	}
}

static void guest_says(const char *words)
{
	put_words(words);
	feed(wire, wire_len, wire_len);
}

/* --- frames of the host, as text ------------------------------------------------------------------ */

static const char *host_says(void)
{
	static const char *const names[] = {
		[WIRE_START] = "start", [WIRE_ACK] = "ack",	 [WIRE_DATA] = "data",
		[WIRE_EOF] = "eof",	[WIRE_GRANT] = "grant",	 [WIRE_SIGNAL] = "signal",
		[WIRE_PING] = "ping",	[WIRE_WINSIZE] = "size", [WIRE_BYE] = "bye",
	};
	static struct wire_decoder d;
	static uint8_t buf[4 * AGENT_FILL_MIN];
	static char text[2000];
	size_t n;

	text[0] = 0;
	memset(&d, 0, sizeof(d));
	while ((n = agent_session_fill(&s, buf, AGENT_FILL_MIN)) > 0) {
		struct wire_frame f;
		size_t used;

		cr_assert_leq(n, AGENT_FILL_MIN);
		for (size_t at = 0; at < n; at += used) {
			size_t len = strlen(text);

			cr_assert_eq(wire_decode(&d, buf + at, n - at, &used, &f), 1);
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s:%u",
						len ? " " : "", names[f.type], f.stream);
			if (f.type == WIRE_DATA)
				snprintf(text + len, sizeof(text) - len, ":%u", f.len);
			else if (f.type == WIRE_GRANT || f.type == WIRE_SIGNAL)
				snprintf(text + len, sizeof(text) - len, ":%u",
					 get_le32(f.payload));
			else if (f.type == WIRE_WINSIZE)
				snprintf(text + len, sizeof(text) - len, ":%u:%u",
					 get_le16(f.payload), get_le16(f.payload + 2));
		}
	}
	return text;
}

static char *const argv[] = { "sh", "-c", "true", NULL }, *const envp[] = { "A=1", NULL };
static const struct agent_command command = {
	argv, envp, "/", "root", "vm", .rows = 24, .cols = 80
};

static void start(void)
{
	struct err err;

	guest_says("hello");
	cr_assert_eq(agent_session_start(&s, &command, &err), 0);
	(void)host_says();
}

static void expect_seen(const char *want)
{
	cr_expect_str_eq(seen, want);
	seen[0] = 0;
}

TestSuite(agent, .init = begin);

/* --- what a guest may do ----------------------------------------------------------------------------- */

/* The guest's words after START, and what the owner sees after "hello". */
static const struct {
	const char *says, *seen;
	enum agent_state state;
} talks[] = {
	{ "started", "started:77", AGENT_RUNNING },
	{ "started 1:out 2:err 3:k", "started:77 1:out 2:err 3:k", AGENT_RUNNING },
	{ "3:early started", "3:early started:77", AGENT_RUNNING },
	{ "started exit=0 bye", "started:77 exit:0:2 bye", AGENT_GONE },
	{ "started exit=ff00", "started:77 exit:ff00:2", AGENT_ENDED },
	{ "started exit=9", "started:77 exit:9:2", AGENT_ENDED },
	{ "started exit=8b", "started:77 exit:8b:2", AGENT_ENDED },
	{ "started exit=40", "started:77 exit:40:2", AGENT_ENDED },
	{ "started exit=0 1:late eof=1 eof=2 eof=3 bye",
	  "started:77 exit:0:2 1:late eof:1 eof:2 eof:3 bye", AGENT_GONE },
	{ "refused bye", "refused:6:2 bye", AGENT_GONE },
	{ "note=a\tb\xff"
	  "c started",
	  "note:a?b?c started:77", AGENT_RUNNING },
	{ "grant=0:100 grant=4:4294901759 started", "started:77", AGENT_RUNNING },
	/* the whole window of each stream */
	{ "started 1*16384 1*16384 1*16384 1*16384 2*16384",
	  "started:77 1:xxx 1:xxx 1:xxx 1:xxx 2:xxx", AGENT_RUNNING },
	/* mistakes */
	{ "hello", "lost:it sent a frame out of order", AGENT_LOST },
	{ "bye", "lost:it sent a frame out of order", AGENT_LOST },
	{ "exit=0", "lost:it sent a frame out of order", AGENT_LOST },
	{ "started started", "started:77 lost:it sent a frame out of order", AGENT_LOST },
	{ "started refused", "started:77 lost:it sent a frame out of order", AGENT_LOST },
	{ "started bye", "started:77 lost:it sent a frame out of order", AGENT_LOST },
	{ "started exit=0 exit=0", "started:77 exit:0:2 lost:it sent a frame out of order",
	  AGENT_LOST },
	{ "refused exit=0", "refused:6:2 lost:it sent a frame out of order", AGENT_LOST },
	{ "refused started", "refused:6:2 lost:it sent a frame out of order", AGENT_LOST },
	{ "started exit=7f", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=137f", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=41", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=109", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=80", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=10000", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "started exit=ffffffff", "started:77 lost:it sent an exit status that does not exist",
	  AGENT_LOST },
	{ "0:x", "lost:it sent data of a stream that it has none of", AGENT_LOST },
	{ "4:x", "lost:it sent data of a stream that it has none of", AGENT_LOST },
	{ "1:", "lost:it sent a frame that is too short", AGENT_LOST },
	{ "1:early", "lost:it sent data of a stream that it has none of", AGENT_LOST },
	{ "eof=2", "lost:it ended a stream that it has none of", AGENT_LOST },
	{ "eof=3 3:x", "eof:3 lost:it sent data of a stream that it has none of", AGENT_LOST },
	{ "started eof=1 1:x", "started:77 eof:1 lost:it sent data of a stream that it has none of",
	  AGENT_LOST },
	{ "refused eof=1 eof=1", "refused:6:2 eof:1 lost:it ended a stream that it has none of",
	  AGENT_LOST },
	{ "eof=0", "lost:it ended a stream that it has none of", AGENT_LOST },
	{ "grant=1:5", "lost:it granted credit for its own stream", AGENT_LOST },
	{ "grant=3:5", "lost:it granted credit for its own stream", AGENT_LOST },
	{ "grant=0:4294967295", "lost:it granted more credit than there is", AGENT_LOST },
	{ "pong=1", "lost:it answered a ping that was not sent", AGENT_LOST },
	{ "started 1*16384 1*16384 1*16384 1*16384 1:x",
	  "started:77 1:xxx 1:xxx 1:xxx 1:xxx lost:it sent more than its credit", AGENT_LOST },
	/* after the last frame and after a mistake nothing counts */
	{ "started exit=0 bye 1:x hello", "started:77 exit:0:2 bye", AGENT_GONE },
	{ "hello started exit=0", "lost:it sent a frame out of order", AGENT_LOST },
};

Test(agent, talks)
{
	for (unsigned i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		static const size_t steps[] = { sizeof(wire), 1, 7, 4096 };

		for (unsigned j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
			begin();
			start();
			expect_seen("hello:1:6.1?:200");
			put_words(talks[i].says);
			feed(wire, wire_len, steps[j]);
			cr_expect_str_eq(seen, talks[i].seen, "\"%s\": %s", talks[i].says, seen);
			cr_expect_eq(s.state, talks[i].state, "\"%s\"", talks[i].says);
			if (s.state == AGENT_LOST || s.state == AGENT_GONE)
				cr_expect_str_eq(host_says(), "", "\"%s\"", talks[i].says);
		}
	}
}

/* Frames before HELLO, and of no form. */
Test(agent, headers)
{
	static const struct {
		uint8_t bytes[WIRE_HEADER_BYTES];
		const char *seen;
	} rows[] = {
		{ "[    0.0", "lost:its channel carries something else than frames" },
		{ { 0x42, 0x4d, 0, 0 }, "lost:it sent a frame of a type that does not exist" },
		{ { 0x42, 0x4d, WIRE_TYPES, 0 },
		  "lost:it sent a frame of a type that does not exist" },
		{ { 0x42, 0x4d, 255, 0 }, "lost:it sent a frame of a type that does not exist" },
		{ { 0x42, 0x4d, 1, WIRE_STREAMS },
		  "lost:it sent a frame of a stream that does not exist" },
		{ { 0x42, 0x4d, 1, 0, 1, 0x40 }, "lost:it sent a frame that is too long" },
		{ { 0x42, 0x4d, 1, 0, 0, 0, 0, 0x80 }, "lost:it sent a frame that is too long" },
		{ { 0x42, 0x4d, WIRE_HELLO, 0 }, "lost:it sent a frame that is too short" },
		{ { 0x42, 0x4d, WIRE_BYE, 0 }, "lost:it sent a frame out of order" },
		{ { 0x42, 0x4d, WIRE_START, 0 }, "lost:it sent a frame out of order" },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin();
		feed(rows[i].bytes, WIRE_HEADER_BYTES, 3);
		expect_seen(rows[i].seen);
		feed(rows[i].bytes, WIRE_HEADER_BYTES, WIRE_HEADER_BYTES);
		agent_session_closed(&s, "its channel closed");
		expect_seen("");
	}
}

Test(agent, the_channel_closes)
{
	agent_session_closed(&s, "its channel closed");
	expect_seen("lost:its channel closed");
	begin();
	start();
	guest_says("started exit=0 bye");
	seen[0] = 0;
	agent_session_closed(&s, "its channel closed"); /* in order */
	expect_seen("");
}

/* --- what the host sends -------------------------------------------------------------------------------- */

Test(agent, start_and_input)
{
	struct err err;

	cr_expect_str_eq(host_says(), "");
	guest_says("hello");
	cr_expect_str_eq(host_says(), "");
	cr_assert_eq(agent_session_start(&s, &command, &err), 0);
	input_text = "text";
	agent_session_input_end(&s);
	/* sh -c true, A=1, /, root, vm, each with its NUL */
	cr_expect_str_eq(host_says(), "start:0 data:4:25");
	guest_says("started");
	cr_expect_str_eq(host_says(), "data:0:4 eof:0");
	agent_session_signal(&s, 0);
	agent_session_signal(&s, 65);
	agent_session_signal(&s, 64);
	agent_session_signal(&s, 2);
	agent_session_signal(&s, 2);
	agent_session_winsize(&s, 1, 1);
	agent_session_winsize(&s, 50, 132);
	agent_session_ping(&s, 5);
	cr_expect_str_eq(host_says(), "ping:0 size:0:50:132 signal:0:2 signal:0:64");
	guest_says("pong=5 exit=100");
	expect_seen("hello:1:6.1?:200 started:77 pong:5 exit:100:2");
	agent_session_signal(&s, 2);
	cr_expect_str_eq(host_says(), "ack:0");
}

/* An answer before START, or before all of the command, is a mistake: its strings may be gone by then. */
Test(agent, early_answers)
{
	static const struct {
		const char *says, *seen, *host;
		bool asked;
	} rows[] = {
		{ "started", "lost:it answered what it was not yet asked", "", false },
		{ "refused", "lost:it answered what it was not yet asked", "", false },
		{ "started", "lost:it answered what it was not yet asked", "", true },
		{ "refused", "refused:6:2", "ack:0", true }, /* it is too long for the guest */
	};
	static char word[2 * WIRE_WINDOW];

	memset(word, 'w', sizeof(word) - 1);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *words[] = { word, NULL };
		struct agent_command *longer = malloc(sizeof(*longer));
		struct err err;

		begin();
		*longer = command;
		longer->argv = words;
		guest_says("hello");
		cr_assert_eq(agent_session_start(&s, longer, &err), 0);
		expect_seen("hello:1:6.1?:200");
		if (rows[i].asked)
			(void)host_says();
		guest_says(rows[i].says);
		expect_seen(rows[i].seen);
		free(longer);
		cr_expect_str_eq(host_says(), rows[i].host, "%u", i);
	}
}

Test(agent, end_without_a_command)
{
	guest_says("hello");
	agent_session_end(&s);
	cr_expect_str_eq(host_says(), "bye:0");
	guest_says("3:x bye");
	expect_seen("hello:1:6.1?:200 3:x bye");
}

/* Input stops at the guest's credit, and the rest and its end follow when there is more. */
Test(agent, input_has_credit)
{
	static char text[WIRE_WINDOW + 11];

	memset(text, 'i', sizeof(text) - 1);
	start();
	input_text = text;
	agent_session_input_end(&s);
	guest_says("started");
	cr_expect_str_eq(host_says(), "data:0:16384 data:0:16384 data:0:16384 data:0:16384");
	cr_expect_str_eq(host_says(), "");
	guest_says("grant=0:4");
	cr_expect_str_eq(host_says(), "data:0:4");
	guest_says("exit=0"); /* does not wait for the input */
	cr_expect_str_eq(host_says(), "ack:0");
}

Test(agent, output_has_credit)
{
	start();
	take = false;
	guest_says("started 1*16384 1*16384 1*16384 1*16384");
	cr_expect_str_eq(host_says(), "");
	agent_session_taken(&s, WIRE_STDOUT, 16383);
	cr_expect_str_eq(host_says(), "", "too little to be worth a frame");
	agent_session_taken(&s, WIRE_STDOUT, 1);
	cr_expect_str_eq(host_says(), "grant:1:16384");
	guest_says("2:err 1*16384"); /* the other stream was never held up */
	cr_expect_eq(s.state, AGENT_RUNNING);
	guest_says("1:x");
	cr_expect_eq(s.state, AGENT_LOST);
}

/* A megabyte of arguments goes out in order, by as many frames as the credit allows. */
Test(agent, long_command)
{
	static char word[100000], *words[12];
	struct agent_command longer = command;
	static uint8_t buf[2 * AGENT_FILL_MIN], got[1 << 21];
	struct wire_decoder d = { 0 };
	size_t n, used, len = 0;
	struct wire_frame f;
	struct err err;

	memset(word, 'w', sizeof(word) - 1);
	for (unsigned i = 0; i < 11; i++)
		words[i] = word;
	longer.argv = words;
	guest_says("hello");
	cr_assert_eq(agent_session_start(&s, &longer, &err), 0);
	for (;;) {
		n = agent_session_fill(&s, buf, sizeof(buf));
		for (size_t at = 0; at < n; at += used) {
			cr_assert_eq(wire_decode(&d, buf + at, n - at, &used, &f), 1);
			if (f.type != WIRE_DATA)
				continue;
			cr_assert_eq(f.stream, WIRE_SPEC);
			memcpy(got + len, f.payload, f.len);
			len += f.len;
		}
		if (!n && !s.spec_bytes)
			break;
		if (!n)
			guest_says("grant=4:30000");
	}
	cr_assert_eq(len, 11 * sizeof(word) + sizeof("A=1") + sizeof("/") + sizeof("root") +
				  sizeof("vm"));
	for (unsigned i = 0; i < 11; i++)
		cr_assert_eq(memcmp(got + i * sizeof(word), word, sizeof(word)), 0, "%u", i);
	cr_assert_eq(memcmp(got + 11 * sizeof(word), "A=1\0/\0root\0vm", 14), 0);
}

Test(agent, too_long_a_command)
{
	static char word[WIRE_SPEC_MAX], *words[] = { word, NULL };
	struct agent_command longer = command;
	struct err err;

	memset(word, 'w', sizeof(word) - 1);
	longer.argv = words;
	guest_says("hello");
	cr_expect_eq(agent_session_start(&s, &longer, &err), -E2BIG);
	cr_expect_str_eq(
		err.text,
		"the command has 4194318 bytes of arguments and environment; at most 4194304");
	cr_expect_eq(s.state, AGENT_GREETED);
	cr_expect_str_eq(host_says(), "");
}
