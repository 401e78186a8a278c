/*
 * fuzz_agent: any bytes from the agent in a guest.
 *
 * Input: a byte, then what the guest sends, in steps. The byte's bits: 0 to 3 the size of the pieces (0:
 * one piece), 4: the owner starts a command, 5: it takes the output at once. The session may give the
 * owner no more than the window of each stream, calls nothing after lost or bye, and sends only whole
 * frames and no more than the guest's credit.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/agent/session.h"
#include "vmm/core/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct agent_session s;
static size_t untaken[WIRE_STREAMS];
static uint64_t credit[WIRE_STREAMS];
static bool over, takes;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_hello(void *opaque, const struct agent_hello *hello)
{
	check(!over && strlen(hello->release) <= WIRE_RELEASE_MAX);
}

static void on_number(void *opaque, uint32_t pid)
{
	check(!over);
}

static void on_refused(void *opaque, uint32_t step, int code)
{
	check(!over && code > 0 && code < 4096);
}

static void on_output(void *opaque, unsigned stream, const uint8_t *bytes, size_t len)
{
	static uint8_t copy[WIRE_PAYLOAD_MAX];

	check(!over && len);
	memcpy(copy, bytes, len);
	untaken[stream] += len;
	check(untaken[stream] <= WIRE_WINDOW);
	if (takes) {
		agent_session_taken(&s, stream, untaken[stream]);
		untaken[stream] = 0;
	}
}

static void on_eof(void *opaque, unsigned stream)
{
	check(!over);
}

static void on_exited(void *opaque, const struct agent_exit *exit)
{
	check(!over);
}

static void on_pong(void *opaque, uint64_t value)
{
	check(!over);
}

static void on_note(void *opaque, const char *text)
{
	check(!over);
}

static void on_bye(void *opaque)
{
	check(!over);
	over = true;
}

static void on_lost(void *opaque, const char *why)
{
	check(!over && *why);
	over = true;
}

static size_t on_input(void *opaque, uint8_t *buf, size_t max)
{
	check(max);
	memset(buf, 'i', max);
	return max;
}

static const struct agent_owner owner = {
	.hello = on_hello,
	.started = on_number,
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

/* Reads what the session sends, as an agent would. */
static void drain(void)
{
	static uint8_t buf[AGENT_FILL_MIN];
	static struct wire_decoder d;
	struct wire_frame f;
	size_t n, used;

	memset(&d, 0, sizeof(d));
	while ((n = agent_session_fill(&s, buf, sizeof(buf))) > 0) {
		check(!over && n <= sizeof(buf));
		for (size_t at = 0; at < n; at += used) {
			check(wire_decode(&d, buf + at, n - at, &used, &f) == 1);
			if (f.type != WIRE_DATA)
				continue;
			check(f.len && f.len <= credit[f.stream]);
			credit[f.stream] -= f.len;
		}
	}
}

/* What the guest grants, counted by the fuzz target's own reading of the frames. */
static void count_grants(struct wire_decoder *d, const uint8_t *bytes, size_t len)
{
	struct wire_frame f;
	size_t used;

	for (; len; bytes += used, len -= used) {
		int rc = wire_decode(d, bytes, len, &used, &f);

		if (rc < 0)
			return;
		if (rc && f.type == WIRE_GRANT && f.len >= 4 && f.stream < WIRE_STREAMS)
			credit[f.stream] += get_le32(f.payload);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *const argv[] = { "sh", "-c", "echo", NULL }, *const envp[] = { "A=1", NULL };
	static const struct agent_command command = { argv, envp, "/", "root", "vm", true, 24, 80 };
	static struct wire_decoder own;
	struct err err;
	uint8_t how;
	size_t step;

	if (!size)
		return 0;
	how = *data++;
	size--;
	agent_session_init(&s, &owner);
	memset(&own, 0, sizeof(own));
	memset(untaken, 0, sizeof(untaken));
	for (unsigned i = 0; i < WIRE_STREAMS; i++)
		credit[i] = WIRE_WINDOW;
	over = false;
	takes = how & 32;
	step = how & 15 ? how & 15 : size;
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;

		count_grants(&own, data + at, n);
		agent_session_feed(&s, data + at, n);
		if (s.state == AGENT_GREETED && how & 16)
			check(!agent_session_start(&s, &command, &err));
		agent_session_ping(&s, at);
		agent_session_signal(&s, (unsigned)at % 70);
		drain();
	}
	agent_session_input_end(&s);
	drain();
	agent_session_closed(&s, "closed");
	check(over);
	return 0;
}
