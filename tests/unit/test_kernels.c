/* kernels: kernels and modules of a faked host, and every refusal. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tests/unit/pack_files.h"
#include "vmm/kernels/kernels.h"

static struct kernels_choice kernel;
static struct err err;

static void teardown(void)
{
	kernels_clear(&kernel);
	kernels_clear(&kernel);
	pack_files_teardown();
}

TestSuite(kernels, .init = pack_files_setup, .fini = teardown, .timeout = 60);

static void file(const char *dir, const char *name, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	pack_files_text(path, text);
}

/* A tree of modules for that release. */
static void modules(const char *dir, const char *release)
{
	char path[300], info[200];

	file(dir, "modules.dep", "kernel/a.ko:\n");
	snprintf(path, sizeof(path), "%s/kernel/a.ko", dir);
	snprintf(info, sizeof(info), "|vermagic=%s SMP|", release);
	pack_files_write_module(path, info);
}

/* The folder of a build: its image, its modules, and what it says to be. */
static void build(const char *dir, const char *of_image, const char *of_modules, const char *now)
{
	char path[300], info[200];

	snprintf(path, sizeof(path), "%s/arch/x86/boot/bzImage", dir);
	pack_files_image(path, of_image);
	file(dir, "modules.order", "drivers/a.o\n");
	file(dir, "include/config/kernel.release", now);
	snprintf(path, sizeof(path), "%s/drivers/a.ko", dir);
	snprintf(info, sizeof(info), "|vermagic=%s SMP|", of_modules);
	pack_files_write_module(path, info);
}

static void host(void)
{
	pack_files_image("host/boot/vmlinuz-6.1.0-18-amd64", "6.1.0-18-amd64");
	modules("host/lib/modules/6.1.0-18-amd64", "6.1.0-18-amd64");
	pack_files_image("host/lib/modules/6.9.4-200.fc40/vmlinuz", "6.9.4-200.fc40");
	modules("host/lib/modules/6.9.4-200.fc40", "6.9.4-200.fc40");
	pack_files_image("host/boot/vmlinuz-5.10", "5.10"); /* has no modules */
	pack_files_image("host/boot/vmlinuz-4.9", "4.9");
	modules("host/lib/modules/4.9", "4.9-other");
	pack_files_image("bz61", "6.1.0-18-amd64");
	pack_files_image("bz7", "7.0");
	pack_files_image("bzbad", "../../x");
	modules("x", "../../x");
	pack_files_text("vmlinux", "no bzImage");
	build("tree", "6.12.1+", "6.12.1+", "6.12.1+\n");
	pack_files_text("tree/vmlinux", "symbols");
	pack_files_text("only/vmlinux", "symbols");
	pack_files_text("only/include/config/kernel.release", "6.12.2\n");
	build("stale", "6.12.1", "6.12.1", "6.12.1-00001-gabc\n");
	build("half", "6.12.1", "6.12.0", "6.12.1\n");
	pack_files_text("source/Makefile", "");
	pack_files_text("source/Kconfig", "");
	pack_files_text("source/xvmlinux", "");
	pack_files_text("out/Makefile", "");
	pack_files_text("out/.config", "");
	pack_files_text("empty/README", "");
	modules("m61", "6.1.0-18-amd64");
	modules("m7", "7.0");
	modules("inst/lib/modules/6.1.0-18-amd64", "6.1.0-18-amd64");
	pack_files_image("fetched/vmlinuz", "6.1.0-20-cloud-amd64");
	modules("fetched/modules", "6.1.0-20-cloud-amd64");
	pack_files_text("fetched/vmlinux", "the same");
	pack_files_image("mixed/vmlinuz", "6.1.0-18-amd64");
	modules("mixed/modules", "6.1.0-20-cloud-amd64");
	cr_assert(!mkfifo("fifo", 0600));
}

