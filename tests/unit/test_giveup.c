/*
 * test_giveup: what code of an attacker can do in a helper program, once that has given up what it does not need: a
 * child for each helper, call and user makes the call as the attacker would, by its number.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "devices/backend/store/image_file.h"
#include "tools/bantam-fs/fs.h"
#include "tools/bantam-image/image.h"
#include "tools/bantam-net-user/calls.h"
#include "tools/bantam-seed/seed.h"
#include "tools/giveup/giveup.h"
#include "tools/giveup/list_words.h"

#define PLAIN_USER 12345

static const struct helper {
	const char *name;
	const struct giveup_filter *filter;
	unsigned at_most; /* calls that it keeps */
	unsigned who;	  /* as in its list */
} helpers[] = {
	{ "bantam-net-user", &giveup_net_user, 37, NET_USER },
	{ "its reader of resolv.conf", &giveup_net_names, 13, NET_NAMES },
	{ "bantam-fs", &giveup_fs_reader, 25, FS_READER },
	{ "bantam-image, reading", &giveup_image_looks, 67, IMAGE_LOOKS },
	{ "bantam-image, making one", &giveup_image_makes, 83, IMAGE_MAKES },
	{ "bantam-image, changing one", &giveup_image_changes, 75, IMAGE_CHANGES },
	{ "bantam-seed", &giveup_seed, 78, SEED },
};
#define HELPERS (sizeof(helpers) / sizeof(helpers[0]))

/* --- the attacks ------------------------------------------------------------------------------ */

static int file = -1, dir = -1;
static pid_t other; /* a process of the same user */

static long open_it(long flags)
{
	return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", flags, 0600);
}

static long exec(long unused)
{
	return syscall(SYS_execve, "/bin/true", (char *[]){ "true", NULL }, (char *[]){ NULL });
}

static long new_process(long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	if (!pid)
		syscall(SYS_exit_group, 0);
	return pid;
}

static long look_into(long unused)
{
	char from = 1, to = 0;
	struct iovec here = { &to, 1 }, there = { &from, 1 };

	return syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);
}

