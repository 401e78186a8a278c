/* below: an initrd of the user, whose names and links count, and which may be damaged. */
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

static struct pack *pack;
static struct err err;
static unsigned fds;
static uint8_t base[1 << 16]; /* an archive with a root file system, plain */
static size_t base_len;

static void again(void)
{
	pack_destroy(pack);
	cr_assert_eq(pack_create(&pack, &err), 0);
	err = (struct err){ "" };
}

/* An archive is written as the user's: there is no "below" in it. */
static void write_base(const char *path, enum pack_compression compression)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct pack *user;

	cr_assert_eq(pack_create(&user, &err), 0);
	cr_assert_eq(pack_add_bytes(user, "init", 0755, "#!/bin/sh\n", 10, &err), 0);
	cr_assert_eq(pack_add_bytes(user, "usr/bin/sh", 0755, "sh", 2, &err), 0);
	cr_assert_eq(pack_add_bytes(user, "usr/lib/libc.so.6", 0644, "c", 1, &err), 0);
	cr_assert_eq(pack_add_link(user, "bin", "usr/bin", &err), 0);
	cr_assert_eq(pack_add_link(user, "lib", "/usr/lib", &err), 0);
	cr_assert_eq(pack_write(user, fd, path, compression, &err), 0, "%s", err.text);
	pack_destroy(user);
	close(fd);
}

static void setup(void)
{
	FILE *in;

	pack_files_setup();
	fds = proc_fds(0);
	cr_assert_eq(pack_create(&pack, &err), 0);
	write_base("base", PACK_PLAIN);
	in = fopen("base", "re");
	base_len = fread(base, 1, sizeof(base), in);
	fclose(in);
}

static void teardown(void)
{
	pack_destroy(pack);
	cr_expect_eq(proc_fds(0), fds, "a descriptor is open");
	pack_files_teardown();
}

TestSuite(pack_below, .init = setup, .fini = teardown, .timeout = 60);

/* What is added lands where the user's links lead, and none of the user's entries is written. */
Test(pack_below, names_and_links)
{
	struct pack_files_entry e;
	void *data;
	size_t len;

	cr_assert_eq(pack_add_below(pack, "base", &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, "/bin/sh") && pack_has(pack, "/lib/libc.so.6") &&
		  pack_has(pack, "init"));
	cr_expect_not(pack_has(pack, "/bin/ls"));
	cr_assert_eq(pack_add_bytes(pack, "/lib/libz.so.1", 0644, "z", 1, &err), 0, "%s", err.text);
	cr_assert_eq(pack_add_bytes(pack, "/bin/sh", 0755, "mine", 4, &err), 0, "%s", err.text);
	cr_expect_eq(pack_add_bytes(pack, "/bin/sh", 0755, "mine", 4, &err), -EEXIST);
	cr_assert_eq(pack_add_dir(pack, "/lib", 0755, &err), 0, "%s", err.text);
	cr_expect_eq(pack_add_bytes(pack, "/usr", 0755, "mine", 4, &err), -EEXIST);
	cr_assert_eq(pack_to_memory(pack, PACK_PLAIN, &data, &len, &err), 0);
	cr_expect(pack_files_find(data, len, "usr/lib/libz.so.1", &e) && *e.data == 'z');
	cr_expect(pack_files_find(data, len, "usr/bin/sh", &e) && *e.data == 'm');
	cr_expect_not(pack_files_find(data, len, "usr/lib/libc.so.6", &e));
	cr_expect_not(pack_files_find(data, len, "lib", &e) ||
		      pack_files_find(data, len, "bin", &e));
	cr_expect_not(pack_files_find(data, len, "init", &e) ||
		      pack_files_find(data, len, "usr", &e));
	free(data);
}

/* A program of the host that is there already is the user's, with the user's libraries. */
Test(pack_below, programs)
{
	cr_assert_eq(pack_add_below(pack, "base", &err), 0, "%s", err.text);
	pack_files_text("script", "#!/bin/sh\n");
	cr_assert(!chmod("script", 0755));
	cr_assert_eq(pack_add_executable(pack, "/script", "script", &err), 0, "%s", err.text);
	cr_expect_not(pack_has(pack, "/usr/bin/dash") || pack_has(pack, "/usr/bin/bash"));
}

/* In the forms that distributions use. */
Test(pack_below, forms)
{
	static const char *const commands[] = {
		"cp base it",
		"gzip -c base >it",
		"xz --check=crc32 -c base >it",
		"zstd -qc base >it",
		"lz4 -lqc base >it",
		/* microcode first, then zeroes; an archive behind an archive */
		"(mkdir -p k/kernel && echo x >k/kernel/x && cd k && find . | cpio -o -H newc --quiet) >it; "
		"head -c 1024 /dev/zero >>it; zstd -qc base >>it",
		"(cd k && find . | cpio -o -H newc --quiet) >it; cat base >>it",
		"mkdir r; (cd r && cpio -idm --quiet <../base 2>/dev/null; find . -print0 | cpio -0 -o -H crc --quiet) "
		">it",
		"xz --check=crc32 -c base >it; head -c 4096 /dev/zero >>it",
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		again();
		cr_assert_eq(system(commands[i]), 0, "%s", commands[i]);
		cr_expect_eq(pack_add_below(pack, "it", &err), 0, "%s: %s", commands[i], err.text);
		cr_expect(pack_has(pack, "/bin/sh") && pack_has(pack, "/lib/libc.so.6"), "%s",
			  commands[i]);
	}
}

