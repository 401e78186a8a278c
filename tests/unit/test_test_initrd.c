/* test/initrd: what is in a test's initrd, by its options. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/pack/executable.h"
#include "boot/pack/pack.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"
#include "vmm/test/initrd.h"

static struct test_options options;
static struct kernels_choice kernel;
static struct err err;
static char *archive; /* the initrd */
static size_t archive_len;
static char here[PATH_MAX];
static unsigned fds;

static void setup(void)
{
	pack_files_setup();
	cr_assert(getcwd(here, sizeof(here)));
	fds = proc_fds(0);
}

static void teardown(void)
{
	test_options_clear(&options);
	free(archive);
	cr_expect_eq(proc_fds(0), fds, "a descriptor is open");
	pack_files_teardown();
}

TestSuite(test_initrd, .init = setup, .fini = teardown, .timeout = 60);

/* Builds the initrd for "--kernel K" and these words, apart by blanks. */
static int build(const char *words)
{
	static char text[4096], *argv[32];
	char *rest = text;
	int argc = 1, fd, ret;
	struct stat st;

	snprintf(text, sizeof(text), "--kernel K %s", words);
	argv[0] = NULL;
	for (argc = 0; (argv[argc] = strtok_r(NULL, " ", &rest)); argc++)
		cr_assert_lt(argc, 31);
	test_options_clear(&options);
	err = (struct err){ "" };
	cr_assert_eq(test_options_parse(&options, argc, argv, &err), 0, "%s: %s", words, err.text);
	ret = test_initrd_build(&options, &kernel, &fd, &err);
	if (ret) {
		cr_expect_eq(fd, -1);
		cr_expect(*err.text, "%s", words);
		return ret;
	}
	cr_assert(!fstat(fd, &st));
	free(archive);
	archive = calloc(1, (size_t)st.st_size + 1);
	archive_len = (size_t)st.st_size;
	cr_assert_eq(pread(fd, archive, archive_len, 0), (ssize_t)archive_len);
	close(fd);
	return 0;
}

static bool find(const char *name, struct pack_files_entry *e)
{
	return pack_files_find(archive, archive_len, name, e);
}

static bool has(const char *name)
{
	struct pack_files_entry e;

	return find(name, &e);
}

/* The lines of /modules.list, without the folder; "" if there is none. */
static const char *list(void)
{
	static char text[1024];
	struct pack_files_entry e;
	size_t n = 0;

	*text = 0;
	if (!find("modules.list", &e))
		return text;
	for (size_t i = 0; i < e.len; i++)
		if (!strncmp(e.data + i, "/modules/", 9))
			i += 8;
		else
			text[n++] = e.data[i] == '\n' ? ' ' : e.data[i];
	text[n] = 0;
	return text;
}

static void modules(void)
{
	static const char *const names[] = { "virtio_ring",    "virtio_pci",
					     "virtio_mmio",    "virtio_console",
					     "virtio_blk",     "virtio_net",
					     "virtiofs",       "virtio_rng",
					     "virtio_balloon", "vmw_vsock_virtio_transport",
					     "extra" };
	char path[64], info[64], dep[2048] = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "mod/kernel/%s.ko", names[i]);
		snprintf(info, sizeof(info), "|name=%s|", names[i]);
		pack_files_write_module(path, info);
		sprintf(dep + strlen(dep), "kernel/%s.ko:%s\n", names[i],
			i ? " kernel/virtio_ring.ko" : "");
	}
	pack_files_text("mod/modules.dep", dep);
	kernel = (struct kernels_choice){ .modules = (char *)"mod" };
}

