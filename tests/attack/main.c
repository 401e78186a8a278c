/*
 * attack: what an attacker can do who runs code of his own in a VM's process or in a helper.
 *
 *	attack BUILD [--table]	BUILD: the folder of the programs
 *
 * Theory of operation. Each thread of a running VM is stopped by ptrace, and makes the calls of a table (attacks.c), with a
 * syscall instruction and registers, as code of the attacker would. A refused one gets SIGSYS, which the test
 * takes away, so the same process makes all of them. Helpers whose filter kills are forked by the same
 * means, right before they load it: each call has a process of its own. The same calls work in a process that has given up
 * nothing, so none is refused for wrong arguments. After each program the host is looked at.
 *
 * This is done as root and as a plain user, where the host permits namespaces and where it does not. Prints TAP lines, and
 * a line for each cell that fails: call, thread, user, namespaces. Root only: what is not dumpable can be traced by root.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attack/attacks.h"
#include "tests/attack/early.h"
#include "tests/attack/host.h"
#include "tests/attack/ring.h"
#include "tests/attack/traced.h"

#define THREADS_MAX 32
#define LEAST_THREADS 5 /* of a VM, with one of each kind */
#define LIMIT_S 300
#define PLAIN_USER 65534
#define FDS 400
/* The name under which bantam runs here: tests/coverage does not count what its threads are made to do. */
#define ATTACKED "attacked"
/* The kinds of threads of bantam run. */
#define OF_A_VM (VCPU | LOOP | IO | WORKER | SIGNALS | MACHINE)

static const struct situation situations[] = {
	{ "root", 0 },
	{ "plain user", PLAIN_USER },
	{ "root, no namespaces", 0, .container = true },
	{ "plain user, no namespaces", PLAIN_USER, .container = true },
	{ "root, --uid", 0, .become = PLAIN_USER - 1 },
	{ "root, no Landlock", 0, .old = true },
	{ "plain user, no Landlock", PLAIN_USER, .old = true },
};

static const struct situation unconfined = { "no confinement", 0, .off = true };

static struct {
	char build[PATH_MAX], folder[PATH_MAX];
	bool table;
	unsigned passed, failed;
	char cell[200]; /* what is being tried */
	/* Threads that have been seen at their filter. */
	pid_t seen[THREADS_MAX];
	unsigned nseen;
	bool forbids_processes; /* it was about to; its forks do */
	unsigned tried;		/* targets */
	pid_t early;		/* this process is attacked when it opens its first file; 0: none */
} test;

static void result(bool ok, const char *text)
{
	printf("%sok - %s\n", ok ? "" : "not ", text);
	test.passed += ok;
	test.failed += !ok;
}

static void on_alarm(int sig)
{
	dprintf(STDOUT_FILENO, "not ok - no end: %s\n", test.cell);
	_exit(1);
}

/* --- one target ----------------------------------------------------------------------------- */

/* Its descriptors: the last of each kind. */
static void look_at_fds(pid_t pid, struct facts *f)
{
	f->any = f->socket = f->vm = f->vcpu = f->tun = f->event = f->proc = -1;
	for (int fd = 0; fd < FDS; fd++) {
		char path[64], to[200];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			continue;
		to[n] = 0;
		f->any = fd;
		if (!strncmp(to, "socket:", 7))
			f->socket = fd;
		if (strstr(to, "kvm-vm"))
			f->vm = fd;
		if (strstr(to, "kvm-vcpu"))
			f->vcpu = fd;
		if (strstr(to, "/tun"))
			f->tun = fd;
		if (!strncmp(to, "/proc/", 6))
			f->proc = fd;
		if (strstr(to, "eventfd"))
			f->event = fd;
	}
	if (f->event < 0)
		f->event = f->any;
}

static void begin_target(struct facts *f, pid_t pid)
{
	memset(f, 0, sizeof(*f));
	host_facts(f);
	f->self = pid;
	look_at_fds(pid, f);
}

static bool may(const struct attack *a, unsigned target, const struct situation *s)
{
	return (a->may | (s->container || s->host_root ? a->without : 0) | (s->old ? a->old : 0)) &
	       target;
}

