/*
 * unix_socket: the paths that a socket may listen at, the files that it replaces and those that it
 * keeps, and how connecting fails.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "vmm/core/unix_socket.h"

static char dir[] = "/tmp/test_unix_socket.XXXXXX";
static struct err err;
static unsigned fds;
static int held = -1; /* a descriptor that the case holds open */

static void setup(void)
{
	cr_assert(mkdtemp(dir) && !chdir(dir));
	fds = proc_fds(0);
}

static void teardown(void)
{
	char cmd[64];

	if (held >= 0)
		close(held);
	cr_expect_eq(proc_fds(0), fds, "no descriptor is left");
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_expect_eq(system(cmd), 0);
}

TestSuite(unix_socket, .init = setup, .fini = teardown, .timeout = 30);

/* Returns a relative path of len bytes. */
static const char *long_path(size_t len)
{
	static char path[300];

	cr_assert_lt(len, sizeof(path));
	memset(path, 'n', len);
	path[len] = 0;
	return path;
}

/* --- files at "s" before the listen --------------------------------------------------- */

static int bound(const char *path, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(addr.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void a_file(void)
{
	close(open("s", O_CREAT | O_WRONLY, 0600));
}

static void a_folder(void)
{
	cr_assert_eq(mkdir("s", 0700), 0);
}

static void a_fifo(void)
{
	cr_assert_eq(mkfifo("s", 0600), 0);
}

static void a_dangling_link(void)
{
	cr_assert_eq(symlink("nowhere", "s"), 0);
}

static void a_server(void)
{
	held = bound("s", SOCK_STREAM);
	cr_assert_eq(listen(held, 1), 0);
}

static void a_link_to_a_server(void)
{
	held = bound("real", SOCK_STREAM);
	cr_assert_eq(listen(held, 1), 0);
	cr_assert_eq(symlink("real", "s"), 0);
}

/*
 * A process listens, and ends; a child of it has the socket for ms more. That child is held's other
 * end: it ends with the case at the latest.
 */
static void a_child_with_it(unsigned ms)
{
	int fd[2], server = bound("s", SOCK_STREAM);
	pid_t pid;

	cr_assert_eq(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		if (!listen(server, 4) && !fork()) {
			struct pollfd p = { fd[0], POLLIN, 0 };

			close(fd[1]);
			poll(&p, 1, (int)ms);
		}
		_exit(0);
	}
	close(server);
	close(fd[0]);
	held = fd[1];
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

/* As a process that was killed while it started a program. */
static void a_child_that_ends(void)
{
	a_child_with_it(20);
}

static void a_child_that_stays(void)
{
	a_child_with_it(20000);
}

/* As a killed process leaves it. */
static void a_dead_socket(void)
{
	close(bound("s", SOCK_STREAM));
}

static void a_link_to_a_dead_socket(void)
{
	close(bound("real", SOCK_STREAM));
	cr_assert_eq(symlink("real", "s"), 0);
}

static void a_datagram_socket(void)
{
	held = bound("s", SOCK_DGRAM);
}

static void a_dead_datagram_socket(void)
{
	close(bound("s", SOCK_DGRAM));
}

/* The queue of clients is full: connecting would block. */
static void a_busy_server(void)
{
	int client;

	held = bound("s", SOCK_STREAM);
	cr_assert_eq(listen(held, 0), 0);
	client = unix_socket_connect("s", SOCK_NONBLOCK);
	cr_assert_geq(client, 0);
	close(client);
	cr_assert_eq(unix_socket_connect("s", SOCK_NONBLOCK), -EAGAIN);
}

static const struct {
	void (*before)(void);
	int want;
	const char *says;
	bool stays; /* the file stays untouched */
} cases[] = {
	{ a_file, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_folder, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_fifo, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_dangling_link, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_link_to_a_server, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_link_to_a_dead_socket, EEXIST, "--x socket=s: exists and is not a socket", true },
	{ a_server, EADDRINUSE, "--x socket=s: in use: another process listens there", true },
	{ a_busy_server, EADDRINUSE, "--x socket=s: in use: another process listens there", true },
	{ a_datagram_socket, EADDRINUSE, "--x socket=s: in use: another process listens there",
	  true },
	{ a_child_that_stays, EADDRINUSE, "--x socket=s: in use: another process listens there",
	  true },
	{ a_child_that_ends, 0, "", false },
	{ a_dead_socket, 0, "", false },
	{ a_dead_datagram_socket, 0, "", false },
};

Test(unix_socket, what_lies_there)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct unix_listener l;
		struct stat old, new;

		err.text[0] = 0;
		cases[i].before();
		cr_assert_eq(lstat("s", &old), 0);
		cr_expect_eq(unix_socket_listen(&l, "--x", "socket", "s", 1, &err), -cases[i].want,
			     "case %zu: %s", i, err.text);
		cr_expect_str_eq(err.text, cases[i].says, "case %zu", i);
		if (cases[i].stays) {
			cr_expect_eq(l.fd, -1);
			unix_socket_close(&l);
			cr_assert_eq(lstat("s", &new), 0, "case %zu: it was removed", i);
			cr_expect_eq(new.st_ino, old.st_ino, "case %zu: it was replaced", i);
			cr_expect(remove("s") == 0);
		} else {
			int fd = unix_socket_connect("s", 0);

			cr_expect_geq(fd, 0, "case %zu", i);
			close(fd);
			unix_socket_close(&l);
			cr_expect_neq(lstat("s", &new), 0, "case %zu: it stays", i);
		}
		unlink("real");
		if (held >= 0)
			close(held);
		held = -1;
	}
}

/* --- paths ---------------------------------------------------------------------------- */

Test(unix_socket, paths)
{
	struct unix_listener l;
	char name[110];

	cr_expect_eq(unix_socket_listen(&l, "--x", "socket", "", 1, &err), -ENAMETOOLONG);
	cr_expect_str_eq(err.text, "--x socket=: a socket's path has 1 to 107 bytes here");
	cr_expect_eq(l.fd, -1);
	cr_expect_eq(unix_socket_listen(&l, "--x", "socket", long_path(108), 1, &err),
		     -ENAMETOOLONG);
	cr_expect(strstr(err.text, "1 to 107 bytes"), "%s", err.text);
	cr_expect_eq(unix_socket_check("--x", "socket", long_path(299), 0, &err), -ENAMETOOLONG);
	cr_expect(strstr(err.text, "1 to 107 bytes"), "the reason is not cut off: %s", err.text);
	cr_expect_eq(unix_socket_check("--x", "socket", long_path(97), 11, &err), -ENAMETOOLONG);
	cr_expect(strstr(err.text, "1 to 96 bytes"), "%s", err.text);
	cr_expect_eq(unix_socket_check("--x", "socket", long_path(96), 11, &err), 0);
	cr_expect_eq(unix_socket_listen(&l, "--x", "socket", "no/such", 1, &err), -ENOENT);
	cr_expect_str_eq(err.text, "--x socket=no/such: No such file or directory");
	cr_expect_eq(unix_socket_listen(&l, "--x", "socket", "a\nb\033[2J", 1, &err), 0);
	unix_socket_close(&l);
	a_file();
	cr_expect_eq(unix_socket_listen(&l, "--x", "socket", "s/below", 1, &err), -ENOTDIR);
	/* The longest path. */
	strcpy(name, long_path(107));
	cr_assert_eq(unix_socket_listen(&l, "--x", "socket", name, 1, &err), 0);
	held = unix_socket_connect(name, SOCK_NONBLOCK);
	cr_expect_geq(held, 0);
	unix_socket_close(&l);
	cr_expect_neq(access(name, F_OK), 0);
}

Test(unix_socket, messages_are_one_line)
{
	cr_expect_eq(unix_socket_look("--x", "socket", "", &err), -ENAMETOOLONG);
	close(open("a\nb\033[2J", O_CREAT | O_WRONLY, 0600));
	cr_expect_eq(unix_socket_look("--x", "socket", "a\nb\033[2J", &err), -EEXIST);
	cr_expect_str_eq(err.text, "--x socket=a?b?[2J: exists and is not a socket");
	cr_expect_eq(unix_socket_look("--x", "socket", "free", &err), 0);
	cr_expect_neq(access("free", F_OK), 0, "looking leaves nothing");
}

/* --- life ----------------------------------------------------------------------------- */

Test(unix_socket, only_the_owner_connects)
{
	struct unix_listener l;
	struct stat st;

	umask(0);
	cr_assert_eq(unix_socket_listen(&l, "--x", "socket", "s", 1, &err), 0);
	cr_assert_eq(lstat("s", &st), 0);
	cr_expect_eq(st.st_mode, S_IFSOCK | 0700);
	cr_expect_eq(fcntl(l.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_expect_eq(fcntl(l.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	unix_socket_close(&l);
	cr_expect_eq(l.fd, -1);
	unix_socket_close(&l);
}

Test(unix_socket, another_file_in_its_place_stays)
{
	struct unix_listener l;

	cr_assert_eq(unix_socket_listen(&l, "--x", "socket", "s", 1, &err), 0);
	cr_assert_eq(rename("s", "moved"), 0);
	a_file();
	unix_socket_close(&l);
	cr_expect_eq(access("s", F_OK), 0);
	/* The close does not remove another VM's socket at the path either. */
	unlink("s");
	cr_assert_eq(unix_socket_listen(&l, "--x", "socket", "s", 1, &err), 0);
	unlink("s");
	a_server();
	unix_socket_close(&l);
	cr_expect_eq(access("s", F_OK), 0);
	cr_expect_eq(close(unix_socket_connect("s", 0)), 0);
}

Test(unix_socket, a_second_one_does_not_take_the_path)
{
	struct unix_listener a, b;

	cr_assert_eq(unix_socket_listen(&a, "--x", "socket", "s", 4, &err), 0);
	cr_expect_eq(unix_socket_listen(&b, "--y", "socket", "s", 4, &err), -EADDRINUSE);
	unix_socket_close(&b);
	cr_expect_eq(close(unix_socket_connect("s", 0)), 0, "the first one's stays");
	unix_socket_close(&a);
}

Test(unix_socket, connect)
{
	cr_expect_eq(unix_socket_connect("", 0), -ENOENT);
	cr_expect_eq(unix_socket_connect("nothing", 0), -ENOENT);
	cr_expect_eq(unix_socket_connect(long_path(108), 0), -ENAMETOOLONG);
	a_dead_socket();
	cr_expect_eq(unix_socket_connect("s", 0), -ECONNREFUSED);
	unlink("s");
	a_file();
	cr_expect_eq(unix_socket_connect("s", 0), -ECONNREFUSED);
	unlink("s");
	a_datagram_socket();
	cr_expect_eq(unix_socket_connect("s", 0), -EPROTOTYPE);
	close(held);
	unlink("s");
	a_server();
	for (int i = 0; i < 2; i++) {
		int fd = unix_socket_connect("s", i ? SOCK_NONBLOCK : 0);

		cr_assert_geq(fd, 0);
		cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		cr_expect_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, i ? O_NONBLOCK : 0);
		close(fd);
	}
}

/* Several processes find the same dead socket at once: one replaces it, and keeps its path. */
Test(unix_socket, one_of_many_wins)
{
	for (int round = 0; round < 30; round++) {
		int start[2], tried[2], stop[2], wins = 0, status;
		pid_t pid[6];
		char c;

		unlink("s");
		a_dead_socket();
		cr_assert(!pipe(start) && !pipe(tried) && !pipe(stop));
		for (int i = 0; i < 6; i++) {
			pid[i] = fork();
			if (!pid[i]) {
				struct unix_listener l;
				int rc;

				close(start[1]);
				close(stop[1]);
				(void)!read(start[0], &c, 1);
				rc = unix_socket_listen(&l, "--serial", "socket", "s", 8, &err);
				(void)!write(tried[1], "", 1);
				if (rc)
					_exit(0);
				/* The others must find a live socket. */
				(void)!read(stop[0], &c, 1);
				_exit(unix_socket_connect("s", 0) >= 0 ? 1 : 2);
			}
		}
		close(start[0]);
		close(start[1]);
		for (int i = 0; i < 6; i++)
			cr_assert_eq(read(tried[0], &c, 1), 1);
		close(tried[0]);
		close(tried[1]);
		close(stop[0]);
		close(stop[1]);
		for (int i = 0; i < 6; i++) {
			waitpid(pid[i], &status, 0);
			cr_assert_lt(WEXITSTATUS(status), 2, "a winner's path leads elsewhere");
			wins += WEXITSTATUS(status);
		}
		cr_assert_eq(wins, 1, "round %d: %d processes listen", round, wins);
	}
}
