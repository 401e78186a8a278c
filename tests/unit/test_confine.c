/* confine: the steps, each in a child that they confine; steps that the host refuses; the plan of a VM's options. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine.h"
#include "vmm/confine/confine_impl.h"
#include "vmm/confine/plan.h"
#include "vmm/core/helper.h"
#include "vmm/core/huge_file.h"
#include "vmm/core/new_file.h"
#include "vmm/core/thread.h"

#define KEPT 90
#define STRAY 91

/*
 * The child says what is wrong by its exit status, the line of the source. What Criterion's process has open, it does not
 * need: it ends by _exit.
 */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			_exit(__LINE__ % 255 + 1);                                                 \
	} while (0)

static void in_child(void (*fn)(const void *arg), const void *arg, const char *what)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		fn(arg);
		_exit(0);
	}
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	cr_expect(status == 0, "%s: status %#x: this line of the source, modulo 255: %d", what,
		  (unsigned)status, WEXITSTATUS(status) - 1);
}

static struct confine_plan plan_of(enum confine_mode mode)
{
	struct confine_plan plan = { .mode = mode };

	return plan;
}

static uint64_t permitted(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	CHECK(!syscall(SYS_capget, &hdr, data));
	return data[0].permitted | data[0].inheritable | data[0].effective |
	       (uint64_t)(data[1].permitted | data[1].inheritable | data[1].effective) << 32;
}

static bool has(uint64_t caps, unsigned cap)
{
	return caps >> cap & 1;
}

/* Makes the host refuse a system call. */
static void refuse(long call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

/* --- begin ------------------------------------------------------------------------------ */

static void descriptors(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_ON);
	struct err err = { "" };

	CHECK(dup2(STDERR_FILENO, KEPT) == KEPT && dup2(STDERR_FILENO, STRAY) == STRAY);
	CHECK(!confine_keep_fd(&plan, KEPT, &err));
	CHECK(!confine_begin(&plan, &err));
	CHECK(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	CHECK(fcntl(KEPT, F_GETFD) >= 0);
	CHECK(fcntl(STRAY, F_GETFD) < 0);
}

static void rights(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_ON);
	struct rlimit core;
	struct err err = { "" };

	CHECK(!confine_begin(&plan, &err));
	CHECK(confine_mode() == CONFINE_ON);
	CHECK(!getrlimit(RLIMIT_CORE, &core) && !core.rlim_cur && !core.rlim_max);
	CHECK(CONFINE_SANITIZED || prctl(PR_GET_DUMPABLE) == 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(!has(permitted(), CAP_SYS_ADMIN) && !has(permitted(), CAP_SYS_PTRACE) &&
	      !has(permitted(), CAP_NET_ADMIN));
	CHECK(geteuid() || prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0);
}

/* A tap needs CAP_NET_ADMIN until the machine is built, and files of others the right to open them. */
static void interfaces(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_ON);
	uint64_t before = permitted();
	struct err err = { "" };

	plan.interfaces = true;
	CHECK(!confine_begin(&plan, &err));
	CHECK(has(permitted(), CAP_NET_ADMIN) == has(before, CAP_NET_ADMIN));
	CHECK(has(permitted(), CAP_DAC_OVERRIDE) == has(before, CAP_DAC_OVERRIDE));
	CHECK(!confine_finish(&err));
	CHECK(!permitted());
	for (unsigned cap = 0; !geteuid() && cap < 32; cap++)
		CHECK(!prctl(PR_CAPBSET_READ, cap, 0, 0, 0));
}

static void off(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_OFF);
	uint64_t before = permitted();
	struct err err = { "" };

	CHECK(dup2(STDERR_FILENO, STRAY) == STRAY);
	CHECK(!confine_begin(&plan, &err) && !confine_finish(&err) && !confine_thread_rights());
	CHECK(fcntl(STRAY, F_GETFD) >= 0);
	CHECK(!prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) && permitted() == before);
}

Test(confine, descriptors)
{
	in_child(descriptors, NULL, "descriptors");
}

Test(confine, rights)
{
	in_child(rights, NULL, "rights");
	in_child(interfaces, NULL, "interfaces");
	in_child(off, NULL, "off");
}

/* --- namespaces, root, user, Landlock ------------------------------------------------------ */

/* A plain user if the tests run as root; then the kernel's own rules for users are tested. */
#define PLAIN 65534u

struct view {
	bool plain; /* as PLAIN */
	bool names;
	bool network;
};

