/* fat: names, aliases, geometry, times, sources that misbehave; fat_reader reads the result. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/fat/fat_impl.h"
#include "tests/unit/fat_reader.h"

#define EACH(c, table)                                                                             \
	for (size_t i_ = 0; i_ < sizeof(table) / sizeof(table[0]) && (c = &table[i_]); i_++)

static const struct fat_options plain = { .latest_s = FAT_LAST_S };

struct made {
	struct fat *fat;
	struct err err;
	int fd;
	uint8_t *img;
	uint64_t len;
	uint64_t stored; /* bytes outside holes */
	struct fat_seen seen;
};

static void start(struct made *m, const struct fat_options *options)
{
	memset(m, 0, sizeof(*m));
	m->fd = -1;
	cr_assert_eq(fat_create(options, &m->fat, &m->err), 0, "%s", m->err.text);
}

static void put(struct made *m, const char *name, const char *text)
{
	cr_assert_eq(fat_add_data(m->fat, name, text, strlen(text), &m->err), 0);
}

/* Makes the layout and the image, without reading the image. */
static int finish(struct made *m)
{
	int rc = fat_layout(m->fat, &m->err);
	struct stat st;

	if (!rc) {
		m->fd = memfd_create("fat", MFD_CLOEXEC);
		rc = fat_write(m->fat, m->fd, "image", &m->err);
	}
	if (!rc) {
		/* Count blocks first: reads of a mapping fill the holes of a memory file. */
		cr_assert_eq(fstat(m->fd, &st), 0);
		m->stored = (uint64_t)st.st_blocks * 512;
		m->len = (uint64_t)lseek(m->fd, 0, SEEK_END);
		m->img = mmap(NULL, m->len, PROT_READ, MAP_SHARED, m->fd, 0);
		cr_assert(m->img != MAP_FAILED);
	}
	return rc;
}

static void check(struct made *m)
{
	cr_assert_eq(finish(m), 0, "%s", m->err.text);
	cr_assert(fat_read_image(&m->seen, m->img, m->len), "%s", m->seen.fault);
}

static void done(struct made *m)
{
	fat_seen_clear(&m->seen);
	if (m->img)
		munmap(m->img, m->len);
	if (m->fd >= 0)
		close(m->fd);
	fat_destroy(m->fat);
}

/* --- a folder of the host ------------------------------------------------------ */

static char dir[64];

