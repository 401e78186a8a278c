/* test_http_parse: requests and what is none, whole and cut at every place. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/http/parse.h"

struct seen {
	enum http_parse_result result;
	bool asked; /* to continue */
	size_t used;
	int status;
	char text[256]; /* the request, or the error */
};

/* Feeds pieces of step bytes, the first one of first bytes. */
static struct seen parse(const char *buf, size_t bytes, size_t first, size_t step)
{
	struct http_parse p;
	struct seen s = { 0 };
	size_t used, n = first;

	http_parse_init(&p);
	cr_assert(http_parse_idle(&p));
	for (;;) {
		/* A copy of the right size: a sanitizer sees a read beyond it. */
		char *piece = malloc(n ? n : 1);

		memcpy(piece, buf + s.used, n);
		s.result = http_parse_feed(&p, piece, n, &used);
		free(piece);
		cr_assert_leq(used, n);
		s.used += used;
		if (s.result == HTTP_PARSE_CONTINUE) {
			cr_assert_not(s.asked);
			s.asked = true;
			n -= used;
			continue;
		}
		if (s.result != HTTP_PARSE_MORE || s.used == bytes)
			break;
		cr_assert_eq(used, n);
		n = step < bytes - s.used ? step : bytes - s.used;
	}
	if (s.result == HTTP_PARSE_DONE) {
		cr_assert(!p.body || strlen(p.body) == p.body_bytes);
		snprintf(s.text, sizeof(s.text), "%s %s|%s|%s|%s", p.method, p.path,
			 p.query ? p.query : "-", p.body ? p.body : "-",
			 p.keep_alive ? "keep" : "close");
	} else if (s.result == HTTP_PARSE_BAD) {
		s.status = p.status;
		snprintf(s.text, sizeof(s.text), "%s", p.error);
		cr_assert_null(strpbrk(p.error, "\"\\"));
		/* It stays so. */
		cr_assert_eq(http_parse_feed(&p, "GET", 3, &used), HTTP_PARSE_BAD);
		cr_assert_eq(used, 0);
	}
	http_parse_clear(&p);
	return s;
}

/* Whole, in single bytes, and in two pieces cut at each place: always the same. */
static struct seen parse_cut(const char *buf, size_t bytes)
{
	struct seen whole = parse(buf, bytes, bytes, bytes);

	for (size_t cut = 0; cut <= bytes; cut++) {
		struct seen s = cut == bytes ? parse(buf, bytes, 1, 1) :
					       parse(buf, bytes, cut, bytes);

		cr_assert_eq(s.result, whole.result, "%zu: %.*s", cut, (int)bytes, buf);
		cr_assert_eq(s.asked, whole.asked, "%zu", cut);
		cr_assert_eq(s.status, whole.status, "%zu", cut);
		cr_assert_str_eq(s.text, whole.text, "%zu: %.*s", cut, (int)bytes, buf);
		if (s.result == HTTP_PARSE_DONE)
			cr_assert_eq(s.used, whole.used, "%zu", cut);
	}
	return whole;
}

#define L "HTTP/1.1\r\n"

