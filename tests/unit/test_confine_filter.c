/*
 * confine/filter: what is not on a thread's list ends the process, for each kind of thread, by the kernel's
 * judgement; and each line of the lists (*.calls) is in the filter, with its conditions, by an interpreter of the
 * filter's instructions.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine.h"
#include "vmm/confine/filter.h"
#include "vmm/confine/filter_table.h"
#include "vmm/confine/list_words.h"
#include "vmm/core/fd_rw.h"

#include "filters.inc"

TestSuite(confine_filter, .timeout = 120);

static const enum thread_kind kinds[] = { THREAD_VCPU,	  THREAD_LOOP,	  THREAD_IO,
					  THREAD_WORKER,  THREAD_PROCESS, THREAD_TEST,
					  THREAD_MACHINE, THREAD_API };
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))
/* And the kind that may make all calls but those of its list. */
static const enum thread_kind lists[] = { THREAD_VCPU,	 THREAD_LOOP,	 THREAD_IO,
					  THREAD_WORKER, THREAD_PROCESS, THREAD_TEST,
					  THREAD_API,	 THREAD_MACHINE, THREAD_EXECUTOR };
#define NLISTS (sizeof(lists) / sizeof(lists[0]))

/* --- what is refused ------------------------------------------------------------------- */

/* A call that one line of code of an attacker would try. may: the threads for which it is on a list. */
struct attempt {
	const char *what;
	long call;
	long arg[6];
	unsigned may;
};

#define P(x) (long)(x)

