/*
 * replay: plays conversations with the API byte for byte, from recordings of our own making.
 *
 *   replay SOCKET FILE [NAME=VALUE…]
 *
 * A recording has one word or piece of text per line:
 *   # …                a comment
 *   test TEXT          begins a test: all that follows must hold
 *   connect            a new connection, instead of the last one
 *   write [fds=KIND]   begins one sendmsg of the ">" lines below; KIND: tap:NAME:N (N queues of a tap) or
 *                      null:N (N descriptors that are no tap)
 *   slice N            instead, each sendmsg of this request takes N bytes
 *   > BYTES            part of it
 *   sleep MS           waits
 *   end                ends the client's own direction (half-close)
 *   answer             an answer whose raw bytes are the "<" lines below
 *   < BYTES            part of it
 *   answer STATUS PARSER   an answer with this status, as the client PARSER (hyper, strict, one-recv)
 *                      understands it; 200|204 allows both, and 0 all
 *   body TEXT          the last answer's body contains this text
 *   closed             the server closes the connection now, and sends nothing before
 *   open               it does not
 *   no-answer          nothing comes within 100 ms
 * BYTES have the escapes \r \n \t \\ \xHH, {NAME} for a value, {FILL_N} for N letters, {LENGTH} for the bytes that follow the
 * request's empty line (in "<": those of the answer), and in "<" lines {*} for anything without a return.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/api/client.h"

#define BYTES_MAX (1u << 20)
#define LINE_MAX_ 8192
#define FDS_MAX 256
#define WRITES_MAX 64
#define ANSWER_MS 10000
#define CLOSED_MS 3000
#define OPEN_MS 100

static const char *socket_path;
static char **values;
static int nvalues;

static struct {
	char name[256];
	bool good, any;
	unsigned line;
} test;

/* The writes of a request are known before the first is sent: the length stands in the first. */
static struct {
	char bytes[BYTES_MAX];
	size_t len;
	size_t end[WRITES_MAX];
	char fds[WRITES_MAX][64];
	unsigned n;
	size_t slice;
} out;
static char expected[BYTES_MAX];
static struct conn conn = { .fd = -1 };
static struct answer last;

static void wrong(const char *what, const char *detail, size_t len)
{
	test.good = false;
	note("line %u: %s", test.line, what);
	for (const char *p = detail, *end = detail + len; p < end;) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);
		note("  %.*s", (int)(n > 500 ? 500 : n), p);
		p += n + 1;
	}
}

static void finish_test(void)
{
	if (test.any)
		check(test.good, "%s", test.name);
	test.any = false;
}

