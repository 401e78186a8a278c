/*
 * Which names of backing files are followed, and that nothing else is opened: inotify tells of each
 * open but O_PATH, of a FIFO and a device, too.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "tests/unit/qcow2_files.h"

/*
 * vms/vm.qcow2 is the image. Beside it are files, links and others; base/ and base/deep/ have files;
 * link/ leads to vms, so a user may come by that name.
 */
static void enter(void)
{
	static const char layout[] =
		"mkdir -p vms/sub base/deep 'odd dir' && ln -s vms link && : >vms/vm.qcow2 &&"
		"for f in vms/base vms/sub/base secret base/b base/deep/d 'odd dir/b' 'vms/a b'; do"
		"	echo \"$f\" >\"$f\"; done &&"
		"mkfifo vms/fifo base/fifo && cd vms && ln -s base ok && ln -s ok ok2 &&"
		"ln -s ./base dot && ln -s \"$PWD/base\" absolute && ln -s ../secret up &&"
		"ln -s ../base/b out && ln -s sub/base inner && ln -s loop2 loop && ln -s loop loop2 &&"
		"ln -s fifo tofifo && ln -s sub/../../secret twice && ln -s /proc/self/exe magic &&"
		"ln -s gone dangling && ln -s ../vms/base round &&"
		"cd ../base && ln -s ../vms dir && ln -s deep inside && ln -s ../vms/base back";

	scratch_enter();
	must("%s", layout);
}

TestSuite(backing, .init = enter, .fini = scratch_leave, .timeout = 60);

