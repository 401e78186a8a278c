/* pack: an initrd's entries, its modules in their order, and what hostile trees do to it. */
#include "boot/pack/pack.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/pack/modules.h"
#include "boot/pack/programs.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"

static struct pack *pack;
static struct err err;
static char *archive; /* as build made it */
static size_t archive_len;
static unsigned fds;

static void setup(void)
{
	pack_files_setup();
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

TestSuite(pack, .init = setup, .fini = teardown, .timeout = 60);

static void build(void)
{
	void *data;

	free(archive);
	cr_assert_eq(pack_to_memory(pack, PACK_PLAIN, &data, &archive_len, &err), 0, "%s",
		     err.text);
	archive = data;
}

static bool find(const char *name, struct pack_files_entry *out)
{
	return pack_files_find(archive, archive_len, name, out);
}

Test(pack, entries)
{
	static const struct {
		const char *name;
		unsigned mode, major, minor;
		const char *data;
	} rows[] = {
		{ "dev", 0040755, 0, 0, "" },		{ "dev/console", 0020600, 5, 1, "" },
		{ "init", 0100755, 0, 0, "program\n" }, { "etc", 0040700, 0, 0, "" },
		{ "etc/deep", 0040755, 0, 0, "" },	{ "etc/deep/text", 0100640, 0, 0, "a\n" },
		{ "etc/empty", 0100644, 0, 0, "" },	{ "bin/sh", 0120777, 0, 0, "/init" },
		{ "dev/vda", 0060660, 254, 0, "" },	{ "plain", 0100644, 0, 0, "" },
		{ "dev/null", 0020666, 1, 3, "" },
	};
	struct pack_files_entry f;

	pack_files_text("program", "program\n");
	cr_assert_eq(chmod("program", 0711), 0);
	pack_files_text("plain", "");
	cr_assert_eq(pack_add_file(pack, "/init", "program", &err), 0);
	cr_assert_eq(pack_add_file(pack, "plain", "plain", &err), 0);
	cr_assert_eq(pack_add_bytes(pack, "etc/deep/text", 0640, "a\n", 2, &err), 0);
	cr_assert_eq(pack_add_bytes(pack, "///etc/empty", 0644, NULL, 0, &err), 0);
	cr_assert_eq(pack_add_dir(pack, "/etc", 0700, &err), 0);
	cr_assert_eq(pack_add_link(pack, "bin/sh", "/init", &err), 0);
	cr_assert_eq(pack_add_node(pack, "dev/vda", 0660, true, 254, 0, &err), 0);
	cr_assert_eq(pack_add_node(pack, "dev/null", 0666, false, 1, 3, &err), 0);
	build();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert(find(rows[i].name, &f), "%s", rows[i].name);
		cr_expect_eq(f.mode, rows[i].mode, "%s: %o", rows[i].name, f.mode);
		cr_expect(f.major == rows[i].major && f.minor == rows[i].minor, "%s", rows[i].name);
		cr_expect(f.len == strlen(rows[i].data) && !memcmp(f.data, rows[i].data, f.len),
			  "%s", rows[i].name);
	}
	cr_expect(pack_has(pack, "/etc/deep") && !pack_has(pack, "etc/dee"));
	cr_expect_not(find("modules.list", &f));
}

