/*
 * mkfilters: makes the system call filters of a VM's threads and of the helper programs, when bantam is built. libseccomp
 * makes them; the programs carry them as plain data, and no program links a library for them.
 *
 *   mkfilters ARCH           prints filters.inc, which vmm/confine/filter.c includes
 *   mkfilters ARCH --list [PARTS]  prints the lines of the lists for each thread: thread, call, conditions, file (tabs),
 *                            and the same in numbers: the call, its conditions ARGUMENT:MASK:VALUE (tests/coverage),
 *                            in a VM that has these parts (the sum of its CALLS_…; else all)
 *   mkfilters ARCH --helpers       prints helper_filters.inc, which tools/giveup/filters.c includes
 *   mkfilters ARCH --list-helpers  prints the lines of the lists for each helper, as --list
 *
 * Each folder says in a file *.calls, beside the code, what its threads ask of the kernel while a VM runs, and
 * when it ends; and what a helper program asks, once it has given up the rest:
 *
 *   CALL(LOOP | IO, fdatasync)                        these threads may make this call
 *   CALL_IF(LOOP, socket, IS(0, AF_UNIX), IS(1, …))   if all these arguments are so; several lines: any of them
 *   IOCTL(WORKER, BLKDISCARD)                         this request of ioctl
 *   CALL(LOOP | IO | NET | VSOCK, connect)            only in a VM with a card or a vsock
 *   REFUSE(EXECUTOR, ptrace), REFUSE_IF(…)            of a kind that may make all calls but those that are refused
 *   OLD(IMAGE, open), OLD_IF(…)                       as CALL; newer processors have no such call
 *   FAIL(IMAGE, clone3, ENOSYS)                       it fails so, and the process lives on
 *
 * IS(n, value) compares the lower 32 bits, which is what the kernel takes of an int; BITS(n, mask, value) masks
 * more; EXACT(n, value) compares all 64. PID is the process itself, whose number vmm/confine/load.c puts in its place.
 */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/giveup/list_words.h"
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
#define EXACT(n, value) BITS(n, UINT64_MAX, value)
#define PID FILTER_PID

#define MAX_ARGS 4
#define MAX_INSN 60000u

/* What a line does with a call. */
enum line { ALLOWED, ALLOWED_OLD, REFUSED, FAILS };

struct rule {
	unsigned threads;
	enum line line;
	int error;			/* FAILS: with this */
	const char *call, *text, *file; /* text: the conditions, or the request of an ioctl */
	struct scmp_arg_cmp arg[MAX_ARGS + 1]; /* the first without op ends them */
};

#define LINE(threads, line, call, text, ...)                                                       \
	{ threads, line, 0, call, text, __FILE__, { __VA_ARGS__ } },
#define CALL(threads, call) LINE(threads, ALLOWED, #call, "", { 0 })
#define CALL_IF(threads, call, ...) LINE(threads, ALLOWED, #call, #__VA_ARGS__, __VA_ARGS__)
#define IOCTL(threads, request) LINE(threads, ALLOWED, "ioctl", #request, IS(1, request))
#define REFUSE(threads, call) LINE(threads, REFUSED, #call, "", { 0 })
#define REFUSE_IF(threads, call, ...) LINE(threads, REFUSED, #call, #__VA_ARGS__, __VA_ARGS__)
#define OLD(threads, call) LINE(threads, ALLOWED_OLD, #call, "", { 0 })
#define OLD_IF(threads, call, ...) LINE(threads, ALLOWED_OLD, #call, #__VA_ARGS__, __VA_ARGS__)
#define FAIL(threads, call, error) { threads, FAILS, error, #call, #error, __FILE__, { { 0 } } },

static const struct rule vm_rules[] = {
#include "calls.inc"
};
static const struct rule helper_rules[] = {
#include "helper_calls.inc"
};

struct kind {
	unsigned kind; /* its bit in the lines */
	const char *name;
};

static const struct kind kinds[] = { { THREAD_VCPU, "vcpu" },
				     { THREAD_LOOP, "loop" },
				     { THREAD_IO, "io" },
				     { THREAD_WORKER, "worker" },
				     { THREAD_PROCESS, "signals" },
				     { THREAD_TEST, "test" },
				     { THREAD_MACHINE, "machine" },
				     { THREAD_API, "api" },
				     { THREAD_EXECUTOR, "executor" } };
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

/* By their names giveup.h names the filters. */
static const struct kind helpers[] = {
	{ 0, "net_user" },    { 1, "net_names" },     { 2, "fs_reader" }, { 3, "image_looks" },
	{ 4, "image_makes" }, { 5, "image_changes" }, { 6, "seed" },
};
#define NHELPERS (sizeof(helpers) / sizeof(helpers[0]))

/* The lists that are read: a VM's, or the helpers'. */
static const struct rule *rules = vm_rules;
static size_t nrules = sizeof(vm_rules) / sizeof(vm_rules[0]);

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

