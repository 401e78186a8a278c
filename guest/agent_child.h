/*
 * agent_child: starts the agent's command: who it is, where, with which descriptors. Part of agent.c.
 */
#ifndef GUEST_AGENT_CHILD_H
#define GUEST_AGENT_CHILD_H

#include <asm/ioctls.h>
#include <linux/termios.h>

#include "guest/setup.h"
#include "guest/wire.h"

#define NGROUPS 64

/* What START and WIRE_SPEC say. The strings lie in the buffer of WIRE_SPEC. */
struct spec {
	bool tty;
	uint16_t rows, cols;
	uint32_t argc, envc;
	char **argv, **envp; /* each ends with NULL */
	const char *cwd, *user, *host_name;
};

/* The agent's ends of the command's streams; -1: closed. With a terminal in, out are both its master. */
struct child {
	long pid;
	int in, out, err;
};

/* Why it could not be started: a WIRE_STEP_* and an errno. */
struct refusal {
	uint32_t step, code;
};

/* --- who ------------------------------------------------------------------------------------------- */

struct user {
	uint32_t uid, gid, groups[NGROUPS];
	unsigned ngroups;
	char home[256];
};

/* Splits off the next field of a line of /etc/passwd or /etc/group. */
static char *next_field(char **at, char separator)
{
	char *field = *at;

	while (**at && **at != separator)
		++*at;
	if (**at)
		*(*at)++ = 0;
	return field;
}

static bool is_number(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (*s < '0' || *s > '9')
			return false;
	return true;
}

static bool in_members(const char *members, const char *name)
{
	size_t len = strlen(name);

	while (*members) {
		if (!memcmp(members, name, strlen(members) < len ? strlen(members) : len) &&
		    strlen(members) >= len && (!members[len] || members[len] == ','))
			return true;
		while (*members && *members++ != ',')
			;
	}
	return false;
}

/* Reads a whole file of at most size - 1 bytes. */
static char *read_table(const char *path, char *buf, size_t size)
{
	return file_read(path, buf, size) < 0 ? NULL : buf;
}

static void find_groups(struct user *u, const char *name)
{
	static char text[64 << 10];
	char *at = read_table("/etc/group", text, sizeof(text));

	u->groups[u->ngroups++] = u->gid;
	while (at && *at && u->ngroups < NGROUPS) {
		char *line = next_field(&at, '\n'), *gid;

		(void)next_field(&line, ':');
		(void)next_field(&line, ':');
		gid = next_field(&line, ':');
		if (is_number(gid) && in_members(line, name) && str_number(gid) != u->gid)
			u->groups[u->ngroups++] = (uint32_t)str_number(gid);
	}
}

/* name: of /etc/passwd, or a number, which need not be there; root is always there. */
static bool find_user(const char *name, struct user *u)
{
	static char text[64 << 10];
	char *at = read_table("/etc/passwd", text, sizeof(text));
	bool number = is_number(name), root = str_eq(name, "root");

	*u = (struct user){ .home = "/" };
	while (at && *at) {
		char *line = next_field(&at, '\n'), *login = next_field(&line, ':'), *uid, *gid;

		(void)next_field(&line, ':');
		uid = next_field(&line, ':');
		gid = next_field(&line, ':');
		(void)next_field(&line, ':');
		if (!is_number(uid) || !is_number(gid) || !str_eq(number ? uid : login, name))
			continue;
		u->uid = (uint32_t)str_number(uid);
		u->gid = (uint32_t)str_number(gid);
		str_copy(u->home, sizeof(u->home), next_field(&line, ':'));
		find_groups(u, login);
		return true;
	}
	if (number)
		u->uid = u->gid = (uint32_t)str_number(name);
	if (root)
		str_copy(u->home, sizeof(u->home), "/root");
	u->groups[u->ngroups++] = u->gid;
	return number || root;
}