static long executable(long nr)
{
	static char page[8192] __attribute__((aligned(4096)));

	if (nr == SYS_mmap)
		return syscall(nr, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
	return syscall(nr, page, 4096, PROT_READ | PROT_EXEC, -1);
}

static long of_name(long nr)
{
	struct stat st;

	if (nr == SYS_newfstatat)
		return syscall(nr, AT_FDCWD, "/etc/passwd", &st, 0);
	if (nr == SYS_statx)
		return syscall(nr, dir, "passwd", 0, STATX_SIZE, (char[512]){ 0 });
	if (nr == SYS_readlinkat)
		return syscall(nr, AT_FDCWD, "/proc/self/exe", (char[64]){ 0 }, 64);
	if (nr == SYS_getdents64)
		return syscall(nr, dir, (char[4096]){ 0 }, 4096);
	if (nr == SYS_unlinkat)
		return syscall(nr, AT_FDCWD, "/nonexistent", 0);
	return syscall(nr, AT_FDCWD, "/etc/passwd", 0, 0);
}

static long number(long nr)
{
	return syscall(nr, 0, 0, 0, 0, 0, 0);
}

static long signals(long nr)
{
	return nr == SYS_tgkill ? syscall(nr, other, other, 0) : syscall(nr, other, 0);
}

static long traced(long unused)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long dumpable(long unused)
{
	return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long blocking(long unused)
{
	return syscall(SYS_fcntl, file, F_SETFL, 0);
}

static long handler(long unused)
{
	struct {
		void *fn;
		unsigned long flags, restorer, mask;
	} act = { 0 };

	return syscall(SYS_rt_sigaction, SIGSYS, &act, NULL, 8);
}

static long owner(long unused)
{
	return syscall(SYS_fcntl, file, F_SETOWN, getpid());
}

static long request(long what)
{
	int n = 0;

	return syscall(SYS_ioctl, 0, what, &n);
}

/* The socket, as 100 * family + 10 * type's number; protocol is in the next digits. */
#define SOCKET_OF(family, type, protocol) ((long)(protocol) << 16 | (family) << 8 | (type))

static long new_socket(long what)
{
	return syscall(SYS_socket, what >> 8 & 0xff, what & 0xff, what >> 16);
}

static long bound(long unused)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? fd : syscall(SYS_bind, fd, &any, sizeof(any));
}

static long device_of(long unused)
{
	long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? fd : syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
}

static const struct attack {
	const char *name;
	long (*make)(long arg);
	long arg;
	bool works; /* for a process that has given up nothing, whatever the host */
	unsigned
		files; /* which helpers' filters let it pass: it is Landlock's business, or does no harm */
} attacks[] = {
	{ "open to read", open_it, O_RDONLY, true, NET_NAMES | IMAGE | SEED },
	{ "open to write", open_it, O_WRONLY },
	{ "open to read and write", open_it, O_RDWR },
	{ "open, O_PATH", open_it, O_PATH, true, NET_NAMES | IMAGE | SEED },
	{ "create", open_it, O_RDWR | O_CREAT | O_EXCL, .files = SEED },
	{ "create or open", open_it, O_RDWR | O_CREAT },
	{ "a file without a name", open_it, O_RDWR | O_TMPFILE, .files = SEED },
	{ "empty a file", open_it, O_RDONLY | O_TRUNC },
	{ "empty a file that it writes", open_it, O_WRONLY | O_TRUNC },
	{ "cut a file that is open", of_name, SYS_ftruncate,
	  .files = IMAGE_MAKES | IMAGE_CHANGES | SEED },
	{ "open in a folder that is open", of_name, SYS_openat, true, NET_NAMES | IMAGE | SEED },
	{ "openat2", of_name, SYS_openat2 },
	{ "open_by_handle_at", number, SYS_open_by_handle_at },
	{ "stat", of_name, SYS_newfstatat, true, NET_NAMES | IMAGE | SEED },
	{ "statx", of_name, SYS_statx, true, IMAGE | SEED },
	{ "access", of_name, SYS_faccessat, true, IMAGE | SEED },
	{ "readlink", of_name, SYS_readlinkat, true, IMAGE | SEED },
	{ "names in a folder that is open", of_name, SYS_getdents64, true, IMAGE | SEED },
	{ "unlink", of_name, SYS_unlinkat, .files = IMAGE_MAKES | SEED },
	{ "rename", of_name, SYS_renameat2, .files = IMAGE_MAKES | SEED },
	{ "link", of_name, SYS_linkat, .files = IMAGE_MAKES | SEED },
	{ "mkdir", of_name, SYS_mkdirat },
	{ "chmod", of_name, SYS_fchmodat },
	{ "chmod of a file that is open", of_name, SYS_fchmod, .files = SEED },
	{ "mount", number, SYS_mount },
	{ "a file in memory", number, SYS_memfd_create },
	{ "chroot", number, SYS_chroot },
	{ "exec", exec, 0, true },
	{ "fork", new_process, 0, true },
	{ "user namespace", new_process, CLONE_NEWUSER },
	{ "clone3", number, SYS_clone3 },
	{ "unshare", number, SYS_unshare, true },
	{ "setns", number, SYS_setns },
	{ "ptrace", traced, 0, true },
	{ "process_vm_readv", look_into, 0 },
	{ "kill", signals, SYS_kill, true },
	{ "tgkill", signals, SYS_tgkill, true },
	{ "pidfd_open", number, SYS_pidfd_open },
	{ "executable by mprotect", executable, SYS_mprotect, true },
	{ "executable by mmap", executable, SYS_mmap, true },
	{ "pkey_mprotect", executable, SYS_pkey_mprotect },
	{ "io_uring", number, SYS_io_uring_setup },
	{ "bpf", number, SYS_bpf },
	{ "perf", number, SYS_perf_event_open },
	{ "userfaultfd", number, SYS_userfaultfd },
	{ "keys", number, SYS_add_key },
	{ "a module", number, SYS_finit_module },
	{ "setuid", number, SYS_setuid },
	{ "capset", number, SYS_capset },
	{ "dumpable again", dumpable, 0, true },
	{ "a second filter", number, SYS_seccomp },
	{ "O_NONBLOCK off", blocking, 0, true, IMAGE | SEED },
	{ "another handler of SIGSYS", handler, 0, true },
	{ "another owner of a descriptor", owner, 0, true },
	{ "a key for the terminal", request, 0x5412 /* TIOCSTI */ },
	{ "a VM", request, 0xae01 /* KVM_CREATE_VM */ },
	{ "a tap", request, 0x400454ca /* TUNSETIFF */ },
	{ "a Unix socket", new_socket, SOCKET_OF(AF_UNIX, SOCK_STREAM, 0), true },
	{ "netlink", new_socket, SOCKET_OF(AF_NETLINK, SOCK_RAW, 0), true },
	{ "packets", new_socket, SOCKET_OF(AF_PACKET, SOCK_RAW, 0) },
	{ "vsock", new_socket, SOCKET_OF(AF_VSOCK, SOCK_STREAM, 0) },
	{ "the kernel's ciphers", new_socket, SOCKET_OF(AF_ALG, SOCK_SEQPACKET, 0) },
	{ "raw IP", new_socket, SOCKET_OF(AF_INET, SOCK_RAW, IPPROTO_ICMP) },
	{ "raw IPv6", new_socket, SOCKET_OF(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6) },
	{ "SCTP", new_socket, SOCKET_OF(AF_INET, SOCK_STREAM, IPPROTO_SCTP) },
	{ "UDP-Lite", new_socket, SOCKET_OF(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE) },
	{ "a port of the host", bound, 0, true },
	{ "a device of the host", device_of },
};

/* --- the table --------------------------------------------------------------------------------- */

static bool is_refusal(int error)
{
	return error == EPERM || error == EACCES || error == ENOSYS;
}

/* Runs make in a child that has become user (-1: stays) and given up what h does (NULL: nothing). */
static int status_of(const struct helper *h, long (*make)(long), long arg, int user)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (user >= 0 &&
		    (setgroups(0, NULL) || setresgid((gid_t)user, (gid_t)user, (gid_t)user) ||
		     setresuid((uid_t)user, (uid_t)user, (uid_t)user)))
			_exit(9);
		/* Not giveup_files: this host's Landlock would hide what a filter lacks. */
		if (h && (giveup_privileges(h->who & (IMAGE | SEED) ? giveup_file_caps : 0) ||
			  giveup_calls(h->filter, NULL)))
			_exit(8);
		/* Another error would be a call with wrong arguments, which the filter has let pass. */
		syscall(SYS_exit_group, make(arg) >= 0 ? 7 : is_refusal(errno) ? 0 : 6);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static bool refused(int status)
{
	return (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ||
	       (WIFEXITED(status) && !WEXITSTATUS(status));
}

static void try_all(int user)
{
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		const struct attack *a = &attacks[i];
		int status;

		/* What does not work in any process shows nothing. */
		if (a->works) {
			status = status_of(NULL, a->make, a->arg, user);
			cr_expect(WIFEXITED(status) && WEXITSTATUS(status) != 8 &&
					  WEXITSTATUS(status) != 9 &&
					  (WEXITSTATUS(status) == 7 || a->make == exec),
				  "%s: %x without a filter", a->name, (unsigned)status);
		}
		for (size_t k = 0; k < HELPERS; k++) {
			if (a->files & helpers[k].who)
				continue;
			status = status_of(&helpers[k], a->make, a->arg, user);
			/* true's own status is 0, too. */
			cr_expect(a->make == exec ?
					  WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS :
					  refused(status),
				  "%s in %s as %d: %x", a->name, helpers[k].name, user,
				  (unsigned)status);
		}
	}
}

static void begin(void)
{
	file = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	dir = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(file >= 0 && dir >= 0);
	other = getpid();
}

TestSuite(giveup, .init = begin, .timeout = 60);

Test(giveup, attacks_as_we_are)
{
	try_all(-1);
}

Test(giveup, attacks_as_a_plain_user)
{
	pid_t self = getpid();
	int ready[2];
	char c;

	if (geteuid())
		cr_skip_test("not root");
	/* A process of that user, for kill. */
	cr_assert_eq(pipe(ready), 0);
	other = fork();
	if (!other) {
		if (setresuid(PLAIN_USER, PLAIN_USER, PLAIN_USER))
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)!write(ready[1], "", 1);
		while (getppid() == self)
			pause();
		_exit(0);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	try_all(PLAIN_USER);
	cr_expect_eq(waitpid(other, NULL, WNOHANG), 0, "it lives");
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
}

/* Of the files of the host its reader of resolv.conf opens that one, and only to read. */
static long read_conf(long path)
{
	const char *name = path ? "/etc/passwd" : "/etc/hosts";
	struct giveup_path allowed = { "/etc/hosts", GIVEUP_READ };

	if (giveup_privileges(0) || giveup_files(&allowed, 1) ||
	    giveup_calls(&giveup_net_names, NULL))
		return 0;
	return syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
}

Test(giveup, files_of_the_reader)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
		cr_skip_test("no Landlock");
	cr_expect_eq(WEXITSTATUS(status_of(NULL, read_conf, 0, -1)), 7);
	cr_expect_eq(status_of(NULL, read_conf, 1, -1), 0);
}