static char place[] = "/tmp/bantam-test-confine.XXXXXX";

/* Which of the steps this host permits, by the kernel itself and not by the code. */
static bool permits_namespaces(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) != 0);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return !status;
}

static bool permits_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
}

static bool changes_user;

static void *in_thread(void *opaque)
{
	int *result = opaque;

	/* What each thread has for itself. */
	*result = confine_thread_rights() || permitted() || open("/", O_RDONLY) >= 0 ||
		  (changes_user && !geteuid());
	return NULL;
}

static void stay(pthread_t *thread, void *(*fn)(void *), int *result)
{
	CHECK(!pthread_create(thread, NULL, fn, result));
}

static pthread_barrier_t ready, finished;

/* One that needs nothing does not wait for the second stage, but lives through it. */
static void *at_once(void *opaque)
{
	int *result = opaque;

	*result = confine_thread_rights() || permitted() || open("/", O_RDONLY) >= 0 ||
		  (changes_user && !geteuid());
	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&finished);
	return NULL;
}

static void *early(void *opaque)
{
	pthread_barrier_wait(&finished);
	return in_thread(opaque);
}

static void look_around(const struct view *v, bool confined)
{
	char path[64];
	struct stat st;

	if (!confined)
		return;
	CHECK(chdir("/") == 0 && access("/etc", F_OK) && errno == ENOENT);
	CHECK(access("/proc/self", F_OK) && access("/dev", F_OK));
	CHECK(mkdir("/x", 0700) && errno == EROFS);
	CHECK(unshare(CLONE_NEWNS) && chroot("/") && mount("x", "/", "tmpfs", 0, NULL));
	snprintf(path, sizeof(path), "%s/socket", place);
	/* What the VM has made in the folder of its names, it removes; nothing else is done there. */
	CHECK(v->names ? !lstat(path, &st) && S_ISREG(st.st_mode) : lstat(path, &st));
	CHECK(!permits_landlock() ||
	      (open(path, O_RDONLY) < 0 && open(path, O_RDWR | O_CREAT, 0600) < 0));
	CHECK(!v->names || !unlink(path));
}

static void confined(const void *arg)
{
	const struct view *v = arg;
	struct confine_plan plan = plan_of(CONFINE_ON);
	bool namespaces, root = !geteuid() && !v->plain;
	int error[3] = { 1, 1, 1 };
	char path[64];
	struct err err = { "" };
	struct stat st;
	pthread_t thread[3];
	int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd, maps;
	ino_t before;

	CHECK(!fstat(ns, &st));
	before = st.st_ino;
	if (v->plain && !geteuid())
		CHECK(!setgroups(0, NULL) && !setresgid(PLAIN, PLAIN, PLAIN) &&
		      !setresuid(PLAIN, PLAIN, PLAIN) && !prctl(PR_SET_DUMPABLE, 1));
	namespaces = permits_namespaces();
	changes_user = root && !v->names && !CONFINE_SANITIZED;
	snprintf(path, sizeof(path), "%s/socket", place);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	plan.name[0] = path;
	plan.nnames = v->names;
	plan.host_network = !v->network;
	CHECK(!confine_keep_fd(&plan, fd, &err));
	CHECK(!confine_begin(&plan, &err));
	/* Files can be opened still. */
	CHECK(!access("/etc", F_OK) && open("/dev/null", O_RDWR) >= 0);
	maps = open("/proc/self/maps", O_RDONLY);
	CHECK(maps >= 0);
	CHECK(!stat("/proc/self/ns/net", &st) &&
	      (st.st_ino != before) == (v->network && namespaces));
	CHECK(!pthread_barrier_init(&ready, NULL, 2) && !pthread_barrier_init(&finished, NULL, 3));
	stay(&thread[0], early, &error[0]);
	stay(&thread[2], at_once, &error[2]);
	pthread_barrier_wait(&ready);
	CHECK(!confine_finish(&err));
	pthread_barrier_wait(&finished);
	stay(&thread[1], in_thread, &error[1]);
	for (unsigned i = 0; i < 3; i++)
		CHECK(!pthread_join(thread[i], NULL));
	CHECK(permitted() == 0 || v->names);
	CHECK(CONFINE_SANITIZED || prctl(PR_GET_DUMPABLE) == 0);
	/* Root becomes another user, unless it has to remove a name. */
	CHECK(CONFINE_SANITIZED || !root || !geteuid() == v->names);
	CHECK(CONFINE_SANITIZED || !permits_landlock() || (!error[0] && !error[1] && !error[2]));
	look_around(v, namespaces && !CONFINE_SANITIZED);
	/* What was open goes on working. */
	CHECK(write(fd, "x", 1) == 1 && read(maps, path, sizeof(path)) > 0);
}

