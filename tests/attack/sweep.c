/*
 * sweep: every request of KVM, of taps and of vhost, every option of a socket, and every command of fcntl and prctl. See
 * attacks.h.
 *
 * What a thread of a VM may ask stands in the lists (*.calls), which mkfilters prints; the rest is an attack.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/attack/attacks.h"

#define NAME_BYTES 40
#define SWEEP_MAX 2000
#define OPTIONS 96u
#define COMMANDS 16u /* of fcntl, from 0 and from F_LINUX_BASE */
#define F_LINUX_BASE 1024u
#define PRCTLS 96u

static const struct {
	const char *name;
	unsigned long request;
} requests[] = {
#include "requests.inc"
};
#define NREQUESTS (sizeof(requests) / sizeof(requests[0]))

static struct attack *swept;
static unsigned nswept;

static struct attack *add(const char *format, const char *name, unsigned a, unsigned b)
{
	char *what = malloc(NAME_BYTES);

	if (!what || nswept == SWEEP_MAX)
		abort();
	snprintf(what, NAME_BYTES, format, name, a, b);
	swept[nswept] = (struct attack){ .what = what };
	for (unsigned i = 0; i < STEPS; i++)
		swept[nswept].step[i].nr = -1;
	return &swept[nswept++];
}

static void set(struct attack *a, long nr, long first, long second, long third, long fourth,
		long fifth)
{
	const long arg[6] = { first, second, third, fourth, fifth };

	a->step[0].nr = nr;
	memcpy(a->step[0].arg, arg, sizeof(arg));
}

/* What the lists say of a request: the threads that may make it. */
static unsigned listed(const char *list, const char *name)
{
	static const struct {
		const char *name;
		unsigned target;
	} threads[] = { { "vcpu", VCPU },	{ "loop", LOOP },	{ "io", IO },
			{ "worker", WORKER },	{ "signals", SIGNALS }, { "test", TEST },
			{ "machine", MACHINE }, { "api", API } };
	char line[NAME_BYTES + 40];
	unsigned may = 0;

	for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
		snprintf(line, sizeof(line), "\n%s\tioctl\t%s\t", threads[i].name, name);
		if (strstr(list, line))
			may |= threads[i].target;
	}
	return may;
}

/* The text of the lists, each line behind a newline. */
static char *read_lists(const char *build)
{
	char *command, *text = NULL;
	size_t len = 0;
	FILE *in, *out = open_memstream(&text, &len);
	int c;

	if (!out || asprintf(&command, "'%s/gen/mkfilters' \"$(uname -m)\" --list", build) < 0)
		return NULL;
	putc('\n', out);
	in = popen(command, "re");
	while (in && (c = getc(in)) != EOF)
		putc(c, out);
	if (in && pclose(in))
		len = 0;
	fclose(out);
	free(command);
	return len > 1 ? text : NULL;
}

/* A descriptor that takes requests of this family, if the process has one. */
static long fd_for(const char *name)
{
	return !strncmp(name, "TUN", 3) ? FD_TUN : strncmp(name, "KVM", 3) ? FD_ANY : FD_VM;
}

static void add_options(void)
{
	static const struct {
		const char *name;
		unsigned level;
	} levels[] = { { "SOL_SOCKET", SOL_SOCKET },
		       { "IPPROTO_IP", IPPROTO_IP },
		       { "IPPROTO_TCP", IPPROTO_TCP },
		       { "IPPROTO_UDP", IPPROTO_UDP },
		       { "IPPROTO_IPV6", IPPROTO_IPV6 },
		       { "SOL_PACKET", 263 },
		       { "SOL_NETLINK", 270 },
		       { "SOL_ALG", 279 },
		       { "SOL_MPTCP", 284 } };
	static const struct {
		unsigned may;
		int level, option;
	} kept[] = {
		{ LOOP | MACHINE, SOL_SOCKET, SO_SNDBUF },
		{ NET, SOL_SOCKET, SO_REUSEADDR },
		{ NET, SOL_SOCKET, SO_OOBINLINE },
		{ NET, IPPROTO_TCP, 1 /* TCP_NODELAY */ },
		{ NET, IPPROTO_IP, IP_TTL },
		{ NET, IPPROTO_IP, IP_TOS },
		{ NET, IPPROTO_IP, IP_RECVERR },
		{ NET, IPPROTO_IPV6, IPV6_V6ONLY },
		{ NET, IPPROTO_IPV6, IPV6_UNICAST_HOPS },
		{ NET, IPPROTO_IPV6, IPV6_RECVERR },
	};

	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		for (unsigned option = 0; option < OPTIONS; option++) {
			struct attack *a = add("setsockopt %s %u", levels[i].name, option, 0);

			set(a, SYS_setsockopt, FD_SOCKET, levels[i].level, option, B(one), 4);
			for (unsigned k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
				if (kept[k].level == (int)levels[i].level &&
				    kept[k].option == (int)option)
					a->may |= kept[k].may;
		}
}

static void add_commands(void)
{
	/* F_GETFD, F_SETFD, F_GETFL: of the process's own descriptors. F_OFD_…: locks of images. */
	for (unsigned i = 0; i < 2 * COMMANDS; i++) {
		unsigned command = i < COMMANDS ? i : F_LINUX_BASE + i - COMMANDS;
		struct attack *a;

		if (command == F_GETFD || command == F_SETFD || command == F_GETFL)
			continue;
		a = add("fcntl%s %u", "", command, 0);
		set(a, SYS_fcntl, FD_ANY, command, 0, 0, 0);
		if (command == F_SETFL || command == F_DUPFD_CLOEXEC)
			a->may = IMAGE | SEED;
	}
	for (unsigned option = 0; option < PRCTLS; option++) {
		struct attack *a = add("prctl%s %u", "", option, 0);

		set(a, SYS_prctl, option, 0, 0, 0, 0);
		if (option == PR_SET_NAME)
			a->may = IMAGE;
	}
}

bool attacks_begin(const char *build)
{
	char *list = read_lists(build);

	swept = calloc(SWEEP_MAX, sizeof(*swept));
	if (!list || !swept)
		return false;
	for (unsigned i = 0; i < NREQUESTS; i++) {
		struct attack *a = add("%s", requests[i].name, 0, 0);

		set(a, SYS_ioctl, fd_for(requests[i].name), (long)requests[i].request, B(out), 0,
		    0);
		a->may = listed(list, requests[i].name);
	}
	free(list);
	add_options();
	add_commands();
	return true;
}

unsigned attacks_count(void)
{
	return nattacks + nswept;
}

const struct attack *attacks_at(unsigned i)
{
	return i < nattacks ? &attacks[i] : &swept[i - nattacks];
}