/* What bantam image can open, while it makes new/image from own/image, on own/base. */
static long image_file(long which)
{
	static const struct {
		const char *name;
		int flags;
	} files[] = {
		{ "own/image", O_RDONLY },
		{ "own/base", O_RDONLY },
		{ "given/deep/base", O_RDONLY },
		/* not these */
		{ "own/image", O_RDWR },
		{ "own/image", O_RDONLY | O_TRUNC },
		{ "own/new", O_RDWR | O_CREAT },
		{ "own", O_RDONLY | O_DIRECTORY },
		{ "given/deep/base", O_WRONLY },
		{ "new/other", O_RDONLY },
		{ "new/other", O_WRONLY },
		{ "new/made", O_RDWR | O_CREAT },
		{ "new", O_RDWR | O_TMPFILE },
		{ "/etc/passwd", O_RDONLY },
		{ "/proc/self/environ", O_RDONLY },
		{ "/dev/null", O_RDWR },
	};
	static const struct args_option options[] = { { .name = "backing", .backing = true },
						      { 0 } };
	static const struct args_table table = { .option = options,
						 .use = { ARGS_READ, ARGS_NEW } };
	static struct args args = { .value = { "../own/base" },
				    .file = { "own/image", "new/image" },
				    .nfiles = 2 };
	struct err err;
	int made;

	if (which == sizeof(files) / sizeof(files[0]))
		return -2;
	if (store_allow_folder("given", &err))
		return -3;
	made = open("new", O_RDWR | O_TMPFILE, 0600);
	/* Without the filter, which would end the process before Landlock is asked. */
	if (giveup_privileges(giveup_file_caps) || image_confine_files(&table, &args, 0))
		return -3;
	/* The file that was open gets its name, where the file system can do that. */
	if (made >= 0) {
		char from[64];

		snprintf(from, sizeof(from), "/proc/self/fd/%d", made);
		if (pwrite(made, "x", 1, 0) != 1 ||
		    linkat(AT_FDCWD, from, AT_FDCWD, "new/image", AT_SYMLINK_FOLLOW) ||
		    !unlink("new/other") || !rename("new/image", "new/other") ||
		    !linkat(AT_FDCWD, from, AT_FDCWD, "own/x", AT_SYMLINK_FOLLOW))
			return -3;
	}
	if (which < 3)
		return open(files[which].name, files[which].flags) >= 0 ? 0 : -3;
	return open(files[which].name, files[which].flags, 0600) < 0 && errno == EACCES ? 0 : -3;
}