Test(kernels, found)
{
	static const struct {
		const char *name, *modules_given;
		const char *image, *modules, *vmlinux, *release;
		bool found;
	} rows[] = {
		{ "bz61", NULL, "bz61", "host/lib/modules/6.1.0-18-amd64", NULL, "6.1.0-18-amd64",
		  true },
		{ "bz61", "m61", "bz61", "m61", NULL, "6.1.0-18-amd64", false },
		{ "bz61", "inst", "bz61", "inst/lib/modules/6.1.0-18-amd64", NULL, "6.1.0-18-amd64",
		  false },
		{ "bz7", NULL, "bz7", NULL, NULL, "7.0", false },
		{ "bz7", "m7", "bz7", "m7", NULL, "7.0", false },
		{ "bzbad", NULL, "bzbad", NULL, NULL, "../../x", false },
		{ "vmlinux", NULL, "vmlinux", NULL, NULL, "", false },
		{ "vmlinux", "m7", "vmlinux", "m7", NULL, "", false },
		{ "fifo", NULL, "fifo", NULL, NULL, "", false },
		/* files of a build */
		{ "tree/arch/x86/boot/bzImage", NULL, "tree/arch/x86/boot/bzImage", "tree/",
		  "tree/vmlinux", "6.12.1+", true },
		{ "tree/vmlinux", NULL, "tree/vmlinux", "tree/", "tree/vmlinux", "6.12.1+", true },
		{ "only/vmlinux", NULL, "only/vmlinux", NULL, "only/vmlinux", "6.12.2", false },
		{ "stale/arch/x86/boot/bzImage", NULL, "stale/arch/x86/boot/bzImage", NULL, NULL,
		  "6.12.1", false },
		{ "half/arch/x86/boot/bzImage", NULL, "half/arch/x86/boot/bzImage", NULL, NULL,
		  "6.12.1", false },
		{ "source/xvmlinux", NULL, "source/xvmlinux", NULL, NULL, "", false },
		{ "tree", NULL, "tree/arch/x86/boot/bzImage", "tree", "tree/vmlinux", "6.12.1+",
		  false },
		{ "only", NULL, "only/vmlinux", NULL, "only/vmlinux", "6.12.2", false },
		{ "6.1.0-18-amd64", NULL, "host/boot/vmlinuz-6.1.0-18-amd64",
		  "host/lib/modules/6.1.0-18-amd64", NULL, "6.1.0-18-amd64", false },
		{ "6.9.4-200.fc40", NULL, "host/lib/modules/6.9.4-200.fc40/vmlinuz",
		  "host/lib/modules/6.9.4-200.fc40", NULL, "6.9.4-200.fc40", false },
		{ "5.10", NULL, "host/boot/vmlinuz-5.10", NULL, NULL, "5.10", false },
		/* as tools/fetch-kernels leaves it */
		{ "fetched", NULL, "fetched/vmlinuz", "fetched/modules", NULL,
		  "6.1.0-20-cloud-amd64", false },
		{ "fetched/", NULL, "fetched//vmlinuz", "fetched//modules", NULL,
		  "6.1.0-20-cloud-amd64", false },
		{ "fetched/vmlinuz", NULL, "fetched/vmlinuz", "fetched/modules", NULL,
		  "6.1.0-20-cloud-amd64", true },
		{ "mixed/vmlinuz", NULL, "mixed/vmlinuz", "host/lib/modules/6.1.0-18-amd64", NULL,
		  "6.1.0-18-amd64", true },
	};

	host();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct kernels_choice *k = &kernel;

		kernels_clear(&kernel);
		cr_assert_eq(kernels_find(&kernel, rows[i].name, rows[i].modules_given, "host",
					  &err),
			     0, "row %zu: %s", i, err.text);
		cr_expect_str_eq(k->image, rows[i].image);
		cr_expect_str_eq(k->modules ? k->modules : "none",
				 rows[i].modules ? rows[i].modules : "none", "row %zu", i);
		cr_expect_str_eq(k->vmlinux ? k->vmlinux : "none",
				 rows[i].vmlinux ? rows[i].vmlinux : "none", "row %zu", i);
		cr_expect_str_eq(k->release, rows[i].release);
		cr_expect_eq(k->modules_found, rows[i].found, "row %zu", i);
	}
}

