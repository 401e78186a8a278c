/*
 * jail: the words of --uid, --gid, --netns, --cgroup and --limit; users by tables of users; what is written to a group's
 * files; as root, the user and the group themselves. Each test is a process of its own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/confine/jail_impl.h"

static char place[] = "/tmp/bantam-test-jail.XXXXXX";

static void make_place(void)
{
	cr_assert(mkdtemp(place));
}

static const char *below(const char *name)
{
	static char path[2][128];
	static unsigned turn;
	char *at = path[turn++ % 2];

	snprintf(at, sizeof(path[0]), "%s/%s", place, name);
	return at;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(below(name), "w");

	cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

static const char *content(const char *name)
{
	static char text[256];
	FILE *f = fopen(below(name), "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	text[n] = 0;
	if (f)
		fclose(f);
	return text;
}

static void remove_place(const char *const *names)
{
	while (*names)
		unlink(below(*names++));
	rmdir(place);
}

/* --- words -------------------------------------------------------------------------------- */

Test(jail, words)
{
	static const struct {
		struct confine_jail jail;
		const char *says; /* NULL: it is right */
	} rows[] = {
		{ { NULL }, NULL },
		{ { .uid = "a", .gid = "b", .netns = "n", .cgroup = "g" }, NULL },
		{ { .gid = "b" }, "--gid b: needs --uid USER" },
		{ { .netns = ".." }, "--netns ..: must be a name or a path" },
		{ { .cgroup = "" }, "--cgroup : must be a group's name, or its path" },
		{ { .cgroup = "/" }, "--cgroup /: must be a group's name, or its path" },
		{ { .cgroup = "./" }, "--cgroup ./: must be a group's name, or its path" },
		{ { .cgroup = "memory.max=1G" },
		  "--cgroup memory.max=1G: must be a group's name, without \"=\"; limits are keys of --limit" },
		{ { .limit = "files=64,file-size=1G" }, NULL },
		{ { .limit = "memory=1G" },
		  "--limit memory=1G: needs a group of its own; give --cgroup NAME" },
		{ { .limit = "wiops=1" },
		  "--limit wiops=1: needs a group of its own; give --cgroup NAME" },
		{ { .cgroup = "g",
		    .limit = "memory=1G,swap=0,cpus=1.5,pids=9,rbps=1M,wbps=1,riops=2,wiops=3" },
		  NULL },
		{ { .cgroup = "g", .limit = "cpus=0.01" }, NULL },
		{ { .cgroup = "g", .limit = "cpus=0.009" },
		  "--limit: cpus=0.009: must be a number" },
		{ { .cgroup = "g", .limit = "cpus=." }, "--limit: cpus=.: must be a number" },
		{ { .cgroup = "g", .limit = "cpus=-1" }, "--limit: cpus=-1: must be a number" },
		{ { .cgroup = "g", .limit = "cpus=1.5x" }, "--limit: cpus=1.5x: must be a number" },
		{ { .cgroup = "g", .limit = "cpus=1.2.3" },
		  "--limit: cpus=1.2.3: must be a number" },
		{ { .cgroup = "g", .limit = "cpus=99999999999999999999" },
		  "--limit: cpus=99999999999999999999: must be a number" },
		{ { .cgroup = "g", .limit = "pids=0" }, "--limit: pids=0: must be from 1" },
		{ { .cgroup = "g", .limit = "memory=1" }, "--limit: memory=1: must be from 1M" },
		{ { .cgroup = "g", .limit = "memory=1G,memory=2G" },
		  "--limit: memory: given twice" },
		{ { .cgroup = "g", .limit = "memroy=1G" },
		  "--limit: unknown key \"memroy\"; did you mean \"memory\"?" },
		{ { .limit = "files=1" }, "--limit: files=1: must be from 32" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = { "" };
		int rc = confine_jail_check(&rows[i].jail, &err);

		cr_expect_eq(rc, rows[i].says ? -EINVAL : 0, "%zu: %d %s", i, rc, err.text);
		cr_expect(!strncmp(err.text, rows[i].says ? rows[i].says : "",
				   rows[i].says ? strlen(rows[i].says) : 1),
			  "%zu: %s", i, err.text);
	}
}

Test(jail, users)
{
	static const struct {
		const char *user, *group;
		int rc;
		uid_t uid;
		gid_t gid;
	} rows[] = {
		{ "ann", NULL, 0, 1000, 100 },
		{ "1000", NULL, 0, 1000, 100 },
		{ "77", NULL, 0, 77, 77 }, /* no entry */
		{ "ann", "vms", 0, 1000, 300 },
		{ "5", "7", 0, 5, 7 },
		{ "4294967294", NULL, 0, 4294967294u, 4294967294u },
		{ "4294967295", NULL, -EINVAL, 0, 0 },
		{ "99999999999999999999999", NULL, -EINVAL, 0, 0 },
		{ "nix", NULL, -ENOENT, 0, 0 },
		{ "ann", "nix", -ENOENT, 0, 0 },
		{ "", NULL, -ENOENT, 0, 0 },
		{ "broken", NULL, -ENOENT, 0, 0 },
		{ "minus", NULL, -ENOENT, 0, 0 },
		{ "short", NULL, -ENOENT, 0, 0 },
		{ "an", NULL, -ENOENT, 0, 0 },
		{ "open", "all", 0, 9, 400 }, /* without a password */
	};

	make_place();
	put("passwd", "root:x:0:0::/:/bin/sh\nbroken\nshort:x:9\nminus:x:-1:-1::/:\n:::::\n"
		      "ann:x:1000:100:Ann,,,:/home/ann:/bin/sh\nopen::9:9::/:\nlast:x:8:8");
	put("group", "root:x:0:\nvms:x:300:ann,bob\nall::400:\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct confine_jail jail = { .uid = rows[i].user, .gid = rows[i].group };
		struct err err = { "" };
		uid_t uid = 0;
		gid_t gid = 0;
		int rc = confine_jail_ids(&jail, below("passwd"), below("group"), &uid, &gid, &err);

		cr_expect_eq(rc, rows[i].rc, "%zu: %d %s", i, rc, err.text);
		cr_expect(rc ? strlen(err.text) : uid == rows[i].uid && gid == rows[i].gid,
			  "%zu: %u %u", i, uid, gid);
	}
	remove_place((const char *const[]){ "passwd", "group", NULL });
}

/* --- limits ------------------------------------------------------------------------------- */

static int write_limits(const char *text, const struct confine_jail *jail, const char **missing,
			struct err *err)
{
	int dir = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct keyvals kv;
	int rc = confine_limits_parse(text, &kv, err);

	if (!rc)
		rc = confine_limits_write(&kv, dir, jail, missing, err);
	keys_clear(&kv);
	close(dir);
	return rc;
}

/* The kernel's files, here plain ones. */
Test(jail, limits)
{
	static const struct {
		const char *text, *file, *content;
	} rows[] = {
		{ "memory=1.5G", "memory.max", "1610612736" },
		{ "swap=0", "memory.swap.max", "0" },
		{ "cpus=1.5", "cpu.max", "150000 100000" },
		{ "cpus=0.01", "cpu.max", "1000 100000" },
		{ "cpus=.25", "cpu.max", "25000 100000" },
		{ "cpus=16", "cpu.max", "1600000 100000" },
		{ "cpus=2.1234567", "cpu.max", "212345 100000" },
		{ "pids=64", "pids.max", "64" },
	};
	struct confine_jail jail = { NULL };
	const char *missing;
	struct err err = { "" };

	make_place();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* The group above hands no controller down. */
		cr_expect_eq(write_limits(rows[i].text, &jail, &missing, &err), -ENODEV);
		cr_expect(missing && !strncmp(rows[i].file, missing, strlen(missing)));
		put(rows[i].file, "");
		cr_expect_eq(write_limits(rows[i].text, &jail, &missing, &err), 0, "%s", err.text);
		cr_expect_str_eq(content(rows[i].file), rows[i].content, "%s", rows[i].text);
		unlink(below(rows[i].file));
	}
	/* A kernel that counts memory and no swap. */
	put("memory.max", "");
	cr_expect_eq(write_limits("swap=0", &jail, &missing, &err), -ENOTSUP);
	cr_expect(strstr(err.text, "swapaccount=1"), "%s", err.text);
	remove_place((const char *const[]){ "memory.max", NULL });
}

