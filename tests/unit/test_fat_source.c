/*
 * fat/source: folders of others. Their owner exchanges folders, files and links while an image is
 * made of them; links of every owner; the same where the kernel or a filter refuses openat2.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/fat/fat_impl.h"

#define OWNER 65534
#define OTHER 65533
#define BUILDS 150u

static const char secret[] = "not a byte of this may be in an image";
static char dir[64];

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", path);
	close(fd);
}

static void own(const char *path, uid_t uid)
{
	if (!geteuid())
		cr_assert_eq(lchown(path, uid, uid), 0, "%s", path);
}

/* secret/ is not the owner's; his/ is, and so are the links in it. */
static void setup(void)
{
	static const char *const his[] = { "his",	   "his/top",
					   "his/top/sub",  "his/top/sub/data",
					   "his/top/data", "his/folder",
					   "his/file",	   "his/fifo" };

	strcpy(dir, "/var/tmp/bantam-fat-XXXXXX");
	cr_assert(mkdtemp(dir) && !chdir(dir) && !chmod(dir, 0755));
	cr_assert(!mkdir("secret", 0755) && !mkdir("secret/sub", 0755) && !mkdir("his", 0755) &&
		  !mkdir("his/top", 0755) && !mkdir("his/top/sub", 0755));
	put("secret/data", secret);
	put("secret/sub/data", secret);
	put("his/top/sub/data", "his own");
	put("his/top/data", "his own");
	cr_assert(!symlink("../../secret", "his/folder") &&
		  !symlink("../../secret/data", "his/file") && !mkfifo("his/fifo", 0644));
	for (size_t i = 0; i < sizeof(his) / sizeof(his[0]); i++)
		own(his[i], OWNER);
}

static void teardown(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert(!chdir("/") && !system(cmd));
}

TestSuite(fat_source, .init = setup, .fini = teardown, .timeout = 60);

/* --- the owner exchanges what is there --------------------------------------------- */

static const struct exchange {
	const char *a, *b;
} exchanges[] = {
	{ "his/top/sub", "his/folder" }, { "his/top/sub/data", "his/file" },
	{ "his/top/data", "his/file" },	 { "his/top/data", "his/fifo" },
	{ "his/top", "his/folder" },
};

/* Exchanges in a process of the owner's until it is killed; *n counts. */
static pid_t exchange_in_turns(const struct exchange *e, volatile unsigned *n)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!geteuid() && (setgid(OWNER) || setuid(OWNER)))
		_exit(1);
	while (!renameat2(AT_FDCWD, e->a, AT_FDCWD, e->b, RENAME_EXCHANGE))
		++*n;
	_exit(1);
}

static bool has_secret(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END);
	void *image = mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, fd, 0);
	bool has;

	cr_assert(image != MAP_FAILED);
	has = memmem(image, (size_t)len, secret, strlen(secret));
	munmap(image, (size_t)len);
	return has;
}

/* Returns whether the image of his/top was made. */
static bool build(bool follow)
{
	struct fat_options options = { .latest_s = FAT_LAST_S, .follow = follow };
	int fd = memfd_create("fat", MFD_CLOEXEC), rc;
	struct fat *fat;
	struct err err;

	cr_assert_eq(fat_create(&options, &fat, &err), 0);
	rc = fat_add_tree(fat, NULL, "his/top", &err);
	if (!rc)
		rc = fat_layout(fat, &err);
	if (!rc)
		rc = fat_write(fat, fd, "image", &err);
	cr_assert(!rc || *err.text);
	/* Also what is left of an image that was not finished. */
	cr_assert(!lseek(fd, 0, SEEK_END) || !has_secret(fd));
	fat_destroy(fat);
	close(fd);
	return !rc;
}

static void build_during(const struct exchange *e, bool follow)
{
	volatile unsigned *n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				    -1, 0);
	unsigned made = 0, done = 0, before;
	struct stat was, is;
	pid_t pid;

	cr_assert_eq(lstat(e->b, &was), 0);
	pid = exchange_in_turns(e, n);

	while (!*n)
		cr_assert_eq(waitpid(pid, NULL, WNOHANG), 0, "%s: cannot exchange", e->a);
	before = *n;
	for (; done < BUILDS || *n - before < 100; done++)
		made += build(follow);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(lstat(e->b, &is), 0);
	if (is.st_ino != was.st_ino)
		cr_assert_eq(renameat2(AT_FDCWD, e->a, AT_FDCWD, e->b, RENAME_EXCHANGE), 0);
	printf("# %s and %s: %u of %u images made, %u exchanges\n", e->a, e->b, made, done, *n);
	munmap((void *)n, 4096);
}

Test(fat_source, exchanged_by_the_owner)
{
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
		/* Only root can tell by the owners that the user did not want a link's target. */
		if (!strcmp(exchanges[i].a, "his/top") && geteuid())
			continue;
		build_during(&exchanges[i], false);
		if (!geteuid())
			build_during(&exchanges[i], true);
	}
}

/* --- links --------------------------------------------------------------------------- */

static bool foreign;