static const struct {
	const char *request, *want;
	size_t behind; /* bytes that are not its own */
	bool asks;
} good[] = {
	{ "GET /api/v1/vmm.ping " L "\r\n", "GET /api/v1/vmm.ping|-|-|keep" },
	{ "GET /a " L "Host: localhost\r\nAccept: */*\r\n\r\n", "GET /a|-|-|keep" },
	{ "\r\n\r\nGET /a " L "\r\n", "GET /a|-|-|keep" },
	{ "PUT /a " L "content-length: 5\r\n\r\nhello", "PUT /a|-|hello|keep" },
	{ "PUT /a " L "CONTENT-LENGTH:   5  \r\n\r\nhello", "PUT /a|-|hello|keep" },
	{ "PUT /a " L "Content-Length: 0\r\n\r\n", "PUT /a|-|-|keep" },
	{ "PUT /a " L "Content-Length: 0000005\r\n\r\nhello", "PUT /a|-|hello|keep" },
	{ "PUT /a " L "Content-Length: 5\r\n\r\nhelloGET ", "PUT /a|-|hello|keep", 4 },
	{ "GET /a " L "\r\nGET /b " L "\r\n", "GET /a|-|-|keep", 19 },
	{ "GET /a/ " L "\r\n", "GET /a|-|-|keep" },
	{ "GET / " L "\r\n", "GET /|-|-|keep" },
	{ "GET /a/?x=1&y=/ " L "\r\n", "GET /a|x=1&y=/|-|keep" },
	{ "GET /a?x#y?z " L "\r\n", "GET /a|x|-|keep" },
	{ "GET /a#y?z " L "\r\n", "GET /a|-|-|keep" },
	{ "GET http://localhost/a/b " L "\r\n", "GET /a/b|-|-|keep" },
	{ "GET HTTP://localhost:80/a/?q " L "\r\n", "GET /a|q|-|keep" },
	{ "GET http://localhost " L "\r\n", "GET /|-|-|keep" },
	{ "GET http://localhost?q " L "\r\n", "GET /|q|-|keep" },
	{ "GET unix:///a " L "\r\n", "GET /a|-|-|keep" },
	{ "OPTIONS * " L "\r\n", "OPTIONS *|-|-|keep" },
	{ "PATCH /a " L "\r\n", "PATCH /a|-|-|keep" },
	{ "GET /a " L "Connection: close\r\n\r\n", "GET /a|-|-|close" },
	{ "GET /a " L "connection: Foo, CLOSE\r\n\r\n", "GET /a|-|-|close" },
	{ "GET /a " L "Connection: keep-alive\r\n\r\n", "GET /a|-|-|keep" },
	{ "GET /a HTTP/1.0\r\n\r\n", "GET /a|-|-|close" },
	{ "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /a|-|-|keep" },
	{ "PUT /a " L "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab", "PUT /a|-|ab|keep", 0,
	  true },
	{ "PUT /a " L "Content-Length: 2\r\nexpect:100-Continue  \r\n\r\nab", "PUT /a|-|ab|keep", 0,
	  true },
	{ "PUT /a " L "Expect: 100-continued\r\nContent-Length: 2\r\n\r\nab", "PUT /a|-|ab|keep" },
	{ "PUT /a " L "Expect: 100-continue\r\n\r\n", "PUT /a|-|-|keep" },
	{ "PUT /a " L "Expect:\r\nContent-Length: 1\r\n\r\nx", "PUT /a|-|x|keep" },
	/* A change of protocol is not offered, so the request is an ordinary one. */
	{ "GET /a " L "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET", "GET /a|-|-|keep", 3 },
	{ "PUT /a " L "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nxyz",
	  "PUT /a|-|x|keep", 2 },
	{ "GET /a " L "X-Transfer-Encoding: chunked\r\n\r\n", "GET /a|-|-|keep" },
	{ "GET /a " L "Content-Lengthy: x\r\nContent-Type:\r\n\r\n", "GET /a|-|-|keep" },
	{ "GET /a " L "X: \xc3\xa9\r\n\r\n", "GET /a|-|-|keep" },
};

Test(http_parse, requests)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		size_t bytes = strlen(good[i].request);
		struct seen s = parse_cut(good[i].request, bytes);

		cr_assert_eq(s.result, HTTP_PARSE_DONE, "%s: %s", good[i].request, s.text);
		cr_assert_str_eq(s.text, good[i].want, "%s", good[i].request);
		cr_assert_eq(s.used, bytes - good[i].behind, "%s", good[i].request);
		cr_assert_eq(s.asked, good[i].asks, "%s", good[i].request);
	}
}

#define NO_LENGTH "Content-Length is no decimal number"
#define NO_CODING "Transfer-Encoding is not supported: send Content-Length"

