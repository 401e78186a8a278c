/* helper: a program that another user could exchange is not started; one that stays is killed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/helper.h"

#define OTHER 65533
#define GROUP 64999

static char top[64];

static void make_dir(void)
{
	strcpy(top, "/var/tmp/bantam-helper-XXXXXX");
	cr_assert(mkdtemp(top) && !chdir(top) && !chmod(top, 0755));
}

static void remove_dir(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	cr_assert(!chdir("/") && !system(cmd));
}

TestSuite(helper, .init = make_dir, .fini = remove_dir, .timeout = 20);

/* a is above b, which has the program; of each the mode, the owner and the group. */
static const struct place {
	struct who {
		mode_t mode;
		uid_t uid;
		gid_t gid;
	} a, b, file;
	const char *fault; /* NULL: started */
} places[] = {
	{ { 0755 }, { 0755 }, { 0755 }, NULL },
	{ { 0700 }, { 0700 }, { 0700 }, NULL },
	{ { 0755 }, { 0755 }, { 04755 }, NULL },
	/* Others may write. */
	{ { 0755 }, { 0755 }, { 0757 }, "others may write to TOP/a/b/bantam-x" },
	{ { 0755 }, { 0757 }, { 0755 }, "others may write to TOP/a/b " },
	{ { 0757 }, { 0755 }, { 0755 }, "others may write to TOP/a " },
	{ { 0777 }, { 0777 }, { 0777 }, "others may write to TOP/a/b/bantam-x" },
	/* In a folder with the sticky bit a user cannot exchange what belongs to another. */
	{ { 01777 }, { 0755 }, { 0755 }, NULL },
	{ { 0755 }, { 01777 }, { 0755 }, NULL },
	{ { 01777 }, { 01777 }, { 0757 }, "others may write to TOP/a/b/bantam-x" },
	{ { 01777 }, { 0757 }, { 0755 }, "others may write to TOP/a/b " },
	{ { 0755 }, { 01777 }, { 0755, OTHER }, "TOP/a/b/bantam-x belongs to user 65533" },
	{ { 01777 }, { 0755, OTHER }, { 0755 }, "TOP/a/b belongs to user 65533" },
	/* Owners. */
	{ { 0755 }, { 0755 }, { 0755, OTHER }, "TOP/a/b/bantam-x belongs to user 65533" },
	{ { 0755 }, { 0755, OTHER }, { 0755 }, "TOP/a/b belongs to user 65533" },
	{ { 0755, OTHER }, { 0755 }, { 0755 }, "TOP/a belongs to user 65533" },
	{ { 0555, OTHER }, { 0755 }, { 0755 }, "TOP/a belongs to user 65533" },
	{ { 01755, OTHER }, { 0755 }, { 0755 }, "TOP/a belongs to user 65533" },
	/* Groups. */
	{ { 0755 }, { 0755 }, { 0775, 0, GROUP }, "others may write to TOP/a/b/bantam-x" },
	{ { 0755 }, { 0775, 0, GROUP }, { 0755 }, "others may write to TOP/a/b " },
	{ { 0775, 0, GROUP }, { 0755 }, { 0755 }, "others may write to TOP/a " },
	{ { 0755, 0, GROUP }, { 0755, 0, GROUP }, { 0755, 0, GROUP }, NULL },
	{ { 0775, 0, 0 }, { 0775, 0, 0 }, { 0775, 0, 0 }, NULL },
	{ { 01775, 0, GROUP }, { 0755 }, { 0755 }, NULL },
};

static void set(const char *path, const struct who *w)
{
	cr_assert(!chown(path, w->uid, w->gid) && !chmod(path, w->mode), "%s", path);
}

static void program(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	cr_assert_geq(fd, 0);
	close(fd);
}

Test(helper, who_could_exchange_it)
{
	char path[PATH_MAX], dir[128], fault[200], want[200];
	struct err err;

	if (geteuid())
		cr_skip_test("needs root");
	cr_assert(!mkdir("a", 0755) && !mkdir("a/b", 0755));
	program("a/b/bantam-x");
	snprintf(dir, sizeof(dir), "%s/a/b", top);
	snprintf(want, sizeof(want), "%s/a/b/bantam-x", top);
	setenv("BANTAM_LIBEXEC", dir, 1);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const struct place *p = &places[i];
		int rc;

		set("a", &p->a);
		set("a/b", &p->b);
		set("a/b/bantam-x", &p->file);
		rc = helper_find("bantam-x", path, sizeof(path), &err);
		if (!p->fault) {
			cr_expect(!rc && !strcmp(path, want), "%zu: %s", i, err.text);
			continue;
		}
		snprintf(fault, sizeof(fault), "%.*s%s%s",
			 (int)(strstr(p->fault, "TOP") - p->fault), p->fault, top,
			 strstr(p->fault, "TOP") + 3);
		cr_expect_eq(rc, -EACCES, "%zu", i);
		cr_expect(strstr(err.text, fault), "%zu: %s", i, err.text);
		/* What the message advises helps, step by step. */
		for (unsigned step = 0; rc && strstr(err.text, "chmod "); step++) {
			cr_assert_lt(step, 4);
			cr_assert_eq(system(strstr(err.text, "chmod ")), 0, "%s", err.text);
			rc = helper_find("bantam-x", path, sizeof(path), &err);
		}
		cr_expect(!rc || strstr(err.text, "make install"), "%zu: %s", i, err.text);
	}
}