Test(pack, bad_entries)
{
	static const struct {
		const char *name;
		int ret;
		const char *says;
	} rows[] = {
		{ "", -EINVAL, "is no name" },
		{ "/", -EINVAL, "is no name" },
		{ "a/../b", -EINVAL, "is no name" },
		{ "../b", -EINVAL, "is no name" },
		{ "a/", -EINVAL, "is no name" },
		{ "a//b", -EINVAL, "is no name" },
		{ "/./a", -EINVAL, "is no name" },
		{ "dev", -EEXIST, "/dev is given twice" },
		{ "/dev/console", -EEXIST, "given twice" },
		{ "dev/console/x/y", -EEXIST, "/dev/console is no directory" },
	};
	char *long_name = malloc(5000);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(pack_add_bytes(pack, rows[i].name, 0644, "x", 1, &err), rows[i].ret,
			     "%s", rows[i].name);
		cr_expect(strstr(err.text, rows[i].says), "%s: %s", rows[i].name, err.text);
	}
	memset(long_name, 'x', 5000);
	long_name[4999] = 0;
	cr_expect_eq(pack_add_dir(pack, long_name, 0755, &err), -EINVAL);
	cr_expect_eq(pack_add_link(pack, "l", long_name, &err), -EINVAL);
	cr_expect_eq(pack_add_link(pack, "l", "", &err), -EINVAL);
	cr_expect_eq(pack_add_file(pack, "f", "nosuch", &err), -ENOENT);
	cr_expect_eq(pack_add_file(pack, "f", ".", &err), -EINVAL);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	cr_expect_eq(pack_add_file(pack, "f", "fifo", &err), -EINVAL);
	cr_expect(strstr(err.text, "not a regular file"), "%s", err.text);
	free(long_name);
	build(); /* and the rest of the archive is fine */
}

/* The order of the calls does not show, and both compressions hold the same archive. */
Test(pack, same_bytes)
{
	void *gz, *zst;
	size_t gz_len, zst_len, first_len;
	char *first, *plain;
	struct pack *other;
	z_stream z = { 0 };

	pack_add_bytes(pack, "b", 0644, "2", 1, &err);
	pack_add_bytes(pack, "a/x", 0644, "1", 1, &err);
	build();
	first = archive, first_len = archive_len;
	archive = NULL;
	cr_assert_eq(pack_create(&other, &err), 0);
	pack_add_bytes(other, "/a/x", 0644, "1", 1, &err);
	pack_add_bytes(other, "/b", 0644, "2", 1, &err);
	pack_destroy(pack);
	pack = other;
	build();
	cr_assert_eq(archive_len, first_len);
	cr_expect_eq(memcmp(archive, first, first_len), 0);

	cr_assert_eq(pack_to_memory(pack, PACK_GZIP, &gz, &gz_len, &err), 0);
	cr_assert_eq(pack_to_memory(pack, PACK_ZSTD, &zst, &zst_len, &err), 0);
	plain = calloc(1, first_len);
	cr_assert_eq(ZSTD_decompress(plain, first_len, zst, zst_len), first_len);
	cr_expect_eq(memcmp(plain, first, first_len), 0);
	memset(plain, 0, first_len);
	cr_assert_eq(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = gz, z.avail_in = (unsigned)gz_len;
	z.next_out = (void *)plain, z.avail_out = (unsigned)first_len;
	cr_expect_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
	inflateEnd(&z);
	cr_expect_eq(memcmp(plain, first, first_len), 0);
	free(plain), free(first), free(gz), free(zst);
}

Test(pack, a_file_that_changes_or_cannot_be_written)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct pack_files_entry f;
	void *data;
	size_t len;

	pack_files_text("grows", "1");
	cr_assert_eq(pack_add_file(pack, "grows", "grows", &err), 0);
	pack_files_text("grows", "12345");
	build();
	cr_expect(find("grows", &f) && f.len == 5 && !memcmp(f.data, "12345", 5));
	for (int c = PACK_PLAIN; c <= PACK_ZSTD; c++) {
		cr_expect_eq(pack_write(pack, full, "out", c, &err), -ENOSPC);
		cr_expect(strstr(err.text, "out: No space left"), "%s", err.text);
	}
	close(full);
	cr_assert_eq(truncate("grows", (off_t)1 << 32), 0);
	cr_expect_eq(pack_to_memory(pack, PACK_PLAIN, &data, &len, &err), -EFBIG);
	cr_expect(strstr(err.text, "grows: a file in an initrd has less than 4 GiB"), "%s",
		  err.text);
	unlink("grows");
	cr_expect_eq(pack_to_memory(pack, PACK_ZSTD, &data, &len, &err), -ENOENT);
	cr_expect_null(data);
}

/* --- modules ------------------------------------------------------------------------ */

