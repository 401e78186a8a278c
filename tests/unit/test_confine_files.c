/* confine: which files a process opens between confine_begin and confine_finish, or a thread of an API after confine_files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine.h"
#include "vmm/confine/confine_impl.h"
#include "vmm/confine/plan.h"
#include "vmm/core/calls.h"

#define PLAIN 65534
#define MAY 0

TestSuite(confine_files, .timeout = 60);

static char top[] = "/tmp/bantam-test-files.XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void make(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);

	cr_assert(fd >= 0 && write(fd, "text", 4) == 4, "%s", path);
	close(fd);
	cr_assert(!chmod(path, 0666));
}

static void make_folder(const char *path)
{
	cr_assert(!mkdir(path, 0777) && !chmod(path, 0777), "%s", path);
}

/* What a user has: the VM's files and others beside them. Relative paths, below top. */
static void make_files(void)
{
	static const char *const folders[] = { "boot", "images", "elsewhere", "logs",
					       "run",  "cache",	 "seed",      "seed/sub" };
	static const char *const files[] = { "boot/kernel",	 "boot/other",
					     "images/disk.raw",	 "images/top.qcow2",
					     "images/base",	 "elsewhere/real.qcow2",
					     "elsewhere/beside", "logs/old",
					     "logs/theirs",	 "seed/user-data",
					     "seed/sub/more",	 "cache/entry",
					     "read-only",	 "given" };

	strcpy(strrchr(top, '.'), ".XXXXXX");
	cr_assert(mkdtemp(top) && !chdir(top) && !chmod(top, 0777));
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		make_folder(folders[i]);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		make(files[i]);
	cr_assert(!symlink("boot/kernel", "vmlinuz"));
	cr_assert(!symlink("../elsewhere/real.qcow2", "images/link.qcow2"));
	cr_assert(!symlink("logs/later", "log"));
}

static void remove_files(void)
{
	cr_expect(!chdir("/") && !nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS));
}