Test(helper, links)
{
	static const struct {
		const char *to;
		int rc;
	} cases[] = {
		{ "good/bantam-x", 0 },	  { "./good/../good/bantam-x", 0 },
		{ "good/again", 0 },	  { "bad/bantam-x", -EACCES },
		{ "bad/back", -EACCES },  { "good/through", -EACCES },
		{ "good/none", -ENOENT }, { "bantam-x", -ENOENT },
	};
	char path[PATH_MAX], want[100];
	struct err err;

	cr_assert(!mkdir("good", 0755) && !mkdir("bad", 0755) && !chmod("bad", 0777));
	program("good/bantam-x");
	program("bad/bantam-x");
	cr_assert(!symlink("bantam-x", "good/again") && !symlink("../good/bantam-x", "bad/back") &&
		  !symlink("../bad/back", "good/through"));
	setenv("BANTAM_LIBEXEC", top, 1);
	snprintf(want, sizeof(want), "%s/good/bantam-x", top);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unlink("bantam-x");
		cr_assert_eq(symlink(cases[i].to, "bantam-x"), 0);
		cr_expect_eq(helper_find("bantam-x", path, sizeof(path), &err), cases[i].rc,
			     "%s: %s", cases[i].to, err.text);
		if (!cases[i].rc)
			cr_expect_str_eq(path, want);
	}
	/* The folder by a link: its real name counts. */
	cr_assert(!symlink("good", "link"));
	snprintf(path, sizeof(path), "%s/link", top);
	setenv("BANTAM_LIBEXEC", path, 1);
	cr_expect_eq(helper_find("bantam-x", path, sizeof(path), &err), 0, "%s", err.text);
	cr_expect_str_eq(path, want);
}

/* A folder whose real name is as long as a name can be, by a short link: with the program's it is too long. */
Test(helper, a_long_name)
{
	char path[PATH_MAX], found[PATH_MAX + 64], part[101] = "", deep[PATH_MAX] = "";
	size_t len = strlen(top), n = 0;
	struct err err;

	memset(part, 'd', 100);
	while (len < PATH_MAX - 2) {
		size_t room = PATH_MAX - 2 - len, take = room < 101 ? room : 101;

		part[take - 1] = 0;
		cr_assert(!mkdir(part, 0755) && !chdir(part));
		n += (size_t)snprintf(deep + n, sizeof(deep) - n, "%s%s", n ? "/" : "", part);
		len += take;
	}
	program("bantam-x");
	cr_assert(!chdir(top) && !symlink(deep, "short"));
	snprintf(path, sizeof(path), "%s/short", top);
	setenv("BANTAM_LIBEXEC", path, 1);
	cr_expect_eq(helper_find("bantam-x", found, sizeof(found), &err), -ENAMETOOLONG, "%s",
		     err.text);
	cr_expect_eq(helper_find("bantam-x", deep, sizeof(deep), &err), -ENAMETOOLONG, "%s",
		     err.text);
}

/* What was found stays found; what was not is looked for again. No two processes of a host have the same user. */
Test(helper, found_before)
{
	char path[PATH_MAX], before[PATH_MAX];
	struct err err;

	cr_assert(!setenv("BANTAM_LIBEXEC", top, 1));
	helper_find_now("bantam-y");
	program("bantam-y");
	program("bantam-x");
	helper_find_now("bantam-x");
	cr_assert(!helper_find("bantam-x", before, sizeof(before), &err), "%s", err.text);
	cr_assert(!setenv("BANTAM_LIBEXEC", "/nowhere", 1));
	cr_expect(!helper_find("bantam-x", path, sizeof(path), &err) && !strcmp(path, before));
	cr_expect_eq(helper_find("bantam-x", path, 3, &err), -ENAMETOOLONG);
	cr_expect_eq(helper_find("bantam-y", path, sizeof(path), &err), -ENOENT);
	cr_assert(!setenv("BANTAM_LIBEXEC", top, 1));
	cr_expect(!helper_find("bantam-y", path, sizeof(path), &err), "%s", err.text);

	cr_expect_neq(helper_user(1), helper_user(2));
	cr_expect(helper_user(4194303) > 0x70000000u && helper_user(4194303) < 0x80000000u);
}

Test(helper, reap)
{
	struct helper h;
	unsigned ms;
	pid_t pid;

	cr_assert_eq(helper_spawn("/bin/sh", (char *[]){ "sh", "-c", "exit 7", NULL }, NULL, 0, &h),
		     0);
	cr_expect_eq(helper_reap(&h, 10000), 7 << 8);
	cr_expect_eq(h.pid, 0);
	cr_expect_eq(helper_reap(&h, 10000), -1);
	/* The second one is that of a kernel without pidfds. */
	for (unsigned i = 0; i < 2; i++) {
		ms = i ? 20 : 0;
		cr_assert_eq(helper_spawn("/bin/sleep", (char *[]){ "sleep", "100", NULL }, NULL, 0,
					  &h),
			     0);
		pid = h.pid;
		if (i && h.pidfd >= 0) {
			close(h.pidfd);
			h.pidfd = -1;
		}
		cr_expect_eq(helper_reap(&h, ms), -1);
		cr_expect(kill(pid, 0) && errno == ESRCH);
	}
	cr_expect_eq(helper_spawn("/nothing", (char *[]){ "x", NULL }, NULL, 0, &h), -ENOENT);
	cr_expect_eq(h.pid, 0);
}