Test(confine, confined)
{
	static const struct view views[] = {
		{ false, false, false }, { false, true, true }, { false, false, true },
		{ true, false, false },	 { true, true, true },	{ true, true, false },
	};

	cr_assert(mkdtemp(place) && !chmod(place, 0755));
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
		char what[64], path[64];

		if (views[i].plain && !geteuid())
			cr_assert(!chown(place, PLAIN, PLAIN));
		snprintf(what, sizeof(what), "view %zu", i);
		snprintf(path, sizeof(path), "%s/socket", place);
		unlink(path);
		in_child(confined, &views[i], what);
	}
	if (!chdir(place))
		unlink("socket");
	rmdir(place);
}

static char shelf[] = "/tmp/bantam-test-report.XXXXXX";

/* Shared memory with huge pages is made after the first stage: a plain user's too. */
static void huge_pages(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_ON);
	struct err err = { "" };
	int before;

	if (!geteuid())
		CHECK(!setgroups(0, NULL) && !setresgid(PLAIN, PLAIN, PLAIN) &&
		      !setresuid(PLAIN, PLAIN, PLAIN) && !prctl(PR_SET_DUMPABLE, 1));
	plan.files_later = arg != NULL;
	plan.shared = true;
	before = huge_file_create();
	CHECK(!confine_begin(&plan, &err));
	CHECK((huge_file_create() >= 0) == (before >= 0));
	CHECK(CONFINE_SANITIZED || prctl(PR_GET_DUMPABLE) == 0);
}

/* A process starts no program but its helpers, and makes no device: with the API, and (arg) before a VM's first instruction. */
static void programs(const void *arg)
{
	static char *const argv[] = { (char *)"bantam-fs", NULL };
	struct confine_plan plan = plan_of(CONFINE_ON);
	struct helper helper;
	char path[512];
	struct err err = { "" };

	plan.files_later = !arg;
	plan.host_network = true;
	plan.helper[0] = "bantam-fs";
	CHECK(!confine_begin(&plan, &err));
	CHECK(!helper_find("bantam-fs", path, sizeof(path), &err));
	CHECK(!helper_spawn(path, argv, NULL, 0, &helper));
	/* It is started, and ends because it has not been told what to do. */
	CHECK(WIFEXITED(helper_reap(&helper, 10000)));
	CHECK(CONFINE_SANITIZED || !permits_landlock() ||
	      helper_spawn("/bin/true", argv, NULL, 0, &helper) == -EACCES);
	CHECK(CONFINE_SANITIZED || !permits_landlock() || mknod(shelf, S_IFCHR | 0600, 0));
	CHECK(!access("/etc", F_OK) && open("/dev/null", O_RDWR) >= 0);
	/* A thread of its machine has nothing left. */
	thread_become(THREAD_LOOP);
	CHECK(!confine_thread_rights() || CONFINE_SANITIZED);
	CHECK(!permitted());
	CHECK(CONFINE_SANITIZED || !permits_landlock() || open("/etc/passwd", O_RDONLY) < 0);
}

Test(confine, programs)
{
	/* A build with sanitizers has none beside it. */
	setenv("BANTAM_LIBEXEC", "build", 1);
	in_child(programs, NULL, "api");
	in_child(programs, "", "run");
}

Test(confine, huge_pages)
{
	in_child(huge_pages, NULL, "run");
	in_child(huge_pages, "api", "api");
}

static void *finish(void *opaque)
{
	char path[64];
	struct err err = { "" };

	snprintf(path, sizeof(path), "%s/other", shelf);
	CHECK(!confine_finish(&err));
	/* Not even where the reports will stand. */
	CHECK(!*(bool *)opaque || open(path, O_RDWR | O_CREAT, 0600) < 0);
	return NULL;
}