/* Returns -1 if this processor has no such call, and need not have it. */
static int number_of(uint32_t arch, const struct rule *r)
{
	int n = seccomp_syscall_resolve_name_arch(arch, r->call);

	if (n < 0 && n != __NR_SCMP_ERROR && (r->line == ALLOWED_OLD || r->line == FAILS))
		return -1;
	for (size_t i = 0; n < 0 && i < sizeof(renamed) / sizeof(renamed[0]); i++)
		if (!strcmp(renamed[i][0], r->call))
			n = seccomp_syscall_resolve_name_arch(arch, renamed[i][1]);
	if (n < 0)
		die("%s: %s: no such call", r->file, r->call);
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
	for (size_t i = 0; i < nrules; i++)
		if (list_has(rules[i].threads, kind, parts) && !nargs(&rules[i]) &&
		    rules[i].line != FAILS && !strcmp(rules[i].call, call))
			return 1;
	return 0;
}

/* A call that fails in one line may not be allowed in another. */
static void check_one_meaning(unsigned kind, unsigned parts, const struct rule *r)
{
	for (size_t i = 0; r->line == FAILS && i < nrules; i++)
		if (&rules[i] != r && list_has(rules[i].threads, kind, parts) &&
		    !strcmp(rules[i].call, r->call) &&
		    (rules[i].line != FAILS || rules[i].error != r->error))
			die("%s: %s: fails, and does not, in %s", r->file, r->call, rules[i].file);
}

static int is_refused(unsigned kind)
{
	int refuses = 0;

	for (size_t i = 0; i < nrules; i++)
		refuses |= rules[i].threads & 1u << kind && rules[i].line == REFUSED;
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
	for (size_t i = 0; i < nrules; i++) {
		const struct rule *r = &rules[i];
		int rc, nr;

		if (!list_has(r->threads, kind, parts) ||
		    (nargs(r) && is_free(kind, parts, r->call)))
			continue;
		if ((r->line == REFUSED) != refuses)
			die("%s: %s: a kind of thread has calls that it may make and others that it may not",
			    r->file, r->call);
		check_one_meaning(kind, parts, r);
		nr = number_of(arch, r);
		if (nr < 0)
			continue;
		rc = seccomp_rule_add_array(f,
					    r->line == FAILS ? SCMP_ACT_ERRNO((uint16_t)r->error) :
							       listed,
					    nr, nargs(r), r->arg);
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

static void print_insn(const struct sock_filter *all, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		printf("\t{ %#x, %u, %u, %#x },\n", all[i].code, all[i].jt, all[i].jf, all[i].k);
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
			unsigned of = list_parts(kind, parts);
			struct filter f = add_filter(all, &n, make(arch, kind, of));

			made[i][parts] = share(all, &n, made[i], nmade, f);
			nmade++;
		}
	}
	printf("static const struct sock_filter filter_insn[] = {\n");
	print_insn(all, n);
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

static void print_helpers(uint32_t arch)
{
	static struct sock_filter all[MAX_INSN];

	printf("/* Made by tools/mkfilters of the helper programs' lists, *.calls. */\n");
	printf("#define HELPER_ARCH %#xu\n", arch);
	for (size_t i = 0; i < NHELPERS; i++) {
		unsigned n = 0;

		add_filter(all, &n, make(arch, helpers[i].kind, 0));
		printf("\nconst struct giveup_filter giveup_%s = {\n\t%u,\n\t{\n", helpers[i].name,
		       n);
		print_insn(all, n);
		printf("\t}\n};\n");
	}
}

/* Behind a line, in numbers. A process's own number is none that is known here: no condition. */
static void print_numbers(uint32_t arch, const struct rule *r)
{
	printf("\t%d\t", number_of(arch, r));
	for (unsigned i = 0, n = 0; i < nargs(r); i++)
		if (r->arg[i].datum_b != PID)
			printf("%s%u:%#llx:%#llx", n++ ? "," : "", r->arg[i].arg,
			       (unsigned long long)r->arg[i].datum_a,
			       (unsigned long long)r->arg[i].datum_b);
	putchar('\n');
}

static void print_list(uint32_t arch, const struct kind *of, size_t n, unsigned parts)
{
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < nrules; i++)
			if (rules[i].line != REFUSED && rules[i].line != FAILS &&
			    list_has(rules[i].threads, of[k].kind, list_parts(of[k].kind, parts))) {
				printf("%s\t%s\t%s\t%s", of[k].name, rules[i].call, rules[i].text,
				       rules[i].file);
				print_numbers(arch, &rules[i]);
			}
}

int main(int argc, char **argv)
{
	uint32_t arch = argc > 1 ? seccomp_arch_resolve_name(argv[1]) : 0;
	const char *what = argc > 2 ? argv[2] : "";

	if (!arch)
		die("usage: mkfilters ARCH [--list [PARTS] | --helpers | --list-helpers]");
	if (strstr(what, "helpers")) {
		rules = helper_rules;
		nrules = sizeof(helper_rules) / sizeof(helper_rules[0]);
	}
	if (!strcmp(what, "--helpers"))
		print_helpers(arch);
	else if (!strcmp(what, "--list-helpers"))
		print_list(arch, helpers, NHELPERS, 0);
	else if (!strcmp(what, "--list"))
		print_list(arch, kinds, NKINDS, argc > 3 ? (unsigned)atoi(argv[3]) : CALLS_ALL);
	else
		print_all(arch);
	return ferror(stdout) || fclose(stdout);
}