static const struct attempt attempts[] = {
	{ "open to read", SYS_openat, { AT_FDCWD, P("/etc/passwd"), O_RDONLY }, 0 },
	{ "open to write", SYS_openat, { AT_FDCWD, P("/dev/null"), O_WRONLY }, 0 },
	{ "open a path only", SYS_openat, { AT_FDCWD, P("/"), O_PATH }, 0 },
	{ "openat2", SYS_openat2, { AT_FDCWD, P("/") }, 0 },
	{ "open_by_handle_at", SYS_open_by_handle_at, { 0 }, 0 },
	{ "stat", SYS_newfstatat, { AT_FDCWD, P("/"), 0, 0 }, 0 },
	{ "lstat",
	  SYS_newfstatat,
	  { AT_FDCWD, P("/"), 0, AT_SYMLINK_NOFOLLOW },
	  TEST | API | MACHINE },
	{ "readlink", SYS_readlink, { P("/nothing") }, MACHINE },
	{ "unlink", SYS_unlink, { P("/nothing") }, TEST | API | MACHINE },
	{ "write", SYS_write, { 2, P(""), 0 }, ALL & ~WORKER },
	{ "cut a file", SYS_ftruncate, { 99, 0 }, MACHINE },
	{ "what a descriptor is", SYS_fstat, { 99, 0 }, TEST | API | MACHINE },
	{ "wait for a child", SYS_wait4, { -1, 0, 1, 0 }, MACHINE },
	{ "end a child", SYS_pidfd_send_signal, { 99, 9, 0, 0 }, MACHINE },
	{ "statx", SYS_statx, { AT_FDCWD, P("/") }, 0 },
	{ "readlinkat", SYS_readlinkat, { AT_FDCWD, P("/") }, 0 },
	{ "getdents", SYS_getdents64, { 0 }, 0 },
	{ "rename", SYS_renameat2, { AT_FDCWD, P("/a"), AT_FDCWD, P("/b") }, 0 },
	{ "link", SYS_linkat, { AT_FDCWD, P("/a"), AT_FDCWD, P("/b") }, 0 },
	{ "mkdir", SYS_mkdirat, { AT_FDCWD, P("/nothing/x") }, 0 },
	{ "chmod", SYS_fchmodat, { AT_FDCWD, P("/nothing/x") }, 0 },
	{ "fchmod", SYS_fchmod, { 99 }, TEST },
	{ "fchmod, set-user-ID", SYS_fchmod, { 99, 04755 }, 0 },
	{ "a TCP socket", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, 0 },
	{ "a UDP socket", SYS_socket, { AF_INET6, SOCK_DGRAM, 0 }, 0 },
	{ "a raw socket", SYS_socket, { AF_INET, SOCK_RAW, 1 }, 0 },
	{ "a packet socket", SYS_socket, { AF_PACKET, SOCK_RAW, 0 }, 0 },
	{ "netlink", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 }, 0 },
	{ "vsock", SYS_socket, { AF_VSOCK, SOCK_STREAM, 0 }, 0 },
	{ "a Unix datagram", SYS_socket, { AF_UNIX, SOCK_DGRAM, 0 }, 0 },
	{ "a Unix stream",
	  SYS_socket,
	  { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0 },
	  MACHINE },
	{ "an odd protocol",
	  SYS_socket,
	  { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 1 },
	  0 },
	{ "socketpair", SYS_socketpair, { AF_UNIX, SOCK_STREAM, 0, 0 }, 0 },
	{ "connect", SYS_connect, { 99, 0, 0 }, MACHINE },
	{ "why a socket failed", SYS_getsockopt, { 99, SOL_SOCKET, SO_ERROR }, 0 },
	{ "another option", SYS_getsockopt, { 99, SOL_SOCKET, SO_PEERCRED }, 0 },
	{ "its errors", SYS_recvmsg, { 99, 0, MSG_ERRQUEUE | MSG_DONTWAIT }, API },
	{ "descriptors", SYS_recvmsg, { 99, 0, MSG_DONTWAIT }, API },
	{ "descriptors to others", SYS_sendmsg, { 99, 0, MSG_DONTWAIT }, MACHINE },
	{ "how it is open", SYS_fcntl, { 99, F_GETFL }, TEST },
	{ "F_SETFD", SYS_fcntl, { 99, F_SETFD, FD_CLOEXEC }, 0 },
	{ "bind", SYS_bind, { 99 }, 0 },
	{ "listen", SYS_listen, { 99 }, 0 },
	{ "exec", SYS_execve, { P("/bin/true"), 0, 0 }, 0 },
	{ "execveat", SYS_execveat, { AT_FDCWD, P("/bin/true"), 0, 0 }, 0 },
	{ "fork", SYS_fork, { 0 }, 0 },
	{ "vfork", SYS_vfork, { 0 }, 0 },
	{ "clone", SYS_clone, { SIGCHLD }, 0 },
	{ "clone3", SYS_clone3, { 0, 0 }, 0 },
	{ "ptrace", SYS_ptrace, { PTRACE_TRACEME }, 0 },
	{ "process_vm_readv", SYS_process_vm_readv, { 1 }, 0 },
	{ "process_vm_writev", SYS_process_vm_writev, { 1 }, 0 },
	{ "pidfd_open", SYS_pidfd_open, { 1 }, 0 },
	{ "pidfd_getfd", SYS_pidfd_getfd, { 99 }, 0 },
	{ "kill another", SYS_kill, { 1, 0 }, 0 },
	{ "kill all", SYS_kill, { -1, 0 }, 0 },
	{ "tgkill another", SYS_tgkill, { 1, 1, 0 }, 0 },
	{ "tkill", SYS_tkill, { 1, 0 }, 0 },
	{ "mprotect to executable", SYS_mprotect, { 0, 0, PROT_READ | PROT_EXEC }, 0 },
	{ "mprotect", SYS_mprotect, { 0, 0, PROT_READ | PROT_WRITE }, 0 },
	{ "pkey_mprotect", SYS_pkey_mprotect, { 0, 0, PROT_EXEC, 0 }, 0 },
	{ "mmap, executable",
	  SYS_mmap,
	  { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 },
	  0 },
	{ "mmap of a file", SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE, 99, 0 }, 0 },
	{ "mmap, shared", SYS_mmap, { 0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0 }, 0 },
	{ "mmap, fixed",
	  SYS_mmap,
	  { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0 },
	  0 },
	{ "mremap, fixed", SYS_mremap, { 0, 0, 0, MREMAP_MAYMOVE | MREMAP_FIXED, 0 }, 0 },
	{ "madvise", SYS_madvise, { 0, 0, MADV_MERGEABLE }, 0 },
	{ "settings of a terminal whose reader has gone", SYS_ioctl, { 99, TCSETSF }, MACHINE },
	{ "the same by glibc 2.42", SYS_ioctl, { 99, TCSETSF2 }, MACHINE },
	{ "a terminal is given back", SYS_ioctl, { 99, TCSETS2 }, ALL },
	{ "memfd_create", SYS_memfd_create, { P("x"), 0 }, 0 },
	{ "userfaultfd", SYS_userfaultfd, { 0 }, 0 },
	{ "io_uring_setup", SYS_io_uring_setup, { 1, 0 }, 0 },
	{ "io_uring_register", SYS_io_uring_register, { 99, IORING_REGISTER_FILES }, 0 },
	{ "io_setup", SYS_io_setup, { 1, 0 }, 0 },
	{ "epoll_create1", SYS_epoll_create1, { 0 }, 0 },
	{ "setns", SYS_setns, { 99, 0 }, 0 },
	{ "unshare", SYS_unshare, { CLONE_NEWUSER }, 0 },
	{ "mount", SYS_mount, { 0 }, 0 },
	{ "fsopen", SYS_fsopen, { 0 }, 0 },
	{ "umount", SYS_umount2, { P("/nothing") }, 0 },
	{ "chroot", SYS_chroot, { P("/nothing") }, 0 },
	{ "pivot_root", SYS_pivot_root, { 0 }, 0 },
	{ "bpf", SYS_bpf, { 0 }, 0 },
	{ "perf_event_open", SYS_perf_event_open, { 0 }, 0 },
	{ "init_module", SYS_init_module, { 0 }, 0 },
	{ "keyctl", SYS_keyctl, { 0 }, 0 },
	{ "prctl", SYS_prctl, { PR_SET_DUMPABLE, 1 }, 0 },
	{ "prctl, a name", SYS_prctl, { PR_SET_NAME, P("x") }, 0 },
	{ "seccomp", SYS_seccomp, { 0 }, 0 },
	{ "setuid", SYS_setuid, { 0 }, 0 },
	{ "capset", SYS_capset, { 0 }, 0 },
	{ "prlimit", SYS_prlimit64, { 0, RLIMIT_NOFILE }, 0 },
	{ "a handler", SYS_rt_sigaction, { SIGWINCH, 1, 0, 8 }, TEST | API | MACHINE },
	{ "an eventfd", SYS_eventfd2, { 0, 0 }, TEST | MACHINE },
	{ "a route of interrupts", SYS_ioctl, { 99, KVM_SET_GSI_ROUTING }, TEST | MACHINE },
	{ "SIGSYS's handler", SYS_rt_sigaction, { SIGSYS, 1, 0, 8 }, 0 },
	{ "SIGSYS's handler, 64 bits", SYS_rt_sigaction, { 1l << 32 | SIGSYS, 1, 0, 8 }, 0 },
	{ "F_SETFL without O_NONBLOCK", SYS_fcntl, { 0, F_SETFL, 0 }, 0 },
	{ "F_DUPFD", SYS_fcntl, { 0, F_DUPFD, 0 }, 0 },
	{ "F_SETOWN", SYS_fcntl, { 0, F_SETOWN, 1 }, 0 },
	{ "dup", SYS_dup, { 99 }, 0 },
	{ "sendfile", SYS_sendfile, { 99 }, 0 },
	{ "splice", SYS_splice, { 99 }, 0 },
	{ "setsockopt", SYS_setsockopt, { 99, SOL_SOCKET, SO_BINDTODEVICE }, 0 },
	{ "discard", SYS_ioctl, { 99, BLKDISCARD }, WORKER | MACHINE },
	{ "TIOCSTI", SYS_ioctl, { 0, TIOCSTI, P("x") }, 0 },
	{ "TIOCLINUX", SYS_ioctl, { 0, TIOCLINUX, P("x") }, 0 },
	{ "FIONBIO", SYS_ioctl, { 99, FIONBIO }, 0 },
	{ "KVM_CREATE_VM", SYS_ioctl, { 99, KVM_CREATE_VM }, 0 },
	{ "KVM_CREATE_VCPU", SYS_ioctl, { 99, KVM_CREATE_VCPU }, 0 },
	{ "KVM_SET_USER_MEMORY_REGION", SYS_ioctl, { 99, KVM_SET_USER_MEMORY_REGION }, 0 },
	{ "KVM_CREATE_DEVICE", SYS_ioctl, { 99, KVM_CREATE_DEVICE }, 0 },
	{ "KVM_ENABLE_CAP", SYS_ioctl, { 99, KVM_ENABLE_CAP }, 0 },
	{ "KVM_SET_REGS", SYS_ioctl, { 99, KVM_SET_REGS }, 0 },
	{ "KVM_SET_SREGS", SYS_ioctl, { 99, KVM_SET_SREGS }, 0 },
	{ "KVM_SET_MSRS", SYS_ioctl, { 99, KVM_SET_MSRS }, 0 },
	{ "KVM_SET_CPUID2", SYS_ioctl, { 99, KVM_SET_CPUID2 }, 0 },
	{ "KVM_RUN", SYS_ioctl, { 99, KVM_RUN }, VCPU },
	{ "TUNSETIFF", SYS_ioctl, { 99, TUNSETIFF }, 0 },
	{ "TUNSETOWNER", SYS_ioctl, { 99, TUNSETOWNER }, 0 },
	{ "TUNSETPERSIST", SYS_ioctl, { 99, TUNSETPERSIST }, 0 },
	{ "VHOST_SET_MEM_TABLE", SYS_ioctl, { 99, VHOST_SET_MEM_TABLE }, 0 },
	{ "VHOST_SET_LOG_BASE", SYS_ioctl, { 99, VHOST_SET_LOG_BASE }, 0 },
	{ "BLKFLSBUF", SYS_ioctl, { 99, BLKFLSBUF }, 0 },
	{ "FICLONE", SYS_ioctl, { 99, FICLONE }, 0 },
	{ "a call that there is not", 9999, { 0 }, 0 },
	{ "execve", SYS_execve, { 0 }, 0 },
};
#define NATTEMPTS (sizeof(attempts) / sizeof(attempts[0]))

