/* early: see early.h. */
#include "tests/attack/early.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CWD AT_FDCWD

/* Arguments that are known only then. */
enum { PATH = 1 << 20, TO, OTHER };

struct paths {
	char path[PATH_MAX / 8], to[PATH_MAX / 8];
	uint64_t argv[2];
};

/* A path without a leading slash is below the folder. */
static const struct early {
	const char *what, *path;
	long nr, arg[6];
	bool harmless; /* it works without confinement, and changes nothing */
} rows[] = {
	{ "a user's file, to read", "host/marker", SYS_openat, { CWD, PATH, O_RDONLY }, true },
	{ "a user's file, to write", "host/marker", SYS_openat, { CWD, PATH, O_WRONLY }, true },
	{ "a user's file, to append",
	  "host/marker",
	  SYS_openat,
	  { CWD, PATH, O_RDWR | O_APPEND },
	  true },
	{ "a user's file, cut", "host/marker", SYS_openat, { CWD, PATH, O_RDWR | O_TRUNC }, false },
	{ "a user's file, cut by name", "host/marker", SYS_truncate, { PATH, 0 }, false },
	{ "a user's folder", "host", SYS_openat, { CWD, PATH, O_RDONLY | O_DIRECTORY }, true },
	{ "a new file", "host/unborn", SYS_openat, { CWD, PATH, O_WRONLY | O_CREAT, 0600 }, false },
	{ "a file without a name",
	  "host",
	  SYS_openat,
	  { CWD, PATH, O_RDWR | O_TMPFILE, 0600 },
	  true },
	{ "another VM's disk, to read",
	  "tools/disk.qcow2",
	  SYS_openat,
	  { CWD, PATH, O_RDONLY },
	  true },
	{ "another VM's disk, to write",
	  "tools/disk.qcow2",
	  SYS_openat,
	  { CWD, PATH, O_RDWR },
	  true },
	/* What a header may name, it may only read. */
	{ "a new file beside the disk",
	  "vm/unborn",
	  SYS_openat,
	  { CWD, PATH, O_WRONLY | O_CREAT, 0600 },
	  false },
	{ "a disk that is read only", "vm/base", SYS_openat, { CWD, PATH, O_RDWR }, true },
	{ "the host's users", "/etc/passwd", SYS_openat, { CWD, PATH, O_RDONLY }, true },
	{ "the host's root folder", "/", SYS_openat, { CWD, PATH, O_RDONLY | O_DIRECTORY }, true },
	{ "a device", "/dev/full", SYS_openat, { CWD, PATH, O_RDWR }, true },
	{ "memory", "/proc/self/mem", SYS_openat, { CWD, PATH, O_RDWR }, false },
	{ "the kernel's settings",
	  "/proc/sys/vm/swappiness",
	  SYS_openat,
	  { CWD, PATH, O_WRONLY },
	  false },
	{ "a removed file", "host/marker", SYS_unlinkat, { CWD, PATH, 0 }, false },
	{ "a moved file", "host/marker", SYS_renameat2, { CWD, PATH, CWD, TO, 0 }, false },
	{ "a second name", "host/marker", SYS_linkat, { CWD, PATH, CWD, TO, 0 }, false },
	{ "a link", "host/unborn", SYS_symlinkat, { PATH, CWD, PATH }, false },
	{ "a folder", "host/unborn", SYS_mkdirat, { CWD, PATH, 0700 }, false },
	{ "a FIFO", "host/unborn", SYS_mknodat, { CWD, PATH, S_IFIFO | 0600, 0 }, false },
	{ "a disk's device",
	  "host/unborn",
	  SYS_mknodat,
	  { CWD, PATH, S_IFBLK | 0600, 0x700 },
	  false },
	{ "a program", "/bin/true", SYS_execve, { PATH, 0, 0 }, false },
	{ "a mount", "host", SYS_mount, { PATH, PATH, 0, MS_BIND, 0 }, false },
	{ "another process's memory", "host", SYS_ptrace, { PTRACE_SEIZE, OTHER, 0, 0 }, false },
};

static void place(char at[PATH_MAX / 8], const char *folder, const char *path)
{
	snprintf(at, PATH_MAX / 8, "%s%s%s", *path == '/' ? "" : folder, *path == '/' ? "" : "/",
		 path);
}

/* Closes what the call has opened, so that it leaves nothing. */
static void undo(const struct victim *v, const struct early *row, long value)
{
	const long fd[6] = { value };

	if (row->nr == SYS_openat && value >= 0)
		(void)inject_call(v, INJECT_NATIVE, SYS_close, fd);
}

static bool make(const struct victim *v, const struct early *row, const char *folder, pid_t other,
		 long *value)
{
	struct paths paths = { .to = "" };
	struct outcome o;
	long arg[6];

	place(paths.path, folder, row->path);
	place(paths.to, folder, "host/moved");
	if (!inject_write(v, v->block, &paths, sizeof(paths)))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(arg); i++)
		arg[i] = row->arg[i] == PATH  ? (long)v->block :
			 row->arg[i] == TO    ? (long)(v->block + offsetof(struct paths, to)) :
			 row->arg[i] == OTHER ? (long)other :
						row->arg[i];
	o = inject_call(v, INJECT_NATIVE, row->nr, arg);
	*value = o.value;
	if (o.verdict == INJECT_DONE)
		undo(v, row, o.value);
	return o.verdict == INJECT_DONE;
}

bool early_attack(pid_t tid, const char *folder, pid_t other, const char *where,
		  struct early_outcome *out)
{
	struct victim v = { 0 };
	bool lives = inject_begin(&v, tid);

	*out = (struct early_outcome){ 0 };
	for (unsigned i = 0; lives && i < ARRAY_SIZE(rows); i++) {
		const struct early *row = &rows[i];
		bool refused;
		long value = 0;

		/* Where nothing is refused only what does no harm is tried. */
		if (!where && !row->harmless)
			continue;
		lives = make(&v, row, folder, other, &value);
		refused = lives && (value == -EACCES || value == -EPERM || value == -EXDEV);
		out->tried++;
		out->refused += refused;
		out->could += row->harmless;
		out->works += row->harmless && lives && value >= 0;
		if (where && !refused)
			printf("# OPEN: %s: before the first foreign byte, %s: %ld\n", row->what,
			       where, value);
	}
	if (lives)
		inject_again(&v);
	return lives;
}