/* A link to a kernel: its modules lie beside the file, or in its build. */
Test(kernels, links)
{
	static const struct {
		const char *to, *modules, *vmlinux;
	} rows[] = {
		{ "fetched/vmlinuz", "/fetched/modules", NULL },
		{ "link0", "/fetched/modules", NULL },
		{ "tree/arch/x86/boot/bzImage", "/tree/", "/tree/vmlinux" },
		{ "bz7", NULL, NULL },
		{ "fifo", NULL, NULL },
	};
	char name[32], path[PATH_MAX], top[PATH_MAX];

	host();
	cr_assert_not_null(getcwd(top, sizeof(top)));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(name, sizeof(name), "link%zu", i);
		cr_assert(!symlink(rows[i].to, name));
		kernels_clear(&kernel);
		cr_assert_eq(kernels_find(&kernel, name, NULL, "host", &err), 0, "%s", err.text);
		cr_expect_str_eq(kernel.image, name);
		snprintf(path, sizeof(path), "%s%s", top, rows[i].modules ? rows[i].modules : "");
		cr_expect_str_eq(kernel.modules ? kernel.modules : top, path, "%s", name);
		snprintf(path, sizeof(path), "%s%s", top, rows[i].vmlinux ? rows[i].vmlinux : "");
		cr_expect_str_eq(kernel.vmlinux ? kernel.vmlinux : top, path, "%s", name);
	}
	/* what lies beside the link comes first */
	modules("modules", "6.1.0-20-cloud-amd64");
	kernels_clear(&kernel);
	cr_assert_eq(kernels_find(&kernel, "link0", NULL, "host", &err), 0, "%s", err.text);
	cr_expect_str_eq(kernel.modules, "./modules");
}

Test(kernels, refused)
{
	static const struct {
		const char *name, *modules, *says;
	} rows[] = {
		{ "no/bzImage", NULL, "--kernel no/bzImage: No such file or directory" },
		{ "bz61/x", NULL, "--kernel bz61/x: Not a directory" },
		{ "6.6", NULL,
		  "--kernel 6.6: there is no such file or folder, nor an installed kernel: neither "
		  "host/boot/vmlinuz-6.6 nor host/lib/modules/6.6/vmlinuz; installed are " },
		{ "empty", NULL,
		  "--kernel empty: is no kernel's tree: it has neither arch/x86/boot/bzImage nor "
		  "vmlinux; give a bzImage, a tree in which a kernel was built, or its O= folder" },
		{ "/proc", NULL, "--kernel /proc: is no kernel's tree: " },
		{ "source", NULL,
		  "--kernel source: no kernel is built there: neither arch/x86/boot/bzImage nor "
		  "vmlinux; run make -C source, or give the O= folder of the build" },
		{ "out", NULL, "--kernel out: no kernel is built there: " },
		{ "stale", NULL,
		  "--kernel stale: stale/arch/x86/boot/bzImage is 6.12.1, but "
		  "include/config/kernel.release says 6.12.1-00001-gabc; run make -C stale" },
		{ "half", NULL,
		  "--kernel: the modules in half are for 6.12.0, but the kernel is 6.12.1; run make "
		  "-C half modules" },
		{ "4.9", NULL,
		  "--kernel: the modules in host/lib/modules/4.9 are for 4.9-other, but the kernel "
		  "is 4.9; install the kernel's own again" },
		{ "mixed", NULL,
		  "--kernel: the modules in mixed/modules are for 6.1.0-20-cloud-amd64, but the "
		  "kernel is 6.1.0-18-amd64; fetch it again" },
		{ "bz61", "m7",
		  "--modules: the modules in m7 are for 7.0, but the kernel is 6.1.0-18-amd64; "
		  "without --modules those of host/lib/modules/6.1.0-18-amd64 are taken" },
		{ "tree/vmlinux", "m7",
		  "--modules: the modules in m7 are for 7.0, but the kernel is 6.12.1+; without "
		  "--modules those of tree/ are taken" },
		{ "bz7", "m61",
		  "--modules: the modules in m61 are for 6.1.0-18-amd64, but the kernel is 7.0; give "
		  "its own" },
		{ "bz7", "inst", "--modules: inst: no modules.dep, and no modules.order as in " },
		{ "bz7", "nowhere", "--modules nowhere: No such file or directory" },
		{ "bz7", "vmlinux", "--modules: vmlinux/modules.dep: Not a directory" },
		{ "bzbad", "x/y", "--modules x/y: No such file or directory" },
	};

	host();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		kernels_clear(&kernel);
		err.text[0] = 0;
		cr_expect_lt(kernels_find(&kernel, rows[i].name, rows[i].modules, "host", &err), 0,
			     "row %zu was accepted", i);
		cr_expect(!strncmp(err.text, rows[i].says, strlen(rows[i].says)), "row %zu: %s", i,
			  err.text);
	}
	kernels_clear(&kernel);
	cr_expect_lt(kernels_find(&kernel, "6.6", NULL, "host", &err), 0);
	cr_expect_not_null(strstr(err.text, "6.1.0-18-amd64"));
}

