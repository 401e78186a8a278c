/* qcow2_files: see qcow2_files.h. */
#include "tests/unit/qcow2_files.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[64];

void scratch_enter(void)
{
	/* Not /tmp, which may be a tmpfs: O_DIRECT and holes need a real file system. */
	snprintf(scratch, sizeof(scratch), "/var/tmp/bantam-test-XXXXXX");
	cr_assert(mkdtemp(scratch) && !chdir(scratch));
}

void scratch_leave(void)
{
	cr_assert(!chdir("/"));
	must("rm -rf %s", scratch);
}

static int run(const char *fmt, va_list ap)
{
	char cmd[1024] = "( ";
	int n = vsnprintf(cmd + 2, sizeof(cmd) - 2, fmt, ap);
	int status;

	cr_assert(n > 0 && (size_t)n < sizeof(cmd) - 32);
	strcat(cmd, " ) >>log 2>&1");
	status = system(cmd);
	cr_assert(WIFEXITED(status), "%s", cmd);
	return WEXITSTATUS(status);
}

static void show_log(void)
{
	if (system("tail -5 log >&2"))
		fputs("(no log)\n", stderr);
}

int sh(const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = run(fmt, ap);
	va_end(ap);
	return rc;
}

void must(const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = run(fmt, ap);
	va_end(ap);
	if (rc)
		show_log();
	cr_assert_eq(rc, 0, "%s: exit status %d", fmt, rc);
}

int qemu_check(const char *image)
{
	int rc = sh("qemu-img check -f qcow2 %s", image);

	if (rc && rc != 3)
		show_log();
	return rc;
}

void pattern(uint8_t *p, uint64_t n, uint64_t seed)
{
	for (uint64_t i = 0; i < n; i++)
		p[i] = (uint8_t)(((i >> 9) * 37 + i + seed * 101) % 251 + 1);
}

void make_raw(const char *path, uint64_t bytes, unsigned seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint8_t buf[16 * KIB];
	unsigned state = seed * 2654435761u + 1;

	cr_assert(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	for (uint64_t at = 0; at < bytes; at += sizeof(buf)) {
		uint64_t n = bytes - at < sizeof(buf) ? bytes - at : sizeof(buf);

		state = state * 1103515245u + 12345;
		if ((state >> 16) % 3)
			continue;
		pattern(buf, n, seed + at);
		/* Half of it cannot be compressed. */
		for (uint64_t i = 0; (state >> 20) & 1 && i < n; i++)
			buf[i] ^= (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
		cr_assert(pwrite(fd, buf, n, (off_t)at) == (ssize_t)n);
	}
	close(fd);
}

void same_as_raw(struct store *s, const char *raw)
{
	static uint8_t a[300 * KIB], b[300 * KIB];
	static const uint64_t sizes[] = { 512, 4096, 65536, 300 * KIB, 1, 12345 };
	int fd = open(raw, O_RDONLY);
	struct stat st;
	unsigned turn = 0;

	cr_assert(fd >= 0 && !fstat(fd, &st));
	cr_assert_eq(s->size_bytes, (uint64_t)st.st_size);
	for (uint64_t at = 0; at < s->size_bytes;) {
		uint64_t n = sizes[turn++ % 6];
		struct iovec iov[3];
		int rc;

		if (n > s->size_bytes - at)
			n = s->size_bytes - at;
		memset(a, 0xee, n);
		iov[0] = (struct iovec){ a, n / 3 };
		iov[1] = (struct iovec){ a + n / 3, 0 };
		iov[2] = (struct iovec){ a + n / 3, n - n / 3 };
		rc = s->ops->read(s, iov, 3, at, n);
		cr_assert_eq(rc, 0, "read at %lu: %s", at, strerror(-rc));
		cr_assert(pread(fd, b, n, (off_t)at) == (ssize_t)n);
		cr_assert(!memcmp(a, b, n), "differs in [%lu, +%lu)", at, n);
		at += n;
	}
	close(fd);
}

struct store *must_open(const char *path, enum store_format format, bool readonly)
{
	struct store_options options = { .path = path, .format = format, .readonly = readonly };
	struct err err = { "" };
	struct store *s;

	cr_assert_eq(store_open(&options, &s, &err), 0, "%s", err.text);
	return s;
}

void must_refuse(const char *path, enum store_format format, bool readonly, const char *word)
{
	struct store_options options = { .path = path, .format = format, .readonly = readonly };
	struct err err = { "" };
	struct store *s = (void *)1;
	int rc = store_open(&options, &s, &err);

	cr_assert(rc < 0 && !s, "%s was opened", path);
	cr_assert(strstr(err.text, word), "\"%s\" does not say \"%s\"", err.text, word);
	cr_assert(!strchr(err.text, '\n'));
}

void poke(const char *path, uint64_t offset, const void *bytes, uint64_t n)
{
	int fd = open(path, O_RDWR);

	cr_assert(fd >= 0 && pwrite(fd, bytes, n, (off_t)offset) == (ssize_t)n);
	close(fd);
}

void poke64(const char *path, uint64_t offset, uint64_t value)
{
	value = htobe64(value);
	poke(path, offset, &value, 8);
}

void poke32(const char *path, uint64_t offset, uint32_t value)
{
	value = htobe32(value);
	poke(path, offset, &value, 4);
}

uint64_t peek64(const char *path, uint64_t offset)
{
	int fd = open(path, O_RDONLY);
	uint64_t value;

	cr_assert(fd >= 0 && pread(fd, &value, 8, (off_t)offset) == 8);
	close(fd);
	return be64toh(value);
}