/* Returns true if the call was refused. */
static bool judge(const struct attack *a, unsigned target, const struct outcome *o,
		  const struct situation *s)
{
	char text[40];
	bool ok = attack_refused(o);

	if (test.table)
		printf("# %-45s %-16s %-26s %s\n", a->what, attack_target_name(target), s->name,
		       attack_text(o, text));
	if (!ok)
		printf("# OPEN: %s: %s, %s: %s\n", a->what, attack_target_name(target), s->name,
		       attack_text(o, text));
	return ok;
}

static void now_at(const struct attack *a, unsigned target, const struct situation *s)
{
	snprintf(test.cell, sizeof(test.cell), "%s: %s, %s", a->what, attack_target_name(target),
		 s->name);
}

static void tell(unsigned target, const struct situation *s, unsigned calls, unsigned open)
{
	char text[200];

	test.tried |= target;
	snprintf(text, sizeof(text), "%s, %s: %u of %u calls refused", attack_target_name(target),
		 s->name, calls - open, calls);
	result(!open && calls, text);
}

/* What depends on the filter alone is tried in two of the situations, which have each property once. */
static bool asks_filters(const struct situation *s)
{
	return !s->old && !s->become && !s->uid == !s->container;
}

static unsigned number_of(const struct situation *s)
{
	return asks_filters(s) ? attacks_count() : nattacks;
}

static void attack_ring(const struct victim *v, unsigned target, const struct situation *s)
{
	struct ring_outcome o;
	char text[200];

	snprintf(test.cell, sizeof(test.cell), "a ring: %s", s->name);
	if (!ring_attack(v, &o)) {
		printf("ok - %s, %s: a disk's ring # skip this host has none\n",
		       attack_target_name(target), s->name);
		return;
	}
	snprintf(text, sizeof(text), "%s, %s: %u of %u operations of a disk's ring refused%s",
		 attack_target_name(target), s->name, o.refused, o.tried,
		 o.works ? "" : ", and the disk cannot be read");
	result(o.works && o.tried && o.refused == o.tried, text);
}

/* All calls of a thread that lives on. */
static void attack_thread(pid_t pid, pid_t tid, unsigned target, const struct situation *s)
{
	struct victim v = { 0 };
	struct facts f;
	unsigned calls = 0, open = 0;

	begin_target(&f, pid);
	if (!inject_begin(&v, tid)) {
		result(false, "no system call is in reach of a thread");
		return;
	}
	for (unsigned i = 0; i < number_of(s); i++) {
		const struct attack *a = attacks_at(i);
		struct outcome o;

		if (a->flags & FATAL || may(a, target, s))
			continue;
		now_at(a, target, s);
		o = attack_make(a, &v, &f);
		open += !judge(a, target, &o, s);
		calls++;
		if (o.verdict == INJECT_DIED || o.verdict == INJECT_EXEC)
			break;
	}
	tell(target, s, calls, open);
	if (target == LOOP)
		attack_ring(&v, target, s);
}

/*
 * The calls of a helper that is about to load its filter, by forks of it that load it. One that is killed is followed by
 * another. What only its filter decides is the same in each situation, so that is tried in one if each call kills.
 */
static void attack_helper(pid_t tid, unsigned target, const struct situation *s)
{
	struct victim template = { 0 }, child = { 0 };
	unsigned calls = 0, open = 0;
	struct facts f;

	begin_target(&f, tid);
	if (!inject_begin(&template, tid)) {
		result(false, "a helper cannot be forked");
		return;
	}
	for (unsigned i = 0; i < number_of(s); i++) {
		const struct attack *a = attacks_at(i);
		struct outcome o;

		if (may(a, target, s))
			continue;
		if (i >= nattacks && !child.tid && s != situations)
			break;
		now_at(a, target, s);
		if (!child.tid && !inject_fork(&template, test.forbids_processes, &child)) {
			result(false, "a helper cannot be forked");
			break;
		}
		f.self = child.tid;
		o = attack_make(a, &child, &f);
		open += !judge(a, target, &o, s);
		calls++;
		if (o.verdict == INJECT_DIED)
			child.tid = 0;
	}
	if (child.tid)
		inject_kill(child.tid);
	inject_again(&template);
	tell(target, s, calls, open);
}