static void make_dir(void)
{
	/* Not /tmp, which may be a tmpfs: holes need a real file system. */
	strcpy(dir, "/var/tmp/bantam-fat-XXXXXX");
	cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static const char *at(const char *name)
{
	static char path[4][512];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void write_file(const char *name, const char *text, time_t mtime)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct timespec ts[2] = { { mtime, 0 }, { mtime, 0 } };

	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	cr_assert_eq(futimens(fd, ts), 0);
	close(fd);
}

TestSuite(fat_host, .init = make_dir, .fini = remove_dir);

/* --- names --------------------------------------------------------------------- */

#define X15 "xxxxxxxxxxxxxxx"
#define X255 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15 X15

Test(fat, names_judged)
{
	static const struct {
		const char *name, *why;
	} table[] = {
		{ "a", NULL }, { "README", NULL }, { ".hidden", NULL }, { "..x", NULL },
		{ " lead", NULL }, { "a b", NULL }, { "+,;=[]", NULL }, { "~1", NULL },
		{ "grün", NULL }, { "日本語.txt", NULL }, { "😀", NULL }, { "e\xcc\x81", NULL },
		{ "CON", NULL }, { X255, NULL }, { X255 "x", "longer" },
		{ "", "empty" }, { ".", "dot" }, { "..", "dot" }, { "a.", "dot" }, { "a ", "space" },
		{ " ", "space" }, { "a. ", "space" }, { "a/b", "/" }, { "a\\b", "\\" },
		{ "a:b", ":" }, { "a*", "*" }, { "?", "?" }, { "\"", "\"" }, { "<", "<" },
		{ ">", ">" }, { "|", "|" }, { "a\nb", "control" }, { "\x01", "control" },
		{ "\x7f", "control" }, { "\xff", "UTF-8" }, { "\xc3", "UTF-8" },
		{ "\xc0\xaf", "UTF-8" }, { "\xe0\x80\xaf", "UTF-8" }, { "\xed\xa0\x80", "UTF-8" },
		{ "\xf4\x90\x80\x80", "UTF-8" }, { "\xf0\x8f\xbf\xbf", "UTF-8" },
		{ "\x80", "UTF-8" }, { "\xf8\x88\x80\x80\x80", "UTF-8" }, { "a\xe2\x82", "UTF-8" },
	}, *c;

	EACH(c, table)
	{
		uint16_t wide[FAT_NAME_MAX];
		const char *why;
		unsigned n = fat_name_wide(c->name, wide, &why);

		cr_expect_eq(!n, !!c->why, "\"%s\": %s", c->name, why ? why : "taken");
		if (c->why && why)
			cr_expect(strstr(why, c->why), "\"%s\": %s", c->name, why);
	}
}

/* 255 UTF-16 units, not characters: a character beyond the BMP counts twice. */
Test(fat, names_counted_in_units)
{
	char name[4 * 128 + 1] = "";
	uint16_t wide[FAT_NAME_MAX];
	const char *why;

	for (unsigned i = 0; i < 127; i++)
		strcat(name, "😀");
	cr_expect_eq(fat_name_wide(name, wide, &why), 254);
	cr_expect_eq(wide[0], 0xd83d);
	cr_expect_eq(wide[1], 0xde00);
	strcat(name, "😀");
	cr_expect_eq(fat_name_wide(name, wide, &why), 0);
}

/* A host's file name has at most 255 bytes, so a folder cannot contain this name. */
Test(fat, names_survive)
{
	static const char *const names[] = {
		"user-data",
		"README",
		"Readme.md",
		".profile",
		"a.b.c.d",
		"thirteen_long",
		"fourteen__long",
		"26 characters and no more!",
		"grüße an ÄÖÜ.txt",
		"日本語のファイル名.テキスト",
		"😀😀.😀",
		"e\xcc\x81 combining",
		"FOO~1.TXT",
		"foo long name.txt",
		"foo long name2.txt",
		"FOOLON~2.TXT",
		"foolon~3.txt",
		"+,;=[]",
		" lead",
		"....x",
		"no.ext.",
		"UPPER.lower",
		"x.LONGEXT",
		X255,
	};
	struct made m;
	unsigned n = 0;

	start(&m, &plain);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(names[i], "no.ext."))
			continue;
		put(&m, names[i], names[i]);
		n++;
	}
	check(&m);
	cr_assert_eq(m.seen.nfiles, n);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct fat_found *f = fat_seen_find(&m.seen, names[i]);

		if (!strcmp(names[i], "no.ext."))
			continue;
		cr_assert(f, "%s", names[i]);
		cr_expect_eq(f->size, strlen(names[i]));
		for (uint32_t k = 0; k < f->size; k++)
			cr_assert_eq(fat_seen_byte(&m.seen, f, k), (uint8_t)names[i][k]);
	}
	cr_expect_str_eq(fat_seen_find(&m.seen, "README")->alias, "README");
	cr_expect_str_eq(fat_seen_find(&m.seen, "Readme.md")->alias, "README.MD");
	cr_expect_str_eq(fat_seen_find(&m.seen, "FOO~1.TXT")->alias, "FOO~1.TXT");
	cr_expect_str_eq(fat_seen_find(&m.seen, "foolon~3.txt")->alias, "FOOLON~3.TXT");
	cr_expect_str_eq(fat_seen_find(&m.seen, "foo long name.txt")->alias, "FOOLON~1.TXT");
	cr_expect_str_eq(fat_seen_find(&m.seen, ".profile")->alias, "PROFIL~1");
	cr_expect_str_eq(fat_seen_find(&m.seen, "+,;=[]")->alias, "______~1");
	cr_expect_str_eq(fat_seen_find(&m.seen, "x.LONGEXT")->alias, "X~1.LON");
	done(&m);
}