Test(giveup, files_of_an_image)
{
	char top[] = "/tmp/bantam-giveup-XXXXXX", command[100];
	int status;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 3)
		cr_skip_test("no Landlock, or one that knows no O_TRUNC");
	cr_assert(mkdtemp(top) && !chdir(top));
	cr_assert_eq(
		system("mkdir -p own given/deep new && touch own/image own/base given/deep/base new/other"),
		0);
	for (long i = 0;; i++) {
		pid_t pid = fork();

		if (!pid) {
			long rc = image_file(i);

			syscall(SYS_exit_group, -rc);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		unlink("new/image");
		if (status == 2 << 8)
			break;
		cr_expect_eq(status, 0, "%ld: %x", i, (unsigned)status);
	}
	snprintf(command, sizeof(command), "test -z \"$(cat new/* own/*)\" && rm -r %s", top);
	cr_expect_eq(system(command), 0, "a file was written");
}

/* Also without Landlock: no command opens a file for writing, and one that makes no image names none. */
Test(giveup, calls_of_an_image)
{
	enum { READS, WRITES, EMPTIES, MAKES, NAMES, DOES };
	static const struct {
		enum args_use use[2];
		unsigned nfiles, how;
		bool may[DOES];
	} table[] = {
		{ { ARGS_READ, ARGS_READ }, 2, 0, { [READS] = true } },
		{ { ARGS_READ, ARGS_READ }, 1, IMAGE_WRITES, { [READS] = true } },
		{ { ARGS_NEW, ARGS_READ }, 1, 0, { [READS] = true, [NAMES] = true } },
		{ { ARGS_READ, ARGS_NEW }, 2, IMAGE_REPLACES, { [READS] = true, [NAMES] = true } },
	};
	char path[] = "/tmp/bantam-giveup-XXXXXX";

	cr_assert_geq(mkstemp(path), 0);
	for (size_t i = 0; i < DOES * sizeof(table) / sizeof(table[0]); i++) {
		const struct args_table t = { .use = { table[i / DOES].use[0],
						       table[i / DOES].use[1] } };
		const struct args args = { .nfiles = table[i / DOES].nfiles };
		unsigned what = i % DOES;
		pid_t pid = fork();
		int status;

		if (!pid) {
			if (giveup_privileges(giveup_file_caps) ||
			    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) < 0 ||
			    image_confine_calls(&t, &args, table[i / DOES].how))
				_exit(8);
			syscall(SYS_exit_group, what == NAMES ?
							access(path, F_OK) || rename(path, path) :
							open(path,
							     what == WRITES  ? O_RDWR :
							     what == EMPTIES ? O_RDONLY | O_TRUNC :
							     what == MAKES   ? O_RDWR | O_CREAT :
									       O_RDONLY,
							     0600) < 0);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_expect_eq(status, table[i / DOES].may[what] ? 0 : (128 + SIGSYS) << 8,
			     "row %zu, %u: %x", i / DOES, what, (unsigned)status);
	}
	unlink(path);
}