static unsigned serves = CALLS_ALL; /* what the child's thread serves */

/* Runs in a child of its own. */
static void attempt(const struct attempt *a, enum thread_kind kind, bool only_log, int err_fd)
{
	dup2(err_fd, STDERR_FILENO);
	thread_become(kind);
	thread_serve(serves);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || confine_filter_load(kind, only_log))
		_exit(99);
	syscall(a->call, a->arg[0], a->arg[1], a->arg[2], a->arg[3], a->arg[4], a->arg[5]);
	syscall(SYS_exit_group, 0); /* before _exit ASan makes calls of its own */
}

/* Returns the child's status; line: what it wrote. */
static int run_attempt(const struct attempt *a, enum thread_kind kind, bool only_log,
		       char line[200])
{
	int fd[2], status;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(fd), 0);
	pid = fork();
	if (!pid)
		attempt(a, kind, only_log, fd[1]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	n = read(fd[0], line, 199);
	line[n > 0 ? n : 0] = 0;
	close(fd[0]);
	close(fd[1]);
	return status;
}

Test(confine_filter, refused)
{
	static const char *const name[] = {
		[THREAD_VCPU] = "vCPU",	      [THREAD_LOOP] = "loop",	    [THREAD_IO] = "I/O",
		[THREAD_WORKER] = "worker",   [THREAD_PROCESS] = "signals", [THREAD_TEST] = "test",
		[THREAD_MACHINE] = "machine", [THREAD_API] = "API"
	};
	char line[200], want[200];

	for (unsigned i = 0; i < NATTEMPTS; i++) {
		for (unsigned k = 0; k < NKINDS; k++) {
			const struct attempt *a = &attempts[i];
			int status = run_attempt(a, kinds[k], false, line);

			if (a->may & 1u << kinds[k]) {
				cr_expect_eq(status, 0, "%s, %s: %s", a->what, name[kinds[k]],
					     line);
				continue;
			}
			snprintf(
				want, sizeof(want),
				"bantam: confine: refused system call %ld of a thread of the kind %s; "
				"the process ends\n",
				a->call, name[kinds[k]]);
			cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGSYS,
				  "%s, %s: status %#x", a->what, name[kinds[k]], status);
			cr_expect_str_eq(line, want, "%s", a->what);
		}
	}
}

