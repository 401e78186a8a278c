/*
 * test/report: see report.h.
 *
 * A file's place is checked by making the new file there, which has no name yet, and giving it up again: so a
 * test that is killed leaves nothing.
 */
#include "vmm/test/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"
#include "vmm/core/new_file.h"
#include "vmm/core/parse.h"
#include "vmm/test/streams/sink.h"

enum { VERDICT_REPORT, JUNIT_REPORT, TAP_REPORT, REPORTS };

struct place {
	const char *path; /* NULL: no such report */
	char *real;	  /* the file at the end of path's symbolic links; NULL: path is none */
	int fd;		  /* -1: a regular file, which is made at the end */
	bool own;	  /* fd is ours to close */
};

struct test_report {
	struct place place[REPORTS];
	bool json;
	mode_t mode; /* of new files */
};

static const struct {
	char option[12];
	int (*write)(const struct verdict_report *report, FILE *out);
} kinds[REPORTS] = {
	[VERDICT_REPORT] = { "--verdict", verdict_json },
	[JUNIT_REPORT] = { "--junit", verdict_junit },
	[TAP_REPORT] = { "--tap", verdict_tap },
};

/* --- before the boot ------------------------------------------------------------------------ */

static int check_descriptor(unsigned kind, const char *path, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return err_set(
			err, EBADF,
			"%s %s: descriptor %d is not open; open it in the shell, by %d>FILE, or "
			"write ./%s for a file of that name",
			kinds[kind].option, path, fd, fd, path);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, EBADF, "%s %s: descriptor %d is open for reading only",
			       kinds[kind].option, path, fd);
	return 0;
}

static int check_file(unsigned kind, const char *path, struct err *err)
{
	struct new_file file;
	struct err why = { "" };
	int rc = new_file_open(&file, path, true, &why);

	if (rc)
		return err_set(err, -rc, "%s %s", kinds[kind].option, why.text);
	new_file_abandon(&file);
	/* A file that may not be written is not replaced either, although the folder allows it. */
	if (file.had && access(path, W_OK))
		return err_sys(err, errno, "%s %s", kinds[kind].option, path);
	return 0;
}