Test(fat, twins_refused)
{
	static const struct {
		const char *a, *b;
		bool same;
	} table[] = {
		{ "a", "A", true }, { "Readme", "README", true }, { "ä", "Ä", true }, { "ω", "Ω", true },
		{ "ж", "Ж", true }, { "ё", "Ё", true }, { "ÿ", "Ÿ", true }, { "ő", "Ő", true }, { "ž", "Ž", true },
		{ "ａ", "Ａ", true }, { "x", "x", true },
		{ "a", "ä", false }, { "ß", "ss", false }, { "×", "÷", false }, { "a", "a.x", false },
		{ "ĸ", "Ĺ", false }, { "e\xcc\x81", "é", false },
	}, *c;

	EACH(c, table)
	{
		struct made m;
		int rc;

		start(&m, &plain);
		put(&m, c->a, "");
		put(&m, "between", "");
		put(&m, c->b, "");
		rc = finish(&m);
		cr_expect_eq(rc, c->same ? -EINVAL : 0, "%s %s: %d %s", c->a, c->b, rc, m.err.text);
		if (c->same)
			cr_expect(strstr(m.err.text, c->a) && strstr(m.err.text, c->b), "%s",
				  m.err.text);
		done(&m);
	}
}

Test(fat, printed_on_one_line)
{
	static const struct {
		const char *name, *want;
	} table[] = {
		{ "a", "a" }, { "a\nb\x1b[31m", "a\\x0ab\\x1b[31m" }, { "\xff\xfe", "\\xff\\xfe" },
		{ "grün", "grün" }, { "\xc2\x85", "\\xc2\\x85" },
		{ "0123456789012345678901234567890123456789", "…1234567890123456789" "0123456789" },
	}, *c;
	char buf[33];

	EACH(c, table)
	{
		fat_name_print(c->name, buf, sizeof(buf));
		if (strlen(c->name) < sizeof(buf))
			cr_expect_str_eq(buf, c->want);
		cr_expect_lt(strlen(buf), sizeof(buf));
		cr_expect_str_eq(buf + strlen(buf) - 1, c->want + strlen(c->want) - 1);
	}
}

Test(fat, labels)
{
	static const struct {
		const char *label;
		bool good;
	} table[] = {
		{ "CIDATA", true }, { "cidata", true }, { "SERVICEDISK", true }, { "A B", true }, { "X", true },
		{ "", false }, { "TWELVECHARSX", false }, { "A.B", false }, { " A", false }, { "A ", false },
		{ "Ä", false }, { "A\n", false }, { "a/b", false }, { "a\"b", false },
	}, *c;

	EACH(c, table)
	{
		struct fat_options options = { .label = c->label, .latest_s = FAT_EPOCH_S };
		struct made m = { .fd = -1 };
		int rc = fat_create(&options, &m.fat, &m.err);

		cr_expect_eq(!rc, c->good, "\"%s\": %s", c->label, m.err.text);
		if (!rc) {
			check(&m);
			cr_expect_str_eq(m.seen.root_label, c->label);
		}
		done(&m);
	}
}

/* More names than the first few numeric tails, and than one alias pattern allows. */
Test(fat, thousands_of_aliases)
{
	struct made m;
	char name[64];

	start(&m, &plain);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "the same beginning %u.text", i);
		put(&m, name, i % 7 ? "x" : "");
	}
	check(&m);
	cr_expect_eq(m.seen.nfiles, 3000);
	done(&m);
}

Test(fat, folder_full)
{
	struct made m;
	char name[16];

	/* 8.3 names take one entry each. */
	start(&m, &(struct fat_options){ .label = "FULL" });
	for (unsigned i = 0; i < FAT_DIR_MAX - 1; i++) {
		snprintf(name, sizeof(name), "%X", i);
		put(&m, name, "");
	}
	cr_expect_eq(finish(&m), 0, "%s", m.err.text);
	done(&m);
	start(&m, &(struct fat_options){ .label = "FULL" });
	for (unsigned i = 0; i < FAT_DIR_MAX; i++) {
		snprintf(name, sizeof(name), "%X", i);
		put(&m, name, "");
	}
	cr_expect_eq(finish(&m), -EFBIG);
	done(&m);
}

/* --- geometry ------------------------------------------------------------------ */

struct wish {
	uint64_t bytes;
	unsigned folders;
};

static uint64_t need(const void *opaque, uint32_t cluster_bytes, bool root)
{
	const struct wish *w = opaque;

	return (w->bytes + cluster_bytes - 1) / cluster_bytes + root;
}

