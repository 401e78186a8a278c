/* log: levels, one clean line per message, and the rate limit on messages that a guest causes. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
		log_put(LOG_WARN, "%0100lu", n);
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
		log_put(LOG_WARN, "%s", text);
		line = said();
		cr_expect_lt(strlen(line), 600);
		cr_expect(strlen(line) > 560 && line[strlen(line) - 1] == '\n');
		cr_expect_eq(strcspn(line, "\r\n"), strlen(line) - 1 - (len & 1));
	}
}

Test(log, limit_of_a_site)
{
	struct log_limit limit = { 0 };
	unsigned spoke = 0;

	for (int i = 0; i < 1000; i++)
		spoke += (unsigned)log_limit_ok(&limit);
	/* A new second may begin in between. */
	cr_expect(spoke == 5 || spoke == 10, "%u", spoke);
	limit.window_ns -= 1500000000;
	cr_expect(log_limit_ok(&limit), "a new second, a new line");
}

static void *flood(void *opaque)
{
	for (int i = 0; i < 1000; i++)
		log_guest("guest did %d", i);
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
	cr_expect(lines(text) >= 5 && lines(text) <= 13, "%s", text);
	/* Each call site has its own limit. */
	log_guest("another");
	cr_expect_str_eq(said(), "bantam: another\n");
}
