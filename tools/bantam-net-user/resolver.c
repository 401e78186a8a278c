/*
 * resolver: see resolver.h.
 *
 * Theory of operation. A question starts a clock unless it runs; an answer of any name server stops
 * it. If it has run for RESOLVER_SILENT_MS when a question comes, which then most likely is the
 * guest's second try, the next server gets this question and all later ones. resolv.conf (names.h) is
 * parsed again when it has changed (libslirp looks once a second; so do we).
 */
#include "tools/bantam-net-user/resolver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "tools/bantam-net-user/names.h"
#include "vmm/core/clock.h"

#define SERVERS 3u /* as the C library takes (MAXNS) */
#define LOOK_MS 1000u
#define BLANK " \t\r"

/* The name servers of one family, and which of them gets the questions. */
struct servers {
	struct sockaddr_storage at[SERVERS];
	unsigned n, now;
	uint64_t asked_ms; /* a question without an answer; 0: none */
};

static struct {
	struct servers v4, v6;
	struct servers
		linked; /* "fe80::1%eth0": only libslirp, which takes the first, knows the link */
	unsigned version;
	uint64_t looked_ms;
} me;

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const void *)b;

	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port &&
	       !memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr));
}

static void add(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(53) };

	char plain[INET6_ADDRSTRLEN];

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1 && me.v4.n < SERVERS)
		memcpy(&me.v4.at[me.v4.n++], &in, sizeof(in));
	else if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1 && me.v6.n < SERVERS)
		memcpy(&me.v6.at[me.v6.n++], &in6, sizeof(in6));
	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(address, "%"), address);
	if (strchr(address, '%') && inet_pton(AF_INET6, plain, &in6.sin6_addr) == 1 &&
	    me.linked.n < SERVERS)
		memcpy(&me.linked.at[me.linked.n++], &in6, sizeof(in6));
}

static void parse(char *text)
{
	char *line;

	memset(&me.v4, 0, sizeof(me.v4));
	memset(&me.v6, 0, sizeof(me.v6));
	memset(&me.linked, 0, sizeof(me.linked));
	while ((line = strsep(&text, "\n"))) {
		char *word = strtok_r(line, BLANK, &line);

		if (!word || strcmp(word, "nameserver"))
			continue;
		word = strtok_r(NULL, BLANK, &line);
		if (word)
			add(word);
	}
}

static void look(uint64_t now_ms, bool now)
{
	char text[NAMES_BYTES + 1];
	unsigned version;

	if (!now && me.looked_ms && now_ms - me.looked_ms < LOOK_MS)
		return;
	me.looked_ms = now_ms;
	snprintf(text, sizeof(text), "%s", names_text(&version));
	if (version == me.version)
		return;
	me.version = version;
	parse(text);
}

/* Returns true if s has at, as number *which. */
static bool has(const struct servers *s, const struct sockaddr *at, unsigned *which)
{
	for (*which = 0; *which < s->n; ++*which)
		if (same_host((const struct sockaddr *)&s->at[*which], at))
			return true;
	return false;
}

/* Returns the servers of which at is one, or NULL. *which: its number. */
static struct servers *find(const struct sockaddr *at, unsigned *which)
{
	struct servers *s = at->sa_family == AF_INET  ? &me.v4 :
			    at->sa_family == AF_INET6 ? &me.v6 :
							NULL;

	return s && has(s, at, which) ? s : NULL;
}

static void next(struct servers *s)
{
	s->now = (s->now + 1) % s->n;
	s->asked_ms = 0;
}

static bool is_question(const struct sockaddr *to)
{
	/* The port is at the same place in sockaddr_in6. */
	return (to->sa_family == AF_INET || to->sa_family == AF_INET6) &&
	       ((const struct sockaddr_in *)to)->sin_port == htons(53);
}

bool resolver_serves(const struct sockaddr *to)
{
	unsigned which;

	if (!is_question(to))
		return false;
	look(clock_now_ms(), false);
	if (find(to, &which))
		return true;
	/* libslirp may have seen a change before us. */
	look(clock_now_ms(), true);
	return find(to, &which) || (to->sa_family == AF_INET6 && has(&me.linked, to, &which));
}

bool resolver_ask(const struct sockaddr *to, struct sockaddr_storage *server)
{
	uint64_t now = clock_now_ms();
	struct servers *s;
	unsigned which;

	if (!is_question(to))
		return false;
	look(now, false);
	s = find(to, &which);
	if (!s || which)
		return false;
	if (s->asked_ms && now - s->asked_ms >= RESOLVER_SILENT_MS)
		next(s);
	if (!s->asked_ms)
		s->asked_ms = now;
	*server = s->at[s->now];
	return true;
}

void resolver_heard(struct sockaddr *from)
{
	unsigned which;
	struct servers *s = find(from, &which);

	if (!s)
		return;
	s->asked_ms = 0;
	memcpy(from, &s->at[0],
	       from->sa_family == AF_INET ? sizeof(struct sockaddr_in) :
					    sizeof(struct sockaddr_in6));
}

void resolver_failed(const struct sockaddr *to)
{
	unsigned which;
	struct servers *s = find(to, &which);

	if (s && which == s->now)
		next(s);
}
