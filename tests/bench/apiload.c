/*
 * apiload: a load on a monitor's HTTP API, and what it measures.
 *
 *   apiload call SOCKET METHOD ENDPOINT [BODY]   prints the body of the answer; status 1 unless it is 2xx
 *   apiload rate SOCKET CLIENTS MS               vm.info as fast as CLIENTS connections can, each one
 *                                                request at a time: "REQUESTS/S P50_US P99_US"
 *   apiload ping SOCKET MS                       vmm.ping each millisecond: "P50_US P99_US MOST_US"
 *
 * The answers are read to their last byte; one that is no 200 ends the program with status 1.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define ANSWER_MAX (1 << 20)
#define SAMPLES_MAX 4000000

struct client {
	int fd;
	uint64_t begin;
	size_t have, want; /* of the answer; want 0: its head is not complete */
	char *buf;
};

static struct client client[CLIENTS_MAX];
static uint32_t *sample_us;
static size_t nsamples;

static void die(const char *what)
{
	fprintf(stderr, "apiload: %s\n", what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void dial(struct client *c, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	c->buf = malloc(ANSWER_MAX + 1);
	if (c->fd < 0 || !c->buf || connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)))
		die("cannot connect");
}

static void ask(struct client *c, const char *method, const char *endpoint, const char *body)
{
	char text[65536];
	int n = snprintf(text, sizeof(text),
			 "%s /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
			 "Content-Length: %zu\r\n\r\n%s",
			 method, endpoint, strlen(body), body);

	c->begin = now_ns();
	c->have = c->want = 0;
	if (n >= (int)sizeof(text) || send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		die("cannot send");
}

/* Reads once. Returns the status when the answer is complete, else 0. */
static int hear(struct client *c)
{
	ssize_t n = recv(c->fd, c->buf + c->have, ANSWER_MAX - c->have, 0);
	const char *end, *length;

	if (n <= 0)
		die("the connection ended");
	c->have += (size_t)n;
	c->buf[c->have] = 0;
	if (!c->want) {
		end = strstr(c->buf, "\r\n\r\n");
		if (!end)
			return 0;
		length = strstr(c->buf, "Content-Length: ");
		c->want = (size_t)(end + 4 - c->buf);
		if (length && length < end)
			c->want += strtoul(length + 16, NULL, 10);
		if (c->want > ANSWER_MAX)
			die("the answer is too long");
	}
	return c->have < c->want ? 0 : atoi(c->buf + 9);
}

static void sample(const struct client *c)
{
	if (nsamples < SAMPLES_MAX)
		sample_us[nsamples++] = (uint32_t)((now_ns() - c->begin) / 1000);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t percentile(unsigned per_mille)
{
	return nsamples ? sample_us[(nsamples - 1) * per_mille / 1000] : 0;
}

static int call(const char *path, const char *method, const char *endpoint, const char *body)
{
	struct client *c = client;
	int status;

	dial(c, path);
	ask(c, method, endpoint, body);
	while (!(status = hear(c)))
		;
	printf("%s\n", strstr(c->buf, "\r\n\r\n") + 4);
	return status / 100 != 2;
}

static int rate(const char *path, unsigned n, uint64_t ms)
{
	struct pollfd fds[CLIENTS_MAX];
	uint64_t begin, end;

	if (!n || n > CLIENTS_MAX)
		die("CLIENTS is not between 1 and 256");
	for (unsigned i = 0; i < n; i++) {
		dial(&client[i], path);
		fds[i] = (struct pollfd){ client[i].fd, POLLIN, 0 };
	}
	begin = now_ns();
	end = begin + ms * 1000000;
	for (unsigned i = 0; i < n; i++)
		ask(&client[i], "GET", "vm.info", "");
	while (now_ns() < end) {
		if (poll(fds, n, 10000) <= 0)
			die("no answer for ten seconds");
		for (unsigned i = 0; i < n; i++) {
			int status = fds[i].revents ? hear(&client[i]) : 0;

			if (!status)
				continue;
			if (status != 200)
				die("vm.info does not answer 200");
			sample(&client[i]);
			ask(&client[i], "GET", "vm.info", "");
		}
	}
	end = now_ns();
	qsort(sample_us, nsamples, sizeof(*sample_us), compare);
	printf("%.0f %u %u\n", (double)nsamples * 1e9 / (double)(end - begin), percentile(500),
	       percentile(990));
	return 0;
}

static int ping(const char *path, uint64_t ms)
{
	struct client *c = client;
	uint64_t end = now_ns() + ms * 1000000;

	dial(c, path);
	while (now_ns() < end) {
		int status;

		ask(c, "GET", "vmm.ping", "");
		while (!(status = hear(c)))
			;
		if (status != 200)
			die("vmm.ping does not answer 200");
		sample(c);
		usleep(1000);
	}
	qsort(sample_us, nsamples, sizeof(*sample_us), compare);
	printf("%u %u %u\n", percentile(500), percentile(990), percentile(1000));
	return 0;
}

int main(int argc, char **argv)
{
	sample_us = malloc(SAMPLES_MAX * sizeof(*sample_us));
	if (!sample_us)
		die("out of memory");
	if (argc >= 5 && argc <= 6 && !strcmp(argv[1], "call"))
		return call(argv[2], argv[3], argv[4], argc == 6 ? argv[5] : "");
	if (argc == 5 && !strcmp(argv[1], "rate"))
		return rate(argv[2], (unsigned)atoi(argv[3]), strtoul(argv[4], NULL, 10));
	if (argc == 4 && !strcmp(argv[1], "ping"))
		return ping(argv[2], strtoul(argv[3], NULL, 10));
	fprintf(stderr,
		"usage: apiload call SOCKET METHOD ENDPOINT [BODY] | rate SOCKET CLIENTS MS "
		"| ping SOCKET MS\n");
	return 2;
}
