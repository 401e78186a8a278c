/* test_test_report: reports are checked before the boot, and complete when they are there. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/test/report.h"

TestSuite(test_report, .timeout = 20);

static struct test_options options;
static struct test_report *t;
static char dir[] = "/tmp/test_report.XXXXXX";

static const struct verdict_result result = {
	.kind = VERDICT_PANICKED,
	.phase = VERDICT_KERNEL,
	.usec = 1500000,
	.status = -1,
	.reason = "the kernel panicked: \xff<&>",
};
static const struct verdict_report report = { .result = &result, .name = "n", .exit_status = 240 };

static const char *path_of(const char *name)
{
	static char path[4][64];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static void begin(void)
{
	cr_assert(mkdtemp(dir));
	umask(022);
}

static void end(void)
{
	char command[64];

	test_report_destroy(t);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static const char *content(int fd)
{
	static char text[4096];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static const char *content_of(const char *path)
{
	int fd = open(path, O_RDONLY);
	const char *text = content(fd);

	close(fd);
	return text;
}

static unsigned files(void)
{
	char command[64];
	unsigned n = 0;
	FILE *p;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", dir);
	p = popen(command, "r");
	cr_assert_eq(fscanf(p, "%u", &n), 1);
	pclose(p);
	return n;
}

static bool is_json(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);
	bool good = j && !strcmp(json_string_value(json_object_get(j, "verdict")), "panicked");

	json_decref(j);
	return good;
}

Test(test_report, files_appear_at_the_end)
{
	struct err err = { "" };
	struct stat st;
	int fd;

	begin();
	options.verdict = path_of("v.json");
	options.junit = path_of("j.xml");
	options.tap = path_of("t.tap");
	fd = open(options.tap, O_CREAT | O_WRONLY, 0640);
	cr_assert_eq(write(fd, "old", 3), 3);
	close(fd);
	cr_assert_eq(test_report_create(&options, &t, &err), 0, "%s", err.text);
	cr_assert_eq(files(), 1);
	cr_assert_str_eq(content_of(options.tap), "old");
	cr_assert_eq(test_report_write(t, &report, -1, &err), 0, "%s", err.text);
	cr_assert_eq(files(), 3);
	cr_assert(is_json(content_of(options.verdict)));
	cr_assert(strstr(content_of(options.junit), "<testsuite"));
	cr_assert(!strncmp(content_of(options.tap), "TAP version 13\n", 15));
	/* The user's umask; what was there keeps its mode. */
	cr_assert_eq(stat(options.verdict, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0644);
	cr_assert_eq(stat(options.tap, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0640);
	end();
}

Test(test_report, a_test_that_is_killed_leaves_nothing)
{
	struct err err = { "" };

	begin();
	options.verdict = path_of("v.json");
	cr_assert_eq(test_report_create(&options, &t, &err), 0);
	cr_assert_eq(files(), 0);
	test_report_destroy(t);
	t = NULL;
	cr_assert_eq(files(), 0);
	end();
}

Test(test_report, a_symbolic_link_keeps_its_file)
{
	struct err err = { "" };
	struct stat st;
	int fd;

	begin();
	fd = open(path_of("real"), O_CREAT | O_WRONLY, 0600);
	close(fd);
	cr_assert_eq(symlink("real", path_of("link")), 0);
	options.verdict = path_of("link");
	cr_assert_eq(test_report_create(&options, &t, &err), 0, "%s", err.text);
	cr_assert_eq(test_report_write(t, &report, -1, &err), 0, "%s", err.text);
	cr_assert_eq(lstat(options.verdict, &st), 0);
	cr_assert(S_ISLNK(st.st_mode));
	cr_assert(is_json(content_of(path_of("real"))));
	end();
}

/* A number, "-" and /dev/fd/N are descriptors, and of --junit a number is a file. */
Test(test_report, descriptors)
{
	static const char *const forms[] = { "%d", "/dev/fd/%d", "/proc/self/fd/%d" };
	int ends[2];

	begin();
	for (unsigned i = 0; i < 3; i++) {
		struct err err = { "" };
		char name[32];

		cr_assert_eq(pipe(ends), 0);
		snprintf(name, sizeof(name), forms[i], ends[1]);
		options.verdict = name;
		cr_assert_eq(test_report_create(&options, &t, &err), 0, "%s", err.text);
		cr_assert_eq(test_report_write(t, &report, -1, &err), 0, "%s", err.text);
		cr_assert(is_json(content(ends[0])), "%s", name);
		test_report_destroy(t);
		t = NULL;
		close(ends[0]);
		close(ends[1]);
	}
	end();
}

Test(test_report, places_that_cannot_be_written)
{
	static const struct {
		const char *verdict, *junit;
		int rc;
		const char *text;
	} places[] = {
		{ "/tmp/no/such/v", NULL, -ENOENT,
		  "--verdict /tmp/no/such/v: cannot create: No such file or directory" },
		{ NULL, "/tmp", -EISDIR, "--junit /tmp: Is a directory" },
		{ NULL, "/proc/version", -1, "--junit /proc/version: " },
		{ NULL, "new/", -EISDIR, "--junit new/: is not a file's name" },
		{ NULL, "", -EISDIR, "--junit : is not a file's name" },
		{ "77", NULL, -EBADF,
		  "--verdict 77: descriptor 77 is not open; open it in the shell, by 77>FILE, or write "
		  "./77 for a file of that name" },
		{ "78", NULL, -EBADF, "--verdict 78: descriptor 78 is open for reading only" },
		{ "/tmp/test_report_same", "/tmp/test_report_same", -EEXIST,
		  "--junit /tmp/test_report_same: --verdict has this file already" },
	};

	cr_assert_eq(dup2(open("/dev/null", O_RDONLY), 78), 78);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct err err = { "" };
		int rc;

		options.verdict = places[i].verdict;
		options.junit = places[i].junit;
		rc = test_report_create(&options, &t, &err);
		if (places[i].rc == -1)
			cr_assert_lt(rc, 0);
		else
			cr_assert_eq(rc, places[i].rc, "%zu: %s", i, err.text);
		cr_assert(!strncmp(err.text, places[i].text, strlen(places[i].text)), "%s",
			  err.text);
		cr_assert_null(t);
	}
}