/* Of the tree only what the agent's channel and the given devices need. */
Test(test_initrd, modules)
{
	static const struct {
		const char *words, *list;
	} rows[] = {
		{ "", "virtio_ring.ko virtio_pci.ko virtio_console.ko " },
		{ "--transport mmio", "virtio_ring.ko virtio_mmio.ko virtio_console.ko " },
		{ "--transport=mmio", "virtio_ring.ko virtio_mmio.ko virtio_console.ko " },
		{ "--disk path=x --disk path=y",
		  "virtio_ring.ko virtio_pci.ko virtio_console.ko virtio_blk.ko " },
		{ "--disk=x --net tap=t --fs socket=s,tag=t --vsock cid=3,socket=s --rng --balloon size=1M",
		  "virtio_ring.ko virtio_pci.ko virtio_console.ko virtio_blk.ko virtio_net.ko virtiofs.ko "
		  "vmw_vsock_virtio_transport.ko virtio_rng.ko virtio_balloon.ko " },
		{ "--module extra:a=1,2 --module virtio_rng,virtio_net",
		  "virtio_ring.ko extra.ko a=1,2 virtio_rng.ko virtio_net.ko virtio_pci.ko virtio_console.ko " },
		{ "--net tap=t --module virtio_net:napi_tx=0",
		  "virtio_ring.ko virtio_net.ko napi_tx=0 virtio_pci.ko virtio_console.ko " },
	};

	modules();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(build(rows[i].words), 0, "%s: %s", rows[i].words, err.text);
		cr_expect_str_eq(list(), rows[i].list, "%s: %s", rows[i].words, list());
	}
	/* built in, and a kernel that has less: both are fine, but not for what the user asks */
	pack_files_text("mod/modules.dep", "kernel/virtio_console.ko:\n");
	pack_files_text("mod/modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n");
	cr_expect_eq(build("--module virtio_pci"), 0, "%s", err.text);
	cr_expect_str_eq(list(), "virtio_console.ko ");
	cr_expect_eq(build("--module nosuch"), -ENOENT);
	cr_expect(strstr(err.text, "no module nosuch in mod"), "%s", err.text);
	/* no tree at all */
	kernel.modules = NULL;
	cr_expect_eq(build(""), 0, "%s", err.text);
	cr_expect_str_eq(list(), "");
	cr_expect(has("init") && has("bantam-agent"));
	cr_expect_eq(build("--module extra"), -ENOENT);
	cr_expect(strstr(err.text, "--modules DIR gives them"), "%s", err.text);
	kernel.modules = (char *)"nosuch";
	cr_expect_eq(build(""), -ENOENT, "%s", err.text);
	kernel.modules_found = true;
	cr_expect_eq(build(""), 0, "%s", err.text);
}

Test(test_initrd, agent_and_users)
{
	struct pack_files_entry e;

	kernel = (struct kernels_choice){ 0 };
	cr_assert_eq(build(""), 0, "%s", err.text);
	cr_expect(find("init", &e) && e.mode == 0120777 && !strncmp(e.data, "/bantam-agent", 13));
	cr_expect(find("bantam-agent", &e) && e.mode == 0100755 && e.len > 4096);
	cr_expect(find("etc/passwd", &e) &&
		  !strncmp(e.data, "root:x:0:0:root:/root:/bin/sh\n", 30));
	cr_expect_null(test_initrd_init(&options));
	/* a root file system as a folder has an /init of its own */
	pack_files_text("root/init", "#!/bin/sh\n");
	pack_files_text("root/etc/passwd", "mine");
	cr_assert_eq(build("--copy root:/"), 0, "%s", err.text);
	cr_expect(find("init", &e) && S_ISREG(e.mode));
	cr_expect(find("etc/passwd", &e) && e.len == 4);
	cr_expect_str_eq(test_initrd_init(&options), "/bantam-agent");
}

/* A path in the initrd for one on this host. */
static const char *in(const char *host)
{
	static char real[PATH_MAX];

	cr_assert(realpath(host, real));
	return real + 1;
}

Test(test_initrd, command)
{
	char words[PATH_MAX + 100], path[PATH_MAX];
	struct pack_files_entry e;

	kernel = (struct kernels_choice){ 0 };
	pack_files_text("tool/run.sh", "#!/bin/sh\n");
	cr_assert(!chmod("tool/run.sh", 0755));
	/* by name, by path, by a relative path from the guest's working directory */
	cr_assert_eq(build("-- true"), 0, "%s", err.text);
	cr_expect(pack_find_program("true", path) && has(in(path)));
	cr_assert_eq(build("-- /usr/bin/true x"), 0, "%s", err.text);
	cr_expect(has(in("/usr/bin/true")) && has("usr/bin/true"));
	cr_assert_eq(build("-- tool/../tool/run.sh"), 0, "%s", err.text);
	cr_expect(has(in("tool/run.sh")) && has("bin/sh"));
	cr_expect(find("tool/run.sh", &e) && e.mode == 0120777);
	cr_assert_eq(build("--cwd /work/here -- ../run.sh"), 0, "%s", err.text);
	cr_expect_not(has("work/run.sh")); /* not on this host */
	cr_assert(!chdir("tool"));
	cr_assert_eq(build("--cwd /work/here -- ./run.sh"), 0, "%s", err.text);
	cr_expect(has("work/here/run.sh"));
	cr_assert(!chdir(".."));
	/* a folder where the guest does not look */
	snprintf(words, sizeof(words), "%s/tool:%s", here, getenv("PATH"));
	setenv("PATH", words, 1);
	cr_assert_eq(build("-- run.sh"), 0, "%s", err.text);
	cr_expect(has(in("tool/run.sh")) && has("usr/local/sbin/run.sh"));
	snprintf(words, sizeof(words), "--env PATH=/bin:%s/tool -- run.sh", here);
	cr_assert_eq(build(words), 0, "%s", err.text);
	cr_expect(has(in("tool/run.sh")) && !has("bin/run.sh"));
	cr_assert_eq(build("--env PATH=rel:/opt/x -- run.sh"), 0, "%s", err.text);
	cr_expect(has("opt/x/run.sh"));
	/* the guest says that these are not there: 127 */
	cr_expect_eq(build("-- nosuch-program"), 0, "%s", err.text);
	cr_expect_eq(build("-- /no/such"), 0, "%s", err.text);
	/* what it needs is not there */
	pack_files_text("tool/run.sh", "#!/no/such\n");
	cr_expect_eq(build("-- tool/run.sh"), -ENOENT, "%s", err.text);
	/* 126: not executable */
	cr_assert(!chmod("tool/run.sh", 0644));
	cr_expect_eq(build("-- tool/run.sh"), 0, "%s", err.text);
	cr_expect(find(in("tool/run.sh"), &e) && e.mode == 0100644);
}