static unsigned helper_of(pid_t tid)
{
	char program[64], above[64];

	traced_program(tid, program);
	traced_program(traced_parent(tid), above);
	return !strcmp(program, "bantam-net-user") ? !strcmp(above, program) ? READER : NET :
	       !strcmp(program, "bantam-fs")	   ? FS :
	       !strcmp(program, "bantam-image")	   ? IMAGE :
	       !strcmp(program, "bantam-seed")	   ? SEED :
						     0;
}

/* The first thread of a VM, as it is about to read what another may have written. */
static bool attack_early(pid_t tid, const struct situation *s)
{
	struct early_outcome o;
	struct facts f;
	char text[200];

	test.early = 0;
	begin_target(&f, tid);
	snprintf(test.cell, sizeof(test.cell), "before the first foreign byte: %s", s->name);
	if (!early_attack(tid, test.folder, f.other, s->off ? NULL : s->name, &o)) {
		result(false, test.cell);
		return true;
	}
	if (s->off)
		snprintf(text, sizeof(text),
			 "before the first foreign byte, %s: %u of %u calls work", s->name, o.works,
			 o.could);
	else
		snprintf(text, sizeof(text),
			 "before the first foreign byte, %s: %u of %u calls refused", s->name,
			 o.refused, o.tried);
	result(o.tried && (s->off ? o.works == o.could : o.refused == o.tried), text);
	return true;
}

/*
 * Before a thread loads its filter, or forbids itself more processes: that is put off, since the test forks it. A look at
 * what the kernel knows of filters has none.
 */
static bool at_call(pid_t tid, void *opaque)
{
	unsigned target = helper_of(tid);
	struct user_regs_struct regs;

	if (tid == test.early && !ptrace(PTRACE_GETREGS, tid, 0, &regs) &&
	    regs.orig_rax == SYS_openat)
		return attack_early(tid, opaque);
	if (!target || ptrace(PTRACE_GETREGS, tid, 0, &regs) || !regs.rdx)
		return false;
	if (regs.orig_rax == SYS_openat)
		return false;
	if (regs.orig_rax == SYS_prlimit64) {
		regs.orig_rax = ~0ull;
		regs.rax = 0;
		test.forbids_processes = !ptrace(PTRACE_SETREGS, tid, 0, &regs);
		return false;
	}
	for (unsigned i = 0; i < test.nseen; i++)
		if (test.seen[i] == tid)
			return false;
	if (test.nseen < THREADS_MAX)
		test.seen[test.nseen++] = tid;
	attack_helper(tid, target, opaque);
	test.forbids_processes = false;
	return true;
}

/* --- programs ------------------------------------------------------------------------------- */

static unsigned kind_of(pid_t pid, pid_t tid, unsigned first)
{
	char name[32];
	size_t len;

	traced_name(tid, name);
	len = strlen(name);
	if (tid == pid)
		return first;
	if (!strncmp(name, "vcpu", 4))
		return VCPU;
	if (!strcmp(name, "loop"))
		return LOOP;
	if (!strcmp(name, "machine") || !strcmp(name, "daemons"))
		return MACHINE;
	if (!strcmp(name, "vm") || !strcmp(name, "console") || !strcmp(name, "digest"))
		return EXECUTOR;
	if (!strcmp(name, "signals"))
		return SIGNALS;
	if (len > 3 && !strcmp(name + len - 3, "_q0"))
		return IO;
	return strstr(name, "_aio") || strstr(name, "_worker") ? WORKER : 0;
}

static void end(struct traced *t, const struct situation *s, const char *program)
{
	char text[200];

	snprintf(text, sizeof(text), "%s, %s", program, s->name);
	if (host_unharmed(text))
		result(true, strcat(text, ": the host is unharmed"));
	else
		test.failed++;
	host_end_other();
	snprintf(text, sizeof(text), "%s, %s: no process is left", program, s->name);
	result(traced_end(t), text);
}

