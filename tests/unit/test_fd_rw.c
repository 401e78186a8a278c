/* fd_rw: one system call for all reading, one for all writing; what a host that refuses them is told. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/core/fd_now.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/loop.h"

TestSuite(fd_rw, .timeout = 30);

static const int others[] = { SYS_read,	 SYS_readv,  SYS_pread64,  SYS_preadv,
			      SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev };
static const int ours[] = { SYS_preadv2, SYS_pwritev2 };

/* From now on these calls fail with EPERM, as a container's filter has it. */
static void refuse(const int *call, unsigned n)
{
	struct sock_filter insn[2 * sizeof(others) / sizeof(others[0]) + 2];
	struct sock_fprog prog = { .filter = insn };

	insn[prog.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < n; i++) {
		insn[prog.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								(unsigned)call[i], 0, 1);
		insn[prog.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
								SECCOMP_RET_ERRNO | EPERM);
	}
	insn[prog.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(90);
}

/* Runs fn in a child; it returns the line of what went wrong, or 0. */
static void in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_expect_eq(WEXITSTATUS(status), 0, "line %d", WEXITSTATUS(status));
}

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static int each_function(void)
{
	char a[4] = "", b[4] = "";
	struct iovec in[2] = { { a, 2 }, { b, 3 } }, out[2] = { { "ab", 2 }, { "cde", 3 } };
	int file = memfd_create("fd_rw", MFD_CLOEXEC), p[2];

	CHECK(file >= 0 && !pipe2(p, O_CLOEXEC | O_NONBLOCK));
	refuse(others, sizeof(others) / sizeof(others[0]));
	CHECK(write(p[1], "x", 1) == -1 && errno == EPERM);
	/* a place in a file, which leaves its position as it is */
	CHECK(fd_rw_pwritev(file, out, 2, 100, 0) == 5);
	CHECK(fd_rw_preadv(file, in, 2, 101, 0) == 4 && !memcmp(a, "bc", 2) && !memcmp(b, "de", 2));
	CHECK(fd_rw_preadv(file, in, 2, 105, 0) == 0);
	CHECK(fd_rw_write(file, "123456", 6) == 6 && lseek(file, 0, SEEK_CUR) == 6);
	CHECK(lseek(file, 1, SEEK_SET) == 1 && fd_rw_readv(file, in, 2) == 5);
	CHECK(!memcmp(a, "23", 2) && !memcmp(b, "456", 3));
	/* beyond 4 GiB */
	CHECK(fd_rw_pwritev(file, out, 2, 5ll << 32, 0) == 5);
	CHECK(fd_rw_preadv(file, in, 1, (5ll << 32) + 3, 0) == 2 && !memcmp(a, "de", 2));
	/* what has no place */
	CHECK(fd_rw_read(p[0], a, 1) == -1 && errno == EAGAIN);
	CHECK(fd_rw_writev(p[1], out, 2) == 5 && fd_rw_read(p[0], a, 4) == 4 &&
	      !memcmp(a, "abcd", 4));
	CHECK(fd_rw_read(-1, a, 1) == -1 && errno == EBADF);
	CHECK(fd_rw_write(p[1], NULL, 1) == -1 && errno == EFAULT);
	/* what others have, too: a kernel without RWF_NOWAIT for it is asked for no more than these calls */
	CHECK(fd_write_now(p[1], "fg", 2) == 2);
	CHECK(fd_read_now(p[0], in, 2) == 3 && !memcmp(a, "ef", 2) && b[0] == 'g');
	CHECK(fd_read_now(p[0], in, 2) == -1 && errno == EAGAIN);
	CHECK(fd_write_frame_now(p[1], out, 2) == 5);
	return 0;
}

Test(fd_rw, each_function_makes_one_of_two_calls)
{
	in_child(each_function);
}

static void stop(void *opaque)
{
	loop_stop(opaque);
}

static int loop_with_two_calls(void)
{
	struct loop_watch *event, *timer;
	struct loop *loop;

	refuse(others, sizeof(others) / sizeof(others[0]));
	CHECK(!loop_create(&loop, NULL));
	CHECK(!loop_watch_event(loop, stop, loop, &event, NULL));
	loop_event_soon(event);
	CHECK(!loop_run(loop));
	CHECK(!loop_watch_timer(loop, stop, loop, &timer));
	loop_timer_arm(timer, 1);
	CHECK(!loop_run(loop));
	CHECK(!loop_post(loop, stop, loop) && !loop_run(loop));
	loop_destroy(loop);
	return 0;
}

Test(fd_rw, a_loop_needs_no_other)
{
	in_child(loop_with_two_calls);
}

static int host_that_refuses(void)
{
	struct loop *loop;
	struct err err = { "" };

	refuse(ours, 1);
	CHECK(loop_create(&loop, &err) == -EPERM && !loop);
	CHECK(strstr(err.text, "preadv2") && strstr(err.text, "seccomp"));
	return 0;
}

static int host_that_refuses_to_write(void)
{
	refuse(ours + 1, 1);
	CHECK(fd_rw_check(eventfd(0, EFD_NONBLOCK)) == -EPERM);
	return 0;
}

/* Or its loops would sleep through every event. */
Test(fd_rw, a_host_that_refuses_is_told)
{
	in_child(host_that_refuses);
	in_child(host_that_refuses_to_write);
}