/* As the options of a VM name them. */
static void name(struct confine_plan *plan)
{
	static const char list[] = "seed/sub\nboot/kernel";
	static const struct confine_path paths[] = {
		{ "vmlinuz", 7, CONFINE_READ },
		{ list, 8, CONFINE_READ },
		{ "images/disk.raw", 15, CONFINE_READ | CONFINE_WRITE },
		{ "images/link.qcow2", 17, CONFINE_READ | CONFINE_WRITE | CONFINE_AROUND },
		{ "read-only", 9, CONFINE_READ | CONFINE_MAKE },
		{ "logs/old", 8, CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE },
		{ "cache", 5, CONFINE_READ | CONFINE_FILL },
		{ "elsewhere/new/cache", 19, CONFINE_READ | CONFINE_FILL },
		{ "not-there/at-all", 16, CONFINE_READ | CONFINE_MAKE },
	};
	struct err err = { "" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		cr_assert(!confine_add_path(plan, paths[i].path, paths[i].len, paths[i].access,
					    &err));
	plan->name[plan->nnames++] = "run/socket";
}

struct attempt {
	const char *path;
	int flags;
	int code; /* of open: MAY: it opens */
};

static const struct attempt attempts[] = {
	{ "vmlinuz", O_RDONLY, MAY },
	{ "boot/kernel", O_RDONLY, MAY },
	{ "vmlinuz", O_RDWR, EACCES },
	{ "vmlinuz", O_RDONLY | O_TRUNC, EACCES },
	{ "boot/other", O_RDONLY, EACCES },
	{ "boot", O_RDONLY | O_DIRECTORY, EACCES },
	{ "seed/sub", O_RDONLY | O_DIRECTORY, MAY },
	{ "seed/sub/more", O_RDONLY, MAY },
	{ "seed/sub/more", O_WRONLY, EACCES },
	{ "seed/sub/new", O_WRONLY | O_CREAT, EACCES },
	{ "seed/user-data", O_RDONLY, EACCES },
	{ "images/disk.raw", O_RDWR, MAY },
	{ "images/link.qcow2", O_RDWR, MAY },
	/* Names in the image are relative to the folder of the link, as QEMU has it. */
	{ "images/base", O_RDONLY, MAY },
	{ "images/base", O_RDWR, EACCES },
	{ "images/top.qcow2", O_RDWR, EACCES },
	{ "elsewhere/real.qcow2", O_RDWR, MAY },
	{ "elsewhere/beside", O_RDONLY, EACCES },
	{ "read-only", O_RDONLY, MAY },
	{ "read-only", O_WRONLY, EACCES },
	/* It is there: its folder stays closed. */
	{ "logs/old", O_RDWR | O_TRUNC, MAY },
	{ "logs/theirs", O_RDONLY, EACCES },
	{ "logs/theirs", O_WRONLY, EACCES },
	{ "logs/new", O_WRONLY | O_CREAT, EACCES },
	{ "cache/entry", O_RDWR, MAY },
	{ "cache/new", O_WRONLY | O_CREAT | O_EXCL, MAY },
	{ "elsewhere/new/cache/a", O_WRONLY | O_CREAT | O_EXCL, MAY },
	{ "elsewhere/new/a", O_WRONLY | O_CREAT, EACCES },
	{ "run/new", O_WRONLY | O_CREAT, EACCES },
	{ ".", O_RDONLY | O_DIRECTORY, EACCES },
	{ ".", O_RDWR | O_TMPFILE, EACCES },
	{ "cache", O_RDWR | O_TMPFILE, MAY },
	{ "/etc/passwd", O_RDONLY, EACCES },
	{ "/etc/hostname", O_WRONLY | O_APPEND, EACCES },
	{ "/", O_RDONLY | O_DIRECTORY, EACCES },
	{ "/tmp", O_RDWR | O_TMPFILE, EACCES },
	{ "/dev/null", O_RDWR, MAY },
	{ "/dev/full", O_RDWR, EACCES },
	{ "/proc/self/mem", O_RDWR, EACCES },
	/* What is not there is told as ever. */
	{ "not-there/at-all", O_RDONLY, ENOENT },
	{ "not-there/at-all", O_WRONLY | O_CREAT, ENOENT },
	{ "no", O_RDONLY, ENOENT },
};

/* The child tells by its standard error and its status: Criterion's process is not confined. */
static unsigned wrong;

static void expect(bool ok, const char *what, const char *path, int code)
{
	if (ok)
		return;
	wrong++;
	dprintf(STDERR_FILENO, "%s %s: %s\n", what, path, code ? strerror(code) : "permitted");
}

static void expect_code(int is, int code, const char *what, const char *path)
{
	expect(is == code, what, path, is);
}

static void try_opens(void)
{
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const struct attempt *a = &attempts[i];
		int fd = open(a->path, a->flags, 0600), code = fd < 0 ? errno : 0;
		char what[40];

		snprintf(what, sizeof(what), "open, flags %#x,", (unsigned)a->flags);
		/* A user's own rights may refuse it before. */
		expect(code == a->code || (a->code == EACCES && code == EPERM), what, a->path,
		       code);
		if (fd >= 0)
			close(fd);
	}
}

static int bind_at(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), rc;

	strcpy(to.sun_path, path);
	rc = bind(fd, (struct sockaddr *)&to, sizeof(to)) ? errno : 0;
	close(fd);
	return rc;
}

static int code_of(int rc)
{
	return rc ? errno : 0;
}

