/* executable: programs with what they need, against ldd and in a root of their own; hostile ones in tables. */
#include "boot/pack/executable.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/pack/object.h"
#include "boot/pack/shell.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"

static struct pack *pack;
static struct err err;
static unsigned fds;
static char here[PATH_MAX], linker[PATH_MAX]; /* the scratch folder; this host's ELF interpreter */

static void setup(void)
{
	struct pack_source source;
	struct pack_object sh;

	pack_files_setup();
	fds = proc_fds(0);
	cr_assert(getcwd(here, sizeof(here)));
	cr_assert_eq(pack_create(&pack, &err), 0);
	cr_assert_eq(pack_source_open(&source, "/bin/sh", false, &err), 0, "%s", err.text);
	cr_assert_eq(pack_object_read(&source, &sh, &err), 0, "%s", err.text);
	cr_assert(sh.interpreter);
	strcpy(linker, sh.interpreter);
	pack_object_free(&sh);
	pack_source_close(&source);
}

static void teardown(void)
{
	pack_destroy(pack);
	cr_expect_eq(proc_fds(0), fds, "a descriptor is open");
	pack_files_teardown();
}

TestSuite(pack_executable, .init = setup, .fini = teardown, .timeout = 60);

static void again(void)
{
	pack_destroy(pack);
	cr_assert_eq(pack_create(&pack, &err), 0);
	err = (struct err){ "" };
}

/* A path below the scratch folder. */
static const char *below(const char *name)
{
	static char path[4][PATH_MAX * 2];
	static unsigned i;

	snprintf(path[++i % 4], sizeof(path[0]), "%s/%s", here, name);
	return path[i % 4];
}

/* What ldd, which asks the linker, finds for the host's programs is in the archive, and not much more. */
Test(pack_executable, as_the_linker_finds)
{
	static const char *const programs[] = { "/bin/sh", "/usr/bin/python3", "/usr/bin/git",
						"/bin/ls" };

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		char command[64], line[512];
		unsigned n = 0;
		FILE *in;

		again();
		cr_assert_eq(pack_add_executable(pack, NULL, programs[i], &err), 0, "%s", err.text);
		cr_expect(pack_has(pack, programs[i]) && pack_has(pack, linker), "%s", programs[i]);
		snprintf(command, sizeof(command), "ldd %s", programs[i]);
		in = popen(command, "re");
		while (fgets(line, sizeof(line), in)) {
			char *path = strstr(line, "=> /");

			if (!path)
				continue;
			path[3 + strcspn(path + 3, " ")] = 0;
			n++;
			cr_expect(pack_has(pack, path + 3), "%s: %s", programs[i], path + 3);
		}
		pclose(in);
		cr_expect_gt(n, 0);
		cr_expect_not(pack_has(pack, "etc/ld.so.cache"), "%s", programs[i]);
	}
}

static int run(char *const argv[], const char *root)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (!chroot(root) && !chdir("/"))
			execv(argv[0], argv);
		_exit(99);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* In a root that holds only the archive, a script runs with its interpreter and what they need. */
Test(pack_executable, runs_in_a_root_of_its_own)
{
	char *const script[] = { (char *)below("script"), (char *)"7", NULL };
	FILE *out;

	if (geteuid())
		cr_skip_test("chroot is for root");
	out = fopen("initrd", "we");
	pack_files_text("script", "#!/bin/sh -e\n/usr/bin/env true\nexit $1\n");
	cr_assert(!chmod("script", 0755));
	cr_assert_eq(pack_add_executable(pack, NULL, script[0], &err), 0, "%s", err.text);
	cr_assert_eq(pack_add_executable(pack, NULL, "/usr/bin/env", &err), 0, "%s", err.text);
	cr_assert_eq(pack_add_executable(pack, NULL, "/usr/bin/true", &err), 0, "%s", err.text);
	cr_assert_eq(pack_write(pack, fileno(out), "initrd", PACK_PLAIN, &err), 0, "%s", err.text);
	fclose(out);
	cr_assert_eq(system("mkdir root && cd root && cpio -idm --quiet <../initrd"), 0);
	cr_expect_eq(run(script, "root"), 7 << 8);
}