Test(jail, limits_of_disks)
{
	struct confine_jail jail = { .ndisks = 0 };
	char disk[128];
	const char *missing;
	struct err err = { "" };
	struct stat st;
	int rc;

	make_place();
	put("io.max", "");
	put("disk", "");
	/* No disk, or none that is there. */
	cr_expect_eq(write_limits("rbps=1M", &jail, &missing, &err), -EINVAL);
	cr_expect(strstr(err.text, "give --disk FILE"));
	jail.disk[jail.ndisks++] = "/nowhere";
	cr_expect_eq(write_limits("rbps=1M", &jail, &missing, &err), -EINVAL);
	snprintf(disk, sizeof(disk), "%s", below("disk"));
	jail.disk[jail.ndisks++] = disk;
	cr_assert(!stat(jail.disk[1], &st));
	rc = write_limits("wiops=5,rbps=1M", &jail, &missing, &err);
	cr_expect_eq(rc, major(st.st_dev) ? 0 : -ENOTSUP, "%d %s", rc, err.text);
	cr_expect(rc ? strstr(err.text, "without a block device") :
		       strstr(content("io.max"), " rbps=1048576 wiops=5"));
	/* The same one, as it is called below another root. */
	if (!rc) {
		jail.chroot = place;
		jail.disk[1] = "../../disk";
		put("io.max", "");
		cr_expect_eq(write_limits("riops=7", &jail, &missing, &err), 0);
		cr_expect(strstr(content("io.max"), " riops=7"));
	}
	remove_place((const char *const[]){ "io.max", "disk", NULL });
}