static bool begin(struct traced *t, const struct situation *s, char *const argv[], const char *text,
		  unsigned helpers)
{
	test.nseen = 0;
	if (!host_start_other(s->become ? s->become : s->uid) || !traced_start(t, s, argv)) {
		result(false, "a program cannot be traced");
		return false;
	}
	t->least = text ? LEAST_THREADS : 0;
	t->executor = s->host_root;
	if (traced_run(t, text, helpers, at_call, (void *)s))
		return true;
	result(false, "a program does not run, or a helper of it");
	printf("# %s\n", t->text);
	return false;
}

/* Words of a command line; they stay. */
#define WORDS_MAX 48

struct words {
	char *word[WORDS_MAX + 1];
	unsigned n;
};

__attribute__((format(printf, 2, 3))) static void add(struct words *w, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (w->n == WORDS_MAX || vasprintf(&w->word[w->n++], format, ap) < 0)
		abort();
	va_end(ap);
}

static void add_option(struct words *w, const char *key, const char *value)
{
	add(w, "%s", key);
	add(w, "%s", value);
}

static void vm_words(struct words *w, const struct situation *s, bool all)
{
	add(w, "%s/" ATTACKED, test.folder);
	add(w, "run");
	add(w, "--kernel");
	add(w, "%s/guest/idle.elf", test.build);
	add_option(w, "--memory", "64M");
	add_option(w, "--cpus", "2");
	add_option(w, "--serial", "stdio");
	add_option(w, "--confine", s->off ? "off" : s->container || s->old ? "on" : "require");
	add(w, "--disk");
	add(w, "path=%s/vm/disk,engine=threads,iothread=on", test.folder);
	add(w, "--disk");
	add(w, "path=%s/vm/disk.qcow2", test.folder);
	if (s->become) {
		add(w, "--uid");
		add(w, "%d", s->become);
	}
	if (!all)
		return;
	add_option(w, "--net", "user");
	add(w, "--vsock");
	add(w, "cid=3,socket=%s/vm/vsock.%d", test.folder, (int)(s - situations));
	add(w, "--port");
	add(w, "name=a,pty,link=%s/vm/link.%d", test.folder, (int)(s - situations));
	add(w, "--console");
	add(w, "file=%s/vm/console.%d", test.folder, (int)(s - situations));
	add(w, "--rng");
	add_option(w, "--balloon", "4M");
	if (!s->container && !s->old && !s->uid && !s->become)
		add_option(w, "--net", "tap=attack0");
}

/* A VM that is attacked before it is one; it runs all the same. */
static void attack_vm_early(const struct situation *s)
{
	struct words w = { 0 };
	struct traced t;

	vm_words(&w, s, false);
	test.nseen = 0;
	if (!host_start_other(s->become ? s->become : s->uid) || !traced_start(&t, s, w.word)) {
		result(false, "a program cannot be traced");
		return;
	}
	test.early = t.pid;
	if (!traced_run(&t, "idle", 1, at_call, (void *)s)) {
		result(false, "a VM does not run after an attack that was refused");
		printf("# %s\n", t.text);
	}
	end(&t, s, "a VM, attacked early");
}

/* Stops the VM; returns the number of its threads. */
static unsigned vm_begin(struct traced *t, const struct situation *s, bool all,
			 pid_t tid[THREADS_MAX])
{
	struct words w = { 0 };

	vm_words(&w, s, all);
	return begin(t, s, w.word, "idle", all ? 2 : 0) ? traced_stop(t, tid, THREADS_MAX) : 0;
}

/* first: the kind of the process's first thread; want: the kinds that it has. */
static void attack_threads(struct traced *t, const struct situation *s, const pid_t *tid,
			   unsigned n, unsigned first, unsigned want)
{
	unsigned kinds = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned kind = kind_of(t->pid, tid[i], first);
		char comm[32];

		traced_name(tid[i], comm);
		if (!kind)
			printf("# thread %s\n", comm);
		if (!kind)
			result(false, "a thread of a kind that the test does not know");
		else if (kind != EXECUTOR && (kind == VCPU || !(kinds & kind)))
			attack_thread(t->pid, tid[i], kind, s);
		kinds |= kind;
	}
	result(kinds == want, "there are threads of all kinds");
}

