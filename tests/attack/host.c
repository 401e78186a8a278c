/* host: see host.h. */
#include "tests/attack/host.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT "the host's own\n"
#define PORT 7
#define KVM_MINOR 232

static struct {
	char folder[40], marker[160];
	int listener[4]; /* TCP, UDP, abstract, path */
	struct facts facts;
	pid_t other;
	/* Of that process: it has been reached by a signal, or its memory has changed. */
	struct {
		atomic_int signals;
	} * shared;
	uint64_t secret;
	char *before;
	struct stat st;
} host;

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	if (fd >= 0)
		close(fd);
}

static bool make_folder(const char *name, mode_t mode)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", host.folder, name);
	return !mkdir(path, mode) && !chmod(path, mode);
}

static int listen_at(int family, int type, const void *at, socklen_t len)
{
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, at, len) || (type == SOCK_STREAM && listen(fd, 64)))
		perror("the host's listener");
	return fd;
}

static bool namespaces(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		return false;
	close(fd);
	return true;
}

/* /dev/kvm for every user, here only. */
static bool open_kvm(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/dev", host.folder);
	if (mkdir(path, 0755) || mount("none", path, "tmpfs", 0, NULL))
		return false;
	strcat(path, "/kvm");
	return !mknod(path, S_IFCHR | 0666, makedev(10, KVM_MINOR)) && !chmod(path, 0666) &&
	       !mount(path, "/dev/kvm", NULL, MS_BIND, NULL);
}

static char *state(void)
{
	static const char *const files[] = { "/proc/self/mountinfo", "/proc/sys/kernel/hostname",
					     "/proc/sys/net/core/somaxconn", "/proc/net/route" };
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		FILE *f = fopen(files[i], "re");
		int c;

		while (f && (c = getc(f)) != EOF)
			putc(c, out);
		if (f)
			fclose(f);
	}
	fclose(out);
	return text;
}

static void fill_block(void)
{
	struct block *b = &host.facts.block;

	strcpy(b->marker, host.marker);
	strcpy(b->program, "/bin/true");
	strcpy(b->root, "/");
	strcpy(b->proc, "/proc/self/environ");
	strcpy(b->link, "/proc/self/exe");
	snprintf(b->folder, sizeof(b->folder), "%s/host", host.folder);
	snprintf(b->unborn, sizeof(b->unborn), "%s/host/unborn", host.folder);
	strcpy(b->name, "lo");
	strcpy(b->ifreq, "attack0");
	b->handle[0] = 8;
	b->tcp = b->udp = (struct sockaddr_in){ AF_INET, htons(PORT), { htonl(INADDR_LOOPBACK) } };
	b->wildcard.sin_family = AF_INET;
	b->abstract.sun_family = b->path.sun_family = AF_UNIX;
	strcpy(b->abstract.sun_path + 1, "bantam-attack");
	snprintf(b->path.sun_path, sizeof(b->path.sun_path), "%s/host/socket", host.folder);
	b->here.iov_len = b->there.iov_len = 8;
	b->there.iov_base = &host.secret;
	b->msg.msg_iovlen = 1;
	b->allow[0] = (struct sock_filter){ BPF_RET | BPF_K, 0, 0, 0x7fff0000 };
	b->filter.len = 1;
	b->clone_args[4] = SIGCHLD;
	b->cap_header[0] = 0x20080522;
	memset(b->cpus, 0xff, sizeof(b->cpus));
	b->limits[0] = b->limits[1] = 1 << 20;
	b->one = 1;
	b->perf[0] = 1; /* a software event, of the size that follows */
	b->perf[1] = 112;
	/* A map: an array of one. */
	b->bpf[0] = 2;
	b->bpf[1] = 4;
	b->bpf[2] = 8;
	b->bpf[3] = 1;
}