static void try_names(void)
{
	static const struct {
		const char *from, *to;
		int code;
	} moves[] = {
		{ "cache/entry", "cache/moved", MAY },
		{ "cache/moved", "logs/old", EACCES },
		{ "boot/kernel", "cache/kernel", EACCES },
		{ "logs/theirs", "logs/ours", EACCES },
	};
	int code;

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		code = code_of(rename(moves[i].from, moves[i].to));
		expect(code == moves[i].code || (moves[i].code && code == EXDEV), "rename",
		       moves[i].from, code);
	}
	expect_code(bind_at("run/socket"), MAY, "bind", "run/socket");
	expect_code(code_of(unlink("run/socket")), MAY, "unlink", "run/socket");
	expect_code(code_of(symlink("x", "run/link")), MAY, "symlink", "run/link");
	expect_code(bind_at("logs/socket"), EACCES, "bind", "logs/socket");
	expect_code(code_of(unlink("images/base")), EACCES, "unlink", "images/base");
	expect_code(code_of(unlink("boot/kernel")), EACCES, "unlink", "boot/kernel");
	expect_code(code_of(mkdir("run/folder", 0700)), EACCES, "mkdir", "run/folder");
	expect_code(code_of(mkdir("cache/folder", 0700)), MAY, "mkdir", "cache/folder");
	expect_code(code_of(symlink("x", "cache/link")), EACCES, "symlink", "cache/link");
	expect_code(code_of(mknod("cache/fifo", S_IFIFO | 0600, 0)), EACCES, "mkfifo",
		    "cache/fifo");
}

/* What was given open is opened again as it was; files in memory and pipes have no place. */
static void try_descriptors(int given)
{
	int memory = memfd_create("x", 0), pipe_fd[2];
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", given);
	expect(open(path, O_RDONLY) >= 0, "open again", "given", errno);
	expect(open(path, O_RDWR) < 0 && errno == EACCES, "open to write", "given", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	expect(open(path, O_RDWR) >= 0, "open again", "memory", errno);
	expect(!pipe(pipe_fd), "make", "a pipe", errno);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pipe_fd[0]);
	expect(open(path, O_RDONLY | O_NONBLOCK) >= 0, "open again", "a pipe", errno);
}

static bool permits_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 1;
}

struct user {
	const char *who;
	bool plain, api;
};

/* A thread's layer, in the way of the API, or the process's. */
static void begin(const struct user *u, struct confine_plan *plan, int given)
{
	struct confine_plan api = { .mode = CONFINE_ON, .files_later = true };
	struct err err = { "" };

	expect(!confine_keep_fd(u->api ? &api : plan, given, &err) &&
		       !confine_begin(u->api ? &api : plan, &err),
	       "confine", err.text, 0);
	if (u->api) {
		expect(open("boot/other", O_RDONLY) >= 0, "open", "boot/other", errno);
		expect(!confine_keep_fd(plan, given, &err) && !confine_files(plan), "confine_files",
		       err.text, 0);
	}
}

static void try_all(const struct user *u)
{
	struct confine_plan plan = { .mode = CONFINE_ON, .host_network = true };
	int given = open("given", O_RDONLY);

	if (u->plain && !geteuid() &&
	    (setgroups(0, NULL) || setresgid(PLAIN, PLAIN, PLAIN) ||
	     setresuid(PLAIN, PLAIN, PLAIN) || prctl(PR_SET_DUMPABLE, 1)))
		_exit(2);
	name(&plan);
	begin(u, &plan, given);
	try_opens();
	try_names();
	try_descriptors(given);
	_exit(wrong ? 1 : 0);
}

Test(confine_files, what_options_name_and_no_more)
{
	static const struct user users[] = {
		{ "root", false, false },
		{ "plain user", true, false },
		{ "root, API", false, true },
		{ "plain user, API", true, true },
	};
	int status;
	pid_t pid;

	if (CONFINE_SANITIZED || !permits_landlock())
		cr_skip("this build or host has no Landlock");
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		make_files();
		pid = fork();
		if (!pid)
			try_all(&users[i]);
		cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
		cr_expect(!status, "%s: status %#x; see above", users[i].who, (unsigned)status);
		remove_files();
	}
}

/* --- a file that is made ------------------------------------------------------------------- */