/* Ubuntu installs kernels that only root can read. What the message says to do helps. */
Test(kernels, unreadable)
{
	const char *command;

	host();
	cr_assert(!chmod(".", 0755) && !chmod("host/boot/vmlinuz-5.10", 0600));
	if (!geteuid())
		cr_assert(!seteuid(65534));
	cr_expect_eq(kernels_find(&kernel, "5.10", NULL, "host", &err), -EACCES);
	cr_expect_str_eq(err.text,
			 "--kernel: host/boot/vmlinuz-5.10: permission denied; as root, chmod a+r "
			 "host/boot/vmlinuz-5.10");
	cr_assert(!seteuid(getuid()));
	command = strstr(err.text, "chmod");
	cr_assert(command && !system(command));
	kernels_clear(&kernel);
	cr_expect_eq(kernels_find(&kernel, "5.10", NULL, "host", &err), 0, "%s", err.text);
}

/*
 * Without a name: the kernel that the host runs, then the best one of those that were fetched; a folder that is no
 * kernel's is none.
 */
Test(kernels, unnamed)
{
	static const char *const fetched[] = { "zz", "6.12-amd64", "amd64", "cloud-amd64" };
	struct utsname uts;
	char path[300];

	cr_assert(!uname(&uts));
	cr_expect_eq(kernels_find_default(&kernel, NULL, "host", NULL, &err), -ENOENT);
	kernels_clear(&kernel);
	cr_expect_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), -ENOENT);
	snprintf(
		path, sizeof(path),
		"--shell: this host's kernel, host/boot/vmlinuz-%s, cannot be read (No such file or "
		"directory), and no other was fetched; run tools/fetch-kernels cloud-amd64, or give "
		"--kernel FILE|BUILD-DIR|RELEASE",
		uts.release);
	cr_expect_str_eq(err.text, path);
	pack_files_text("cache/kernels/half/vmlinuz", "without modules");
	pack_files_text("cache/kernels/.tmp.1/vmlinuz", "not complete");
	modules("cache/kernels/.tmp.1/modules", "1");
	kernels_clear(&kernel);
	cr_expect_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), -ENOENT);
	for (size_t i = 0; i < sizeof(fetched) / sizeof(fetched[0]); i++) {
		snprintf(path, sizeof(path), "cache/kernels/%s/modules", fetched[i]);
		modules(path, "7.0");
		snprintf(path, sizeof(path), "cache/kernels/%s/vmlinuz", fetched[i]);
		pack_files_image(path, "7.0");
		kernels_clear(&kernel);
		cr_assert_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), 0, "%s",
			     err.text);
		cr_expect_str_eq(kernel.image, path);
		cr_expect_str_eq(kernel.release, "7.0");
		cr_expect_not_null(kernel.modules);
	}
	kernels_clear(&kernel);
	cr_expect_eq(kernels_find_default(&kernel, "m7", "host", "cache", &err), -ENOENT);
	snprintf(path, sizeof(path), "host/lib/modules/%s/vmlinuz", uts.release);
	pack_files_image(path, uts.release);
	kernels_clear(&kernel);
	cr_assert_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), 0, "%s", err.text);
	cr_expect_str_eq(kernel.image, path);
	snprintf(path, sizeof(path), "host/boot/vmlinuz-%s", uts.release);
	pack_files_image(path, uts.release);
	kernels_clear(&kernel);
	cr_assert_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), 0, "%s", err.text);
	cr_expect_str_eq(kernel.image, path);
	/* not what lies in the folder in which the user happens to be */
	pack_files_text(uts.release, "no kernel");
	kernels_clear(&kernel);
	cr_assert_eq(kernels_find_default(&kernel, NULL, "host", "cache", &err), 0, "%s", err.text);
	cr_expect_str_eq(kernel.image, path);
}