static void give_back(void)
{
	(void)!fd_rw_write(STDERR_FILENO, "given back\n", 11);
}

/* In each thread, and after the line: a terminal is as it was when the process has ended. */
Test(confine_filter, at_refusal)
{
	struct attempt a = { "execve", SYS_execve, { 0 }, 0 };
	char line[200];

	confine_at_refusal(give_back);
	for (unsigned k = 0; k < NKINDS; k++) {
		int status = run_attempt(&a, kinds[k], false, line);

		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGSYS, "%#x", status);
		cr_expect(strstr(line, "; the process ends\ngiven back\n"), "%s", line);
	}
}

/* A call of another ABI, whose numbers mean other calls. */
Test(confine_filter, other_abi)
{
	struct attempt x32 = { "x32", 0x40000000 | SYS_getpid, { 0 }, 0 };
	char line[200];

	for (unsigned k = 0; k < NKINDS; k++) {
		int status = run_attempt(&x32, kinds[k], false, line);

		cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x", status);
	}
}

/* The executor may open files and start helpers, and nothing of this. */
Test(confine_filter, refused_executor)
{
	static const char *const whats[] = {
		"ptrace",
		"process_vm_readv",
		"process_vm_writev",
		"pidfd_getfd",
		"umount",
		"chroot",
		"pivot_root",
		"bpf",
		"keyctl",
		"perf_event_open",
		"init_module",
		"userfaultfd",
		"vsock",
		"a packet socket",
		"TIOCSTI",
		"TIOCLINUX",
		"open_by_handle_at",
	};
	char line[200];

	for (unsigned i = 0; i < sizeof(whats) / sizeof(whats[0]); i++) {
		const struct attempt *a = attempts;
		int status;

		while (a < attempts + NATTEMPTS && strcmp(a->what, whats[i]) != 0)
			a++;
		cr_assert(a < attempts + NATTEMPTS, "%s", whats[i]);
		status = run_attempt(a, THREAD_EXECUTOR, false, line);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGSYS, "%s: %#x",
			  a->what, status);
		cr_expect(strstr(line, " of a thread of the kind executor;"), "%s", line);
	}
	cr_expect_eq(run_attempt(&attempts[0], THREAD_EXECUTOR, false, line), 0, "%s", line);
}