/* A test: owners are known until its initrd is packed; one thread makes the reports, in place of others, and no more. */
static void reports(const void *arg)
{
	struct confine_plan plan = plan_of(CONFINE_ON);
	bool namespaces, kept;
	struct new_file file;
	struct err err = { "" };
	pthread_t thread;
	char path[64];
	struct stat st;

	if (arg && !geteuid())
		CHECK(!setgroups(0, NULL) && !setresgid(PLAIN, PLAIN, PLAIN) &&
		      !setresuid(PLAIN, PLAIN, PLAIN) && !prctl(PR_SET_DUMPABLE, 1));
	namespaces = permits_namespaces() && !CONFINE_SANITIZED;
	kept = permits_landlock() && !CONFINE_SANITIZED;
	snprintf(path, sizeof(path), "%s/report", shelf);
	plan.packs = true;
	plan.report[plan.nreports++] = path;
	CHECK(!confine_begin(&plan, &err));
	CHECK(!stat("/", &st) && !st.st_uid);
	new_file_name_later();
	CHECK(!confine_packed(&plan, &err));
	CHECK(CONFINE_SANITIZED || prctl(PR_GET_DUMPABLE) == 0);
	CHECK(!has(permitted(), CAP_SYS_PTRACE));
	CHECK(!pthread_create(&thread, NULL, finish, &kept) && !pthread_join(thread, NULL));
	thread_become(THREAD_TEST);
	CHECK(!confine_thread_rights() || CONFINE_SANITIZED);
	CHECK(permitted() == 0);
	CHECK(!namespaces || (access("/proc/self", F_OK) && access("/etc", F_OK)));
	CHECK(!kept || (open("/", O_RDONLY) < 0 && mkdir("/tmp/x", 0700)));
	for (unsigned i = 0; i < 2; i++) {
		CHECK(!new_file_open(&file, path, true, &err) && file.had == (i == 1));
		CHECK(write(file.fd, "report", 6) == 6 && !new_file_finish(&file, false, &err));
	}
	CHECK(!lstat(path, &st) && st.st_size == 6);
}

Test(confine, reports)
{
	char path[64];

	cr_assert(mkdtemp(shelf));
	snprintf(path, sizeof(path), "%s/report", shelf);
	in_child(reports, NULL, "root");
	unlink(path);
	if (!geteuid())
		cr_assert(!chown(shelf, PLAIN, PLAIN));
	in_child(reports, "", "plain user");
	unlink(path);
	cr_expect(!rmdir(shelf), "something else is left there");
}

/* --- steps that the host refuses ---------------------------------------------------------- */

struct refusal {
	const char *step; /* that the message names */
	long call;
};

static void required(const void *arg)
{
	const struct refusal *r = arg;
	struct confine_plan plan = plan_of(CONFINE_REQUIRE);
	struct err err = { "" };

	if (CONFINE_SANITIZED && (r->call == SYS_mount || r->call == SYS_landlock_create_ruleset))
		return;
	plan.host_network = true;
	refuse(r->call);
	CHECK(confine_begin(&plan, &err) == -EPERM);
	CHECK(strstr(err.text, "--confine require") && strstr(err.text, r->step));
}

/* Without require the rest is done all the same. */
static void left_out(const void *arg)
{
	const struct refusal *r = arg;
	struct confine_plan plan = plan_of(CONFINE_ON);
	struct rlimit core;
	struct err err = { "" };

	refuse(r->call);
	CHECK(!confine_begin(&plan, &err) && !confine_finish(&err));
	CHECK(r->call == SYS_prlimit64 || (!getrlimit(RLIMIT_CORE, &core) && !core.rlim_max));
	CHECK(r->call == SYS_capset || !permitted());
}

/* A filter that does not load when a thread begins. Under a sanitizer none is loaded. */
static void filter_refused(const void *arg)
{
	bool required = arg;
	struct confine_plan plan = plan_of(required ? CONFINE_REQUIRE : CONFINE_ON);
	struct err err = { "" };
	int status;
	pid_t pid;

	plan.host_network = plan.files_later = true;
	CHECK(!confine_begin(&plan, &err));
	refuse(SYS_seccomp);
	pid = fork();
	if (!pid) {
		thread_become(THREAD_LOOP);
		thread_confine();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == (required && !CONFINE_SANITIZED ? EXIT_FAILURE : 0));
}

Test(confine, refused_filter)
{
	in_child(filter_refused, NULL, "on");
	in_child(filter_refused, "", "require");
}

Test(confine, refused)
{
	static const struct refusal refusals[] = {
		{ "no dumps", SYS_prlimit64 },
		{ "no capabilities", SYS_capset },
		{ "namespaces", SYS_unshare },
		{ "empty root", SYS_mount },
		{ "Landlock", SYS_landlock_create_ruleset },
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		in_child(required, &refusals[i], refusals[i].step);
		in_child(left_out, &refusals[i], refusals[i].step);
	}
}

