/*
 * Starts a VM's process, and waits for it: see client.h.
 *
 * A watched process runs under a filter that stops each open(2) and openat(2) until this program answers
 * (seccomp_unotify(2)). This program looks at the path, and leaves /dev/kvm without an answer: a KVM
 * device that blocks. It needs no privilege, and the process can be killed all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/api/client.h"

#define WORDS_MAX 64

static int install_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_open
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 1, 0),
#endif
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &prog);
}

/* Hands the filter's descriptor, which the filter must not keep us from sending, to the parent. */
static void hand_over(int socket, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	*h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	if (fd < 0 || sendmsg(socket, &msg, 0) != 1)
		_exit(126);
}

static int take_over(int socket)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	int fd;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static void start(struct process *p, const char *program, const char *path, const char *log,
		  char *const extra[], bool watched)
{
	char *argv[WORDS_MAX + 4] = { "cloud-hypervisor", "--api-socket", (char *)path };
	int pair[2] = { -1, -1 };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (null < 0 || out < 0)
		die("%s: %s", log, strerror(errno));
	if (watched && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair: %s", strerror(errno));
	for (unsigned i = 0; extra && extra[i]; i++) {
		if (i == WORDS_MAX)
			die("too many words");
		argv[3 + i] = extra[i];
	}
	*p = (struct process){ .exec_ms = now_ms(), .notify_fd = -1 };
	p->pid = fork();
	if (p->pid < 0)
		die("fork: %s", strerror(errno));
	if (!p->pid) {
		dup2(null, 0);
		dup2(out, 1);
		dup2(out, 2);
		if (watched)
			hand_over(pair[1], install_filter());
		execv(program, argv);
		_exit(127);
	}
	close(null);
	close(out);
	if (watched) {
		close(pair[1]);
		p->notify_fd = take_over(pair[0]);
		close(pair[0]);
		if (p->notify_fd < 0)
			die("no filter with a listener on this kernel");
	}
}

void process_start(struct process *p, const char *program, const char *path, const char *log,
		   char *const extra[])
{
	start(p, program, path, log, extra, false);
}

/* Reads the path that a stopped open(2) or openat(2) names. */
static void opened_path(const struct seccomp_notif *n, char *text, size_t size)
{
	char mem[64];
	uint64_t at = n->data.nr == SYS_openat ? n->data.args[1] : n->data.args[0];

	text[0] = 0;
	snprintf(mem, sizeof(mem), "/proc/%u/mem", n->pid);
	int fd = open(mem, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t got = pread(fd, text, size - 1, (off_t)at);
	if (got < 0) /* the page may be the last one */
		got = pread(fd, text, sizeof("/dev/kvm"), (off_t)at);
	text[got > 0 ? got : 0] = 0;
	close(fd);
}

static void *watch(void *opaque)
{
	struct process *p = opaque;

	for (;;) {
		struct pollfd wait = { p->notify_fd, POLLIN, 0 };
		struct seccomp_notif n = { 0 };
		char path[256];

		/* Without POLLIN: the last process under the filter has ended. */
		if (poll(&wait, 1, -1) < 0 || !(wait.revents & POLLIN))
			return NULL;
		if (ioctl(p->notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &n))
			continue;
		opened_path(&n, path, sizeof(path));
		if (!strcmp(path, "/dev/kvm")) {
			atomic_store(&p->kvm_held, true);
			continue;
		}
		struct seccomp_notif_resp go = { .id = n.id,
						 .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
		ioctl(p->notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &go);
	}
}

void process_start_watched(struct process *p, const char *program, const char *path,
			   const char *log)
{
	pthread_t thread;

	start(p, program, path, log, NULL, true);
	if (pthread_create(&thread, NULL, watch, p))
		die("pthread_create");
	pthread_detach(thread);
}

int process_wait(struct process *p, double limit_ms, double *end_ms)
{
	double until = now_ms() + limit_ms;
	int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	struct pollfd wait = { pidfd, POLLIN, 0 };
	int status = -1;

	if (pidfd < 0)
		die("pidfd_open: %s", strerror(errno));
	for (;;) {
		double left = until - now_ms();
		if (poll(&wait, 1, left > 0 ? (int)left + 1 : 0) > 0) {
			*end_ms = now_ms();
			if (waitpid(p->pid, &status, 0) != p->pid)
				die("waitpid: %s", strerror(errno));
			p->pid = -1;
			break;
		}
		if (left <= 0)
			break;
	}
	close(pidfd);
	return status;
}

/* Reads the ids of this process's children into text. */
static void children(char *text, size_t size)
{
	char path[64];

	/* A child that has just ended is no orphan. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;
	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = 0;
}

unsigned process_orphans(void)
{
	char text[4096];
	unsigned n = 0;

	/* A helper sees the end of its VM a moment later. */
	for (double until = now_ms() + 500;
	     children(text, sizeof(text)), *text && now_ms() < until;)
		sleep_ms(10);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "), n++) {
		int pid;
		if (sscanf(word, "%d", &pid) == 1)
			kill(pid, SIGKILL);
	}
	return n;
}
