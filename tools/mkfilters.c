/*
 * mkfilters: makes the system call filters of a VM's threads, when bantam is built. libseccomp makes them; the
 * program carries them as plain data and links no library for them.
 *
 *   mkfilters ARCH           prints filters.inc, which vmm/confine/filter.c includes
 *   mkfilters ARCH --list [PARTS]  prints the lines of the lists for each thread: thread, call, conditions, file (tabs),
 *                            and the same in numbers: the call, its conditions ARGUMENT:MASK:VALUE (tests/coverage),
 *                            in a VM that has these parts (the sum of its CALLS_…; else all)
 *
 * Each folder says in a file *.calls, beside the code, what its threads ask of the kernel while a VM runs, and
 * when it ends:
 *
 *   CALL(LOOP | IO, fdatasync)                        these threads may make this call
 *   CALL_IF(LOOP, socket, IS(0, AF_UNIX), IS(1, …))   if all these arguments are so; several lines: any of them
 *   IOCTL(WORKER, BLKDISCARD)                         this request of ioctl
 *   CALL(LOOP | IO | NET | VSOCK, connect)            only in a VM with a card or a vsock
 *   REFUSE(EXECUTOR, ptrace), REFUSE_IF(…)            of a kind that may make all calls but those that are refused
 *
 * IS(n, value) compares the lower 32 bits, which is what the kernel takes of an int; BITS(n, mask, value) masks
 * more. PID is the process itself, which filter.c puts in its place.
 */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/confine/filter_table.h"
#include "vmm/confine/list_words.h"

#define INT_MASK 0xffffffffull
#define IS(n, value)                                                                               \
	{                                                                                          \
		n, SCMP_CMP_MASKED_EQ, INT_MASK, (uint32_t)(value)                                 \
	}
#define BITS(n, mask, value)                                                                       \
	{                                                                                          \
		n, SCMP_CMP_MASKED_EQ, (uint64_t)(mask), (uint64_t)(value)                         \
	}
#define PID FILTER_PID

#define MAX_ARGS 4
#define MAX_INSN 60000u

struct rule {
	unsigned threads;
	int refused;
	const char *call, *text, *file; /* text: the conditions, or the request of an ioctl */
	struct scmp_arg_cmp arg[MAX_ARGS + 1]; /* the first without op ends them */
};

#define CALL(threads, call) { threads, 0, #call, "", __FILE__, { { 0 } } },
#define CALL_IF(threads, call, ...) { threads, 0, #call, #__VA_ARGS__, __FILE__, { __VA_ARGS__ } },
#define IOCTL(threads, request) { threads, 0, "ioctl", #request, __FILE__, { IS(1, request) } },
#define REFUSE(threads, call) { threads, 1, #call, "", __FILE__, { { 0 } } },
#define REFUSE_IF(threads, call, ...)                                                              \
	{ threads, 1, #call, #__VA_ARGS__, __FILE__, { __VA_ARGS__ } },

static const struct rule rules[] = {
#include "calls.inc"
};
#define NRULES (sizeof(rules) / sizeof(rules[0]))

static const struct {
	unsigned kind;
	const char *name;
} kinds[] = { { THREAD_VCPU, "vcpu" },
	      { THREAD_LOOP, "loop" },
	      { THREAD_IO, "io" },
	      { THREAD_WORKER, "worker" },
	      { THREAD_PROCESS, "signals" },
	      { THREAD_TEST, "test" },
	      { THREAD_MACHINE, "machine" },
	      { THREAD_API, "api" },
	      { THREAD_EXECUTOR, "executor" } };
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Newer processors have only the second one, which the C library then uses. */
static const char *const renamed[][2] = {
	{ "epoll_wait", "epoll_pwait" }, { "poll", "ppoll" },	   { "unlink", "unlinkat" },
	{ "readlink", "readlinkat" },	 { "getpgrp", "getpgid" }, { "lstat", "newfstatat" },
	{ "rename", "renameat" },
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "mkfilters: ");
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	exit(1);
}

static int number_of(uint32_t arch, const char *call)
{
	int n = seccomp_syscall_resolve_name_arch(arch, call);

	for (size_t i = 0; n < 0 && i < sizeof(renamed) / sizeof(renamed[0]); i++)
		if (!strcmp(renamed[i][0], call))
			n = seccomp_syscall_resolve_name_arch(arch, renamed[i][1]);
	if (n < 0)
		die("%s: no such call", call);
	return n;
}

/* The first line of a call that is allowed without a condition is the only one that counts. */
static unsigned nargs(const struct rule *r)
{
	unsigned n = 0;

	while (r->arg[n].op)
		n++;
	return n;
}

static int is_free(unsigned kind, unsigned parts, const char *call)
{
	for (size_t i = 0; i < NRULES; i++)
		if (list_has(rules[i].threads, kind, parts) && !nargs(&rules[i]) &&
		    !strcmp(rules[i].call, call))
			return 1;
	return 0;
}

static int is_refused(unsigned kind)
{
	int refuses = 0;

	for (size_t i = 0; i < NRULES; i++)
		refuses |= rules[i].threads & 1u << kind && rules[i].refused;
	return refuses;
}