/* With CONFINE_LOG all is done; a kind without a filter keeps what it has. */
Test(confine_filter, not_refused)
{
	char line[200];

	for (unsigned k = 0; k < NKINDS; k++)
		cr_expect_eq(run_attempt(&attempts[0], kinds[k], true, line), 0, "%s", line);
	cr_expect_eq(run_attempt(&attempts[0], THREAD_HELPER, false, line), 0, "%s", line);
}

/* --- the lists ------------------------------------------------------------------------- */

#define MAX_ARGS 4

struct cond {
	unsigned n, op;
	uint64_t mask, value;
};

struct rule {
	unsigned threads;
	bool refused;
	const char *name;
	long call;
	struct cond cond[MAX_ARGS + 1];
};

#define PID 4321
#define IS(n, v)                                                                                   \
	{                                                                                          \
		n, 1, 0xffffffffull, (uint32_t)(v)                                                 \
	}
#define BITS(n, m, v)                                                                              \
	{                                                                                          \
		n, 1, (uint64_t)(m), (uint64_t)(v)                                                 \
	}
#define CALL(threads, call) { threads, false, #call, SYS_##call, { { 0 } } },
#define CALL_IF(threads, call, ...) { threads, false, #call, SYS_##call, { __VA_ARGS__ } },
#define IOCTL(threads, request) CALL_IF(threads, ioctl, IS(1, request))
#define REFUSE(threads, call) { threads, true, #call, SYS_##call, { { 0 } } },
#define REFUSE_IF(threads, call, ...) { threads, true, #call, SYS_##call, { __VA_ARGS__ } },

static const struct rule rules[] = {
#include "calls.inc"
};
#define NRULES (sizeof(rules) / sizeof(rules[0]))

static bool matches(const struct rule *r, const struct seccomp_data *d)
{
	if (r->call != d->nr)
		return false;
	for (const struct cond *c = r->cond; c->op; c++)
		if ((d->args[c->n] & c->mask) != c->value)
			return false;
	return true;
}

static bool listed(enum thread_kind kind, unsigned parts, const struct seccomp_data *d)
{
	for (unsigned i = 0; i < NRULES; i++)
		if (list_has(rules[i].threads, kind, parts) && matches(&rules[i], d))
			return true;
	return false;
}

/* What the kernel would do: the part of classic BPF that filters use. */
static uint32_t interpret(enum thread_kind kind, unsigned parts, const struct seccomp_data *d)
{
	const struct sock_filter *f = filter_insn + filters[kind][parts].first;
	uint32_t a = 0;

	for (unsigned pc = 0; pc < filters[kind][parts].len; pc++) {
		uint32_t k = f[pc].k == FILTER_PID ? PID : f[pc].k;
		bool yes;

		switch (f[pc].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			cr_assert(k % 4 == 0 && k < sizeof(*d));
			a = ((const uint32_t *)d)[k / 4];
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= k;
			continue;
		case BPF_RET | BPF_K:
			return k;
		case BPF_JMP | BPF_JA:
			pc += k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & k;
			break;
		default:
			cr_assert_fail("instruction %#x", f[pc].code);
		}
		pc += yes ? f[pc].jt : f[pc].jf;
	}
	cr_assert_fail("the filter has no end");
	return 0;
}