Test(pack_below, damaged)
{
	static const struct {
		size_t at;
		const char *bytes, *says;
		int ret;
	} rows[] = {
		{ 0, "1", "neither an archive", -EINVAL },
		{ 5, "7", "the archive in it is damaged", -EINVAL },
		{ 6 + 8, "zz", "the archive in it is damaged", -EINVAL },
		{ 6 + 11 * 8, "00000000", "a name in it is too long", -EINVAL },
		{ 6 + 11 * 8, "00001002", "a name in it is too long", -EINVAL },
		{ 6 + 11 * 8, "FFFFFFFF", "a name in it is too long", -EINVAL },
		{ 6 + 11 * 8, "00001000", "is truncated", -EINVAL },
		{ 6 + 6 * 8, "FFFFFFFF", "is truncated", -EINVAL },
		{ 0, "BZh", "is packed with bzip2", -ENOTSUP },
		{ 0, "\x1f\x8b\x08zzz", "it: ", -EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t copy[sizeof(base)];

		again();
		memcpy(copy, base, base_len);
		memcpy(copy + rows[i].at, rows[i].bytes, strlen(rows[i].bytes));
		pack_files_write("it", copy, base_len);
		cr_expect_eq(pack_add_below(pack, "it", &err), rows[i].ret, "%zu: %s", i, err.text);
		cr_expect(strstr(err.text, rows[i].says), "%zu: %s", i, err.text);
	}
	for (size_t len = 0; len < base_len; len += 13) {
		int ret;

		again();
		pack_files_write("it", base, len);
		ret = pack_add_below(pack, "it", &err);
		cr_expect(!ret || ret == -EINVAL, "%zu: %s", len, err.text);
	}
	again();
	cr_expect_eq(pack_add_below(pack, "nosuch", &err), -ENOENT);
	cr_expect_eq(pack_add_below(pack, ".", &err), -EINVAL);
	cr_assert(!mkfifo("fifo", 0600));
	cr_expect_eq(pack_add_below(pack, "fifo", &err), -EINVAL);
}

/* Names that lead out of the root, links in circles: they harm nothing. */
Test(pack_below, hostile_names)
{
	static const struct {
		const char *name;
		unsigned mode;
		const char *data;
	} rows[] = {
		{ "../../etc/passwd", 0100644, "x" },
		{ "/", 0040755, "" },
		{ ".", 0040755, "" },
		{ "", 0100644, "" },
		{ "a", 0120777, "b" },
		{ "b", 0120777, "a" },
		{ "a/x", 0100644, "" },
		{ "up", 0120777, "../.." },
		{ "up/y", 0100644, "" },
		{ "f", 0100644, "" },
		{ "f/below/a/file", 0100644, "" },
		{ "empty", 0120777, "" },
		{ "./dot/./x", 0100644, "" },
		{ "dir", 0040755, "" },
		{ "dir", 0120777, "y" },
		{ "dir/z", 0100644, "" },
	};
	FILE *out = fopen("it", "we");
	static const char zeroes[4];

	for (size_t i = 0; i <= sizeof(rows) / sizeof(rows[0]); i++) {
		bool end = i == sizeof(rows) / sizeof(rows[0]);
		const char *name = end ? "TRAILER!!!" : rows[i].name,
			   *data = end ? "" : rows[i].data;
		size_t name_len = strlen(name) + 1, len = strlen(data);

		fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 1,
			end ? 0 : rows[i].mode, 0, 0, 1, 0, len, 0, 0, 0, 0, name_len, 0);
		fwrite(name, 1, name_len, out);
		fwrite(zeroes, 1, -(110 + name_len) & 3, out);
		fwrite(data, 1, len, out);
		fwrite(zeroes, 1, -len & 3, out);
	}
	fclose(out);
	cr_expect_eq(pack_add_below(pack, "it", &err), 0, "%s", err.text);
	cr_expect(pack_has(pack, "y") && pack_has(pack, "f") && pack_has(pack, "dir/z"));
	cr_expect_not(pack_has(pack, "f/below") || pack_has(pack, "etc/passwd") ||
		      pack_has(pack, "empty"));
	cr_expect_eq(pack_add_bytes(pack, "a/q", 0644, "", 0, &err), -ELOOP);
	cr_expect_eq(pack_add_bytes(pack, "up/q", 0644, "", 0, &err), 0);
}