/* rc of fat_source_beneath in the working directory. */
static int beneath(const char *rel, bool follow)
{
	int top = open(".", O_PATH | O_DIRECTORY);
	struct fat_source source;
	int rc = fat_source_beneath(top, rel, follow, &source);

	foreign = source.foreign;
	fat_source_close(&source);
	close(top);
	return rc;
}

static void check_strict(void)
{
	static const struct {
		const char *rel;
		int rc;
	} cases[] = {
		{ "secret/data", 0 },
		{ "his/top/sub", 0 },
		{ "his/file", 0 }, /* the link itself */
		{ "his/folder", 0 },
		{ "his/folder/data", -ELOOP },
		{ "his/top/../file", -EXDEV },
		{ "..", -EXDEV },
		{ "his/file/x", -ELOOP },
		{ "his/top/data/x", -ENOTDIR },
		{ "his/none", -ENOENT },
		{ "absolute/passwd", -ELOOP },
	};

	cr_assert(!symlink("/etc", "absolute"));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc = beneath(cases[i].rel, false);

		/* Each way refuses a link in the middle, and ".." that goes nowhere else. */
		if (cases[i].rc == -ELOOP)
			cr_expect(rc == -ELOOP || rc == -ENOTDIR, "%s: %d", cases[i].rel, rc);
		else if (strcmp(cases[i].rel, "his/top/../file"))
			cr_expect_eq(rc, cases[i].rc, "%s: %d", cases[i].rel, rc);
	}
	unlink("absolute");
}

Test(fat_source, no_link_is_followed)
{
	check_strict();
}

static int refuse_openat2(int code)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(filter) / sizeof(filter[0]), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

Test(fat_source, without_openat2)
{
	static const int codes[] = { ENOSYS, EPERM };

	for (size_t i = 0; i < 2; i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			if (refuse_openat2(codes[i]))
				_exit(1);
			check_strict();
			build_during(&exchanges[0], false);
			build_during(&exchanges[1], false);
			exit(0);
		}
		waitpid(pid, &status, 0);
		cr_expect(WIFEXITED(status) && !WEXITSTATUS(status), "errno %d: %x", codes[i],
			  status);
	}
}

/*
 * Who owns the link, the second link (0: none) and the target; whether it is followed by root. ME is
 * root.
 */
Test(fat_source, links_of_others)
{
	static const struct {
		uid_t link, second, target;
		bool two, ok;
	} cases[] = {
		{ 0, 0, 0, false, true },
		{ 0, 0, OWNER, false, true },
		{ OWNER, 0, OWNER, false, true },
		{ OWNER, 0, 0, false, false },
		{ OWNER, 0, OTHER, false, false },
		{ OWNER, OWNER, OWNER, true, true },
		{ OWNER, 0, OWNER, true, true },
		{ OWNER, 0, 0, true, false },
		{ 0, OWNER, 0, true, false },
		{ 0, OWNER, OWNER, true, true },
		{ OWNER, OTHER, OWNER, true, false },
		{ OWNER, OTHER, OTHER, true, false },
	};

	if (geteuid())
		cr_skip_test("needs root");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (unsigned folder = 0; folder < 2; folder++) {
			const char *rel = folder ? "link/data" : "link";
			int rc;

			cr_assert(!mkdir("target", 0755));
			put("target/data", "x");
			own("target", cases[i].target);
			own("target/data", cases[i].target);
			cr_assert(!symlink(folder ? "target" : "target/data", "second"));
			cr_assert(!symlink(cases[i].two ? "./second" :
					   folder	? "target/." :
							  "his/../target/data",
					   "link"));
			own("second", cases[i].second);
			own("link", cases[i].link);
			rc = beneath(rel, true);
			cr_expect_eq(rc, cases[i].ok ? 0 : -EACCES, "%zu, %s: %d", i, rel, rc);
			cr_expect_eq(foreign, !cases[i].ok);
			cr_assert(!unlink("link") && !unlink("second") && !unlink("target/data") &&
				  !rmdir("target"));
		}
}

Test(fat_source, named)
{
	static const struct {
		const char *path;
		int rc;
	} cases[] = {
		{ "secret/data", 0 },
		{ "./secret//data", 0 },
		{ "secret/../secret/data", 0 },
		{ "/etc/../etc/passwd", 0 },
		{ "/", 0 },
		{ ".", 0 },
		{ "secret/", 0 },
		{ "", -ENOENT },
		{ "none", -ENOENT },
		{ "secret/data/x", -ENOTDIR },
		{ "loop", -ELOOP },
		{ "/proc/self/fd/0", 0 },
		{ "mine", 0 },
	};
	struct fat_source source;

	cr_assert(!symlink("loop", "loop") && !symlink("secret/sub/..", "mine"));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(fat_source_named(cases[i].path, &source), cases[i].rc, "%s",
			     cases[i].path);
		fat_source_close(&source);
	}
	/* Neither a FIFO nor a device is opened. */
	cr_assert_eq(fat_source_named("his/fifo", &source), 0);
	cr_expect_eq(fat_source_read_plain(&source), -EINVAL);
	fat_source_close(&source);
	cr_assert_eq(fat_source_named("/dev/null", &source), 0);
	cr_expect_eq(fat_source_read_plain(&source), -EINVAL);
	fat_source_close(&source);
}