/* The process of an API may have no disk at the start. */
Test(jail, limits_of_disks_that_come_later)
{
	struct confine_jail jail = { .disks_later = true }, more = { .ndisks = 1 };
	char disk[128];
	const char *missing;
	struct err err = { "" };
	struct stat st;
	int rc;

	make_place();
	put("disk", "");
	snprintf(disk, sizeof(disk), "%s", below("disk"));
	more.disk[0] = disk;
	cr_assert(!stat(disk, &st));
	/* Without limits of disks nothing has one. */
	cr_expect_eq(confine_limits_more(&more, &err), 0);
	cr_expect_eq(write_limits("rbps=1M", &jail, &missing, &err), -ENODEV);
	cr_expect_str_eq(missing, "io");
	put("io.max", "");
	cr_expect_eq(write_limits("rbps=1M,riops=9", &jail, &missing, &err), 0, "%s", err.text);
	cr_expect_str_eq(content("io.max"), "");
	rc = confine_limits_more(&more, &err);
	cr_expect_eq(rc, major(st.st_dev) ? 0 : -ENOTSUP, "%d %s", rc, err.text);
	cr_expect(rc ? strstr(err.text, "without a block device") :
		       strstr(content("io.max"), " rbps=1048576 riops=9"));
	/* One that is not there is told by what opens it. */
	more.disk[0] = "/nowhere";
	cr_expect_eq(confine_limits_more(&more, &err), 0);
	remove_place((const char *const[]){ "io.max", "disk", NULL });
}

Test(jail, limits_of_the_process)
{
	struct rlimit files, size;
	struct keyvals kv;
	struct err err = { "" };

	cr_assert_eq(confine_limits_parse("files=64,file-size=1M", &kv, &err), 0);
	cr_expect(!confine_limits_need_group(&kv));
	cr_expect_eq(confine_limits_set(&kv, &err), 0, "%s", err.text);
	keys_clear(&kv);
	cr_expect(!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur == 64 &&
		  files.rlim_max == 64);
	cr_expect(!getrlimit(RLIMIT_FSIZE, &size) && size.rlim_max == 1 << 20);
	/* Never more than before. */
	cr_assert_eq(confine_limits_parse("files=128", &kv, &err), 0);
	cr_expect_eq(confine_limits_set(&kv, &err), 0);
	keys_clear(&kv);
	cr_expect(!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur == 64);
}