/* Opens path for writing as resize does, behind its filter; of these two files it was told to change the first. */
static void change(const char *path, char *const files[2])
{
	static const struct args_table table = { .use = { ARGS_READ, ARGS_WORD } };
	struct args args = { .file = { files[0] }, .nfiles = 1 };
	struct store_image image, again;
	struct err err;

	if (image_look(&table, &args, IMAGE_WRITES, &err) || giveup_privileges(0) ||
	    giveup_calls(&giveup_image_changes, "image"))
		_exit(8);
	/* Reading it first, to find its format, needs the lock, too. */
	if (store_image_open(&again, files[0], NULL, true, STORE_CACHED, &err))
		_exit(7);
	store_image_close(&again);
	for (unsigned i = 0; i < 2; i++) {
		if (store_image_open(&image, path, NULL, false, STORE_CACHED, &err) ||
		    image.size_bytes != 512 || pwrite(image.fd, "x", 1, i) != 1)
			_exit(6);
		store_image_close(&image);
	}
	_exit(0);
}

Test(giveup, an_image_that_is_changed_is_open_before)
{
	char a[] = "/tmp/bantam-giveup-XXXXXX", b[] = "/tmp/bantam-giveup-XXXXXX";
	char *const files[2] = { a, b };
	int fd[2] = { mkstemp(a), mkstemp(b) };

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid;
		int status;
		char text[3] = "";

		cr_assert_eq(ftruncate(fd[i], 512), 0);
		pid = fork();
		if (!pid)
			change(files[i], files);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_expect_eq(status, i ? (128 + SIGSYS) << 8 : 0, "%u: %x", i, (unsigned)status);
		cr_expect_eq(pread(fd[i], text, 2, 0), 2);
		cr_expect_str_eq(text, i ? "" : "xx");
	}
	for (unsigned i = 0; i < 2; i++) {
		unlink(files[i]);
		close(fd[i]);
	}
}