/* A report takes the place of its file: of two reports, or of a stream and a report, one would be lost. */
Test(test_report, a_file_for_two)
{
	const struct {
		const char *stdout_file, *stderr_file, *kmsg, *console, *verdict, *tap;
		const char *other; /* NULL: it is right */
	} rows[] = {
		{ .verdict = "new", .tap = "./new", .other = "--verdict" },
		{ .verdict = "sub/../new", .tap = "new", .other = "--verdict" },
		{ .verdict = "old", .tap = "hard", .other = "--verdict" },
		{ .verdict = "old", .tap = "soft", .other = "--verdict" },
		{ .stdout_file = "new", .tap = "./new", .other = "--stdout" },
		{ .stderr_file = "old", .tap = "hard", .other = "--stderr" },
		{ .kmsg = "new", .tap = "new", .other = "--kmsg" },
		{ .console = "sub/new", .tap = "sub/./new", .other = "--console" },
		{ .tap = "out", .other = "--stdout" }, /* where the shell has led it */
		{ .stdout_file = "new", .stderr_file = "new", .tap = "old" },
		{ .stdout_file = "new", .verdict = "1", .tap = "out" },
		{ .stdout_file = "/dev/fd/1",
		  .stderr_file = "-",
		  .verdict = "1",
		  .tap = "sub/new" },
	};
	struct err err;

	begin();
	cr_assert_eq(chdir(dir), 0);
	cr_assert_eq(system("mkdir sub && touch old && ln old hard && ln -s old soft"), 0);
	cr_assert_eq(dup2(open("out", O_CREAT | O_WRONLY, 0600), 1), 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char want[80];

		options = (struct test_options){ .stdout_file = rows[i].stdout_file,
						 .stderr_file = rows[i].stderr_file,
						 .kmsg_file = rows[i].kmsg,
						 .console_file = rows[i].console,
						 .verdict = rows[i].verdict,
						 .tap = rows[i].tap };
		snprintf(want, sizeof(want), "--tap %s: %s has this file already", rows[i].tap,
			 rows[i].other);
		err = (struct err){ "" };
		cr_expect_eq(test_report_create(&options, &t, &err), rows[i].other ? -EEXIST : 0,
			     "%zu: %s", i, err.text);
		cr_expect_str_eq(err.text, rows[i].other ? want : "");
		test_report_destroy(t);
	}
	t = NULL;
	cr_assert_eq(chdir("/"), 0);
	end();
}

/* The others are still written, and the first error is told. */
Test(test_report, a_full_disk)
{
	struct err err = { "" };

	begin();
	options.verdict = "/dev/full";
	options.tap = path_of("t.tap");
	cr_assert_eq(test_report_create(&options, &t, &err), 0, "%s", err.text);
	cr_assert_eq(test_report_write(t, &report, -1, &err), -ENOSPC);
	cr_assert_str_eq(err.text, "--verdict /dev/full: No space left on device");
	cr_assert_eq(files(), 1);
	end();
}

Test(test_report, the_last_line)
{
	struct err err;
	int ends[2];

	for (unsigned json = 0; json < 2; json++) {
		const char *text;

		cr_assert_eq(pipe(ends), 0);
		dup2(ends[1], 2);
		options.json = json;
		cr_assert_eq(test_report_create(&options, &t, &err), 0);
		test_report_last(t, &report, -1);
		text = content(ends[0]);
		if (json)
			cr_assert(is_json(text));
		else
			cr_assert_str_eq(text,
					 "bantam: panicked after 1.500 s (kernel): the kernel "
					 "panicked: ?<&>\n");
		test_report_destroy(t);
	}
}

/* A pipe without O_NONBLOCK that is full: the line is given up in time. */
Test(test_report, a_last_line_that_is_not_read)
{
	char page[4096] = "";
	struct err err;
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	fcntl(ends[1], F_SETPIPE_SZ, 4096);
	cr_assert_eq(write(ends[1], page, sizeof(page)), sizeof(page));
	dup2(ends[1], 2);
	options.verdict = "2";
	cr_assert_eq(test_report_create(&options, &t, &err), 0);
	cr_assert_eq(test_report_write(t, &report, 50, &err), -ETIMEDOUT);
	test_report_last(t, &report, 50);
	test_report_destroy(t);
}