/* --- the process -------------------------------------------------------------------------- */

static uint64_t permitted(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	cr_assert(!syscall(SYS_capget, &hdr, data));
	return data[0].permitted | data[0].inheritable | data[0].effective |
	       (uint64_t)(data[1].permitted | data[1].inheritable | data[1].effective) << 32;
}

struct become {
	bool keep, interfaces;
	uint64_t most; /* capabilities that may stay */
};

static void become(const struct become *b)
{
	struct confine_jail jail = { .uid = "1234", .gid = "77" };
	struct err err = { "" };
	gid_t groups[2];
	int n;

	cr_assert_eq(confine_jail_enter(&jail, false, &err), 0, "%s", err.text);
	cr_assert_eq(confine_jail_user(&jail, b->keep, b->interfaces, &err), 0, "%s", err.text);
	cr_expect(getuid() == 1234 && geteuid() == 1234 && getgid() == 77 && getegid() == 77);
	n = getgroups(2, groups);
	cr_expect(n >= 0 && n <= 1 && (!n || groups[0]));
	cr_expect_eq(permitted() & ~b->most, 0, "%#llx", (unsigned long long)permitted());
	cr_expect_eq(!!(permitted() & 1ull << CAP_NET_ADMIN), b->interfaces && b->keep);
	/* A file of root's is one that it may not open; the dumps stay off. */
	cr_expect(open("/etc/shadow", O_RDONLY) < 0 && errno == EACCES);
	cr_expect_eq(prctl(PR_GET_DUMPABLE), CONFINE_SANITIZED);
}

#define OF_USER                                                                                    \
	(1ull << CAP_SETPCAP | 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_IPC_LOCK |               \
	 1ull << CAP_SYS_CHROOT)

Test(jail, becomes_a_user)
{
	if (!geteuid())
		become(&(struct become){ true, false, OF_USER });
}

Test(jail, becomes_a_user_with_interfaces)
{
	if (!geteuid())
		become(&(struct become){ true, true, OF_USER | 1ull << CAP_NET_ADMIN });
}

Test(jail, becomes_a_user_unconfined)
{
	if (!geteuid())
		become(&(struct become){ false, true, 0 });
}

Test(jail, a_plain_user)
{
	struct confine_jail jail = { .uid = "65534" };
	struct err err = { "" };

	if (!geteuid())
		cr_assert(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534));
	else
		jail.uid = NULL;
	/* Itself, which is no change. */
	cr_expect_eq(confine_jail_enter(&jail, false, &err), 0, "%s", err.text);
	cr_expect_eq(confine_jail_user(&jail, true, true, &err), 0, "%s", err.text);
	jail.uid = "0";
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -EPERM);
	cr_expect_str_eq(
		err.text,
		"--uid 0: only root can change its user; start bantam as root, or as that user");
	jail.uid = NULL;
	jail.netns = "/proc/self/ns/net";
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -EPERM);
	cr_expect(strstr(err.text, "only root can enter it"), "%s", err.text);
}

Test(jail, network_namespaces)
{
	static const struct {
		const char *name, *says;
		bool root;
	} rows[] = {
		{ "bantam-test-none", "there is none; as root: ip netns add bantam-test-none",
		  false },
		{ "/nowhere/at/all", "No such file or directory", false },
		{ "/proc/self/ns/mnt", "is no network namespace", true },
		{ "/etc/passwd", "is no network namespace", true },
	};
	struct err err = { "" };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct confine_jail jail = { .netns = rows[i].name };

		if (rows[i].root && geteuid())
			continue;
		cr_expect(confine_jail_enter(&jail, false, &err) < 0);
		cr_expect(strstr(err.text, rows[i].says), "%zu: %s", i, err.text);
	}
}