static const struct {
	const char *bytes;
	const char *want;
	int status;
} none[] = {
	{ "PUT /a " L "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
	  "Content-Length is given twice", 400 },
	{ "PUT /a " L "Content-Length: -1\r\n\r\n", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: +1\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 0x1\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 1 1\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 1,1\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 1.0\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: many\r\n\r\na", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length:\r\n\r\n", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length:  \r\n\r\n", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 18446744073709551616\r\n\r\n", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 99999999999999999999999999\r\n\r\n", NO_LENGTH, 400 },
	{ "PUT /a " L "Content-Length: 18446744073709551615\r\n\r\n",
	  "the body is larger than 4 MiB", 413 },
	{ "PUT /a " L "Content-Length: 4294967297\r\n\r\n", "the body is larger than 4 MiB", 413 },
	{ "PUT /a " L "Content-Length: 4194305\r\n\r\n", "the body is larger than 4 MiB", 413 },
	{ "PUT /a " L "Content-Length: 4194305\r\nExpect: 100-continue\r\n\r\n",
	  "the body is larger than 4 MiB", 413 },
	{ "PUT /a " L "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", NO_CODING, 400 },
	{ "PUT /a " L "transfer-encoding:identity\r\nContent-Length: 1\r\n\r\na", NO_CODING, 400 },
	{ "PUT /a " L "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", NO_CODING, 400 },
	{ "PUT /a " L "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	  "a header has a byte that none may have", 400 },
	{ "GET /a " L "a b: c\r\n\r\n", "a header has a byte that none may have", 400 },
	{ "GET /a " L "a: \x01\r\n\r\n", "a header has a byte that none may have", 400 },
	{ "GET /a " L "no colon\r\n\r\n", "a header has a byte that none may have", 400 },
	{ "GET /a HTTP/2.0\r\n\r\n", "the version of HTTP is not 1.0 or 1.1", 400 },
	{ "GET /a HTTP/9.9\r\n\r\n", "the version of HTTP is not 1.0 or 1.1", 400 },
	{ "GET /a HTTP/0.9\r\n\r\n", "the version of HTTP is not 1.0 or 1.1", 400 },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the version of HTTP is not 1.0 or 1.1", 400 },
	{ "GET a " L "\r\n", "the request's target is no URI", 400 },
	{ "GET ftp://x/a " L "\r\n", "the request's target is no path", 400 },
	{ "CONNECT x:80 " L "\r\n", "the request's target is no path", 400 },
	{ "GET /\x7f " L "\r\n", "the request's target is no URI", 400 },
	{ "GET /\xc3\xa9 " L "\r\n", "the request's target is no URI", 400 },
	{ "FETCH /a " L "\r\n", "the method is unknown", 400 },
	{ "get /a " L "\r\n", "the method is unknown", 400 },
	{ "\x16\x03\x01\x02 TLS", "the method is unknown", 400 },
	{ " GET /a " L "\r\n", "the method is unknown", 400 },
};

Test(http_parse, no_requests)
{
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct seen s = parse_cut(none[i].bytes, strlen(none[i].bytes));

		cr_expect_eq(s.result, HTTP_PARSE_BAD, "%s", none[i].bytes);
		cr_expect_eq(s.status, none[i].status, "%s", none[i].bytes);
		cr_expect_str_eq(s.text, none[i].want, "%s", none[i].bytes);
	}
}

/* Every byte in every place of a request: a request, an error, or not complete; never worse. */
Test(http_parse, any_byte_anywhere)
{
	static const char request[] =
		"PUT http://h/a?q HTTP/1.1\r\nContent-Length: 2\r\nA: b\r\n\r\nxy";
	char buf[sizeof(request)];

	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		for (int byte = 0; byte < 256; byte++) {
			struct seen one, whole;

			memcpy(buf, request, sizeof(buf));
			buf[i] = (char)byte;
			if (i > sizeof(request) - 4)
				continue; /* the body may hold a NUL */
			whole = parse(buf, sizeof(buf) - 1, sizeof(buf) - 1, 1);
			one = parse(buf, sizeof(buf) - 1, 1, 1);
			cr_assert_eq(whole.result, one.result, "%zu %d", i, byte);
			cr_assert_str_eq(whole.text, one.text, "%zu %d", i, byte);
		}
	}
}