static void check_geometry(uint64_t bytes, uint64_t min_sectors, uint32_t root_entries)
{
	struct wish w = { bytes, 0 };
	struct fat_geometry g;
	uint64_t end;
	unsigned bits;

	cr_assert_eq(fat_geometry_find(&g, min_sectors, root_entries, need, &w), 0);
	bits = g.clusters < 4085 ? 12 : g.clusters < 65525 ? 16 : 32;
	cr_expect_eq(g.bits, bits, "%llu bytes, %llu sectors: %u clusters and FAT%u",
		     (unsigned long long)bytes, (unsigned long long)min_sectors, g.clusters,
		     g.bits);
	cr_expect(g.clusters <= 4068 || g.clusters >= 4101, "%u clusters", g.clusters);
	cr_expect(g.clusters <= 65508 || g.clusters >= 65541, "%u clusters", g.clusters);
	cr_expect_geq((uint64_t)g.fat_sectors * 4096, (g.clusters + 2ull) * bits);
	cr_expect_geq(g.clusters, need(&w, g.cluster_sectors * 512, bits == 32));
	cr_expect_geq(g.sectors, min_sectors);
	cr_expect_eq(g.sectors % 32, 0);
	cr_expect_eq(g.data_start % 8, 0);
	cr_expect_eq(g.data_start, g.reserved + 2 * g.fat_sectors + g.root_entries / 16);
	end = g.data_start + (uint64_t)g.clusters * g.cluster_sectors;
	cr_expect(end <= g.sectors && end + g.cluster_sectors > g.sectors);
	/* The FAT is larger than its clusters need by no more than the alignment. */
	cr_expect_leq((uint64_t)(g.fat_sectors - 1) * 4096, (g.clusters + 2ull + 2 * 4096) * bits);
}

Test(fat, geometry_near_every_limit)
{
	static const uint64_t around[] = {
		0,
		4084ull * 512,
		4084ull * 2048,
		4084ull * 1024,
		65524ull * 512,
		65524ull * 1024,
		65524ull * 2048,
		65524ull * 4096,
		65524ull * 8192,
		65524ull * 16384,
		1ull << 30,
		4ull << 30,
		8ull << 30,
		16ull << 30,
		32ull << 30,
		1ull << 40,
		4096ull * 512,
		8384ull * 512,
		32672ull * 512,
		262144ull * 512,
		524288ull * 512,
		1048576ull * 512,
	};

	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		for (int64_t d = -40; d <= 40; d++) {
			int64_t bytes = (int64_t)around[i] + d * 512;

			if (bytes < 0)
				continue;
			check_geometry((uint64_t)bytes, 0, 512);
			check_geometry((uint64_t)bytes, 0, 65520);
			check_geometry(0, (uint64_t)bytes / 512, 512);
		}
	}
}

Test(fat, geometry_ends)
{
	struct wish w = { 3ull << 40, 0 };
	struct fat_geometry g;

	cr_expect_eq(fat_geometry_find(&g, 0, 512, need, &w), -EFBIG);
	w.bytes = 0;
	cr_expect_eq(fat_geometry_find(&g, 1ull << 32, 512, need, &w), -EFBIG);
	cr_expect_eq(fat_geometry_find(&g, 1ull << 55, 512, need, &w), -EFBIG);
}

Test(fat, sizes_of_files)
{
	static const size_t sizes[] = { 0, 1, 511, 512, 513, 4095, 4096, 4097, 100000 };
	struct made m;

	start(&m, &plain);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char name[16], *data = malloc(sizes[i] + 1);

		memset(data, 'a' + (int)i, sizes[i]);
		snprintf(name, sizeof(name), "f%zu", i);
		cr_assert_eq(fat_add_data(m.fat, name, data, sizes[i], &m.err), 0);
		free(data);
	}
	check(&m);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char name[16];
		const struct fat_found *f;

		snprintf(name, sizeof(name), "f%zu", i);
		f = fat_seen_find(&m.seen, name);
		cr_assert(f && f->size == sizes[i]);
		for (uint32_t k = 0; k < f->size; k += 97)
			cr_assert_eq(fat_seen_byte(&m.seen, f, k), 'a' + (int)i);
	}
	done(&m);
}