/* --- the root ---------------------------------------------------------------------------- */

/* The child's exit status is the line of what is wrong, modulo 255, and 1. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			_exit(__LINE__ % 255 + 1);                                                 \
	} while (0)

/* ptys: and by a relative path. */
static void in_chroot(bool ptys, bool dry_run)
{
	struct confine_jail jail = { .chroot = ptys ? "." : place,
				     .uid = "1234",
				     .dry_run = dry_run };
	struct err err = { "" };
	int fd = open(below("file"), O_RDONLY), tty;
	struct stat st;

	umask(077);
	CHECK(!ptys || !chdir(place));
	CHECK(!confine_jail_enter(&jail, ptys, &err));
	CHECK(!confine_jail_user(&jail, true, false, &err));
	CHECK(!access("/file", F_OK) && !access("file", F_OK));
	CHECK(access("/etc", F_OK) && access(place, F_OK));
	CHECK(!access("/../file", F_OK) && access("/../etc", F_OK));
	CHECK(open("/link", O_RDONLY) < 0 && errno == ENOENT);
	if (dry_run) {
		CHECK(access("/dev", F_OK) && access("/proc", F_OK));
		return;
	}
	/* The host's devices, of which root alone may use some, and open files once more. */
	CHECK(dry_run || !access("/dev/net/.", X_OK));
	CHECK(stat("/dev/kvm", &st) || (st.st_uid == 1234 && (st.st_mode & 0777) == 0600));
	CHECK(open("/dev/null", O_RDWR) >= 0 && open("/dev/urandom", O_RDONLY) >= 0);
	CHECK(access("/dev/mem", F_OK) && open("/dev/x", O_RDWR | O_CREAT, 0600) < 0);
	CHECK(fd >= 0 && !access("/proc/self/fd", F_OK));
	/* No process of others leads out, and nothing of the kernel is set. */
	CHECK(access("/proc/1/root/etc", F_OK));
	CHECK(open("/proc/sys/kernel/core_pattern", O_WRONLY) < 0);
	tty = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK((tty >= 0) == ptys);
	CHECK(!ptys || (!grantpt(tty) && !unlockpt(tty) && ptsname(tty)));
	/* A right to call chroot does not lead back. */
	CHECK(!chroot("/dev") && !chdir("../../../../..") && access("etc", F_OK));
}

Test(jail, root)
{
	static const struct {
		bool ptys, dry_run;
	} rows[] = { { false, true }, { false, false }, { true, false } };
	int status;

	if (geteuid())
		return;
	make_place();
	chmod(place, 0755);
	put("file", "x");
	cr_assert(!symlink("/etc/passwd", below("link")));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pid_t pid = fork();

		if (!pid) {
			in_chroot(rows[i].ptys, rows[i].dry_run);
			_exit(0);
		}
		cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
		cr_expect_eq(status, 0, "%zu: line %d", i, WEXITSTATUS(status) - 1);
		/* Empty folders at most are left on the host. */
		cr_expect_eq(!access(below("dev"), F_OK), !rows[i].dry_run);
		cr_expect(access(below("dev/null"), F_OK) && access(below("proc/self"), F_OK));
	}
	rmdir(below("dev"));
	rmdir(below("proc"));
	remove_place((const char *const[]){ "file", "link", NULL });
}

Test(jail, refused_roots)
{
	struct confine_jail jail = { .chroot = "/nowhere/at/all" };
	const char *programs[] = { NULL, "bantam-net-user" };
	struct err err = { "" };

	cr_expect_eq(confine_jail_enter(&jail, false, &err), -ENOENT);
	jail.chroot = "/etc/passwd";
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -ENOTDIR);
	jail.chroot = "/";
	cr_expect_eq(confine_jail_check(&jail, &err), -EINVAL);
	/* The same by another name. */
	jail.chroot = "/etc/..";
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -EINVAL, "%s", err.text);
	jail.chroot = "/tmp";
	unsetenv("BANTAM_LIBEXEC");
	cr_expect_eq(confine_jail_programs(&jail, programs, 1, &err), 0);
	cr_expect_eq(confine_jail_programs(&jail, programs, 2, &err), -ENOENT);
	cr_expect(strstr(err.text, "bantam-net-user") && strstr(err.text, "BANTAM_LIBEXEC"));
	setenv("BANTAM_LIBEXEC", "/libexec", 1);
	cr_expect_eq(confine_jail_programs(&jail, programs, 2, &err), 0);
	/* A plain user. */
	if (!geteuid())
		cr_assert(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534));
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -EPERM);
	cr_expect(strstr(err.text, "only root can change its root"), "%s", err.text);
}

