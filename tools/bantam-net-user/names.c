/*
 * names: see names.h.
 *
 * Theory of operation. The reader, a child, keeps the right to open files for reading (by Landlock: resolv.conf's
 * folder), and answers each byte on a socket: "=" if the file is as it was at its last answer, or "+" and the text. It
 * is a process because a change may put another file in resolv.conf's place, which no descriptor from before leads to;
 * and because a filter cannot see which name a call opens. The helper asks when the guest asks for a name, once a second
 * at most (libslirp and resolver.c see to that), so no process wakes up for this while nothing happens.
 *
 * libslirp calls stat and fopen for /etc/resolv.conf, and if_nametoindex for the link of an address in it. The
 * functions of these names here answer from the text. They are exported by the program, so the library's calls come
 * here; its builds differ in which of the C library's names they call.
 */
#include "tools/bantam-net-user/names.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/bantam-net-user/calls.h"
#include "tools/bantam-net-user/confine.h"
#include "tools/giveup/giveup.h"
#include "vmm/core/helper.h"

#define WAIT_MS 100
#define READER_FDS 16u

const char *names_conf = "/etc/resolv.conf";

static struct {
	int fd;		  /* to the reader; -1: none */
	int pid_fd;	  /* its end; -1: this kernel cannot tell */
	bool asked;	  /* the answer has not come yet */
	unsigned version; /* of text; 0: none yet */
	char text[NAMES_BYTES + 1];
} me = { .fd = -1, .pid_fd = -1 };

/* None of these is a socket of libslirp, which sockets.c counts. */
static void shut(int fd)
{
	syscall(SYS_close, fd);
}

/* --- the reader ----------------------------------------------------------------------------- */

/*
 * The rule allows resolv.conf's whole folder, since who changes it may put a new file in its place, or in place of the
 * file that a link names. Exception: as root it does not allow /etc, where root could read secrets.
 */
static int confine_reader(bool root)
{
	char real[PATH_MAX], folder[PATH_MAX];
	struct giveup_path paths[3] = { { root ? names_conf : "/etc", GIVEUP_READ } };

	if (realpath(names_conf, real)) {
		paths[1] = (struct giveup_path){ real, GIVEUP_READ };
		strcpy(folder, real);
		dirname(folder);
		if (!strncmp(folder, "/run/", 5))
			paths[2] = (struct giveup_path){ folder, GIVEUP_READ };
	}
	return giveup_files(paths, 3);
}

/* Writes the link's number in place of its name, so that nothing later has to ask for it. */
static void number_links(char *text, int socket_fd)
{
	char out[NAMES_BYTES + 1];
	size_t n = 0;

	for (const char *at = text; *at && n < NAMES_BYTES;) {
		struct ifreq ifr = { 0 };
		size_t len;

		out[n++] = *at++;
		if (at[-1] != '%')
			continue;
		len = strcspn(at, " \t\r\n");
		snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.*s", (int)len, at);
		if (ioctl(socket_fd, SIOCGIFINDEX, &ifr))
			continue;
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%d", ifr.ifr_ifindex);
		n = n < NAMES_BYTES ? n : NAMES_BYTES;
		at += len;
	}
	out[n] = 0;
	strcpy(text, out);
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Writes the text if the file is another one than in *seen. Returns false if it is not, or cannot be read. */
static bool read_again(struct stat *seen, char text[NAMES_BYTES + 1])
{
	int fd = open(names_conf, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat now;
	ssize_t n = -1;

	if (fd < 0)
		return false;
	if (!fstat(fd, &now) && S_ISREG(now.st_mode) && !same(seen, &now))
		n = read(fd, text, NAMES_BYTES);
	shut(fd);
	if (n < 0)
		return false;
	*seen = now;
	text[n] = 0;
	return true;
}

static void serve_reader(int fd, int socket_fd)
{
	struct stat seen = { 0 };
	char answer[1 + NAMES_BYTES + 1];
	size_t len;

	while (recv(fd, answer, 1, 0) == 1) {
		bool changed = read_again(&seen, answer + 1);

		if (changed)
			number_links(answer + 1, socket_fd);
		answer[0] = changed ? '+' : '=';
		len = changed ? 1 + strlen(answer + 1) : 1;
		if (send(fd, answer, len, MSG_NOSIGNAL) != (ssize_t)len)
			return;
	}
}

static void reader(int fd, pid_t parent)
{
	int socket_fd;
	struct stat st;
	bool root;

	signal(SIGCHLD, SIG_DFL);
	helper_keep_only(&fd, 1);
	dup2(STDIN_FILENO,
	     STDERR_FILENO); /* /dev/null; who reads our messages does not wait for us */
	socket_fd = (int)syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* Only root can read a resolv.conf that nobody may not read. */
	root = !geteuid() &&
	       ((!stat(names_conf, &st) && !(st.st_mode & S_IROTH)) || !confine_user());
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent ||
	    giveup_limit(RLIMIT_NPROC, 0) || giveup_limit(RLIMIT_NOFILE, READER_FDS) ||
	    giveup_limit(RLIMIT_FSIZE, 0) || giveup_privileges(0) || confine_reader(root) ||
	    giveup_calls(&giveup_net_names, NULL))
		return;
	serve_reader(fd, socket_fd);
}

int names_begin(void)
{
	pid_t parent = getpid(), pid;
	int fd[2], rc = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd))
		return -errno;
	/* The kernel reaps it: after our filter nothing here can. */
	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (!pid) {
		reader(fd[1], parent);
		_exit(0);
	}
	if (pid < 0)
		rc = -errno;
	shut(fd[1]);
	if (rc) {
		shut(fd[0]);
		return rc;
	}
	me.fd = fd[0];
	me.pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return 0;
}