Test(fat, every_kind)
{
	static const struct {
		uint64_t min_bytes;
		unsigned bits, cluster_bytes;
	} table[] = {
		{ 0, 12, 512 }, { 3 << 20, 12, 2048 }, { 5 << 20, 16, 1024 }, { 64 << 20, 16, 2048 },
		{ 200 << 20, 16, 4096 }, { 400 << 20, 16, 8192 }, { 600 << 20, 32, 4096 },
	}, *c;

	EACH(c, table)
	{
		struct fat_options options = plain;
		struct made m;

		options.min_bytes = c->min_bytes;
		options.label = "KIND";
		start(&m, &options);
		put(&m, "file", "text");
		check(&m);
		cr_expect_eq(m.seen.bits, c->bits);
		cr_expect_eq(m.seen.cluster_bytes, c->cluster_bytes);
		cr_expect_geq(m.len, c->min_bytes);
		cr_expect_str_eq(m.seen.root_label, "KIND");
		cr_expect_eq(fat_seen_byte(&m.seen, fat_seen_find(&m.seen, "file"), 3), 't');
		done(&m);
	}
}

/* --- the host's files ---------------------------------------------------------- */

static int add_dir(struct made *m, bool follow, int64_t latest_s)
{
	struct fat_options options = { .follow = follow, .latest_s = latest_s };

	start(m, &options);
	return fat_add_tree(m->fat, NULL, dir, &m->err);
}

Test(fat_host, times)
{
	/* From section "Date and Time Formats" of the specification. */
	static const struct {
		time_t mtime;
		uint16_t date, time;
		uint8_t tenths;
	} table[] = {
		{ 315532800, 0x21, 0, 0 }, { 0, 0x21, 0, 0 }, { -5, 0x21, 0, 0 }, { 315532801, 0x21, 0, 100 },
		{ 951782399, (20 << 9 | 2 << 5 | 28), (23 << 11 | 59 << 5 | 29), 100 },
		{ 951782400, (20 << 9 | 2 << 5 | 29), 0, 0 },
		{ 4354819199, (127 << 9 | 12 << 5 | 31), (23 << 11 | 59 << 5 | 29), 0 },
		{ 9999999999, (127 << 9 | 12 << 5 | 31), (23 << 11 | 59 << 5 | 29), 0 },
	}, *c;
	char name[8];
	struct made m;

	EACH(c, table)
	{
		snprintf(name, sizeof(name), "f%zu", i_);
		write_file(name, "x", c->mtime);
	}
	cr_assert_eq(add_dir(&m, false, FAT_LAST_S), 0);
	check(&m);
	EACH(c, table)
	{
		const struct fat_found *f;

		snprintf(name, sizeof(name), "f%zu", i_);
		f = fat_seen_find(&m.seen, name);
		cr_expect(f->date == c->date && f->time == c->time && f->tenths == c->tenths,
			  "%s: %04x %04x %u", name, f->date, f->time, f->tenths);
	}
	done(&m);
	cr_assert_eq(add_dir(&m, false, 951782399), 0);
	check(&m);
	cr_expect_eq(fat_seen_find(&m.seen, "f7")->date, 20 << 9 | 2 << 5 | 28);
	cr_expect_eq(fat_seen_find(&m.seen, "f0")->date, 0x21);
	done(&m);
}

Test(fat_host, reproducible)
{
	struct made a, b;

	write_file("b", "2", 2000000000);
	write_file("a", "1", 2000000001);
	mkdir(at("sub"), 0700);
	write_file("sub/x", "3", 2000000002);
	cr_assert_eq(add_dir(&a, false, 1500000000), 0);
	check(&a);
	/* The same files in another order, with other times and inodes. */
	remove_dir();
	make_dir();
	mkdir(at("sub"), 0755);
	write_file("sub/x", "3", 1900000000);
	write_file("a", "1", 1900000001);
	write_file("b", "2", 1900000002);
	cr_assert_eq(add_dir(&b, false, 1500000000), 0);
	check(&b);
	cr_expect(a.len == b.len && !memcmp(a.img, b.img, a.len));
	done(&b);
	/* Other content gives other bytes. */
	write_file("b", "3", 1900000002);
	cr_assert_eq(add_dir(&b, false, 1500000000), 0);
	check(&b);
	cr_expect_neq(a.seen.serial, b.seen.serial);
	done(&a);
	done(&b);
}