/* A folder /dev that leads elsewhere is no place for devices. */
Test(jail, refused_dev)
{
	struct confine_jail jail = { .chroot = place };
	struct err err = { "" };

	if (geteuid())
		return;
	make_place();
	cr_assert(!symlink("/tmp", below("dev")));
	cr_expect_eq(confine_jail_enter(&jail, false, &err), -ENOTDIR, "%s", err.text);
	cr_expect(strstr(err.text, "its folder dev"), "%s", err.text);
	unlink(below("dev"));
	rmdir(place);
}

/* The jail's user, who owns the folder, changes what its names lead to: nothing is made in a folder of the host's. */
Test(jail, moving_dev)
{
	char victim[] = "/tmp/bantam-test-victim.XXXXXX";
	struct confine_jail jail = { .chroot = place };
	char dev[64], link[64];
	int status;
	pid_t mover;

	if (geteuid())
		return;
	make_place();
	cr_assert(mkdtemp(victim));
	snprintf(dev, sizeof(dev), "%s/dev", place);
	snprintf(link, sizeof(link), "%s/link", place);
	cr_assert(!mkdir(dev, 0755) && !symlink(victim, link));
	mover = fork();
	while (!mover)
		(void)renameat2(AT_FDCWD, dev, AT_FDCWD, link, RENAME_EXCHANGE);
	for (unsigned i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (!pid) {
			struct err err = { "" };

			_exit(confine_jail_enter(&jail, false, &err) ? 1 : 0);
		}
		cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	}
	kill(mover, SIGKILL);
	waitpid(mover, &status, 0);
	cr_expect(!rmdir(victim), "something is in it");
	cr_expect(!rmdir(dev) || !unlink(dev));
	cr_expect(!unlink(link) || !rmdir(link));
	rmdir(below("proc"));
	rmdir(place);
}

/* --- the group ---------------------------------------------------------------------------- */

Test(jail, refused_groups)
{
	static const struct {
		const char *name, *says;
		long magic; /* only if the folder above is one of this kind */
	} rows[] = {
		{ "a/../b", "must not contain \"..\"", 0 },
		{ "..", "must not contain \"..\"", 0 },
		{ "/tmp/bantam-no-group", "is not in cgroup v2; give a name, such as vms/a", 0 },
		{ "/tmp", "is not in cgroup v2", 0 },
		{ "/etc/passwd/x", "Not a directory", 0 },
		{ "/sys/fs/cgroup/pids/bantam-test", "is a group of cgroup v1",
		  CGROUP_SUPER_MAGIC },
	};
	struct err err = { "" };
	struct statfs fs;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct confine_jail jail = { .cgroup = rows[i].name };

		if (rows[i].magic &&
		    (statfs("/sys/fs/cgroup/pids", &fs) || fs.f_type != rows[i].magic))
			continue;
		cr_expect(confine_jail_enter(&jail, false, &err) < 0);
		cr_expect(strstr(err.text, rows[i].says), "%zu: %s", i, err.text);
		cr_expect(access(rows[i].name, F_OK) || !strcmp(rows[i].name, "/tmp") ||
			  strstr(rows[i].name, ".."));
	}
}