/* Packs spec of the tree in dir. Returns the text of /modules.list, or the error. */
static const char *listed(const char *dir, const char *spec)
{
	static char text[8192];
	struct pack_tree *tree;
	struct pack_files_entry f;
	void *data;
	int ret;

	pack_destroy(pack);
	cr_assert_eq(pack_create(&pack, &err), 0);
	ret = pack_tree_open(&tree, dir, &err);
	if (!ret)
		ret = pack_add_modules(pack, tree, spec, &err);
	pack_tree_close(tree);
	if (!ret)
		ret = pack_to_memory(pack, PACK_PLAIN, &data, &archive_len, &err);
	if (ret)
		return err.text;
	free(archive);
	archive = data;
	*text = 0;
	if (find("modules.list", &f))
		snprintf(text, sizeof(text), "%.*s", (int)f.len, f.data);
	return text;
}

static void make_installed(void)
{
	static const char names[][16] = { "a",		 "b-b",	     "c",     "soft", "fs/ext",
					  "crc_generic", "crc_fast", "round", "trip" };

	pack_files_text("m/modules.dep", "kernel/a.ko:\n"
					 "kernel/b-b.ko: kernel/a.ko\n"
					 "kernel/c.ko: kernel/b-b.ko kernel/a.ko\n"
					 "no colon here\n"
					 ":\n"
					 "kernel/soft.ko:\n"
					 "kernel/fs/ext.ko: kernel/b-b.ko kernel/a.ko\n"
					 "kernel/crc_generic.ko:\n"
					 "kernel/crc_fast.ko:\n"
					 "kernel/round.ko: \n"
					 "kernel/trip.ko:");
	pack_files_text("m/modules.builtin", "kernel/drivers/in-side.ko\n");
	pack_files_text("m/modules.softdep", "# comment\n"
					     "softdep ext pre: crc gone soft post: c\n"
					     "softdep round pre: trip platform:x in_side\n"
					     "softdep trip pre: round\n"
					     "softdep a post: soft\n"
					     "softdep\n"
					     "softdep a\n");
	pack_files_text("m/modules.alias", "# comment\n"
					   "alias crc crc_fast\n"
					   "alias crc crc_generic\n"
					   "alias crc crc_other\n"
					   "alias\n"
					   "alias crc\n");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[256];

		snprintf(path, sizeof(path), "m/kernel/%s.ko", names[i]);
		pack_files_text(path, "module");
	}
}

Test(pack, modules_come_in_the_order_in_which_they_load)
{
	static const struct {
		const char *spec, *want;
	} rows[] = {
		{ "a", "/modules/a.ko\n" },
		{ "b-b", "/modules/a.ko\n/modules/b_b.ko\n" },
		{ "c", "/modules/a.ko\n/modules/b_b.ko\n/modules/c.ko\n" },
		{ "b_b:x=1 y=2,3", "/modules/a.ko\n/modules/b_b.ko x=1 y=2,3\n" },
		{ "a,,a,soft,", "/modules/a.ko\n/modules/soft.ko\n" },
		{ "in-side", "" },
		{ "in_side,a", "/modules/a.ko\n" },
		{ "gone?", "" },
		{ "gone?,a?", "/modules/a.ko\n" },
		{ "gone?:x=1", "" },
		{ "gone", "no module gone in m" },
		{ "crc", "/modules/crc_generic.ko\n" },
		{ "ext", "/modules/a.ko\n/modules/b_b.ko\n/modules/crc_generic.ko\n"
			 "/modules/soft.ko\n/modules/ext.ko\n" },
		{ "round", "/modules/trip.ko\n/modules/round.ko\n" },
		{ "trip", "/modules/round.ko\n/modules/trip.ko\n" },
		{ ":", "module ':': must be NAME[?][:ARGS]" },
		{ "?", "module '?': must be NAME[?][:ARGS]" },
		{ "a?b", "module 'a?b': must be NAME[?][:ARGS]" },
		{ "a:x\n/init", "module 'a:x?/init': must be NAME[?][:ARGS]" },
		{ "../../etc/passwd", "no module ../../etc/passwd in m" },
	};

	make_installed();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got = listed("m", rows[i].spec);

		cr_expect_str_eq(got, rows[i].want, "%s: '%s'", rows[i].spec, got);
	}
	cr_expect(strstr(listed("nosuch", "a"), "nosuch: no modules.dep"), "%s", err.text);
}