Test(fat_host, holes_change_nothing)
{
	static uint8_t zero[3 << 20];
	struct made a, b;
	int fd = open(at("f"), O_RDWR | O_CREAT, 0600);
	struct timespec ts[2] = { { 1000000000, 0 }, { 1000000000, 0 } };

	cr_assert_eq(ftruncate(fd, sizeof(zero)), 0);
	cr_assert_eq(pwrite(fd, "here", 4, (2 << 20) + 4093), 4);
	futimens(fd, ts);
	cr_assert_eq(add_dir(&a, false, 1000000000), 0);
	check(&a);
	cr_expect_eq(fat_seen_byte(&a.seen, fat_seen_find(&a.seen, "f"), (2 << 20) + 4096), 'e');
	memcpy(zero + (2 << 20) + 4093, "here", 4);
	cr_assert_eq(pwrite(fd, zero, sizeof(zero), 0), sizeof(zero));
	futimens(fd, ts);
	close(fd);
	cr_assert_eq(add_dir(&b, false, 1000000000), 0);
	check(&b);
	cr_expect(a.len == b.len && !memcmp(a.img, b.img, a.len));
	/* Zeroes take no room in the image. */
	cr_expect_lt(b.stored, 200000);
	done(&a);
	done(&b);
}

Test(fat_host, deep)
{
	char path[600] = "";
	struct made m;

	for (unsigned i = 0; i < 60; i++) {
		sprintf(path + strlen(path), "%sd%u", i ? "/" : "", i);
		cr_assert_eq(mkdir(at(path), 0700), 0);
	}
	strcat(path, "/leaf");
	write_file(path, "deep", 1000000000);
	cr_assert_eq(add_dir(&m, false, FAT_LAST_S), 0);
	check(&m);
	cr_expect(fat_seen_find(&m.seen, path));
	cr_expect_eq(m.seen.nfiles, 61);
	done(&m);
}

static void make_odd(const char *what)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (!strcmp(what, "fifo"))
		cr_assert_eq(mkfifo(at(what), 0600), 0);
	if (!strcmp(what, "link"))
		cr_assert_eq(symlink("target", at(what)), 0);
	if (!strcmp(what, "sock")) {
		strcpy(un.sun_path, at(what));
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		cr_assert_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
		close(fd);
	}
	if (!strcmp(what, "large") || !strcmp(what, "large-1")) {
		fd = open(at(what), O_WRONLY | O_CREAT, 0600);
		cr_assert_eq(ftruncate(fd, what[5] ? 0xffffffff : 0x100000000), 0);
		close(fd);
	}
	if (strchr(what, ':') || strchr(what, '\n') || *what == '\xff')
		write_file(what, "", 0);
}

Test(fat_host, refused)
{
	static const struct {
		const char *what, *why;
	} table[] = {
		{ "fifo", "fifo: is neither a file nor a folder" }, { "sock", "sock: is neither" },
		{ "link", "link: is a symbolic link" }, { "large", "large: is larger than FAT's 4 GiB - 1" },
		{ "large-1", NULL }, { "a:b", "a:b: the name has a :" },
		{ "a\nb", "a\\x0ab: the name has a control character" },
		{ "\xff", "\\xff: the name is not UTF-8" },
	}, *c;

	EACH(c, table)
	{
		struct made m;
		int rc;

		make_odd(c->what);
		rc = add_dir(&m, false, FAT_LAST_S);
		if (!rc)
			rc = fat_layout(m.fat, &m.err);
		cr_expect_eq(!rc, !c->why, "%s: %s", c->what, m.err.text);
		if (c->why)
			cr_expect(strstr(m.err.text, c->why) && !strchr(m.err.text, '\n'), "%s",
				  m.err.text);
		done(&m);
		cr_assert_eq(unlink(at(c->what)), 0);
	}
}