bool host_begin(const char *folder)
{
	const struct block *b = &host.facts.block;

	snprintf(host.folder, sizeof(host.folder), "%s", folder);
	snprintf(host.marker, sizeof(host.marker), "%s/host/marker", folder);
	host.shared = mmap(NULL, sizeof(*host.shared), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	umask(0);
	if (host.shared == MAP_FAILED || chmod(folder, 0755) || !namespaces() || !open_kvm() ||
	    !make_folder("host", 0777) || !make_folder("vm", 0777) || !make_folder("tools", 0777))
		return false;
	/* Everyone may read and write it: what refuses that is confinement. */
	write_text(host.marker, TEXT);
	fill_block();
	host.listener[0] = listen_at(AF_INET, SOCK_STREAM, &b->tcp, sizeof(b->tcp));
	host.listener[1] = listen_at(AF_INET, SOCK_DGRAM, &b->udp, sizeof(b->udp));
	host.listener[2] = listen_at(AF_UNIX, SOCK_STREAM, &b->abstract, sizeof(b->abstract));
	host.listener[3] = listen_at(AF_UNIX, SOCK_STREAM, &b->path, sizeof(b->path));
	stat(host.marker, &host.st);
	host.before = state();
	return true;
}

static void on_signal(int sig)
{
	atomic_fetch_add(&host.shared->signals, 1);
}

bool host_start_other(uid_t uid)
{
	pid_t self = getpid();
	int ready[2];
	char c;

	if (pipe2(ready, O_CLOEXEC))
		return false;
	host.secret = 0x5ec4e7;
	host.other = fork();
	if (!host.other) {
		signal(SIGUSR1, on_signal);
		if (uid &&
		    (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(1);
		/* A process of that user that may be traced. */
		prctl(PR_SET_DUMPABLE, 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)!write(ready[1], "", 1);
		while (getppid() == self && *(volatile uint64_t *)&host.secret == 0x5ec4e7)
			usleep(20000);
		_exit(1);
	}
	close(ready[1]);
	c = (char)read(ready[0], &c, 1);
	close(ready[0]);
	return c == 1;
}

void host_end_other(void)
{
	inject_kill(host.other);
}

void host_facts(struct facts *f)
{
	f->other = host.other;
	f->block = host.facts.block;
	snprintf(f->block.through, sizeof(f->block.through), "../../%d/root%s", host.other,
		 host.marker);
}

static bool tell(const char *when, const char *what)
{
	printf("not ok - the host, %s: %s\n", when, what);
	return false;
}

/* What has come to a listener since. */
static unsigned taken_from(unsigned i)
{
	unsigned n = 0;
	char text[8];
	int peer;

	while ((peer = i == 1 ? (int)recv(host.listener[i], text, 1, 0) :
				accept(host.listener[i], NULL, NULL)) >= 0) {
		n++;
		if (i != 1)
			close(peer);
	}
	return n;
}

bool host_unharmed(const char *when)
{
	static const char *const sockets[] = { "TCP", "UDP", "an abstract socket", "a socket" };
	bool ok = true;
	char text[64] = "", *now = state();
	struct stat st;
	int fd = open(host.marker, O_RDONLY | O_CLOEXEC), status;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0 || strcmp(text, TEXT) ||
	    fstat(fd, &st) || st.st_mode != host.st.st_mode || st.st_uid != host.st.st_uid ||
	    st.st_mtim.tv_nsec != host.st.st_mtim.tv_nsec || st.st_nlink != 1)
		ok = tell(when, "the file has changed");
	if (fd >= 0)
		close(fd);
	if (!access(host.facts.block.unborn, F_OK))
		ok = tell(when, "there is a new file");
	if (waitpid(host.other, &status, WNOHANG) || atomic_exchange(&host.shared->signals, 0))
		ok = tell(when, "a process was reached");
	for (unsigned i = 0; i < 4; i++)
		if (taken_from(i))
			ok = tell(when, sockets[i]);
	if (strcmp(now, host.before))
		ok = tell(when, "its name, mounts or routes have changed");
	free(now);
	return ok;
}

/* What the control process has done. */
void host_forget(void)
{
	unlink(host.facts.block.unborn);
	atomic_store(&host.shared->signals, 0);
	for (unsigned i = 0; i < 4; i++)
		(void)taken_from(i);
	write_text(host.marker, TEXT);
	stat(host.marker, &host.st);
}