Test(pack, arguments_are_never_lost)
{
	struct pack_tree *tree;

	make_installed();
	cr_assert_eq(pack_tree_open(&tree, "m", &err), 0);
	cr_assert_eq(pack_add_module(pack, tree, "c", &err), 0);
	cr_assert_eq(pack_add_module(pack, tree, "a", &err), 0);
	cr_expect_eq(pack_add_module(pack, tree, "a:x=1", &err), -EINVAL);
	cr_expect(strstr(err.text, "module a: is packed already"), "%s", err.text);
	pack_tree_close(tree);
}

Test(pack, hostile_trees)
{
	static const struct {
		const char *dep, *says;
	} rows[] = {
		{ "/etc/a.ko:", "must lie below" },
		{ "../a.ko:", "must lie below" },
		{ "kernel/../../a.ko:", "must lie below" },
		{ "x/..:\na.ko: ", "a.ko: No such file" },
		{ "a.ko: ../b.ko", "a needs ../b.ko, which it does not have" },
		{ "a.ko: b.ko\nb.ko: ../../b.ko", "a.ko: No such file" },
		{ "a.ko: \x01\x02", "which it does not have" },
		{ "c.ko:\na b.ko:", "no module a in h" },
		{ "c.ko:\na\tb.ko:\n", "no module a in h" },
		{ ":a", "no modules.dep" },
		{ "", "no modules.dep" },
		{ "dir/a.ko:", "not a regular file" },
		{ "fifo/a.ko:", "not a regular file" },
	};

	cr_assert(!mkdir("h", 0755) && !mkdir("h/dir", 0755) && !mkdir("h/dir/a.ko", 0755));
	cr_assert(!mkdir("h/fifo", 0755) && !mkfifo("h/fifo/a.ko", 0600));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got;

		pack_files_text("h/modules.dep", rows[i].dep);
		got = listed("h", "a");
		cr_expect(strstr(got, rows[i].says), "%s: %s", rows[i].dep, got);
	}
}

/* Soft dependencies that go 70 deep, and a module that needs 5,000 others. */
Test(pack, trees_without_an_end)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	for (unsigned i = 0; i < 70; i++)
		fprintf(out, "m%u.ko:\n", i);
	fclose(out);
	pack_files_text("h/modules.dep", text);
	free(text);
	out = open_memstream(&text, &len);
	for (unsigned i = 0; i < 70; i++)
		fprintf(out, "softdep m%u pre: m%u\n", i, i + 1);
	fclose(out);
	pack_files_text("h/modules.softdep", text);
	free(text);
	cr_expect(strstr(listed("h", "m0"), "more than 64 deep"), "%s", err.text);

	out = open_memstream(&text, &len);
	fputs("b.ko:\na.ko:", out);
	for (unsigned i = 0; i < 5000; i++)
		fputs(" b.ko", out);
	fclose(out);
	pack_files_text("h/modules.dep", text);
	pack_files_text("h/b.ko", "b");
	cr_expect(strstr(listed("h", "a"), "a needs more than 4096 others"), "%s", err.text);
	free(text);
	/* The guest reads a list of this size. */
	pack_files_text("h/modules.dep", "a.ko:\n");
	pack_files_text("h/a.ko", "a");
	text = calloc(1, (64 << 10) + 1);
	memset(text, 'x', (64 << 10) - strlen("/modules/a.ko") - 1);
	memcpy(text, "a:", 2);
	cr_expect(!strncmp(listed("h", text), "/modules/a.ko x", 15), "%s", err.text);
	strcat(text, "x");
	cr_expect_str_eq(listed("h", text),
			 "initrd: the names and parameters of its modules have more than 64 KiB");
	free(text);
	cr_assert_eq(truncate("h/modules.softdep", (off_t)33 << 20), 0);
	cr_expect(strstr(listed("h", "a"), "modules.softdep: has 34603008 bytes"), "%s", err.text);
}

