/* log: levels, one clean line per message, and the rate limit on messages that a guest causes. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/log.h"

static int p[2], stderr_was;

static void setup(void)
{
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	stderr_was = dup(STDERR_FILENO);
	dup2(p[1], STDERR_FILENO);
}

static void teardown(void)
{
	dup2(stderr_was, STDERR_FILENO);
}

TestSuite(log, .init = setup, .fini = teardown, .timeout = 30);

/* Returns the output on stderr since the last call. */
static const char *said(void)
{
	static char buf[65536];
	ssize_t n = read(p[0], buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = 0;
	return buf;
}

Test(log, levels)
{
	cr_expect_eq(log_level(), LOG_WARN);
	log_put(LOG_ERROR, "a %d", 1);
	log_put(LOG_WARN, "b");
	log_put(LOG_INFO, "c");
	log_put(LOG_DEBUG, "d");
	cr_expect_str_eq(said(), "bantam: a 1\nbantam: b\n");
	log_set_level(LOG_DEBUG);
	log_put(LOG_DEBUG, "d");
	cr_expect_str_eq(said(), "bantam: d\n");
	log_set_level(LOG_ERROR);
	log_put(LOG_WARN, "b");
	cr_expect_str_eq(said(), "");
}

/* A reader that has stopped holds up nobody, and learns what it has missed. */
Test(log, a_full_pipe)
{
	unsigned long n = 0, lines = 0, count = 0;
	const char *text;

	for (; n < 5000; n++)
		log_always(LOG_WARN, "%0100lu", n);
	while (*(text = said())) {
		for (const char *at = text; (at = strchr(at, '\n')); at++)
			lines++;
	}
	cr_expect_gt(lines, 100);
	log_put(LOG_WARN, "on");
	text = said();
	cr_assert_eq(sscanf(text, "bantam: %lu log lines were lost\n", &count), 1, "%s", text);
	cr_expect_eq(lines + count, n);
	cr_expect_str_eq(strchr(text, '\n'), "\nbantam: on\n");
	log_put(LOG_WARN, "on");
	cr_expect_str_eq(said(), "bantam: on\n");
}

Test(log, raw_terminal)
{
	log_set_crlf(1);
	log_put(LOG_WARN, "a");
	cr_expect_str_eq(said(), "bantam: a\r\n");
	log_set_crlf(0);
	log_put(LOG_WARN, "a");
	cr_expect_str_eq(said(), "bantam: a\n");
}

/* A guest's text cannot control the terminal or forge a line. */
Test(log, control_characters)
{
	log_put(LOG_WARN, "%s",
		"a\nb\rc\033[2Jd\x7f"
		"e\tf\x01g");
	cr_expect_str_eq(said(), "bantam: a?b?c?[2Jd?e?f?g\n");
	log_put(LOG_WARN, "%s", "caf\xc3\xa9");
	cr_expect_str_eq(said(), "bantam: caf\xc3\xa9\n");
	log_put(LOG_WARN, "%s", "");
	cr_expect_str_eq(said(), "bantam: \n");
}

Test(log, every_length_is_one_line)
{
	char text[1200];

	for (size_t len = 560; len < 620; len++) {
		const char *line;

		memset(text, 'x', len);
		text[len] = 0;
		log_set_crlf((int)(len & 1));
		log_always(LOG_WARN, "%s", text);
		line = said();
		cr_expect_lt(strlen(line), 600);
		cr_expect(strlen(line) > 560 && line[strlen(line) - 1] == '\n');
		cr_expect_eq(strcspn(line, "\r\n"), strlen(line) - 1 - (len & 1));
	}
}

/* When a cause may print, by a clock that the table sets. */
Test(log, limit_of_a_cause)
{
	static const struct {
		unsigned ms, lines, printed, dropped;
	} table[] = {
		{ 1000, 3, 3, 0 },	/* below the limit */
		{ 1200, 1000, 2, 998 }, /* five at once */
		{ 2300, 10, 0, 1008 },	/* the next second changes nothing */
		{ 60999, 10, 0, 1018 }, /* a minute has not passed */
		{ 61000, 10, 1, 9 },	/* one a minute */
		{ 61001, 1, 0, 10 },	/* … and no more */
		{ 121000, 1, 1, 0 },	/* the next minute */
		{ 241000, 5, 2, 3 },	/* two minutes later, two */
		{ 3600000, 9, 5, 4 },	/* after an hour, five again */
		{ 3600000, 1, 0, 5 },
	};
	struct log_limit limit = { 0 };

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned printed = 0;

		for (unsigned n = 0; n < table[i].lines; n++) {
			if (!log_limit_take(&limit, table[i].ms * 1000000ull))
				continue;
			limit.dropped = 0; /* as the line that is printed tells it */
			printed++;
		}
		cr_expect_eq(printed, table[i].printed, "row %u: %u", i, printed);
		cr_expect_eq(limit.dropped, table[i].dropped, "row %u: %u", i, limit.dropped);
	}
}