/* Each limit, exactly: one byte more is refused, in one piece or in many. */
static void limit(const char *before, size_t fill, const char *after, const char *error)
{
	size_t b = strlen(before), a = strlen(after), bytes = b + fill + a;
	static const size_t steps[] = { 1, 7, 4096, 1u << 30 };
	char *buf = malloc(bytes);

	memcpy(buf, before, b);
	memset(buf + b, 'x', fill);
	memcpy(buf + b + fill, after, a);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t step = steps[i] < bytes ? steps[i] : bytes;
		struct seen s = parse(buf, bytes, step, step);

		if (error) {
			cr_expect_eq(s.result, HTTP_PARSE_BAD, "%zu", steps[i]);
			cr_expect_eq(s.status, 413);
			cr_expect_str_eq(s.text, error);
		} else {
			cr_expect_eq(s.result, HTTP_PARSE_DONE, "%zu %s", steps[i], s.text);
			cr_expect_eq(s.used, bytes);
		}
	}
	free(buf);
}

Test(http_parse, line_of_8_kib)
{
	const size_t room = HTTP_LINE_MAX - strlen("GET / HTTP/1.1");

	limit("GET /", room, " HTTP/1.1\r\n\r\n", NULL);
	limit("GET /", room + 1, " HTTP/1.1\r\n\r\n", "the request line is longer than 8 KiB");
	limit("GET /", 1 << 20, "", "the request line is longer than 8 KiB");
}

Test(http_parse, headers_of_64_kib)
{
	/* All bytes between the line and the body. */
	const size_t room = HTTP_HEADERS_MAX - strlen("\r\nA: \r\n\r\n");

	limit("GET / HTTP/1.1\r\nA: ", room, "\r\n\r\n", NULL);
	limit("GET / HTTP/1.1\r\nA: ", room + 1, "\r\n\r\n", "the headers are larger than 64 KiB");
	limit("GET / HTTP/1.1\r\n", 1 << 20, "", "the headers are larger than 64 KiB");
}

Test(http_parse, empty_lines_without_end)
{
	struct http_parse p;
	unsigned fed = 0;
	size_t used;

	http_parse_init(&p);
	while (http_parse_feed(&p, "\r\n", 2, &used) == HTTP_PARSE_MORE) {
		cr_assert(http_parse_idle(&p));
		cr_assert_lt(fed += 2, HTTP_LINE_MAX + 2);
	}
	cr_expect_eq(p.status, 413);
	http_parse_clear(&p);
}

Test(http_parse, body_of_4_mib)
{
	limit("PUT / HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n", HTTP_BODY_MAX, "", NULL);
}

/* Memory follows the bytes that came, not the promise; and nothing is held between requests. */
Test(http_parse, memory)
{
	static const char head[] = "PUT /a HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n";
	static const char whole[] = "PUT /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
	struct http_parse p;
	size_t used;

	http_parse_init(&p);
	cr_expect_eq(http_parse_held_bytes(&p), 0);
	cr_assert_eq(http_parse_feed(&p, head, sizeof(head) - 1, &used), HTTP_PARSE_MORE);
	cr_expect_lt(http_parse_held_bytes(&p), 1024);
	for (unsigned i = 0; i < 10; i++)
		http_parse_feed(&p, "0123456789", 10, &used);
	cr_expect_lt(http_parse_held_bytes(&p), 8192);
	http_parse_next(&p);
	cr_expect(http_parse_idle(&p));
	cr_expect_eq(http_parse_held_bytes(&p), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(http_parse_feed(&p, whole, sizeof(whole) - 1, &used), HTTP_PARSE_DONE);
		cr_expect_str_eq(p.body, "x");
		/* Bytes behind the request are not taken before the next one is asked for. */
		cr_assert_eq(http_parse_feed(&p, whole, sizeof(whole) - 1, &used), HTTP_PARSE_DONE);
		cr_expect_eq(used, 0);
		http_parse_next(&p);
	}
	http_parse_clear(&p);
}
