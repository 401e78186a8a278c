/*
 * fsload: random operations on the shared folder of tests/integration/fs's guest, like fsstress.
 *
 *     fsload DIR PROCESSES SECONDS
 *
 * Each process has a folder with a dozen files, and keeps their expected content in memory. It
 * writes, truncates, renames, links, unlinks, syncs and reads at random. Prints the number of
 * operations and exits with 0; or prints the first error and exits with 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES 12
#define FILE_MAX 65536

static struct {
	int size; /* -1: does not exist */
	char bytes[FILE_MAX];
} file[FILES];
static unsigned seed;
static char buf[FILE_MAX];

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % n;
}

static const char *name(unsigned i)
{
	static char text[4][16];
	static unsigned next;
	char *at = text[next++ % 4];

	snprintf(at, sizeof(text[0]), "f%u", i);
	return at;
}

__attribute__((noreturn)) static void wrong(const char *what, unsigned i)
{
	printf("fsload: %s f%u: %s\n", what, i, errno ? strerror(errno) : "not as it was left");
	exit(1);
}

static int open_file(unsigned i, int flags)
{
	int fd = open(name(i), flags | O_RDWR, 0644);

	if (fd < 0)
		wrong("open", i);
	return fd;
}

static void change(unsigned i)
{
	unsigned off = rnd(FILE_MAX - 1), len = 1 + rnd(rnd(2) ? 500 : FILE_MAX - off);
	int fd = open_file(i, O_CREAT);

	if (len > FILE_MAX - off)
		len = FILE_MAX - off;
	memset(buf, (int)rnd(256), len);
	buf[0] = (char)seed;
	if (pwrite(fd, buf, len, off) != (ssize_t)len)
		wrong("write", i);
	if (!rnd(4) && fsync(fd))
		wrong("fsync", i);
	if (close(fd))
		wrong("close", i);
	if (file[i].size < 0)
		file[i].size = 0;
	memcpy(file[i].bytes + off, buf, len);
	if (file[i].size < (int)(off + len))
		file[i].size = (int)(off + len);
}

static void cut(unsigned i)
{
	int size = (int)rnd(FILE_MAX);

	if (truncate(name(i), size))
		wrong("truncate", i);
	if (size < file[i].size)
		memset(file[i].bytes + size, 0, (size_t)(file[i].size - size));
	file[i].size = size;
}

static void check(unsigned i)
{
	int fd = open_file(i, 0);
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n < 0)
		wrong("read", i);
	errno = 0;
	if (n != file[i].size || memcmp(buf, file[i].bytes, (size_t)n) != 0)
		wrong("read", i);
	close(fd);
}

static void check_folder(void)
{
	unsigned there = 0, expected = 0;
	DIR *dir = opendir(".");

	if (!dir)
		wrong("opendir", 0);
	for (struct dirent *e; (e = readdir(dir));)
		there += e->d_name[0] == 'f';
	closedir(dir);
	for (unsigned i = 0; i < FILES; i++)
		expected += file[i].size >= 0;
	errno = 0;
	if (there != expected)
		wrong("the folder of", 0);
}

static void forget(unsigned i)
{
	memset(file[i].bytes, 0, FILE_MAX);
	file[i].size = -1;
}

static void step(void)
{
	unsigned i = rnd(FILES), to = rnd(FILES), what = rnd(20);

	if (file[i].size < 0 || what < 7) {
		change(i);
	} else if (what < 9) {
		cut(i);
	} else if (what < 11) {
		if (unlink(name(i)))
			wrong("unlink", i);
		forget(i);
	} else if (what < 13 && to != i) {
		if (rename(name(i), name(to)))
			wrong("rename", i);
		file[to] = file[i];
		forget(i);
	} else if (what < 14) {
		if (link(name(i), "link") || unlink("link"))
			wrong("link", i);
	} else if (what < 15) {
		if (mkdir("d", 0755) || rename("d", "e") || rmdir("e"))
			wrong("folder beside", i);
	} else if (what < 16) {
		check_folder();
	} else {
		check(i);
	}
}

static int process(const char *dir, unsigned n, time_t end)
{
	char path[256];
	unsigned steps = 0;

	snprintf(path, sizeof(path), "%s/p%u", dir, n);
	if ((mkdir(path, 0755) && errno != EEXIST) || chdir(path))
		wrong(path, n);
	seed = n + 1;
	for (unsigned i = 0; i < FILES; i++)
		forget(i);
	for (; time(NULL) < end; steps++)
		step();
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].size >= 0)
			check(i);
	check_folder();
	printf("fsload: process %u: %u\n", n, steps);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	time_t end = time(NULL) + (argc == 4 ? atoi(argv[3]) : 0);
	int bad = 0, status;

	if (!n)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < n; i++)
		if (!fork())
			return process(argv[1], i, end);
	while (wait(&status) > 0)
		bad |= status;
	return bad != 0;
}