/* As root, where groups may be made: it is entered, and gone some time after the process. */
Test(jail, group)
{
	char name[64], path[300], text[300];
	struct confine_jail jail = { .cgroup = name };
	struct err err = { "" };
	int status = 0, tries = 0;
	pid_t pid;

	snprintf(name, sizeof(name), "bantam-test-%d/a", getpid());
	if (geteuid() || confine_cgroup_describe(text, sizeof(text)))
		return;
	snprintf(path, sizeof(path), "%.*s/%s", (int)strcspn(text, ":"), text, name);
	pid = fork();
	if (!pid) {
		FILE *f;
		bool in = false;

		if (confine_jail_enter(&jail, false, &err))
			_exit(strstr(err.text, "denied") || strstr(err.text, "read-only") ? 2 : 3);
		f = fopen("/proc/self/cgroup", "re");
		while (f && fgets(text, sizeof(text), f))
			in |= !strncmp(text, "0::", 3) && strstr(text, name);
		_exit(!in || access(path, F_OK));
	}
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		return;
	cr_assert_eq(WEXITSTATUS(status), 0);
	*strrchr(path, '/') = 0;
	while (!access(path, F_OK) && ++tries < 500)
		usleep(10000);
	cr_expect(access(path, F_OK), "%s is still there", path);
}

/* Two VMs: the first makes the group above that of the second, which lives longer. The last one's end removes it. */
Test(jail, shared_group)
{
	char name[2][64], path[600], text[300];
	struct err err = { "" };
	int ready[2], go[2][2], status;
	pid_t pid[2];
	char byte;

	if (geteuid() || confine_cgroup_describe(text, sizeof(text)))
		return;
	snprintf(path, sizeof(path), "%.*s/bantam-test-%d", (int)strcspn(text, ":"), text,
		 getpid());
	cr_assert(!pipe(ready) && !pipe(go[0]) && !pipe(go[1]));
	for (int i = 0; i < 2; i++) {
		struct confine_jail jail = { .cgroup = name[i] };

		snprintf(name[i], sizeof(name[i]), "bantam-test-%d/%d", getpid(), i);
		pid[i] = fork();
		if (!pid[i]) {
			close(go[0][1]);
			close(go[1][1]);
			byte = confine_jail_enter(&jail, false, &err) ? 'n' : 'y';
			_exit(write(ready[1], &byte, 1) != 1 || read(go[i][0], &byte, 1) != 0);
		}
		cr_assert(pid[i] > 0 && read(ready[0], &byte, 1) == 1);
	}
	for (int i = 0; i < 2; i++) {
		close(go[i][1]);
		cr_expect(waitpid(pid[i], &status, 0) == pid[i] && !status);
		/* The first one's child does not give up after its 2 s. */
		for (int tries = 0; tries < (i ? 500 : 220) && !access(path, F_OK); tries++)
			usleep(10000);
		cr_expect(byte == 'n' || (access(path, F_OK) == 0) == !i, "VM %d: %s", i, path);
	}
}

Test(jail, described)
{
	struct confine_jail jail = {
		.uid = "x", .chroot = "/srv/a", .netns = "n", .cgroup = "vms/a", .limit = "pids=9"
	};
	char *text = NULL, want[200];
	size_t len;
	FILE *f = open_memstream(&text, &len);

	cr_assert(f);
	confine_jail_describe(&(struct confine_jail){ NULL }, f);
	confine_jail_describe(&jail, f);
	fclose(f);
	snprintf(
		want, sizeof(want),
		"process\n  user %u, group %u\n  root folder /srv/a\n  network namespace /run/netns/n\n"
		"  cgroup vms/a\n  limits pids=9\n",
		(unsigned)geteuid(), (unsigned)getegid());
	cr_expect_str_eq(text, want);
	free(text);
}

/* --dry-run makes nothing. */
Test(jail, dry_run)
{
	struct confine_jail jail = { .cgroup = "bantam-test-dry", .dry_run = true };
	struct err err = { "" };
	char text[300], path[400];

	cr_expect_eq(confine_jail_enter(&jail, false, &err), 0, "%s", err.text);
	if (!confine_cgroup_describe(text, sizeof(text))) {
		snprintf(path, sizeof(path), "%.*s/bantam-test-dry", (int)strcspn(text, ":"), text);
		cr_expect(access(path, F_OK));
	}
}
