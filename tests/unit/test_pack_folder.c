/* folder: a folder of the host in an archive, with all kinds of files, and what cannot be taken. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "boot/pack/pack.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"

static struct pack *pack;
static struct err err;
static char *archive;
static size_t archive_len;
static unsigned fds;

static void setup(void)
{
	pack_files_setup();
	umask(0);
	fds = proc_fds(0);
	cr_assert_eq(pack_create(&pack, &err), 0);
}

static void teardown(void)
{
	pack_destroy(pack);
	free(archive);
	cr_expect_eq(proc_fds(0), fds, "a descriptor is open");
	pack_files_teardown();
}

TestSuite(pack_folder, .init = setup, .fini = teardown, .timeout = 60);

static void again(void)
{
	pack_destroy(pack);
	cr_assert_eq(pack_create(&pack, &err), 0);
	err = (struct err){ "" };
}

static void build(void)
{
	void *data;

	free(archive);
	cr_assert_eq(pack_to_memory(pack, PACK_PLAIN, &data, &archive_len, &err), 0, "%s",
		     err.text);
	archive = data;
}

static void bind_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	cr_assert(!bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	close(fd);
}

Test(pack_folder, all_kinds)
{
	static const struct {
		const char *name;
		unsigned mode;
		const char *data;
	} rows[] = {
		{ "", 0040750, "" },
		{ "text", 0100640, "a text\n" },
		{ "run", 0100751, "#!/bin/sh\n" },
		{ "deep", 0040700, "" },
		{ "deep/er", 0041777, "" },
		{ "deep/er/empty", 0100600, "" },
		{ "link", 0120777, "deep/er" },
		{ "dangling", 0120777, "/no/such" },
		{ "set", 0104755, "s" }, /* of root */
	};
	static const char *const names[] = { "/at/here", "at/here", "/" };

	pack_files_text("tree/text", "a text\n");
	pack_files_text("tree/run", "#!/bin/sh\n");
	pack_files_text("tree/set", "s");
	pack_files_text("tree/deep/er/empty", "");
	cr_assert(!symlink("deep/er", "tree/link") && !symlink("/no/such", "tree/dangling"));
	cr_assert(!mkfifo("tree/fifo", 0666));
	bind_socket("tree/socket");
	cr_assert(!chmod("tree", 0750) && !chmod("tree/text", 0640) && !chmod("tree/run", 0751));
	cr_assert(!chmod("tree/deep", 0700) && !chmod("tree/deep/er", 01777) &&
		  !chmod("tree/deep/er/empty", 0600) && !chmod("tree/set", 04755));
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		bool root = !strcmp(names[n], "/");

		again();
		cr_assert_eq(pack_add_folder(pack, names[n], "tree", &err), 0, "%s", err.text);
		build();
		for (size_t i = root; i < sizeof(rows) / sizeof(rows[0]); i++) {
			unsigned mode = rows[i].mode & (geteuid() ? 0171777 : 0177777);
			struct pack_files_entry e;
			char name[64];

			snprintf(name, sizeof(name), "%s%s%s", root ? "" : "at/here",
				 root || !*rows[i].name ? "" : "/", rows[i].name);
			cr_assert(pack_files_find(archive, archive_len, name, &e), "%s", name);
			cr_expect_eq(e.mode, mode, "%s: %o", name, e.mode);
			cr_expect(e.len == strlen(rows[i].data) &&
					  !memcmp(e.data, rows[i].data, e.len),
				  "%s", name);
		}
		cr_expect_not(pack_has(pack, root ? "fifo" : "at/here/fifo"));
		cr_expect_not(pack_has(pack, root ? "socket" : "at/here/socket"));
	}
}

/* A root file system: its links lead what comes later to the right place, and its console is the pack's. */
Test(pack_folder, root_with_links_and_nodes)
{
	bool nodes = !mkdir("root", 0755) && !mkdir("root/dev", 0755) &&
		     !mknod("root/dev/console", S_IFCHR | 0600, makedev(5, 1)) &&
		     !mknod("root/dev/vda", S_IFBLK | 0660, makedev(254, 0));
	struct pack_files_entry e;

	pack_files_text("root/usr/lib/x", "x");
	cr_assert(!symlink("usr/lib", "root/lib"));
	cr_assert_eq(pack_add_folder(pack, "/", "root/../root/", &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, "lib/x"));
	cr_assert_eq(pack_add_bytes(pack, "lib/y", 0644, "y", 1, &err), 0, "%s", err.text);
	build();
	cr_expect(pack_files_find(archive, archive_len, "usr/lib/y", &e) && e.len == 1);
	cr_expect(pack_files_find(archive, archive_len, "lib", &e) && e.mode == 0120777);
	cr_expect(pack_files_find(archive, archive_len, "dev/console", &e) && e.major == 5);
	if (nodes) /* only root may make them */
		cr_expect(pack_files_find(archive, archive_len, "dev/vda", &e) &&
			  e.mode == 0060660 && e.major == 254 && !e.minor);
}

Test(pack_folder, what_cannot_be_taken)
{
	char path[300];
	int fd;

	pack_files_text("file", "");
	cr_expect_eq(pack_add_folder(pack, "/x", "file", &err), -ENOTDIR, "%s", err.text);
	cr_expect_eq(pack_add_folder(pack, "/x", "nosuch", &err), -ENOENT, "%s", err.text);
	cr_expect_eq(pack_add_folder(pack, "/../x", ".", &err), -EINVAL, "%s", err.text);
	cr_expect_eq(pack_add_folder(pack, "/dev/console", ".", &err), -EEXIST, "%s", err.text);
	again();
	cr_assert_eq(pack_add_bytes(pack, "/x/file", 0644, "", 0, &err), 0);
	cr_expect_eq(pack_add_folder(pack, "/x", ".", &err), -EEXIST, "%s", err.text);
	again();
	fd = open("huge", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (!ftruncate(fd, (off_t)PACK_FOLDER_MAX + 1)) {
		cr_expect_eq(pack_add_folder(pack, "/x", ".", &err), -E2BIG);
		cr_expect(strstr(err.text, "make a disk of it"), "%s", err.text);
	}
	close(fd);
	cr_assert(!unlink("huge"));
	again();
	/* deep: a folder takes no descriptor while those in it are read */
	cr_assert(!setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 64, 64 }));
	cr_assert(getcwd(path, sizeof(path)));
	for (int i = 0; i < 200; i++)
		cr_assert(!mkdir("d", 0755) && !chdir("d"), "%d", i);
	cr_expect_eq(pack_add_folder(pack, "/x", path, &err), 0, "%s", err.text);
	cr_assert(!chdir(path));
	again();
	if (geteuid()) {
		cr_assert(!chmod("file", 0));
		cr_expect_eq(pack_add_folder(pack, "/x", ".", &err), -EACCES);
		cr_expect(strstr(err.text, "/file"), "%s", err.text);
	}
}

/* The table of names grows several times. */
Test(pack_folder, many_files)
{
	char name[64];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "d%d/f%d", i % 100, i);
		cr_assert_eq(pack_add_bytes(pack, name, 0644, "x", 1, &err), 0, "%s", err.text);
	}
	cr_expect(pack_has(pack, "d99/f4999") && pack_has(pack, "/d0/f0") &&
		  !pack_has(pack, "d1/f0"));
	build();
}