Test(fat_host, links_followed)
{
	struct made m;

	mkdir(at("real"), 0700);
	write_file("real/f", "text", 1000000000);
	cr_assert_eq(symlink("real", at("link")), 0);
	cr_assert_eq(symlink("real/f", at("flink")), 0);
	cr_assert_eq(add_dir(&m, true, FAT_LAST_S), 0, "%s", m.err.text);
	check(&m);
	cr_expect(fat_seen_find(&m.seen, "link/f") && fat_seen_find(&m.seen, "real/f"));
	cr_expect_eq(fat_seen_find(&m.seen, "flink")->size, 4);
	done(&m);
	/* An endless path. */
	cr_assert_eq(symlink("..", at("real/up")), 0);
	cr_expect_eq(add_dir(&m, true, FAT_LAST_S), -ELOOP);
	cr_expect(strstr(m.err.text, "real/up: this link leads"), "%s", m.err.text);
	done(&m);
	unlink(at("real/up"));
	cr_assert_eq(symlink("nowhere", at("real/broken")), 0);
	cr_expect_eq(add_dir(&m, true, FAT_LAST_S), -ENOENT);
	done(&m);
}

Test(fat_host, sources_that_change)
{
	static const char *const how[] = { "grow", "shrink", "touch", "replace", "vanish", "link" };

	for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		struct made m;
		int rc;

		write_file("f", "0123456789", 1000000000);
		write_file("other", "0123456789", 1000000000);
		cr_assert_eq(add_dir(&m, false, FAT_LAST_S), 0);
		if (i == 0)
			write_file("f", "01234567890", 1000000000);
		if (i == 1)
			cr_assert_eq(truncate(at("f"), 5), 0);
		if (i == 2)
			write_file("f", "9876543210", 1000000001);
		if (i == 3)
			cr_assert_eq(rename(at("other"), at("f")), 0);
		if (i == 4)
			unlink(at("f"));
		if (i == 5) {
			unlink(at("f"));
			cr_assert_eq(symlink("other", at("f")), 0);
		}
		rc = finish(&m);
		cr_expect_eq(rc, i == 4 ? -ENOENT : -ESTALE, "%s: %d", how[i], rc);
		cr_expect(strstr(m.err.text, i == 4 ? "/f: vanished" : "/f: changed"), "%s: %s",
			  how[i], m.err.text);
		done(&m);
		unlink(at("f"));
	}
}

Test(fat_host, output_among_the_sources)
{
	struct made m;
	struct stat st;

	write_file("out.img", "", 0);
	cr_assert_eq(stat(at("out.img"), &st), 0);
	start(&m, &plain);
	fat_forbid(m.fat, &st);
	cr_expect_eq(fat_add_tree(m.fat, NULL, dir, &m.err), -EINVAL);
	cr_expect(strstr(m.err.text, "out.img: is the output itself"));
	done(&m);
}

Test(fat_host, no_room)
{
	struct rlimit limit = { 600 << 10, 600 << 10 };
	char *data = malloc(1 << 20);
	struct made m;
	int fd;

	memset(data, 'x', 1 << 20);
	start(&m, &plain);
	cr_assert_eq(fat_add_data(m.fat, "f", data, 1 << 20, &m.err), 0);
	cr_assert_eq(fat_layout(m.fat, &m.err), 0);
	fd = open(at("out"), O_RDWR | O_CREAT, 0600);
	signal(SIGXFSZ, SIG_IGN);
	/* ftruncate beyond the limit fails. */
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(fat_write(m.fat, fd, "out", &m.err), -EFBIG);
	cr_expect_str_eq(m.err.text, "out: File too large");
	close(fd);
	free(data);
	done(&m);
}

Test(fat, source_date_epoch)
{
	static const struct {
		const char *text;
		int64_t want;
		bool good;
	} table[] = {
		{ NULL, 7, true }, { "0", 0, true }, { "1700000000", 1700000000, true },
		{ "", 0, false }, { "x", 0, false }, { "-1", 0, false }, { "99999999999999999999", 0, false },
	}, *c;

	EACH(c, table)
	{
		struct err err;
		int64_t got;
		int rc;

		if (c->text)
			setenv("SOURCE_DATE_EPOCH", c->text, 1);
		else
			unsetenv("SOURCE_DATE_EPOCH");
		rc = fat_latest(7, &got, &err);
		cr_expect_eq(!rc, c->good);
		cr_expect(rc || got == c->want);
	}
	unsetenv("SOURCE_DATE_EPOCH");
}