Test(test_initrd, copies)
{
	static const struct {
		const char *words, *has;
		int ret;
	} rows[] = {
		{ "--copy data:/here", "here", 0 },
		{ "--copy data:/dir/", "dir/data", 0 },
		{ "--copy a:/b:/c", "c", 0 },
		{ "--copy tree:/t", "t/deep/file", 0 },
		{ "--copy tree:/t/", "t/deep/file", 0 },
		{ "--copy tree/deep/:/t --copy data:/t/data", "t/data", 0 },
		{ "--copy nosuch", NULL, -ENOENT },
		{ "--copy data:rel", NULL, -ENOENT },
		{ "--copy data:/x --copy a:/b:/x", NULL, -EEXIST },
		{ "--copy data:/", NULL, 0 },
		{ "--copy fifo:/x", NULL, -EINVAL },
		{ "--copy data:/bantam-agent", NULL, -EEXIST },
	};

	kernel = (struct kernels_choice){ 0 };
	pack_files_text("data", "text");
	pack_files_text("a:/b", "text");
	pack_files_text("tree/deep/file", "text");
	cr_assert(!mkfifo("fifo", 0600));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(build(rows[i].words), rows[i].ret, "%s: %s", rows[i].words, err.text);
		cr_expect(!rows[i].has || has(rows[i].has), "%s", rows[i].words);
	}
	cr_assert_eq(build("--copy data --copy tree --copy /bin/ls:/opt/list"), 0, "%s", err.text);
	cr_expect(has(in("data")) && has(in("tree/deep/file")) && has("opt/list"));
	cr_expect_gt(archive_len, 1 << 20); /* with its libraries */
}

/* The user's initrd comes first, as it is, and what it holds is not packed again. */
/* A command in a folder of --copy: its interpreter comes, too, but not to a root file system that has one. */
Test(test_initrd, command_in_a_copy)
{
	cr_assert_eq(
		system("mkdir tests && cp /bin/true tests/prog && echo '#!/bin/sh' >tests/run && "
		       "echo data >tests/data && chmod 755 tests/run && chmod 644 tests/data && "
		       "mkdir -p root/lib64 root/bin && cp /bin/true root/bin/prog && "
		       "touch root/lib64/ld-linux-x86-64.so.2"),
		0);
	cr_expect_eq(build("--copy tests:/tests -- /tests/run"), 0, "%s", err.text);
	cr_expect(has("tests/run") && (has("bin/sh") || has("usr/bin/sh") || has("usr/bin/dash")));
	cr_expect_eq(build("--copy tests:/tests --cwd /tests -- ./prog"), 0, "%s", err.text);
	cr_expect(has("lib64/ld-linux-x86-64.so.2"));
	cr_expect_eq(build("--copy tests:/tests -- /tests/data"), 0, "%s", err.text);
	cr_expect(!has("bin/sh") && !has("usr/bin/sh") && !has("usr/bin/dash"));
	cr_expect_eq(build("--copy root:/ -- /bin/prog"), 0, "%s", err.text);
	cr_expect(!has("lib/x86_64-linux-gnu/libc.so.6") &&
		  !has("usr/lib/x86_64-linux-gnu/libc.so.6"));
}

