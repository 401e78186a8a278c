/* pack_files: see pack_files.h. */
#include "tests/unit/pack_files.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[32];

void pack_files_setup(void)
{
	strcpy(scratch, "/tmp/bantam-pack-XXXXXX");
	cr_assert(mkdtemp(scratch) && !chdir(scratch));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void pack_files_teardown(void)
{
	cr_assert(!chdir("/") && !nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}

void pack_files_write(const char *path, const void *data, size_t len_bytes)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *at = strchr(copy, '/'); at; *at = '/', at = strchr(at + 1, '/')) {
		*at = 0;
		cr_assert(!mkdir(copy, 0755) || errno == EEXIST, "%s", copy);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert(fd >= 0 && write(fd, data, len_bytes) == (ssize_t)len_bytes, "%s", path);
	close(fd);
}

void pack_files_text(const char *path, const char *text)
{
	pack_files_write(path, text, strlen(text));
}