/* Copies text with the scratch folder for each HERE; returns NULL for NULL. */
static const char *expand(const char *text, char *out, size_t size)
{
	size_t n = 0;

	if (!text)
		return NULL;
	*out = 0;
	while (*text) {
		bool is_here = !strncmp(text, "HERE", 4);

		n += (size_t)snprintf(out + n, size - n, "%.*s", is_here ? PATH_MAX : 1,
				      is_here ? here : text);
		cr_assert_lt(n, size);
		text += is_here ? 4 : 1;
	}
	return out;
}

/* Where libraries are looked for. Each row makes files, packs main, and names what is in the archive. */
Test(pack_executable, search)
{
	static const struct {
		const char *rpath, *runpath;	 /* of main, which needs liba.so */
		const char *a_rpath, *a_runpath; /* of liba.so, which needs libb.so */
		const char *a, *b, *in_a, *in_b; /* their files, and the names in the archive */
	} rows[] = {
		{ "HERE/x", NULL, NULL, NULL, "x/liba.so", "x/libb.so", "HERE/x/liba.so",
		  "HERE/x/libb.so" },
		{ NULL, "HERE/x", NULL, "HERE/y", "x/liba.so", "y/libb.so", "HERE/x/liba.so",
		  "HERE/y/libb.so" },
		/* a run-path is for its own object only, and switches the other kind off */
		{ NULL, "HERE/x", NULL, NULL, "x/liba.so", "x/libb.so", NULL, NULL },
		{ "HERE/y", "HERE/x", NULL, NULL, "x/liba.so", "y/libb.so", NULL, NULL },
		{ "HERE/x", NULL, NULL, "HERE/z", "x/liba.so", "x/libb.so", NULL, NULL },
		{ "HERE/x", NULL, "HERE/y", NULL, "x/liba.so", "y/libb.so", "HERE/x/liba.so",
		  "HERE/y/libb.so" },
		/* the first of several, and folders that cannot be meant */
		{ NULL, ":rel:$LIB:HERE/no:HERE/x/", NULL, "$ORIGIN", "x/liba.so", "x/libb.so",
		  "HERE/x/liba.so", "HERE/x/libb.so" },
		/* $ORIGIN moves with the program: it is packed as /opt/main */
		{ NULL, "$ORIGIN/x", NULL, "${ORIGIN}/../y", "x/liba.so", "y/libb.so",
		  "opt/x/liba.so", "opt/y/libb.so" },
		{ "$ORIGIN/x", NULL, NULL, NULL, "x/liba.so", "x/libb.so", "opt/x/liba.so",
		  "opt/x/libb.so" },
		{ NULL, "$ORIGINAL/x", NULL, NULL, "x/liba.so", "x/libb.so", NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *from[] = { rows[i].rpath,	  rows[i].runpath, rows[i].a_rpath,
				       rows[i].a_runpath, rows[i].in_a,	   rows[i].in_b };
		const char *to[6];
		char text[6][300];
		int ret;

		for (size_t n = 0; n < 6; n++)
			to[n] = expand(from[n], text[n], sizeof(text[n]));
		again();
		cr_assert_eq(system("rm -rf x y"), 0);
		pack_files_write_program("main", &(struct pack_files_program){ linker, "liba.so|",
									       to[0], to[1] });
		pack_files_write_program(rows[i].a, &(struct pack_files_program){ NULL, "libb.so|",
										  to[2], to[3] });
		pack_files_write_program(rows[i].b, &(struct pack_files_program){ 0 });
		ret = pack_add_executable(pack, "/opt/main", "main", &err);
		cr_expect_eq(ret, to[5] ? 0 : -ENOENT, "%zu: %s", i, err.text);
		cr_expect(to[5] || strstr(err.text, "libb.so") || strstr(err.text, "liba.so"),
			  "%zu: %s", i, err.text);
		cr_expect(!to[4] || pack_has(pack, to[4]), "%zu: %s", i, to[4]);
		cr_expect(!to[5] || pack_has(pack, to[5]), "%zu: %s", i, to[5]);
	}
}

/* A file that is no library for this processor is passed over; one that the user gives is enough. */
Test(pack_executable, libraries_that_are_none)
{
	const struct pack_files_program main = { linker, "liba.so|liba.so|", NULL,
						 "$ORIGIN/x:$ORIGIN/y" };
	uint8_t other[PACK_FILES_PROGRAM_BYTES];

	pack_files_write_program("main", &main);
	pack_files_text("x/liba.so", "INPUT(-lb)\n");
	cr_expect_eq(pack_add_executable(pack, NULL, below("main"), &err), -ENOENT);
	cr_expect(strstr(err.text, "main needs liba.so, which is not on this host"), "%s",
		  err.text);
	again();
	pack_files_program(other, &(struct pack_files_program){ 0 });
	other[18] = EM_AARCH64;
	pack_files_write("x/liba.so", other, sizeof(other));
	cr_expect_eq(pack_add_executable(pack, NULL, below("main"), &err), -ENOENT);
	again();
	cr_assert_eq(pack_add_file(pack, "/some/where/liba.so", "main", &err), 0);
	cr_expect_eq(pack_add_executable(pack, NULL, below("main"), &err), 0, "%s", err.text);
	again();
	pack_files_write_program("y/liba.so",
				 &(struct pack_files_program){ NULL, "liba.so|", NULL, NULL });
	cr_expect_eq(pack_add_executable(pack, NULL, below("main"), &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, below("y/liba.so")));
}

/* In a folder of /etc/ld.so.conf only: the linker in the guest needs the host's list to find it. */
Test(pack_executable, listed_library)
{
	const char *library =
		"/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-0.so"; /* of fakeroot */

	if (access(library, R_OK) || access("/etc/ld.so.cache", R_OK))
		cr_skip_test("the host has no such library");
	pack_files_write_program("main", &(struct pack_files_program){ linker, "libfakeroot-0.so|",
								       NULL, NULL });
	cr_assert_eq(pack_add_executable(pack, NULL, below("main"), &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, library) && pack_has(pack, "/etc/ld.so.cache"));
}

/* Files that no kernel runs are packed alone: the guest says what is wrong. */
Test(pack_executable, damaged)
{
	static const struct {
		const char *what;
		unsigned at, bytes;
		uint64_t value;
	} rows[] = {
		{ "magic", 0, 1, 0 },
		{ "class", EI_CLASS, 1, 7 },
		{ "byte order", EI_DATA, 1, ELFDATA2MSB },
		{ "kind", 16, 2, ET_REL },
		{ "no headers", 56, 2, 0 },
		{ "headers", 56, 2, 0xffff },
		{ "size of headers", 54, 2, 55 },
		{ "place of headers", 32, 8, PACK_FILES_PROGRAM_BYTES - 8 },
		{ "place of headers", 32, 8, UINT64_MAX - 8 },
		{ "interpreter's length", PACK_FILES_INTERP + 32, 8, 4097 },
		{ "interpreter's length", PACK_FILES_INTERP + 32, 8, UINT64_MAX },
		{ "interpreter's place", PACK_FILES_INTERP + 8, 8, UINT64_MAX },
		{ "interpreter is relative", 256, 1, 'l' },
		{ "interpreter is nothing", 256, 1, 0 },
		{ "dynamic section's length", PACK_FILES_DYNAMIC + 32, 8, 1ull << 40 },
		{ "dynamic section's place", PACK_FILES_DYNAMIC + 8, 8, UINT64_MAX - 4 },
		{ "strings' address", PACK_FILES_TAGS + 8, 8, 0 },
		{ "strings' address", PACK_FILES_TAGS + 8, 8, UINT64_MAX },
		{ "strings' length", PACK_FILES_TAGS + 24, 8, UINT64_MAX },
		{ "strings' length", PACK_FILES_TAGS + 24, 8, 0 },
		{ "segment's place", PACK_FILES_LOAD + 8, 8, UINT64_MAX - 100 },
		{ "name", PACK_FILES_TAGS + 16 * 2 + 8, 8, 1024 },
		{ "name", PACK_FILES_TAGS + 16 * 2 + 8, 8, UINT64_MAX },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pack_source source;
		struct pack_object object;
		uint8_t bytes[PACK_FILES_PROGRAM_BYTES];

		again();
		pack_files_program(bytes,
				   &(struct pack_files_program){ linker, "liba.so|", NULL, NULL });
		memcpy(bytes + rows[i].at, &rows[i].value, rows[i].bytes);
		source = pack_source_of(bytes, sizeof(bytes), "main");
		cr_expect_eq(pack_object_read(&source, &object, &err), -ENOEXEC, "%s",
			     rows[i].what);
		cr_expect(!object.interpreter && !object.strings && !object.needed, "%s",
			  rows[i].what);
		pack_files_write("main", bytes, sizeof(bytes));
		cr_assert(!chmod("main", 0755));
		cr_expect_eq(pack_add_executable(pack, "/main", "main", &err), 0, "%s: %s",
			     rows[i].what, err.text);
		cr_expect(pack_has(pack, "main") && !pack_has(pack, linker), "%s", rows[i].what);
	}
	for (size_t len = 0; len < 1500; len += 7) { /* truncated */
		struct pack_source source;
		struct pack_object object;
		uint8_t bytes[PACK_FILES_PROGRAM_BYTES];

		pack_files_program(bytes,
				   &(struct pack_files_program){ linker, "liba.so|", NULL, NULL });
		source = pack_source_of(bytes, len, "main");
		cr_expect_eq(pack_object_read(&source, &object, &err), -ENOEXEC, "%zu", len);
	}
}

/* What an interpreter may not be. */
Test(pack_executable, interpreters)
{
	static const struct {
		const char *interpreter, *says;
		int ret;
	} rows[] = {
		{ "/no/such/linker.so", "needs /no/such/linker.so, which is not on this host",
		  -ENOENT },
		{ "/etc/passwd", "/etc/passwd: is no ELF program", -ENOEXEC },
		{ "/dev/null", "/dev/null", -ENOENT },
		{ "/", "/", -ENOENT },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		again();
		pack_files_write_program("main", &(struct pack_files_program){ rows[i].interpreter,
									       NULL, NULL, NULL });
		cr_expect_eq(pack_add_executable(pack, NULL, below("main"), &err), rows[i].ret,
			     "%s: %s", rows[i].interpreter, err.text);
		cr_expect(strstr(err.text, rows[i].says), "%s", err.text);
	}
}

Test(pack_executable, scripts)
{
	static const struct {
		const char *text;
		unsigned mode;
		int ret;
		const char *has, *says;
	} rows[] = {
		{ "#!/bin/sh\n", 0755, 0, "/bin/sh", "" },
		{ "#! \t/bin/sh -e \nx", 0755, 0, "/bin/sh", "" },
		{ "#!/bin/sh", 0755, 0, "/bin/sh", "" },
		{ "echo no line\n", 0755, 0, "/bin/sh", "" },
		{ "#!\n", 0755, 0, "/bin/sh", "" },
		{ "", 0755, 0, "/bin/sh", "" },
		{ "#!/usr/bin/env -S X=1 sh -e\n", 0755, 0, "/usr/bin/env", "" },
		{ "#!/usr/bin/env\n", 0755, 0, "/usr/bin/env", "" },
		{ "#!/etc/passwd\n", 0755, -ENOEXEC, NULL,
		  "script needs /etc/passwd, which is no program" },
		{ "#!/usr/bin/env /etc/passwd\n", 0755, -ENOEXEC, NULL,
		  "script needs /etc/passwd, which is no program" },
		{ "#!/usr/bin/env nosuch-program\n", 0755, -ENOENT, NULL,
		  "script needs nosuch-program, which is not on this host" },
		{ "#!/no/such\n", 0755, -ENOENT, NULL,
		  "script needs /no/such, which is not on this host" },
		{ "#!/etc\n", 0755, -ENOENT, NULL, "needs /etc" },
		{ "#!relative\n", 0755, 0, NULL, "" },
		{ "#!/no/such\n", 0644, 0, NULL, "" }, /* 126: not executable */
		{ "#!HERE/script\n", 0755, 0, NULL, "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[PATH_MAX + 64];

		again();
		expand(rows[i].text, text, sizeof(text));
		pack_files_text("script", text);
		cr_assert(!chmod("script", rows[i].mode));
		cr_expect_eq(pack_add_executable(pack, NULL, below("script"), &err), rows[i].ret,
			     "%s: %s", text, err.text);
		cr_expect(strstr(err.text, rows[i].says), "%s: %s", text, err.text);
		cr_expect(!rows[i].has || pack_has(pack, rows[i].has), "%s", text);
		cr_expect(rows[i].ret || rows[i].has || !pack_has(pack, "/bin/sh"), "%s", text);
	}
}

/* Interpreters of interpreters, more of them than a kernel takes. */
Test(pack_executable, chain_of_scripts)
{
	char text[PATH_MAX + 8], name[16];

	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		snprintf(text, sizeof(text), "#!%s/s%d\n", here, i + 1);
		pack_files_text(name, i < 7 ? text : "#!/bin/sh\n");
		cr_assert(!chmod(name, 0755));
	}
	cr_expect_eq(pack_add_executable(pack, NULL, below("s4"), &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, below("s7")) && pack_has(pack, "/bin/sh"));
	again();
	cr_expect_eq(pack_add_executable(pack, NULL, below("s0"), &err), -ELOOP, "%s", err.text);
}

/* A path with links: the file lies at its real place, and the path leads there. */
Test(pack_executable, places)
{
	char path[PATH_MAX];
	struct pack_files_entry e;
	void *data;
	size_t len;

	pack_files_write_program("real/main", &(struct pack_files_program){ 0 });
	cr_assert(!symlink("real", "link") && !symlink("main", "real/alias"));
	cr_assert_eq(pack_add_executable(pack, NULL, below("link/alias"), &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, below("real/main")) && pack_has(pack, below("link/alias")));
	cr_assert_eq(pack_to_memory(pack, PACK_PLAIN, &data, &len, &err), 0);
	cr_expect(pack_files_find(data, len, below("link/alias") + 1, &e) && e.mode == 0120777 &&
		  e.len == strlen(below("real/main")) &&
		  !memcmp(e.data, below("real/main"), e.len));
	free(data);
	/* once more is no error: it is there */
	cr_expect_eq(pack_add_executable(pack, NULL, below("link/alias"), &err), 0, "%s", err.text);
	cr_expect_eq(pack_add_executable(pack, "/x", below("nosuch"), &err), -ENOENT);
	cr_expect_eq(pack_add_executable(pack, "/x", here, &err), -EINVAL, "%s", err.text);

	cr_expect(pack_find_program("sh", path) && !access(path, X_OK) && *path == '/');
	cr_expect(pack_find_program("real/main", path) && !strcmp(path, "real/main"));
	cr_expect_not(pack_find_program("nosuch-program", path) || pack_find_program("", path) ||
		      pack_find_program("./real", path));
	setenv("PATH", "", 1);
	cr_expect_not(pack_find_program("sh", path));
}

/* A root file system with links among its folders: what comes later goes where the links lead. */
Test(pack_executable, through_links)
{
	cr_assert_eq(pack_add_link(pack, "/bin", "usr/bin", &err), 0);
	cr_assert_eq(pack_add_link(pack, "/lib", "/usr/./lib/../lib", &err), 0);
	cr_assert_eq(pack_add_link(pack, "/loop", "loop/x", &err), 0);
	cr_assert_eq(pack_add_executable(pack, NULL, "/bin/sh", &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, "/bin/sh") && pack_has(pack, "/usr/bin/sh"));
	cr_assert_eq(pack_add_bytes(pack, "/lib/x", 0644, "", 0, &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, "/usr/lib/x"));
	cr_expect_eq(pack_add_bytes(pack, "/usr/lib/x", 0644, "", 0, &err), -EEXIST);
	cr_expect_eq(pack_add_dir(pack, "/lib", 0755, &err), 0, "%s", err.text);
	cr_expect_eq(pack_add_bytes(pack, "/loop/a", 0644, "", 0, &err), -ELOOP, "%s", err.text);
	cr_assert_eq(pack_add_link(pack, "/up", "../../..", &err), 0);
	cr_expect_eq(pack_add_bytes(pack, "/up/top", 0644, "", 0, &err), 0);
	cr_expect(pack_has(pack, "/top"));
}

/* Puts these bytes behind a static program, as root/bin/busybox; '|' stands for NUL. */
static void busybox(const char *root, const char *text)
{
	uint8_t bytes[PACK_FILES_PROGRAM_BYTES + 256];
	size_t len = strlen(text);

	pack_files_program(bytes, &(struct pack_files_program){ 0 });
	for (size_t i = 0; i < len; i++)
		bytes[PACK_FILES_PROGRAM_BYTES + i] = text[i] == '|' ? 0 : (uint8_t)text[i];
	pack_files_write(root, bytes, PACK_FILES_PROGRAM_BYTES + len);
	cr_assert(!chmod(root, 0755));
}

Test(pack_executable, shells)
{
	static const struct {
		const char *table, *last, *no;
	} rows[] = {
		{ "x|[|[[|acpid|cat|ls|zcat|not one|", "zcat", "not one" },
		{ "x|[|[[|acpid|cat|b|", "cat", "b" }, /* not in order */
		{ "x|[|[[|acpid|cat|ls", "ls", "l" },  /* the file ends */
		{ "x|[|[[|acpid|../etc|", "acpid", "etc" },
		{ "x|[|[[|acpid|aVeryLongNameThatIsNoProgramOfBusybox|b|", "acpid", "b" },
		{ "no table", "sh", "cat" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char name[64];

		again();
		busybox("r/bin/busybox", rows[i].table);
		cr_assert_eq(pack_add_shell(pack, "r", &err), 0, "%s", err.text);
		snprintf(name, sizeof(name), "/bin/%s", rows[i].last);
		cr_expect(pack_has(pack, name) && pack_has(pack, "bin/sh"), "%s", rows[i].table);
		snprintf(name, sizeof(name), "/bin/%s", rows[i].no);
		cr_expect_not(pack_has(pack, name), "%s", rows[i].table);
	}
	/* what is there stays */
	again();
	busybox("r/bin/busybox", "x|[|[[|acpid|ls|");
	cr_assert_eq(pack_add_bytes(pack, "/usr/bin/ls", 0755, "", 0, &err), 0);
	cr_assert_eq(pack_add_shell(pack, "r", &err), 0, "%s", err.text);
	cr_expect(!pack_has(pack, "/bin/ls") && pack_has(pack, "/bin/acpid"));
	/* without busybox, or with one that needs libraries: the host's own programs */
	for (int i = 0; i < 2; i++) {
		again();
		if (i)
			pack_files_write_program("r/bin/busybox",
						 &(struct pack_files_program){ linker, NULL, NULL,
									       NULL });
		cr_assert_eq(pack_add_shell(pack, i ? "r" : "/no/such", &err), 0, "%s", err.text);
		cr_expect(pack_has(pack, "bin/sh") && pack_has(pack, linker));
		cr_expect(pack_has(pack, "usr/bin/ls") || pack_has(pack, "bin/ls"));
		cr_expect_not(pack_has(pack, "bin/busybox"));
	}
}