Test(test_initrd, behind_the_users)
{
	struct pack *user;
	char *own, *first;
	size_t first_len;
	int fd = open("user", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	const char *at;

	kernel = (struct kernels_choice){ 0 };
	cr_assert_eq(pack_create(&user, &err), 0);
	pack_add_bytes(user, "init", 0755, "#!/bin/true\n", 12, &err);
	pack_add_bytes(user, "usr/bin/true", 0755, "t", 1, &err);
	pack_add_link(user, "bin", "usr/bin", &err);
	cr_assert_eq(pack_write(user, fd, "user", PACK_GZIP, &err), 0);
	pack_destroy(user);
	close(fd);

	/* alone it is the file itself */
	cr_assert_eq(build("--initrd user"), 0, "%s", err.text);
	cr_expect_null(test_initrd_init(&options));
	first = malloc(archive_len);
	first_len = archive_len;
	memcpy(first, archive, first_len);

	cr_assert_eq(build("--initrd user -- /bin/true"), 0, "%s", err.text);
	cr_expect_str_eq(test_initrd_init(&options), "/bantam-agent");
	cr_assert(archive_len > first_len && !memcmp(archive, first, first_len));
	free(first);
	at = memmem(archive, archive_len, "070701", 6);
	cr_assert(at && (at - archive) % 4 == 0 && (size_t)(at - archive) >= first_len + 4);
	for (const char *gap = archive + first_len; gap < at; gap++)
		cr_assert_eq(*gap, 0);
	own = malloc(archive_len + 1);
	archive_len -= (size_t)(at - archive);
	memcpy(own, at, archive_len);
	own[archive_len] = 0;
	free(archive);
	archive = own;
	cr_expect(has("bantam-agent") && !has("init") && !has("usr/bin/true") && !has("bin"));
	cr_expect_not(has("etc/passwd"));

	/* what it does not hold goes where its links lead; damage is for the guest's kernel to tell */
	cr_assert(!truncate("user", (off_t)first_len - 20));
	cr_expect_eq(build("--initrd user -- sh"), 0, "%s", err.text);
	pack_files_text("user", "this is no initrd");
	cr_expect_eq(build("--initrd user -- sh"), 0, "%s", err.text);
	first_len = archive_len;
	cr_expect_eq(build("--initrd user -- nosuch-program"), 0, "%s", err.text);
	cr_expect_eq(archive_len, first_len); /* neither is packed */
	cr_expect_eq(build("--initrd user --shell"), 0, "%s", err.text);

	cr_expect_eq(build("--initrd nosuch -- true"), -ENOENT, "%s", err.text);
	cr_expect_eq(build("--initrd nosuch"), -ENOENT, "%s", err.text);
	cr_expect_eq(build("--initrd . -- true"), -EINVAL);
	cr_expect(strstr(err.text, "--copy DIR:/ takes a folder"), "%s", err.text);
	cr_assert(!mkfifo("fifo", 0600));
	cr_expect_eq(build("--initrd fifo -- true"), -EINVAL, "%s", err.text);
	cr_expect_eq(build("--initrd fifo"), -EINVAL, "%s", err.text);
}

Test(test_initrd, shell)
{
	kernel = (struct kernels_choice){ 0 };
	cr_assert_eq(build("--shell"), 0, "%s", err.text);
	cr_expect(has("bin/sh"));
	cr_expect((has("bin/ls") || has("usr/bin/ls")) &&
		  (has("bin/mount") || has("usr/bin/mount")));
}

/* What runs in a shell runs other programs; what does not needs none of them. */
Test(test_initrd, tools_of_a_shell)
{
	static const struct {
		const char *what;
		bool tools;
	} table[] = {
		{ "-- sh -c ls", true },
		{ "-- ./script", true },
		{ "-- ./text", true },
		{ "-- true", false },
		{ "--copy root:/ -- sh -c ls",
		  false }, /* the folder is the guest's root, as it is */
	};

	kernel = (struct kernels_choice){ 0 };
	pack_files_text("script", "#!/bin/sh\nls\n");
	pack_files_text("text", "ls\n");
	cr_assert(!chmod("script", 0755) && !chmod("text", 0755));
	cr_assert(!mkdir("root", 0755) && !mkdir("root/bin", 0755));
	pack_files_text("root/bin/sh", "a shell");
	cr_assert(!chmod("root/bin/sh", 0755));
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(build(table[i].what), 0, "%s: %s", table[i].what, err.text);
		cr_expect_eq(has("bin/ls") || has("usr/bin/ls"), table[i].tools, "%s",
			     table[i].what);
		cr_expect_eq(has("bin/uname") || has("usr/bin/uname"), table[i].tools, "%s",
			     table[i].what);
	}
}