/* Not a regular file: opened now, as a shell does; a FIFO waits for its reader. */
static int open_special(struct place *p, unsigned kind, struct err *err)
{
	p->fd = open(p->path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (p->fd < 0)
		return err_sys(err, errno, "%s %s", kinds[kind].option, p->path);
	p->own = true;
	return 0;
}

/* Do both paths lead to one file, or would they? */
static bool same_file(const char *a, const char *b)
{
	const char *a_slash = strrchr(a, '/'), *b_slash = strrchr(b, '/');
	char a_dir[PATH_MAX], b_dir[PATH_MAX];
	struct stat x, y;
	bool a_there = !stat(a, &x), b_there = !stat(b, &y);

	if (a_there && b_there)
		return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
	if (a_there || b_there || strcmp(a_slash ? a_slash + 1 : a, b_slash ? b_slash + 1 : b) != 0)
		return false;
	snprintf(a_dir, sizeof(a_dir), "%.*s", a_slash ? (int)(a_slash + 1 - a) : 1,
		 a_slash ? a : ".");
	snprintf(b_dir, sizeof(b_dir), "%.*s", b_slash ? (int)(b_slash + 1 - b) : 1,
		 b_slash ? b : ".");
	return !stat(a_dir, &x) && !stat(b_dir, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What writes to the file of this report, too: the report would take its place. NULL: nothing does. */
static const char *who_has(const struct test_report *t, const struct test_options *options,
			   unsigned kind)
{
	const struct {
		const char *option, *file;
	} streams[] = {
		{ "--stdout", options->stdout_file ? options->stdout_file : "/dev/stdout" },
		{ "--stderr", options->stderr_file ? options->stderr_file : "/dev/stderr" },
		{ "--kmsg", options->kmsg_file },
		{ "--console", options->console_file },
	};
	const char *path = t->place[kind].path;
	struct stat st, its;

	for (unsigned i = 0; i < kind; i++)
		if (t->place[i].path && t->place[i].fd < 0 && same_file(path, t->place[i].path))
			return kinds[i].option;
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
		int fd = streams[i].file ? test_sink_descriptor(streams[i].file) : -1;

		if (fd >= 0 ? !stat(path, &st) && !fd_stat(fd, &its) && st.st_dev == its.st_dev &&
				      st.st_ino == its.st_ino :
			      streams[i].file && same_file(path, streams[i].file))
			return streams[i].option;
	}
	return NULL;
}

static int look_at(struct test_report *t, const struct test_options *options, unsigned kind,
		   const char *path, struct err *err)
{
	struct place *p = &t->place[kind];
	const char *other;
	struct stat st;
	uint64_t n;

	p->path = path;
	p->fd = test_sink_descriptor(path);
	if (p->fd < 0 && kind == VERDICT_REPORT && !parse_u64(path, &n) && n <= INT32_MAX)
		p->fd = (int)n;
	if (p->fd >= 0)
		return check_descriptor(kind, path, p->fd, err);
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return err_sys(err, EISDIR, "%s %s", kinds[kind].option, path);
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return open_special(p, kind, err);
	other = who_has(t, options, kind);
	if (other)
		return err_set(err, EEXIST, "%s %s: %s has this file already", kinds[kind].option,
			       path, other);
	if (!lstat(path, &st) && S_ISLNK(st.st_mode)) {
		p->real = realpath(path, NULL);
		if (!p->real)
			return err_sys(err, errno, "%s %s", kinds[kind].option, path);
	}
	return check_file(kind, p->real ? p->real : path, err);
}

int test_report_create(const struct test_options *options, struct test_report **out,
		       struct err *err)
{
	const char *const paths[REPORTS] = {
		[VERDICT_REPORT] = options->verdict,
		[JUNIT_REPORT] = options->junit,
		[TAP_REPORT] = options->tap,
	};
	struct test_report *t = calloc(1, sizeof(*t));
	int rc = 0;

	*out = NULL;
	if (!t)
		return err_sys(err, ENOMEM, "cannot prepare the reports");
	t->json = options->json;
	t->mode = umask(0);
	umask(t->mode);
	t->mode = 0666 & ~t->mode;
	for (unsigned i = 0; !rc && i < REPORTS; i++)
		if (paths[i])
			rc = look_at(t, options, i, paths[i], err);
	if (rc)
		test_report_destroy(t);
	else
		*out = t;
	return rc;
}

void test_report_destroy(struct test_report *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < REPORTS; i++) {
		if (t->place[i].own)
			close(t->place[i].fd);
		free(t->place[i].real);
	}
	free(t);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Returns the milliseconds until then, for poll; 0: it is over. */
static int ms_until(uint64_t end_ms)
{
	uint64_t now = clock_now_ms();

	if (end_ms == UINT64_MAX)
		return -1;
	return end_ms > now ? (int)(end_ms - now) : 0;
}

/* Waits for a slow reader, also where the descriptor does not, until end_ms. */
static int write_all(int fd, const char *text, size_t len, uint64_t end_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	while (len) {
		/* A write of little to a pipe that polls writable does not wait. */
		size_t most = end_ms == UINT64_MAX || len < PIPE_BUF ? len : PIPE_BUF;
		int ready = poll(&p, 1, ms_until(end_ms));
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (!ready)
			return -ETIMEDOUT;
		n = write(fd, text, most);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int write_file(const struct test_report *t, const char *path, const char *text, size_t len,
		      struct err *err)
{
	struct new_file file;
	int rc = new_file_open(&file, path, true, err);

	if (rc)
		return rc;
	if (!file.had && fchmod(file.fd, t->mode))
		rc = err_sys(err, errno, "%s", path);
	if (!rc)
		rc = write_all(file.fd, text, len, UINT64_MAX);
	if (rc)
		err_sys(err, -rc, "%s", path);
	else
		rc = new_file_finish(&file, false, err);
	if (rc)
		new_file_abandon(&file);
	return rc;
}

/* The text of one kind of report. The caller frees it. 0 or -errno. */
static int text_of(unsigned kind, const struct verdict_report *report, char **text, size_t *len)
{
	FILE *out = open_memstream(text, len);
	int rc;

	if (!out)
		return -ENOMEM;
	rc = kinds[kind].write(report, out);
	if (fclose(out) && !rc)
		rc = -ENOMEM;
	return rc;
}

static int write_one(const struct test_report *t, unsigned kind,
		     const struct verdict_report *report, uint64_t end_ms, struct err *err)
{
	const struct place *p = &t->place[kind];
	struct err why = { "" };
	char *text = NULL;
	size_t len = 0;
	int rc = text_of(kind, report, &text, &len);

	if (rc)
		err_sys(&why, -rc, "%s", p->path);
	else if (p->fd < 0)
		rc = write_file(t, p->real ? p->real : p->path, text, len, &why);
	else if ((rc = write_all(p->fd, text, len, end_ms)))
		err_sys(&why, -rc, "%s", p->path);
	free(text);
	return rc ? err_set(err, -rc, "%s %s", kinds[kind].option, why.text) : 0;
}

static uint64_t end_of(int limit_ms)
{
	return limit_ms < 0 ? UINT64_MAX : clock_now_ms() + (uint64_t)limit_ms;
}

int test_report_write(struct test_report *t, const struct verdict_report *report, int limit_ms,
		      struct err *err)
{
	uint64_t end_ms = end_of(limit_ms);
	int rc = 0;

	for (unsigned i = 0; i < REPORTS; i++) {
		struct err why = { "" };
		int one = t->place[i].path ? write_one(t, i, report, end_ms, &why) : 0;

		if (!rc && one) {
			rc = one;
			*err = why;
		}
	}
	return rc;
}

void test_report_last(const struct test_report *t, const struct verdict_report *report,
		      int limit_ms)
{
	uint64_t end_ms = end_of(limit_ms);
	char line[1024];
	char *text = NULL;
	size_t len = 0;

	log_end();
	if (t->json && !text_of(VERDICT_REPORT, report, &text, &len)) {
		write_all(STDERR_FILENO, text, len, end_ms);
	} else {
		verdict_line_text(report->result, line, sizeof(line) - 1);
		free(text);
		text = NULL;
		if (asprintf(&text, "bantam: %s\n", line) >= 0)
			write_all(STDERR_FILENO, text, strlen(text), end_ms);
	}
	free(text);
}