static void same(enum thread_kind kind, const struct rule *r, const struct seccomp_data *d)
{
	/* The executor's list is of what it may not. */
	bool allowed = listed(kind, CALLS_ALL, d) != (kind == THREAD_EXECUTOR);
	uint32_t want = allowed ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;

	cr_expect_eq(interpret(kind, CALLS_ALL, d) & SECCOMP_RET_ACTION_FULL, want,
		     "kind %d, %s(%#llx, %#llx, %#llx, %#llx)", kind, r->name, d->args[0],
		     d->args[1], d->args[2], d->args[3]);
}

/* Each line as it says; with other bits where it says nothing; and with each bit wrong of which it says something. */
Test(confine_filter, lists)
{
	for (unsigned i = 0; i < NRULES; i++) {
		const struct rule *r = &rules[i];

		for (unsigned k = 0; k < NLISTS; k++) {
			struct seccomp_data d = { .nr = (int)r->call, .arch = AUDIT_ARCH_X86_64 };

			same(lists[k], r, &d);
			for (const struct cond *c = r->cond; c->op; c++)
				d.args[c->n] = c->value;
			same(lists[k], r, &d);
			cr_expect(!(r->threads & 1u << lists[k]) || r->refused ||
				  interpret(lists[k], CALLS_ALL, &d) == SECCOMP_RET_ALLOW);
			for (const struct cond *c = r->cond; c->op; c++)
				d.args[c->n] |= ~c->mask;
			same(lists[k], r, &d);
			for (const struct cond *c = r->cond; c->op; c++) {
				for (unsigned bit = 0; bit < 64; bit++) {
					d.args[c->n] ^= 1ull << bit;
					same(lists[k], r, &d);
					d.args[c->n] ^= 1ull << bit;
				}
			}
		}
	}
}

/* No other call is in a filter. */
Test(confine_filter, nothing_else)
{
	for (unsigned k = 0; k < NLISTS; k++) {
		for (int nr = 0; nr < 1024; nr++) {
			struct seccomp_data d = { .nr = nr, .arch = AUDIT_ARCH_X86_64 };
			struct rule r = { .name = "a call" };

			for (unsigned fill = 0; fill < 2; fill++) {
				memset(d.args, fill ? 0xff : 0, sizeof(d.args));
				same(lists[k], &r, &d);
			}
		}
	}
}

/* A VM without a part lacks the part's calls, and no others: each line, in a VM of each combination. */
Test(confine_filter, parts)
{
	for (unsigned at = 0; at < NRULES * NKINDS; at++) {
		enum thread_kind kind = kinds[at % NKINDS];
		const struct rule *r = &rules[at / NKINDS];
		struct seccomp_data d = { .nr = (int)r->call, .arch = AUDIT_ARCH_X86_64 };

		for (const struct cond *c = r->cond; c->op; c++)
			d.args[c->n] = c->value;
		for (unsigned parts = 0; parts <= CALLS_ALL; parts++) {
			unsigned of = list_parts(kind, parts);

			cr_expect_eq(interpret(kind, parts, &d) == SECCOMP_RET_ALLOW,
				     listed(kind, of, &d), "kind %d, parts %u, %s", kind, parts,
				     r->name);
		}
	}
}

/* The thread of one device, in a VM of all parts. */
Test(confine_filter, one_device)
{
	static const struct attempt ring = {
		"a disk's ring", SYS_io_uring_enter, { 99 }, CALLS_DISK
	};
	static const struct attempt frames = { "frames", SYS_recvmmsg, { 99 }, CALLS_NET };
	static const struct attempt ready = { "events", SYS_epoll_wait, { 99 }, CALLS_ALL };
	const struct attempt *const all[] = { &ring, &frames, &ready };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (unsigned part = 1; part <= CALLS_ALL; part *= 2) {
			char line[200];

			serves = part;
			cr_expect_eq(run_attempt(all[i], THREAD_IO, false, line) == 0,
				     !!(all[i]->may & part), "%s, a device of part %u: %s",
				     all[i]->what, part, line);
		}
	}
}