static scmp_filter_ctx make(uint32_t arch, unsigned kind, unsigned parts)
{
	/* A kind's lines are all of one sort: what it may do, or what it may not. */
	int refuses = is_refused(kind);
	uint32_t listed = refuses ? SCMP_ACT_TRAP : SCMP_ACT_ALLOW;
	scmp_filter_ctx f = seccomp_init(refuses ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);

	if (!f)
		die("no memory");
	if (arch != seccomp_arch_native() &&
	    (seccomp_arch_remove(f, SCMP_ARCH_NATIVE) || seccomp_arch_add(f, arch)))
		die("libseccomp does not know this processor");
	/* Calls of another ABI end the process at once: no thread makes one. */
	if (seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) ||
	    seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2))
		die("libseccomp is too old: 2.5 is needed");
	for (size_t i = 0; i < NRULES; i++) {
		const struct rule *r = &rules[i];
		int rc;

		if (!list_has(r->threads, kind, parts) ||
		    (nargs(r) && is_free(kind, parts, r->call)))
			continue;
		if (r->refused != refuses)
			die("%s: %s: a kind of thread has calls that it may make and others that it may not",
			    r->file, r->call);
		rc = seccomp_rule_add_array(f, listed, number_of(arch, r->call), nargs(r), r->arg);
		if (rc && rc != -EEXIST)
			die("%s: %s: %s", r->file, r->call, strerror(-rc));
	}
	return f;
}

/* Adds the filter to those that are there. */
static struct filter add_filter(struct sock_filter *all, unsigned *n, scmp_filter_ctx f)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	struct filter out = { .first = (uint16_t)*n };

	if (fd < 0 || seccomp_export_bpf(f, fd) || lseek(fd, 0, SEEK_SET))
		die("cannot export the filter");
	while (*n < MAX_INSN && read(fd, &all[*n], sizeof(all[0])) == sizeof(all[0]))
		++*n;
	if (*n == MAX_INSN)
		die("the filters are too long");
	close(fd);
	seccomp_release(f);
	out.len = (uint16_t)(*n - out.first);
	return out;
}

/* Two VMs may need the same filter. */
static struct filter share(const struct sock_filter *all, unsigned *n, const struct filter *made,
			   unsigned nmade, struct filter f)
{
	for (unsigned i = 0; i < nmade; i++) {
		if (made[i].len != f.len ||
		    memcmp(all + made[i].first, all + f.first, f.len * sizeof(all[0])) != 0)
			continue;
		*n = f.first;
		return made[i];
	}
	return f;
}

static void print_all(uint32_t arch)
{
	static struct sock_filter all[MAX_INSN];
	struct filter made[NKINDS][CALLS_ALL + 1];
	unsigned n = 0;

	printf("/* Made by tools/mkfilters of the files *.calls. */\n");
	for (size_t i = 0; i < NKINDS; i++) {
		unsigned kind = kinds[i].kind, nmade = 0;

		for (unsigned parts = 0; parts <= CALLS_ALL; parts++) {
			unsigned of = list_varies(kind) ? parts : CALLS_ALL;
			struct filter f = add_filter(all, &n, make(arch, kind, of));

			made[i][parts] = share(all, &n, made[i], nmade, f);
			nmade++;
		}
	}
	printf("static const struct sock_filter filter_insn[] = {\n");
	for (unsigned i = 0; i < n; i++)
		printf("\t{ %#x, %u, %u, %#x },\n", all[i].code, all[i].jt, all[i].jf, all[i].k);
	printf("};\n\n/* By kind of thread and CALLS_... */\n");
	printf("static const struct filter filters[][%d] = {\n", CALLS_ALL + 1);
	for (size_t i = 0; i < NKINDS; i++) {
		printf("\t[%u] = {", kinds[i].kind);
		for (unsigned parts = 0; parts <= CALLS_ALL; parts++)
			printf(" { %u, %u },", made[i][parts].first, made[i][parts].len);
		printf(" }, /* %s */\n", kinds[i].name);
	}
	printf("};\n");
}

/* Behind a line, in numbers. A process's own number is none that is known here: no condition. */
static void print_numbers(uint32_t arch, const struct rule *r)
{
	printf("\t%d\t", number_of(arch, r->call));
	for (unsigned i = 0, n = 0; i < nargs(r); i++)
		if (r->arg[i].datum_b != PID)
			printf("%s%u:%#llx:%#llx", n++ ? "," : "", r->arg[i].arg,
			       (unsigned long long)r->arg[i].datum_a,
			       (unsigned long long)r->arg[i].datum_b);
	putchar('\n');
}

static void print_list(uint32_t arch, unsigned parts)
{
	for (size_t k = 0; k < NKINDS; k++)
		for (size_t i = 0; i < NRULES; i++)
			if (!rules[i].refused &&
			    list_has(rules[i].threads, kinds[k].kind,
				     list_varies(kinds[k].kind) ? parts : CALLS_ALL)) {
				printf("%s\t%s\t%s\t%s", kinds[k].name, rules[i].call,
				       rules[i].text, rules[i].file);
				print_numbers(arch, &rules[i]);
			}
}

int main(int argc, char **argv)
{
	uint32_t arch = argc > 1 ? seccomp_arch_resolve_name(argv[1]) : 0;

	if (!arch)
		die("usage: mkfilters ARCH [--list [PARTS]]");
	if (argc > 2)
		print_list(arch, argc > 3 ? (unsigned)atoi(argv[3]) : CALLS_ALL);
	else
		print_all(arch);
	return ferror(stdout) || fclose(stdout);
}