/* With a name the process says which call it was, whatever the attacker does to signals before. */
Test(giveup, tells_which_call)
{
	int status, fd[2];
	char text[200] = "", want[200];
	pid_t pid;

	cr_assert_eq(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		sigset_t all;

		dup2(fd[1], STDERR_FILENO);
		if (giveup_privileges(0) || giveup_calls(&giveup_seed, "seed"))
			_exit(8);
		sigfillset(&all);
		sigdelset(&all, SIGSYS);
		sigprocmask(SIG_SETMASK, &all, NULL);
		syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		_exit(7);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, (128 + SIGSYS) << 8, "%x", (unsigned)status);
	cr_assert_gt(read(fd[0], text, sizeof(text) - 1), 0);
	snprintf(
		want, sizeof(want),
		"bantam: seed: ended: its filter does not allow system call %d; please report this\n",
		(int)SYS_socket);
	cr_expect_str_eq(text, want);
	close(fd[0]);
	close(fd[1]);
}

/* --- what stays possible ------------------------------------------------------------------------ */

static long work(long of)
{
	const struct helper *h = &helpers[of];
	char c;

	if (h->who == NET_USER) {
		if (new_socket(SOCKET_OF(AF_INET, SOCK_STREAM, 0)) < 0 ||
		    new_socket(SOCKET_OF(AF_INET, SOCK_DGRAM, 0)) < 0 ||
		    (new_socket(SOCKET_OF(AF_INET6, SOCK_STREAM, 0)) < 0 &&
		     errno != EAFNOSUPPORT) ||
		    (new_socket(SOCKET_OF(AF_INET6, SOCK_DGRAM, 0)) < 0 && errno != EAFNOSUPPORT))
			return -1;
		/* Not every host lets every user ping. */
		new_socket(SOCKET_OF(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
		new_socket(SOCKET_OF(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
		if (syscall(SYS_fcntl, file, F_SETFL, O_NONBLOCK) < 0)
			return -1;
	}
	/* The end of abort, by this process's own number. */
	if (h->who != NET_NAMES && syscall(SYS_tgkill, getpid(), gettid(), 0))
		return -1;
	return syscall(SYS_read, file, &c, 1) == 1 ? 0 : -1;
}

Test(giveup, the_work_goes_on)
{
	for (size_t k = 0; k < HELPERS; k++)
		cr_expect_eq(WEXITSTATUS(status_of(&helpers[k], work, (long)k, -1)), 7, "%s",
			     helpers[k].name);
}

/*
 * May the filter let call nr pass, with some arguments? From instruction at on, with nr or the processor in the
 * accumulator (known), or something of the arguments.
 */
static bool may_pass(const struct giveup_filter *f, unsigned at, uint32_t nr, bool known,
		     uint32_t a, bool *seen)
{
	for (; at < f->len; at++) {
		const struct sock_filter *i = &f->insn[at];
		bool yes;

		if (!known) {
			if (seen[at])
				return false;
			seen[at] = true;
		}
		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			known = i->k == 0 || i->k == 4;
			a = i->k ? AUDIT_ARCH_X86_64 : nr;
			continue;
		case BPF_ALU:
			cr_assert_not(known);
			continue;
		case BPF_RET:
			return i->k == SECCOMP_RET_ALLOW;
		}
		cr_assert_eq(BPF_CLASS(i->code), BPF_JMP);
		if (BPF_OP(i->code) == BPF_JA) {
			at += i->k;
			continue;
		}
		if (!known) {
			if (may_pass(f, at + 1 + i->jt, nr, false, a, seen))
				return true;
			at += i->jf;
			continue;
		}
		yes = BPF_OP(i->code) == BPF_JEQ ? a == i->k :
		      BPF_OP(i->code) == BPF_JGT ? a > i->k :
						   a >= i->k;
		at += yes ? i->jt : i->jf;
	}
	cr_assert_fail("the filter has no end");
	return false;
}

/* Counted in the filter as it is loaded. What fails with an error is no part of what is kept. */
Test(giveup, few_calls)
{
	for (size_t k = 0; k < HELPERS; k++) {
		const struct giveup_filter *f = helpers[k].filter;
		bool *seen = calloc(f->len, sizeof(*seen));
		unsigned n = 0;

		cr_assert(seen);
		for (uint32_t nr = 0; nr < 1024; nr++) {
			memset(seen, 0, f->len * sizeof(*seen));
			n += may_pass(f, 0, nr, false, 0, seen);
		}
		free(seen);
		cr_expect(n && n <= helpers[k].at_most, "%s keeps %u calls", helpers[k].name, n);
		cr_log_info("%s keeps %u calls", helpers[k].name, n);
	}
}

static size_t free_pieces(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.ordblks + m.smblks;
}

/* memory.c of the network helper walks through malloc's free pieces once in a few frames: the filter's are gone. */
Test(giveup, no_free_pieces_stay)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		size_t before;

		malloc_trim(0);
		before = free_pieces();
		if (giveup_privileges(0) || calls_confine())
			syscall(SYS_exit_group, 200);
		syscall(SYS_exit_group, free_pieces() > before + 100);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "%x", (unsigned)status);
}

/* For the functions in front of the kernel a refusal is an error, and the same in both. */
Test(giveup, permits_as_the_filter_does)
{
	static const struct {
		uint64_t arg[6];
		bool passes;
	} table[] = {
		{ { AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0 }, true },
		{ { AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_ICMPV6 }, true },
		{ { AF_INET6, SOCK_DGRAM, IPPROTO_ICMP }, false },
		{ { AF_INET, SOCK_RAW, IPPROTO_ICMP }, false },
		{ { AF_UNIX, SOCK_STREAM, 0 }, false },
		{ { AF_INET | 1ull << 32, SOCK_STREAM, 0 }, false },
	};
	uint64_t self[6] = { (uint64_t)getpid() }, init[6] = { 1 };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_eq(giveup_permits(&giveup_net_user, SYS_socket, table[i].arg),
			     table[i].passes, "%zu", i);
	cr_expect(giveup_permits(&giveup_net_user, SYS_tgkill, self));
	cr_expect_not(giveup_permits(&giveup_net_user, SYS_tgkill, init));
	cr_expect_not(giveup_permits(&giveup_net_user, SYS_openat, init));
	/* Before the filter is there, all is as usual. */
	cr_expect(calls_permit_socket(AF_UNIX, SOCK_STREAM, 0));
}