static long become(const struct user *u)
{
	long rc = SYS(getuid, 0);

	/* As a plain user (to try the agent out): only that user itself. */
	if (rc)
		return (uint32_t)rc == u->uid ? 0 : -EPERM;
	rc = SYS(setgroups, u->ngroups, u->groups);
	if (!rc)
		rc = SYS(setresgid, u->gid, u->gid, u->gid);
	return rc ? rc : SYS(setresuid, u->uid, u->uid, u->uid);
}

/* --- what ------------------------------------------------------------------------------------------ */

static const char *environment(char **envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++)
		if (str_starts(*envp, name) && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* Runs path; a file of a form that the kernel does not know is a script, as in every shell. */
static long run_file(const struct spec *spec, char *path)
{
	long rc = SYS(execve, path, spec->argv, spec->envp);
	char **argv;

	if (rc != -ENOEXEC)
		return rc;
	/* argv has room before its first word (parse_spec). */
	argv = spec->argv - 1;
	argv[0] = "/bin/sh";
	argv[1] = path;
	return SYS(execve, "/bin/sh", argv, spec->envp) == -ENOENT ? -ENOEXEC : -EACCES;
}

/* Looks the program up as execvp does. Returns only if it cannot run. */
static long run_program(const struct spec *spec)
{
	const char *path = environment(spec->envp, "PATH");
	char *name = spec->argv[0];
	static char full[4096];
	long worst = -ENOENT;

	for (const char *c = name; *c; c++)
		if (*c == '/')
			return run_file(spec, name);
	for (path = path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	     *name;) {
		size_t len = 0;
		long rc;

		while (path[len] && path[len] != ':')
			len++;
		if (len + strlen(name) + 2 < sizeof(full)) {
			memcpy(full, path, len);
			str_join(full + len, sizeof(full) - len, len ? "/" : "", name, "");
			rc = run_file(spec, full);
			if (rc == -EACCES)
				worst = rc;
			else if (rc != -ENOENT && rc != -ENOTDIR)
				return rc;
		}
		if (!path[len])
			break;
		path += len + 1;
	}
	return worst;
}

/* --- the child's own part ---------------------------------------------------------------------------- */

static void raise_limits(void)
{
	const uint64_t files[2] = { 1 << 20, 1 << 20 }, all[2] = { UINT64_MAX, UINT64_MAX };

	if (SYS(getuid, 0))
		return;
	SYS(prlimit64, 0, 7 /* RLIMIT_NOFILE */, files, 0);
	SYS(prlimit64, 0, 4 /* RLIMIT_CORE */, all, 0);
	SYS(prlimit64, 0, 8 /* RLIMIT_MEMLOCK */, all, 0);
}

static _Noreturn void refuse(int report, uint32_t step, long rc)
{
	struct refusal why = { step, (uint32_t)-rc };

	sys_write(report, &why, sizeof(why));
	SYS(exit_group, 127);
	for (;;)
		;
}

/* What the agent's own parent ignores (GNU make: 32 and 33) is not the command's affair. */
static void reset_signals(void)
{
	const uint64_t none = 0, by_default[4] = { 0 }; /* struct sigaction of the kernel */

	for (int i = 1; i <= 64; i++)
		SYS(rt_sigaction, i, by_default, 0, 8);
	SYS(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
}

/* fd: what becomes descriptors 0, 1 and 2. report: written to only if there is no command. */
static _Noreturn void child_main(const struct spec *spec, const int fd[3], int report)
{
	struct user user;
	long rc;

	if (!find_user(spec->user, &user))
		refuse(report, WIRE_STEP_USER, -ENOENT);
	SYS(setsid, 0);
	for (int i = 0; i < 3; i++)
		if ((rc = SYS(dup3, fd[i], i, 0)) < 0)
			refuse(report, WIRE_STEP_FORK, rc);
	if (spec->tty && (rc = SYS(ioctl, 0, TIOCSCTTY, 0)) < 0)
		refuse(report, WIRE_STEP_TTY, rc);
	raise_limits();
	rc = become(&user);
	if (rc < 0)
		refuse(report, WIRE_STEP_USER, rc);
	rc = SYS(chdir, *spec->cwd ? spec->cwd : user.home);
	if (rc < 0)
		refuse(report, WIRE_STEP_CWD, rc);
	reset_signals();
	refuse(report, WIRE_STEP_EXEC, run_program(spec));
}

/* --- the agent's part ---------------------------------------------------------------------------------- */

static void close_pair(const int fd[2])
{
	sys_close(fd[0]);
	sys_close(fd[1]);
}

/* Opens a terminal of the given size. Returns its master and *slave, or -errno. */
static int open_terminal(const struct spec *spec, int *slave)
{
	struct winsize size = { .ws_row = spec->rows, .ws_col = spec->cols };
	int master = sys_open("/dev/ptmx", O_RDWR | O_NOCTTY, 0), zero = 0, n = 0;
	char path[32];

	if (master < 0)
		return master;
	SYS(ioctl, master, TIOCSPTLCK, &zero);
	SYS(ioctl, master, TIOCGPTN, &n);
	SYS(ioctl, master, TIOCSWINSZ, &size);
	fmt_buf(path, sizeof(path), "/dev/pts/%d", n);
	*slave = sys_open(path, O_RDWR | O_NOCTTY, 0);
	if (*slave >= 0)
		return master;
	sys_close(master);
	return *slave;
}

/* Forks, and returns 0 when the command runs; else *why says what failed. */
static bool launch(const struct spec *spec, const int fd[3], struct child *child,
		   struct refusal *why)
{
	int report[2];
	long rc = SYS(pipe2, report, O_CLOEXEC);

	*why = (struct refusal){ WIRE_STEP_FORK, (uint32_t)-rc };
	if (rc < 0)
		return false;
	child->pid = fork_process();
	if (!child->pid)
		child_main(spec, fd, report[1]);
	sys_close(report[1]);
	why->code = (uint32_t)-child->pid;
	rc = child->pid < 0 ? 1 : sys_read(report[0], why, sizeof(*why));
	sys_close(report[0]);
	return rc == 0;
}

static bool start_on_terminal(const struct spec *spec, struct child *child, struct refusal *why)
{
	int slave, fd[3];
	bool ok;

	child->in = child->out = open_terminal(spec, &slave);
	if (child->in < 0) {
		*why = (struct refusal){ WIRE_STEP_TTY, (uint32_t)-child->in };
		return false;
	}
	fd[0] = fd[1] = fd[2] = slave;
	ok = launch(spec, fd, child, why);
	sys_close(slave);
	if (!ok)
		sys_close(child->in);
	return ok;
}

static bool start_on_pipes(const struct spec *spec, struct child *child, struct refusal *why)
{
	int in[2], out[2], err[2], fd[3];
	bool ok;

	/* PID 1 has so few descriptors that pipes do not fail for want of them. */
	if (SYS(pipe2, in, O_CLOEXEC) < 0 || SYS(pipe2, out, O_CLOEXEC) < 0 ||
	    SYS(pipe2, err, O_CLOEXEC) < 0) {
		*why = (struct refusal){ WIRE_STEP_FORK, EMFILE };
		return false;
	}
	fd[0] = in[0];
	fd[1] = out[1];
	fd[2] = err[1];
	ok = launch(spec, fd, child, why);
	if (!ok) {
		close_pair(in);
		close_pair(out);
		close_pair(err);
		return false;
	}
	for (int i = 0; i < 3; i++)
		sys_close(fd[i]);
	child->in = in[1];
	child->out = out[0];
	child->err = err[0];
	return true;
}

/* Starts the command. Returns true with *child, whose descriptors do not block; or false with *why. */
static bool child_start(const struct spec *spec, struct child *child, struct refusal *why)
{
	*child = (struct child){ .in = -1, .out = -1, .err = -1 };
	if (!(spec->tty ? start_on_terminal(spec, child, why) : start_on_pipes(spec, child, why))) {
		*child = (struct child){ .in = -1, .out = -1, .err = -1 };
		return false;
	}
	for (int i = 0; i < 3; i++) {
		int fd = i == 0 ? child->in : i == 1 ? child->out : child->err;

		if (fd >= 0)
			SYS(fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK); /* the mode stays as it is */
	}
	return true;
}

#endif