static void attack_vm(const struct situation *s, bool all)
{
	pid_t tid[THREADS_MAX];
	struct traced t;
	unsigned n = vm_begin(&t, s, all, tid);

	if (n)
		attack_threads(&t, s, tid, n, VCPU, OF_A_VM);
	end(&t, s, all ? "a VM with all devices" : "a VM with disks");
}

/* bantam test, while its command runs; at the end it would write a report. */
static void attack_test(const struct situation *s)
{
	pid_t tid[THREADS_MAX];
	struct words w = { 0 };
	struct traced t;

	add(&w, "%s/" ATTACKED, test.folder);
	add_option(&w, "test", "--kernel");
	add(&w, "%s/guest/agent.elf", test.build);
	add_option(&w, "--memory", "64M");
	add_option(&w, "--confine", s->container || s->old ? "on" : "require");
	add_option(&w, "--cmdline", "do run sleep=60000");
	add(&w, "--disk");
	add(&w, "path=%s/vm/disk,engine=threads,iothread=on", test.folder);
	add(&w, "--disk");
	add(&w, "path=%s/vm/disk.qcow2", test.folder);
	add(&w, "--tap");
	add(&w, "%s/vm/tap.%d", test.folder, (int)(s - situations));
	add_option(&w, "--", "x");
	if (begin(&t, s, w.word, "", 0))
		attack_threads(&t, s, tid, traced_stop(&t, tid, THREADS_MAX), TEST,
			       TEST | VCPU | LOOP | IO | WORKER | MACHINE);
	end(&t, s, "bantam test");
}

/*
 * With the API the process has the host's root and network, since it opens what clients name. The threads that do that are
 * not attacked: their filter refuses what harms other processes and the kernel, but they open files.
 */
static void attack_api(const struct situation *s)
{
	struct situation api = *s;
	pid_t tid[THREADS_MAX];
	struct words w = { 0 };
	struct traced t;

	api.host_root = true;
	vm_words(&w, s, true);
	add(&w, "--api-socket");
	add(&w, "%s/vm/api.%d", test.folder, (int)(s - situations));
	if (begin(&t, &api, w.word, "idle", 2))
		attack_threads(&t, &api, tid, traced_stop(&t, tid, THREADS_MAX), API,
			       API | EXECUTOR | VCPU | LOOP | IO | WORKER | MACHINE);
	end(&t, s, "a VM with the API");
}

/* The calls that kill, each in a VM of its own. */
static void attack_vm_fatally(const struct situation *s, const struct attack *a, unsigned kind)
{
	pid_t tid[THREADS_MAX];
	struct traced t;
	unsigned n = vm_begin(&t, s, false, tid), tried = 0;

	for (unsigned i = 0; i < n && !tried; i++) {
		struct victim v = { .threads = tid, .nthreads = n };
		struct outcome o;
		struct facts f;

		if (kind_of(t.pid, tid[i], VCPU) != kind)
			continue;
		begin_target(&f, t.pid);
		now_at(a, kind, s);
		if (!inject_begin(&v, tid[i]))
			continue;
		o = attack_make(a, &v, &f);
		tried++;
		result(judge(a, kind, &o, s), test.cell);
	}
	if (!tried)
		result(false, test.cell);
	end(&t, s, a->what);
}

static void attack_tool(const struct situation *s, const struct words *w)
{
	struct traced t;

	(void)begin(&t, s, w->word, NULL, 1);
	end(&t, s, w->word[0] + strlen(test.build) + 1);
}

static void attack_tools(const struct situation *s)
{
	struct words fs = { 0 }, image = { 0 }, seed = { 0 };

	add(&fs, "%s/bantam-fs", test.build);
	add(&fs, "ls");
	add(&fs, "%s/tools/disk.qcow2", test.folder);
	attack_tool(s, &fs);
	add(&image, "%s/bantam-image", test.build);
	add(&image, "convert");
	add(&image, "%s/tools/disk.qcow2", test.folder);
	add(&image, "%s/tools/copy.%d", test.folder, (int)(s - situations));
	attack_tool(s, &image);
	add(&seed, "%s/bantam-seed", test.build);
	add_option(&seed, "fat", "-o");
	add(&seed, "%s/tools/seed.%d", test.folder, (int)(s - situations));
	add(&seed, "%s/tools/seed", test.folder);
	attack_tool(s, &seed);
}