/* Opens what was found, as an image is opened, and returns its line. */
static const char *content(const struct store_found *found)
{
	static char text[64];
	int fd = open(found->via, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	cr_assert_geq(fd, 0);
	n = read(fd, text, sizeof(text) - 1);
	cr_assert_geq(n, 0);
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	close(fd);
	return text;
}

static int find(const char *image, const char *name, struct store_found *found, struct err *err)
{
	struct store_folder own;
	int rc = store_folder_open(&own, image, err);

	cr_assert_eq(rc, 0, "%s", err->text);
	rc = store_backing_find(&own, image, name, found, err);
	store_folder_close(&own);
	return rc;
}

/* want: the file's line; NULL: refused with error, and a message that has word. */
static void row(size_t i, const char *image, const char *name, const char *want, int error,
		const char *word)
{
	struct store_found found;
	struct err err = { "" };
	int rc = find(image, name, &found, &err);

	if (want) {
		cr_assert_eq(rc, 0, "row %zu: %s", i, err.text);
		cr_expect_str_eq(content(&found), want, "row %zu", i);
		close(found.fd);
		return;
	}
	cr_expect_eq(rc, -error, "row %zu: %d (%s)", i, rc, err.text);
	cr_expect(strstr(err.text, word), "row %zu: \"%s\" lacks \"%s\"", i, err.text, word);
	if (!rc)
		close(found.fd);
}

static int watch(void)
{
	static const char *const others[] = { "secret",	   "vms/sub/base", "vms/fifo",	 "base/b",
					      "base/fifo", "/dev/kmsg",	   "/etc/shadow" };
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	cr_assert_geq(fd, 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		cr_assert(inotify_add_watch(fd, others[i], IN_OPEN) >= 0 || errno == ENOENT ||
				  errno == EACCES,
			  "%s", others[i]);
	return fd;
}

static void check_unopened(int fd)
{
	char buf[256];

	cr_expect_eq(read(fd, buf, sizeof(buf)), -1, "a file was opened");
	close(fd);
}

#define OTHER "lies in another folder, and is not opened"

Test(backing, own_folder_only)
{
	static const struct {
		const char *image, *name, *want;
		int error;
		const char *word;
	} table[] = {
		{ "vms/vm.qcow2", "base", "vms/base" },
		{ "vms/vm.qcow2", "./base", "vms/base" },
		{ "vms/vm.qcow2", ".//./base", "vms/base" },
		{ "vms/vm.qcow2", "base/", "vms/base" },
		{ "vms/vm.qcow2", "a b", "vms/a b" },
		{ "vms/vm.qcow2", "../vms/base", "vms/base" },
		{ "link/vm.qcow2", "base", "vms/base" },
		{ "link/../vms/vm.qcow2", "base", "vms/base" },
		{ "vms/vm.qcow2", "ok", "vms/base" },
		{ "vms/vm.qcow2", "ok2", "vms/base" },
		{ "vms/vm.qcow2", "dot", "vms/base" },
		{ "vms/vm.qcow2", "absolute", "vms/base" },
		{ "vms/vm.qcow2", "round", "vms/base" },
		{ "vms/vm.qcow2", "gone", NULL, ENOENT, "gone" },
		{ "vms/vm.qcow2", "dangling", NULL, ENOENT, "dangling" },
		{ "vms/vm.qcow2", "loop", NULL, ELOOP, "loop" },
		{ "vms/vm.qcow2", "base/x", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "/etc/shadow", NULL, EXDEV, "--backing-dir /etc" },
		{ "vms/vm.qcow2", "//etc//./shadow", NULL, EXDEV, "--backing-dir /etc" },
		{ "vms/vm.qcow2", "/dev/kmsg", NULL, EXDEV, "--backing-dir /dev" },
		{ "vms/vm.qcow2", "/vmlinuz", NULL, EXDEV, "--backing-dir /" },
		{ "vms/vm.qcow2", "/proc/self/fd/0", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "../secret", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "../../../../../../../etc/shadow", NULL, EXDEV,
		  "--backing-dir /etc" },
		{ "vms/vm.qcow2", "../base/b", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "../odd dir/b", NULL, EXDEV, "/odd dir'" },
		{ "vms/vm.qcow2", "../it's/b", NULL, EXDEV, "/it'\\''s'" },
		{ "vms/vm.qcow2", "sub/base", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "sub/../base", NULL, EXDEV, "has .. behind a folder" },
		{ "vms/vm.qcow2", "ok/../../secret", NULL, EXDEV, "has .. behind a folder" },
		{ "vms/vm.qcow2", "..", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", ".", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "sub", NULL, EINVAL, "is a folder" },
		{ "vms/vm.qcow2", "fifo", NULL, EINVAL, "is a FIFO" },
		{ "vms/vm.qcow2", "tofifo", NULL, EINVAL, "is a FIFO" },
		{ "vms/vm.qcow2", "up", NULL, EXDEV, "secret) " OTHER },
		{ "vms/vm.qcow2", "out", NULL, EXDEV, "/base/b) " OTHER },
		{ "vms/vm.qcow2", "inner", NULL, EXDEV, OTHER },
		{ "vms/vm.qcow2", "twice", NULL, EXDEV, "is a link to a name with .." },
		{ "vms/vm.qcow2", "magic", NULL, EXDEV, "/proc/self/exe) " OTHER },
	};
	int opens = watch();

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		row(i, table[i].image, table[i].name, table[i].want, table[i].error, table[i].word);
	check_unopened(opens);
}

/* An absolute name of the own folder, by its real name and by the one that the user has. */
Test(backing, absolute_names_of_the_own_folder)
{
	char here[512], name[600], image[600];

	cr_assert(getcwd(here, sizeof(here)));
	snprintf(name, sizeof(name), "%s/vms/base", here);
	row(0, "vms/vm.qcow2", name, "vms/base", 0, "");
	row(1, "link/vm.qcow2", name, "vms/base", 0, "");
	snprintf(name, sizeof(name), "%s/link/base", here);
	row(2, "link/vm.qcow2", name, "vms/base", 0, "");
	snprintf(image, sizeof(image), "%s/link/vm.qcow2", here);
	row(3, image, name, "vms/base", 0, "");
	/* It is the same folder, but nothing says so before it is opened. */
	row(4, "vms/vm.qcow2", name, NULL, EXDEV, "/link");
	/* $PWD is the user's name of the current folder, if it is right. */
	snprintf(image, sizeof(image), "%s/link", here);
	cr_assert(!chdir("link") && !setenv("PWD", image, 1));
	row(5, "vm.qcow2", name, "vms/base", 0, "");
	cr_assert(!setenv("PWD", "/etc", 1));
	row(6, "vm.qcow2", name, NULL, EXDEV, "/link");
	row(7, "vm.qcow2", "/etc/shadow", NULL, EXDEV, "/etc");
}

Test(backing, named_folders)
{
	static const struct {
		const char *name, *want;
		int error;
		const char *word;
	} table[] = {
		{ "base", "vms/base" },
		{ "../base/b", "base/b" },
		{ "../base/deep/d", "base/deep/d" },
		{ "../base/inside/d", "base/deep/d" },
		{ "../base/back", "vms/base" }, /* back in the own folder */
		{ "../base/dir/sub/base", NULL, EXDEV, OTHER },
		{ "../base/dir/../secret", NULL, EXDEV, "has .. behind" },
		{ "out", "base/b" },
		{ "../base/b/x", NULL, ENOTDIR, "Not a directory" },
		{ "../base/gone", NULL, ENOENT, "No such file" },
		{ "../base/fifo", NULL, EINVAL, "is a FIFO" },
		{ "../base", NULL, EXDEV, OTHER },
		{ "../base2/b", NULL, EXDEV, OTHER },
		{ "../secret", NULL, EXDEV, OTHER },
		{ "sub/base", NULL, EXDEV, OTHER },
		{ "/dev/null", NULL, EINVAL, "is a character device" },
	};
	struct err err = { "" };

	cr_assert_eq(store_allow_folder("gone", &err), -ENOENT);
	cr_assert_eq(store_allow_folder("secret", &err), -ENOTDIR);
	cr_assert_eq(store_allow_folder("base/", &err), 0, "%s", err.text);
	cr_assert_eq(store_allow_folder("/dev", &err), 0, "%s", err.text);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		row(i, "vms/vm.qcow2", table[i].name, table[i].want, table[i].error, table[i].word);
	for (unsigned i = 2; i < STORE_FOLDERS_MAX; i++)
		cr_assert_eq(store_allow_folder(".", &err), 0);
	cr_assert_eq(store_allow_folder(".", &err), -E2BIG);
	/* "." is the folder above: all of it may be entered now. */
	row(99, "vms/vm.qcow2", "../base/dir/sub/base", "vms/sub/base", 0, "");
}

/* A block device is opened only below a folder that the user has named. */
Test(backing, block_devices)
{
	struct store_found found;
	struct err err = { "" };

	if (mknod("vms/disk", S_IFBLK | 0600, makedev(7, 0))) {
		cr_log_info("skipped: no right to make a device");
		return;
	}
	row(0, "vms/vm.qcow2", "disk", NULL, EXDEV, "is a block device, and is not opened; if you");
	cr_assert_eq(store_allow_folder("vms", &err), 0, "%s", err.text);
	cr_expect_eq(find("vms/vm.qcow2", "disk", &found, &err), 0, "%s", err.text);
	cr_expect(S_ISBLK(found.st.st_mode));
	close(found.fd);
}

/* The folder of a backing file is that of the next name. */
Test(backing, chains_over_folders)
{
	struct err err = { "" };

	must("qemu-img create -q -f qcow2 base/deep/c.qcow2 1M");
	must("qemu-img create -q -u -f qcow2 -b deep/c.qcow2 -F qcow2 base/b.qcow2 1M");
	must("qemu-img create -q -u -f qcow2 -b ../base/b.qcow2 -F qcow2 vms/a.qcow2 1M");
	must("qemu-img create -q -u -f qcow2 -b a.qcow2 -F qcow2 vms/top.qcow2 1M");
	must_refuse("vms/top.qcow2", STORE_AUTO, true,
		    "disk vms/a.qcow2: its backing file ../base/b");
	cr_assert_eq(store_allow_folder("base", &err), 0, "%s", err.text);
	store_close(must_open("vms/top.qcow2", STORE_AUTO, true));
	must("qemu-img rebase -q -u -f qcow2 -b c.qcow2 -F qcow2 base/b.qcow2");
	must_refuse("vms/top.qcow2", STORE_AUTO, true, "No such file");
	must("mv base/deep/c.qcow2 base");
	store_close(must_open("vms/top.qcow2", STORE_AUTO, true));
	/* A backing file has no way out either. */
	must("qemu-img rebase -q -u -f qcow2 -b ../secret -F raw base/b.qcow2");
	must_refuse("vms/top.qcow2", STORE_AUTO, true,
		    "disk vms/../base/b.qcow2: its backing file ../secret");
}

/* --- races ------------------------------------------------------------------------------ */

static atomic_bool over;

/* The owner of the folders exchanges a file and a FIFO, links, and a folder and a link. */
static void *exchange(void *opaque)
{
	static const char pairs[][2][16] = {
		{ "vms/base", "vms/fifo" },    { "vms/ok", "vms/up" },
		{ "base/deep", "base/dir" },   { "vms/base", "vms/up" },
		{ "base/inside", "base/dir" }, { "vms/out", "vms/twice" },
	};

	for (unsigned i = 0; !atomic_load(&over); i++) {
		const char(*p)[16] = pairs[i % (sizeof(pairs) / sizeof(pairs[0]))];

		renameat2(AT_FDCWD, p[0], AT_FDCWD, p[1], RENAME_EXCHANGE);
	}
	return NULL;
}

Test(backing, exchanged_meanwhile)
{
	static const char *const names[] = { "base", "ok",  "../base/deep/d", "../base/inside/d",
					     "ok2",  "out", "../base/back" };
	unsigned found_some = 0;
	struct err err = { "" };
	pthread_t thread;
	int opens = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	char buf[256];

	cr_assert(inotify_add_watch(opens, "secret", IN_OPEN) >= 0 &&
		  inotify_add_watch(opens, "vms/fifo", IN_OPEN) >= 0);
	cr_assert_eq(store_allow_folder("base", &err), 0, "%s", err.text);
	cr_assert_eq(pthread_create(&thread, NULL, exchange, NULL), 0);
	for (unsigned i = 0; i < 7000; i++) {
		struct store_found found;
		const char *text;

		if (find("vms/vm.qcow2", names[i % 7], &found, &err))
			continue;
		text = content(&found);
		cr_assert(S_ISREG(found.st.st_mode) && strcmp(text, "secret") != 0 &&
				  strcmp(text, "vms/sub/base") != 0,
			  "%s led to %s", names[i % 7], text);
		found_some++;
		close(found.fd);
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	cr_expect_gt(found_some, 0);
	cr_expect_eq(read(opens, buf, sizeof(buf)), -1, "the secret or the FIFO was opened");
	close(opens);
}