static size_t compress_as(const char *kind, const uint8_t *in, size_t len, uint8_t *out,
			  size_t room)
{
	size_t n = 0;

	if (!strcmp(kind, "xz")) {
		cr_assert_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in, len, out, &n,
						     room),
			     LZMA_OK);
	} else if (!strcmp(kind, "zst")) {
		n = ZSTD_compress(out, room, in, len, 1);
		cr_assert(!ZSTD_isError(n));
	} else if (!strcmp(kind, "gz")) {
		z_stream z = { .next_in = (Bytef *)in,
			       .avail_in = (unsigned)len,
			       .next_out = out,
			       .avail_out = (unsigned)room };

		cr_assert_eq(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
		cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
		n = z.total_out;
		deflateEnd(&z);
	} else {
		memcpy(out, in, n = len);
	}
	return n;
}

/* A compressed module is unpacked, and one that is damaged is told. */
Test(pack, compressed_modules)
{
	static const char kinds[][4] = { "", "gz", "xz", "zst" };
	const size_t len = 3 << 20; /* larger than the first mapping */
	uint8_t *in = malloc(len), *out = malloc(2 * len);
	struct pack_files_entry f;

	for (size_t i = 0; i < len; i++)
		in[i] = (uint8_t)(i * i >> 7);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = compress_as(kinds[i], in, len, out, 2 * len);
		char path[32], dep[64];

		snprintf(path, sizeof(path), "m/a.ko%s%.3s", *kinds[i] ? "." : "", kinds[i]);
		snprintf(dep, sizeof(dep), "%.29s:\n", path + 2);
		pack_files_text("m/modules.dep", dep);
		pack_files_write(path, out, n);
		cr_expect_str_eq(listed("m", "a"), "/modules/a.ko\n", "%s", err.text);
		cr_expect(find("modules/a.ko", &f) && f.len == len && !memcmp(f.data, in, len),
			  "%s", path);
		if (!*kinds[i])
			continue;
		pack_files_write(path, out, n / 2);
		cr_expect(strstr(listed("m", "a"), "data is corrupt"), "%s: %s", path, err.text);
		pack_files_write(path, out, 7);
		cr_expect(strstr(listed("m", "a"), "data is corrupt"), "%s: %s", path, err.text);
	}
	pack_files_text("m/modules.dep", "a.ko.bz2:");
	pack_files_text("m/a.ko.bz2", "BZh91AY&SY");
	cr_expect(strstr(listed("m", "a"), "is packed with bzip2"), "%s", err.text);
	free(in), free(out);
}

/* What is carried are whole programs, each for itself, and not the same one. */
Test(pack, programs)
{
	static const char *const names[] = { [PACK_INIT] = "init", [PACK_AGENT] = "sbin/agent" };
	struct pack_files_entry f;

	for (int i = PACK_INIT; i <= PACK_AGENT; i++) {
		size_t len;
		const uint8_t *program = pack_program((enum pack_program)i, &len);
		const Elf64_Ehdr *elf = (const Elf64_Ehdr *)program;

#ifndef __x86_64__
		cr_expect_null(program);
		cr_expect_eq(pack_add_program(pack, names[i], (enum pack_program)i, &err),
			     -ENOTSUP);
		continue;
#endif
		cr_assert(program && len > sizeof(*elf) && !memcmp(program, ELFMAG, SELFMAG));
		cr_expect_eq(elf->e_type, ET_EXEC, "static");
		/* The section headers are at the end of a file that has been stripped. */
		cr_expect_eq(elf->e_shoff + elf->e_shnum * sizeof(Elf64_Shdr), len, "%zu", len);
		cr_assert_eq(pack_add_program(pack, names[i], (enum pack_program)i, &err), 0);
		build();
		cr_assert(find(names[i], &f));
		cr_expect_eq(f.mode, 0100755);
		cr_expect(f.len == len && !memcmp(f.data, program, len));
	}
	cr_expect(memmem(archive, archive_len, "org.bantam.agent", 16), "the agent knows its port");
}