/* So does what it says of a tree in which nothing is built, and of an old image. */
Test(kernels, make)
{
	static const char *const trees[] = { "source", "stale" };

	host();
	pack_files_image("new", "6.12.1-00001-gabc");
	pack_files_text("source/Makefile",
			"all: ; mkdir -p arch/x86/boot; cp ../new arch/x86/boot/bzImage\n");
	pack_files_text("stale/Makefile",
			"all modules: ; cp ../new arch/x86/boot/bzImage; rm -f modules.order\n");
	for (size_t i = 0; i < 2; i++) {
		char command[300];
		const char *at;

		kernels_clear(&kernel);
		cr_expect_lt(kernels_find(&kernel, trees[i], NULL, "host", &err), 0);
		at = strstr(err.text, "make -C ");
		cr_assert_not_null(at);
		snprintf(command, sizeof(command), "%.*s >/dev/null", (int)strcspn(at, ","), at);
		cr_assert(!system(command), "%s", command);
		kernels_clear(&kernel);
		cr_expect_eq(kernels_find(&kernel, trees[i], NULL, "host", &err), 0, "%s",
			     err.text);
		cr_expect_str_eq(kernel.release, "6.12.1-00001-gabc");
	}
}

/* A release that is too long, or no text, is none. */
Test(kernels, strange_releases)
{
	char longest[PACK_FILES_MODULE_MAX];
	const char *const texts[] = { "", "\n6.1\n", "\xff\xfe", longest };

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	pack_files_text("b/vmlinux", "symbols");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		pack_files_text("b/include/config/kernel.release", texts[i]);
		cr_assert_eq(kernels_find(&kernel, "b", NULL, "", &err), 0, "%s", err.text);
		cr_expect_str_eq(kernel.release, "", "row %zu", i);
		kernels_clear(&kernel);
	}
}

/* Only a configuration for x86 without KVM's clock says that a kernel needs an 8254. */
Test(kernels, clock)
{
	static const struct {
		const char *config;
		bool no_kvmclock;
	} cases[] = {
		{ "CONFIG_64BIT=y\nCONFIG_X86=y\n# CONFIG_KVM_GUEST is not set\n", true },
		{ "CONFIG_X86=y\nCONFIG_KVM_GUEST=y\n", false },
		{ "CONFIG_X86=y\nCONFIG_KVM_GUEST=y", true }, /* cut */
		{ "CONFIG_ARM64=y\n", false },
		{ "", false },
		{ "\n\n\xff\n# CONFIG_X86=y\n", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned how = 0; how < 4; how++) {
			static const char *const name[] = { "o", "o/arch/x86/boot/bzImage",
							    "host/boot/vmlinuz-5.10", "5.10" };

			build("o", "6.1.2", "6.1.2", "6.1.2\n");
			pack_files_image("host/boot/vmlinuz-5.10", "5.10");
			file("o", ".config", how < 2 ? cases[i].config : "");
			file("host/boot", "config-5.10", how < 2 ? "" : cases[i].config);
			cr_assert_eq(kernels_find(&kernel, name[how], NULL, "host", &err), 0, "%s",
				     err.text);
			cr_expect_eq(kernel.no_kvmclock, cases[i].no_kvmclock, "case %zu of %s", i,
				     name[how]);
			kernels_clear(&kernel);
		}
	}
	/* What is no file is not read. */
	cr_assert_eq(unlink("o/.config"), 0);
	cr_assert_eq(mkfifo("o/.config", 0600), 0);
	cr_assert_eq(kernels_find(&kernel, "o", NULL, "host", &err), 0, "%s", err.text);
	cr_expect(!kernel.no_kvmclock);
}