/* Returns the value of {NAME} at text, and its length there; NULL if it is none. */
static const char *value_at(const char *text, size_t *len)
{
	size_t n = 1 + strspn(text + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

	if (n == 1 || text[n] != '}')
		return NULL;
	*len = n + 1;
	for (int i = 0; i < nvalues; i++)
		if (!strncmp(values[i], text + 1, n - 1) && values[i][n - 1] == '=')
			return values[i] + n;
	if (!strncmp(text, "{LENGTH}", n + 1))
		return NULL;
	die("line %u: no value for %.*s", test.line, (int)n + 1, text);
}

/* Appends the text's bytes to buf. {LENGTH} and {*} stay. Returns the new length. */
static size_t unescape(const char *text, char *buf, size_t len)
{
	while (*text) {
		size_t n = 1;
		const char *v;
		unsigned byte, fill = 0;
		if (sscanf(text, "{FILL_%u}", &fill) == 1)
			n = strcspn(text, "}") + 1;
		if (len + LINE_MAX_ + fill > BYTES_MAX)
			die("line %u: too much text", test.line);
		if (fill) {
			memset(buf + len, 'a', fill);
			len += fill;
		} else if (*text == '{' && (v = value_at(text, &n))) {
			memcpy(buf + len, v, strlen(v));
			len += strlen(v);
		} else if (*text == '\\' && text[1] == 'x' && sscanf(text + 2, "%2x", &byte) == 1) {
			buf[len++] = (char)byte;
			n = 4;
		} else if (*text == '\\' && text[1]) {
			buf[len++] = text[1] == 'r' ? '\r' :
				     text[1] == 'n' ? '\n' :
				     text[1] == 't' ? '\t' :
						      text[1];
			n = 2;
		} else {
			n = 1;
			buf[len++] = *text;
		}
		text += n;
	}
	buf[len] = 0;
	return len;
}

static unsigned open_fds(const char *kind, int fd[FDS_MAX])
{
	char name[IFNAMSIZ] = "";
	unsigned n = 0;

	if (sscanf(kind, "tap:%15[^:]:%u", name, &n) != 2 && sscanf(kind, "null:%u", &n) != 1)
		die("line %u: fds=%s", test.line, kind);
	for (unsigned i = 0; i < n && i < FDS_MAX; i++) {
		struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						  (short)(n > 1 ? IFF_MULTI_QUEUE : 0) };
		fd[i] = open(*name ? "/dev/net/tun" : "/dev/null", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		strcpy(req.ifr_name, name);
		if (fd[i] < 0 || (*name && ioctl(fd[i], TUNSETIFF, &req)))
			die("line %u: tap %s: %s", test.line, name, strerror(errno));
	}
	return n;
}

/* Puts the length of what follows the empty line in the place of {LENGTH}. */
static void set_length(void)
{
	static const char mark[] = "{LENGTH}";
	char *at = memmem(out.bytes, out.len, mark, 8), text[16];
	char *body = memmem(out.bytes, out.len, "\r\n\r\n", 4);

	if (!at || !body || at > body)
		return;
	int n = snprintf(text, sizeof(text), "%zu", out.len - (size_t)(body + 4 - out.bytes));
	memmove(at + n, at + 8, out.len - (size_t)(at + 8 - out.bytes));
	memcpy(at, text, (size_t)n);
	out.len = out.len + (size_t)n - 8;
	for (unsigned i = 0; i < out.n; i++)
		if (out.end[i] > (size_t)(at - out.bytes))
			out.end[i] = out.end[i] + (size_t)n - 8;
}

static void send_all(void)
{
	size_t from = 0;

	if (out.n)
		out.end[out.n - 1] = out.len;
	set_length();
	if (conn_extra_bytes(&conn))
		wrong("bytes came that belong to no answer", "", 0);
	for (size_t i = 0; out.slice && i < out.len; i += out.slice)
		if (conn_send(&conn, out.bytes + i,
			      out.slice < out.len - i ? out.slice : out.len - i, NULL, 0))
			wrong("the server has closed the connection", "", 0);
	for (unsigned i = 0; !out.slice && i < out.n; i++) {
		int fd[FDS_MAX];
		unsigned nfds = *out.fds[i] ? open_fds(out.fds[i], fd) : 0;
		if (i)
			sleep_ms(5); /* the server reads each write by itself */
		if (conn.fd < 0)
			wrong("no connection to write to", "", 0);
		else if (conn_send(&conn, out.bytes + from, out.end[i] - from, fd, nfds))
			wrong("the server has closed the connection", "", 0);
		from = out.end[i];
		while (nfds)
			close(fd[--nfds]);
	}
	out.n = 0;
	out.len = 0;
	out.slice = 0;
}

/* Compares raw bytes with the pattern; {*} is anything without a return, {LENGTH} the body's length. */
static bool matches(const char *pattern, const char *end, const char *raw, const char *raw_end,
		    size_t length)
{
	while (pattern < end) {
		if (!strncmp(pattern, "{*}", 3)) {
			for (const char *p = raw;; p++) {
				if (matches(pattern + 3, end, p, raw_end, length))
					return true;
				if (p >= raw_end || *p == '\r')
					return false;
			}
		}
		if (!strncmp(pattern, "{LENGTH}", 8)) {
			char text[16];
			int n = snprintf(text, sizeof(text), "%zu", length);
			if (raw_end - raw < n || memcmp(raw, text, (size_t)n))
				return false;
			pattern += 8;
			raw += n;
		} else if (raw >= raw_end || *pattern++ != *raw++) {
			return false;
		}
	}
	return raw == raw_end;
}

static void compare_raw(size_t len)
{
	conn_receive(&conn, PARSER_HYPER, ANSWER_MS, &last);
	if (!matches(expected, expected + len, last.raw, last.raw + last.raw_bytes,
		     last.body_bytes)) {
		wrong("the answer is", last.raw, last.raw_bytes);
		note("expected:");
		wrong("", expected, len);
	}
	if (last.raw_bytes <= 1023 && conn.first < last.raw_bytes)
		wrong("head and body do not arrive in one piece", last.raw, conn.first);
}

static void compare_status(const char *arguments)
{
	unsigned status, other = 0;
	char parser[16];
	enum parser kind;

	if (sscanf(arguments, "%u|%u %15s", &status, &other, parser) != 3 &&
	    sscanf(arguments, "%u %15s", &status, parser) != 2)
		die("line %u: answer %s", test.line, arguments);
	kind = !strcmp(parser, "strict") ? PARSER_STRICT :
	       !strcmp(parser, "hyper")	 ? PARSER_HYPER :
					   PARSER_ONE_RECV;
	conn_receive(&conn, kind, ANSWER_MS, &last);
	if (status ? last.status != (int)status && last.status != (int)other : last.status < 200)
		wrong("the answer is", last.raw, last.raw_bytes);
	else if (kind == PARSER_STRICT && !last.body_bytes && last.status >= 400)
		wrong("the client loses the body", last.raw, last.raw_bytes);
}

/* Returns the word's arguments if the line begins with it. */
static const char *is(const char *line, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(line, word, n) && (line[n] == ' ' || !line[n]) ?
		       line + n + (line[n] == ' ') :
		       NULL;
}

static void add_write(const char *arguments)
{
	if (out.n == WRITES_MAX)
		die("line %u: too many writes", test.line);
	if (out.n)
		out.end[out.n - 1] = out.len;
	out.fds[out.n][0] = 0;
	if (!strncmp(arguments, "fds=", 4)) {
		char text[LINE_MAX_];
		size_t n = unescape(arguments + 4, text, 0);
		if (n >= sizeof(out.fds[0]))
			die("line %u: fds too long", test.line);
		memcpy(out.fds[out.n], text, n + 1);
	}
	out.n++;
}

static void command(const char *line)
{
	const char *a;

	if ((a = is(line, "test"))) {
		finish_test();
		snprintf(test.name, sizeof(test.name), "%s", a);
		test.good = test.any = true;
	} else if (is(line, "connect")) {
		conn_close(&conn);
		if (conn_open(&conn, socket_path))
			wrong("the socket does not accept", "", 0);
	} else if (is(line, "no-answer")) {
		sleep_ms(OPEN_MS);
		if (conn_extra_bytes(&conn))
			wrong("there is an answer", "", 0);
	} else if ((a = is(line, "sleep"))) {
		sleep_ms(strtod(a, NULL));
	} else if (is(line, "end")) {
		shutdown(conn.fd, SHUT_WR);
	} else if ((a = is(line, "body"))) {
		char text[LINE_MAX_];
		size_t n = unescape(a, text, 0);
		if (!memmem(last.body ? last.body : "", last.body_bytes, text, n))
			wrong("the body is", last.body, last.body_bytes);
	} else if (is(line, "closed")) {
		if (!conn_is_closed(&conn, CLOSED_MS))
			wrong("the server does not close the connection", "", 0);
	} else if (is(line, "open")) {
		if (conn_is_closed(&conn, OPEN_MS))
			wrong("the server closes the connection", "", 0);
	} else {
		die("line %u: %s", test.line, line);
	}
}

int cmd_replay(int argc, char **argv)
{
	char line[LINE_MAX_];
	bool raw = false;
	size_t len = 0;

	if (argc < 3)
		die("replay SOCKET FILE [NAME=VALUE…]");
	socket_path = argv[1];
	values = argv + 3;
	nvalues = argc - 3;
	FILE *f = fopen(argv[2], "r");
	if (!f)
		die("%s: %s", argv[2], strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		const char *a;
		test.line++;
		line[strcspn(line, "\n")] = 0;
		if ((a = is(line, "<"))) {
			len = unescape(a, expected, len);
			continue;
		}
		if (raw)
			compare_raw(len);
		raw = false;
		if (!*line || *line == '#')
			continue;
		if ((a = is(line, ">"))) {
			out.len = unescape(a, out.bytes, out.len);
		} else if ((a = is(line, "write"))) {
			add_write(a);
		} else if ((a = is(line, "slice"))) {
			add_write("");
			out.slice = strtoul(a, NULL, 10);
		} else {
			if (out.n)
				send_all();
			if ((a = is(line, "answer"))) {
				raw = !*a;
				len = 0;
				if (*a && conn.fd >= 0)
					compare_status(a);
			} else {
				command(line);
			}
		}
	}
	if (raw)
		compare_raw(len);
	finish_test();
	fclose(f);
	conn_close(&conn);
	return check_failures() ? 1 : 0;
}