/* What is refused above works where nothing has been given up. */
static void attack_control(void)
{
	const struct situation s = { "no confinement" };
	unsigned calls = 0, open = 0;
	struct facts f;

	host_start_other(0);
	for (unsigned i = 0; i < attacks_count(); i++) {
		const struct attack *a = attacks_at(i);
		struct victim v = { 0 };
		struct outcome o;
		pid_t pid;

		if (!(a->flags & WORKS))
			continue;
		pid = traced_control();
		now_at(a, CONTROL, &s);
		begin_target(&f, pid);
		f.socket = f.event = f.any;
		if (!inject_begin(&v, pid)) {
			result(false, "the control process has not stopped behind a system call");
			return;
		}
		o = attack_make(a, &v, &f);
		calls++;
		open += !(o.verdict == INJECT_EXEC ||
			  (o.verdict == INJECT_DONE && !(o.value < 0 && o.value > -4096)));
		if (o.verdict != INJECT_EXEC && (o.value < 0 && o.value > -4096)) {
			char text[40];

			printf("# does not work: %s: %s\n", a->what, attack_text(&o, text));
		}
		inject_kill(pid);
	}
	host_end_other();
	host_forget();
	tell(CONTROL, &s, calls, open);
}

static bool run(const char *script)
{
	char *const argv[] = { "sh", "-c", (char *)script, test.build, NULL };
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		if (!chdir(test.folder))
			execv("/bin/sh", argv);
		_exit(1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static const char images[] =
	"ln -s \"$0/bantam\" " ATTACKED
	" && truncate -s 1M vm/base && truncate -s 1M vm/disk && mkdir tools/seed && echo a >tools/seed/a && "
	"\"$0/bantam-image\" create vm/disk.qcow2 8M >log && truncate -s 8M tools/raw && "
	"mkfs.ext4 -q -F tools/raw && \"$0/bantam-image\" convert tools/raw tools/disk.qcow2 >log && "
	"chmod -R a+rwX vm tools";

int main(int argc, char **argv)
{
	char folder[] = "/tmp/bantam-attack.XXXXXX";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || !realpath(argv[1], test.build)) {
		fprintf(stderr, "usage: attack BUILD [--table]\n");
		return 2;
	}
	test.table = argc > 2 && !strcmp(argv[2], "--table");
	if (geteuid() || access("/dev/kvm", R_OK | W_OK)) {
		printf("ok - attacks # skip not root, or no /dev/kvm\n");
		return 0;
	}
	signal(SIGALRM, on_alarm);
	alarm(LIMIT_S);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!mkdtemp(folder) || !realpath(folder, test.folder) || !host_begin(test.folder) ||
	    !attacks_begin(test.build) || !run(images)) {
		printf("not ok - attacks: the host cannot be made: %s\n", strerror(errno));
		return 1;
	}
	attack_control();
	attack_vm_early(&unconfined);
	for (unsigned i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		const struct situation *s = &situations[i];

		if (!s->old)
			attack_vm_early(s);
		attack_vm(s, true);
		if (!s->become)
			attack_test(s);
		if (!s->old)
			attack_vm(s, false);
		/* The tools' only wall before files is Landlock. */
		if (s->old || s->become)
			continue;
		attack_api(s);
		attack_tools(s);
		for (unsigned k = 0; k < nattacks && asks_filters(s); k++)
			for (unsigned kind = VCPU; attacks[k].flags & FATAL && kind < CONTROL;
			     kind <<= 1)
				if (kind & OF_A_VM)
					attack_vm_fatally(s, &attacks[k], kind);
	}
	result((test.tried | CONTROL | EXECUTOR) == 2 * CONTROL - 1,
	       "all kinds of threads and helpers were there");
	(void)run("umount -l /dev/kvm dev; rm -rf ./* && rmdir \"$PWD\"");
	printf("# attack: %u of %u passed\n", test.passed, test.passed + test.failed);
	return test.failed != 0;
}