/* A flood costs the host few lines in any hour: 5, and one for each minute. */
Test(log, a_day_of_a_flood)
{
	struct log_limit limit = { 0 };
	unsigned printed = 0;

	for (uint64_t s = 1; s <= 86400; s++)
		for (unsigned n = 0; n < 20; n++)
			printed += log_limit_take(&limit, s * CLOCK_NS_PER_S + n * 50000000);
	cr_expect(printed >= 1440 && printed <= 1445, "%u", printed);
	cr_expect_eq(limit.dropped + printed, 86400u * 20);
}

static void say(const char *who, int n)
{
	log_put_for(who, LOG_WARN, "%s: broken, time %d, 100%%", who, n);
}

/* What is left out is told by the cause's next line, and at the end. Names have limits of their own. */
Test(log, what_is_left_out_is_told)
{
	char expected[1024] = "";

	for (int i = 1; i <= 9; i++)
		say("net0", i);
	for (int i = 1; i <= 5; i++)
		sprintf(expected + strlen(expected), "bantam: net0: broken, time %d, 100%%\n", i);
	cr_expect_str_eq(said(), expected);
	say("disk0", 1);
	cr_expect_str_eq(said(), "bantam: disk0: broken, time 1, 100%\n");
	log_end();
	cr_expect_str_eq(said(), "bantam: 4 more lines like this were left out: ...: broken, time "
				 "..., 100%\n");
	log_end();
	cr_expect_str_eq(said(), "", "once");
}

Test(log, the_next_line_tells_what_was_left_out)
{
	static struct log_limit limit;

	for (int i = 0; i < 12; i++)
		log_limited(&limit, LOG_WARN, "x%d", i);
	cr_expect_str_eq(said(), "bantam: x0\nbantam: x1\nbantam: x2\nbantam: x3\nbantam: x4\n");
	limit.busy_until_ns -= LOG_LIMIT_PERIOD_NS; /* a minute passes */
	log_limited(&limit, LOG_WARN, "y");
	cr_expect_str_eq(said(), "bantam: y (7 more lines like this were left out)\n");
	log_limited(&limit, LOG_DEBUG, "a level that is not shown uses nothing up");
	log_end();
	cr_expect_str_eq(said(), "");
	log_always(LOG_WARN, "z");
	cr_expect_str_eq(said(), "bantam: z\n");
}

/* Standard error is shared with others, who make it block and fill it: the log does not wait. */
Test(log, a_pipe_that_others_fill)
{
	static char junk[1 << 16];

	log_always(LOG_WARN, "a");
	cr_expect_str_eq(said(), "bantam: a\n");
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	while (write(p[1], junk, sizeof(junk)) > 0)
		;
	fcntl(p[1], F_SETFL, 0);
	for (int i = 0; i < 3; i++)
		log_always(LOG_WARN, "b");
	cr_expect_eq(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0, "it stays as the others want it");
	while (*said() || read(p[0], junk, sizeof(junk)) > 0)
		;
	log_end();
	cr_expect_str_eq(said(), "bantam: 3 log lines were lost\n");
}

static void *flood(void *opaque)
{
	for (int i = 0; i < 1000; i++)
		log_put(LOG_WARN, "guest did %d", i);
	return NULL;
}

static unsigned lines(const char *text)
{
	unsigned n = 0;

	while ((text = strchr(text, '\n'))) {
		text++;
		n++;
	}
	return n;
}

Test(log, guest_cannot_flood_from_many_vcpus)
{
	pthread_t t[4];
	const char *text;

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, flood, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	text = said();
	cr_expect_eq(lines(text), 5, "%s", text);
	/* Each call site has its own limit. */
	log_put(LOG_WARN, "another");
	cr_expect_str_eq(said(), "bantam: another\n");
}