/* A file that is not there yet, also behind a link, gets its folder. */
static void try_new(void)
{
	struct confine_plan plan = { .mode = CONFINE_ON };
	struct err err = { "" };

	expect(!confine_add_path(&plan, "log", 3, CONFINE_WRITE | CONFINE_MAKE, &err) &&
		       !confine_begin(&plan, &err),
	       "confine", err.text, 0);
	expect(open("log", O_WRONLY | O_CREAT, 0600) >= 0, "make", "log", errno);
	expect(open("boot/new", O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES, "make",
	       "boot/new", 0);
	expect(open("new", O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES, "make", "new", 0);
	_exit(wrong ? 1 : 0);
}

Test(confine_files, a_new_file_behind_a_link)
{
	int status;
	pid_t pid;

	if (CONFINE_SANITIZED || !permits_landlock())
		cr_skip("this build or host has no Landlock");
	make_files();
	pid = fork();
	if (!pid)
		try_new();
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	cr_expect(!status, "status %#x; see above", (unsigned)status);
	remove_files();
}

/* --- the plan --------------------------------------------------------------------------------- */

/* What an option's paths are for is a flag of its keys. */
Test(confine_files, keys)
{
	static const struct {
		const char *option, *text;
		unsigned access[2];
	} rows[] = {
		{ "--disk", "a", { CONFINE_READ | CONFINE_WRITE } },
		{ "--disk", "a,ro", { CONFINE_READ } },
		{ "--disk", "a,readonly", { CONFINE_READ } },
		{ "--disk", "a,create=1M", { CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE } },
		{ "--disk", "a.qcow2", { CONFINE_READ | CONFINE_WRITE | CONFINE_AROUND } },
		{ "--disk", "a.qcow,ro", { CONFINE_READ | CONFINE_AROUND } },
		{ "--disk", "a.qcow2,format=raw", { CONFINE_READ | CONFINE_WRITE } },
		{ "--disk", "a,format=qcow2,ro", { CONFINE_READ | CONFINE_AROUND } },
		{ "--disk", "seed=a", { CONFINE_READ } },
		{ "--disk", "vhost-user=a", { 0 } },
		{ "--rng", "a", { CONFINE_READ } },
		{ "--serial", "file=a", { CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE } },
		{ "--serial", "socket=a", { 0 } },
		{ "--net", "user", { 0 } },
		{ "--vsock", "cid=3,socket=a", { 0 } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct confine_plan plan = { 0 };
		struct config config;
		struct err err = { "" };
		const char *argv[] = { "--kernel", "k", rows[i].option, rows[i].text, NULL };

		cr_assert(!config_parse(&config, 4, (char **)argv, &err), "%s", err.text);
		cr_assert(!confine_plan_config(&plan, &config, &err), "%s", err.text);
		cr_assert(plan.npaths >= 1 && plan.path[0].access == CONFINE_READ &&
			  plan.path[0].len == 1);
		cr_expect(plan.npaths == (rows[i].access[0] ? 2 : 1) &&
				  plan.path[1].access == rows[i].access[0],
			  "%s %s: %u paths, %u", rows[i].option, rows[i].text, plan.npaths,
			  plan.path[1].access);
		config_clear(&config);
	}
}

/* Whether a disk is a block device is not known if its path is below another root. */
Test(confine_files, block_devices)
{
	static const struct {
		const char *disk, *root;
		bool may_be;
	} rows[] = {
		{ "/proc/self/exe", NULL, false },
		{ "/proc/self/exe", "/usr", true },
		{ "/nowhere", NULL, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config config;
		struct err err = { "" };
		const char *argv[] = { "--kernel", "k",		 "--disk", rows[i].disk,
				       "--chroot", rows[i].root, NULL };

		cr_assert(!config_parse(&config, rows[i].root ? 6 : 4, (char **)argv, &err), "%s",
			  err.text);
		cr_expect_eq(!(confine_plan_lacks(&config) & CALLS_BLOCK), rows[i].may_be, "%s",
			     rows[i].disk);
		config_clear(&config);
	}
}

Test(confine_files, as_many_as_there_is_room_for)
{
	struct confine_plan plan = { 0 };
	struct err err = { "" };

	for (unsigned i = 0; i < CONFINE_PATHS_MAX; i++)
		cr_assert(!confine_add_path(&plan, "a", 1, CONFINE_READ, &err));
	cr_expect(confine_add_path(&plan, "a", 1, CONFINE_READ, &err) == -E2BIG &&
		  strstr(err.text, "256 files"));
}