/* --- the plan ----------------------------------------------------------------------------- */

static int parse(struct config *config, struct confine_plan *plan, const char *const *argv,
		 struct err *err)
{
	int argc = 0, rc;

	while (argv[argc])
		argc++;
	rc = config_parse(config, argc, (char **)argv, err);
	return rc ? rc : confine_plan_config(plan, config, err);
}

Test(confine, plan)
{
	static const struct {
		const char *argv[7];
		enum confine_mode mode;
		bool host_network, interfaces;
		unsigned nfds;
		int fd[3];
		unsigned nnames;
		const char *name;
	} cases[] = {
		{ { "--kernel", "K" }, CONFINE_ON, false, false, 0, { 0 } },
		{ { "--confine", "require", "--net", "user" },
		  CONFINE_REQUIRE,
		  true,
		  false,
		  0,
		  { 0 } },
		{ { "--confine=log", "--net", "tap=t0" }, CONFINE_LOG, true, true, 0, { 0 } },
		{ { "--confine=off", "--net", "fd=7:8:9" },
		  CONFINE_OFF,
		  true,
		  true,
		  3,
		  { 7, 8, 9 } },
		{ { "--net", "stream=fd:12" }, CONFINE_ON, false, false, 1, { 12 } },
		{ { "--net", "stream=/run/x:3" },
		  CONFINE_ON,
		  false,
		  false,
		  1,
		  { 3 },
		  1,
		  "/run/x:3" },
		{ { "--net", "vhost-user=/run/x" }, CONFINE_ON, false, false, 0, { 0 } },
		{ { "--vsock", "cid=3,socket=S" }, CONFINE_ON, false, false, 0, { 0 }, 1, "S" },
		{ { "--serial", "pty,link=a/b" }, CONFINE_ON, false, false, 0, { 0 }, 1, "a/b" },
		{ { "--port", "name=x,socket=/t" }, CONFINE_ON, false, false, 0, { 0 }, 1, "/t" },
		{ { "--vsock", "cid=3,vhost=on" }, CONFINE_ON, true, false, 0, { 0 } },
		{ { "--kernel", "/dev/fd/63", "--initrd", "/proc/self/fd/62" },
		  CONFINE_ON,
		  false,
		  false,
		  2,
		  { 63, 62 } },
		{ { "--disk", "/dev/fd/5", "--disk", "/dev/fd/x" },
		  CONFINE_ON,
		  false,
		  false,
		  1,
		  { 5 } },
		{ { "--backing-dir", "/", "--backing-dir", "/dev/fd/44" },
		  CONFINE_ON,
		  false,
		  false,
		  1,
		  { 44 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct confine_plan plan = { .mode = CONFINE_ON };
		struct config config;
		struct err err = { "" };

		cr_expect(!parse(&config, &plan, cases[i].argv, &err), "%zu: %s", i, err.text);
		cr_expect_eq(plan.mode, cases[i].mode, "%zu", i);
		cr_expect_eq(plan.host_network, cases[i].host_network, "%zu", i);
		cr_expect_eq(plan.interfaces, cases[i].interfaces, "%zu", i);
		cr_assert_eq(plan.nfds, cases[i].nfds, "%zu: %u", i, plan.nfds);
		cr_expect_eq(plan.nnames, cases[i].nnames, "%zu: %u", i, plan.nnames);
		cr_expect(!plan.nnames || !strcmp(plan.name[0], cases[i].name), "%zu", i);
		for (unsigned n = 0; n < plan.nfds; n++)
			cr_expect_eq(plan.fd[n], cases[i].fd[n], "%zu: %d", i, plan.fd[n]);
		config_clear(&config);
	}
}

/* More descriptors than a plan holds are an error, and nothing is written behind its end. */
Test(confine, too_many_descriptors)
{
	struct confine_plan plan = { .mode = CONFINE_ON };
	struct err err = { "" };
	int rc = 0;

	for (int i = 0; !rc && i <= CONFINE_FDS_MAX; i++)
		rc = confine_plan_path(&plan, "/dev/fd/3", &err);
	cr_expect_eq(rc, -E2BIG);
	cr_expect_eq(plan.nfds, CONFINE_FDS_MAX);
	cr_expect(strstr(err.text, "descriptors"));
}