void names_end(void)
{
	struct pollfd p = { me.pid_fd, POLLIN, 0 };

	if (me.fd < 0)
		return;
	shut(me.fd);
	me.fd = -1;
	/* While we are there it is reaped at once; an orphan might find no one who does it. */
	if (me.pid_fd >= 0) {
		poll(&p, 1, WAIT_MS);
		shut(me.pid_fd);
	}
}

/* --- the helper's side -------------------------------------------------------------------- */

/* The other process is trusted no more than the file: a text is cut, never longer than there is room. */
static void take_answer(void)
{
	char answer[1 + NAMES_BYTES];
	ssize_t n = recv(me.fd, answer, sizeof(answer), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	me.asked = false;
	if (n < 1) { /* it has ended: what we know stays */
		shut(me.fd);
		me.fd = -1;
		return;
	}
	if (answer[0] != '+')
		return;
	memcpy(me.text, answer + 1, (size_t)n - 1);
	me.text[n - 1] = 0;
	me.version++;
}

const char *names_text(unsigned *version)
{
	struct pollfd p = { me.fd, POLLIN, 0 };

	if (me.fd >= 0 && !me.asked)
		me.asked = send(me.fd, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	if (me.asked && poll(&p, 1, WAIT_MS) > 0)
		take_answer();
	*version = me.version;
	return me.text;
}

/* --- what libslirp calls ---------------------------------------------------------------------- */

static bool is_conf(const char *path)
{
	return (me.fd >= 0 || me.version) && !strcmp(path, "/etc/resolv.conf");
}

static FILE *conf_file(void)
{
	unsigned version;
	const char *text = names_text(&version);

	if (version)
		return fmemopen((void *)text, *text ? strlen(text) : 1, "r");
	errno = ENOENT;
	return NULL;
}

/* A state that changes with the text, and with nothing else. */
static int conf_state(struct stat *st)
{
	unsigned version;
	const char *text = names_text(&version);

	if (!version) {
		errno = ENOENT;
		return -1;
	}
	*st = (struct stat){ .st_ino = version,
			     .st_mode = S_IFREG | 0444,
			     .st_size = (off_t)strlen(text),
			     .st_mtim.tv_sec = version };
	return 0;
}

static FILE *open_file(const char *symbol, const char *path, const char *mode)
{
	FILE *(*real)(const char *, const char *) = (FILE * (*)(const char *, const char *))
		dlsym(RTLD_NEXT, symbol);

	if (is_conf(path))
		return conf_file();
	if (!calls_confined() && real)
		return real(path, mode);
	errno = EACCES;
	return NULL;
}

static int file_state(const char *path, void *st)
{
	if (is_conf(path))
		return conf_state(st);
	if (!calls_confined())
		return (int)syscall(SYS_newfstatat, AT_FDCWD, path, st, 0);
	errno = EACCES;
	return -1;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
	return open_file("fopen", path, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode)
{
	return open_file("fopen64", path, mode);
}

int stat(const char *restrict path, struct stat *restrict st)
{
	return file_state(path, st);
}

/* The two structs are the same where a file's size has 64 bits. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "stat and stat64 differ");

int stat64(const char *restrict path, struct stat64 *restrict st)
{
	return file_state(path, st);
}

/* stat and stat64 before glibc 2.33. */
int __xstat(int version, const char *path, struct stat *st);
int __xstat64(int version, const char *path, struct stat64 *st);

int __xstat(int version, const char *path, struct stat *st)
{
	return file_state(path, st);
}

int __xstat64(int version, const char *path, struct stat64 *st)
{
	return file_state(path, st);
}

/* The reader has put the number in the name's place. */
unsigned if_nametoindex(const char *name)
{
	return (unsigned)strtoul(name, NULL, 10);
}
