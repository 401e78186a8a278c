/*
 * giveup: what a helper program gives up before it reads a byte that a guest or another user has written.
 *
 * Each program decides what it keeps, in tables; the steps are the same for all. They cannot be undone. Capabilities,
 * Landlock and the filter are of the calling thread and of those that it starts: call all of this with one thread.
 */
#ifndef BANTAM_GIVEUP_H
#define BANTAM_GIVEUP_H

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* A system call that the process keeps. */
struct giveup_call {
	int nr;	   /* SCMP_SYS(…) */
	int error; /* not 0: it is refused with this error, and the process lives on */
	bool self; /* only with our own process as its first argument */
	struct scmp_arg_cmp
		arg[3]; /* all of them hold; from the first whose op is 0 on there are none */
};

/* The rows of a table. A call may have several rows of GIVEUP_IF: one of them must fit. */
#define GIVEUP_KEEP(name)                                                                          \
	{                                                                                          \
		.nr = SCMP_SYS(name)                                                               \
	}
#define GIVEUP_KEEP_SELF(name)                                                                     \
	{                                                                                          \
		.nr = SCMP_SYS(name), .self = true                                                 \
	}
#define GIVEUP_KEEP_IF(name, ...)                                                                  \
	{                                                                                          \
		.nr = SCMP_SYS(name), .arg = { __VA_ARGS__ }                                       \
	}
/* For what a library tries, and can do without. */
#define GIVEUP_ERROR(name)                                                                         \
	{                                                                                          \
		.nr = SCMP_SYS(name), .error = EPERM                                               \
	}

/*
 * What the C library, or another version of it, tries on its own behalf. With an error it goes on:
 * - stdio asks before the first byte how large a file's blocks are, and whether it is a terminal (fstat is newfstatat
 *   with an empty path, and a filter cannot see that the path is empty);
 * - strftime looks for the host's time zone, and then takes UTC; qsort asks how much memory there is;
 * - malloc asks for the number of processors, and names its memory; abort resets the signal's handler.
 */
#define GIVEUP_LIBRARY                                                                             \
	GIVEUP_ERROR(newfstatat), GIVEUP_ERROR(fstat), GIVEUP_ERROR(statx), GIVEUP_ERROR(openat),  \
		GIVEUP_ERROR(sysinfo), GIVEUP_ERROR(sched_getaffinity), GIVEUP_ERROR(prctl),       \
		GIVEUP_ERROR(prlimit64), GIVEUP_ERROR(rt_sigaction), GIVEUP_ERROR(uname),          \
		GIVEUP_ERROR(gettimeofday), GIVEUP_ERROR(time), GIVEUP_ERROR(sched_yield)

/*
 * A signal's handler, but not that of SIGSYS, which has all of the five low bits: each row has one of them clear. The
 * kernel takes 32 bits of the number, so a comparison with all 64 would let SIGSYS pass.
 */
#define GIVEUP_NOT_SIGSYS(bit) GIVEUP_KEEP_IF(rt_sigaction, SCMP_A0(SCMP_CMP_MASKED_EQ, bit, 0))

/*
 * What a program needs that reads and makes files in one thread: bytes and names of files (Landlock says which may be
 * opened), who it is, the time, memory, and its end, also by a signal or abort. It starts no program and no process, opens
 * no socket, and asks nothing of a device.
 */
#define GIVEUP_FILE_TOOL                                                                           \
	GIVEUP_KEEP(read), GIVEUP_KEEP(readv), GIVEUP_KEEP(pread64), GIVEUP_KEEP(preadv),          \
		GIVEUP_KEEP(preadv2), GIVEUP_KEEP(write), GIVEUP_KEEP(writev),                     \
		GIVEUP_KEEP(pwrite64), GIVEUP_KEEP(pwritev), GIVEUP_KEEP(pwritev2),                \
		GIVEUP_KEEP(lseek), GIVEUP_KEEP(ftruncate), GIVEUP_KEEP(fallocate),                \
		GIVEUP_KEEP(fadvise64), GIVEUP_KEEP(fsync), GIVEUP_KEEP(fdatasync),                \
		GIVEUP_KEEP(sync_file_range), GIVEUP_KEEP(close), GIVEUP_KEEP(dup),                \
		GIVEUP_KEEP(poll), GIVEUP_KEEP(ppoll), GIVEUP_KEEP(open), GIVEUP_KEEP(openat),     \
		GIVEUP_KEEP(stat), GIVEUP_KEEP(lstat), GIVEUP_KEEP(fstat),                         \
		GIVEUP_KEEP(newfstatat), GIVEUP_KEEP(statx), GIVEUP_KEEP(statfs),                  \
		GIVEUP_KEEP(fstatfs), GIVEUP_KEEP(access), GIVEUP_KEEP(faccessat),                 \
		GIVEUP_KEEP(faccessat2), GIVEUP_KEEP(readlink), GIVEUP_KEEP(readlinkat),           \
		GIVEUP_KEEP(getcwd), GIVEUP_KEEP(getdents64), GIVEUP_KEEP(link),                   \
		GIVEUP_KEEP(linkat), GIVEUP_KEEP(unlink), GIVEUP_KEEP(unlinkat),                   \
		GIVEUP_KEEP(rename), GIVEUP_KEEP(renameat), GIVEUP_KEEP(renameat2),                \
		GIVEUP_KEEP(fchmod), GIVEUP_KEEP(fchown), GIVEUP_KEEP(getuid),                     \
		GIVEUP_KEEP(geteuid), GIVEUP_KEEP(getgid), GIVEUP_KEEP(getegid),                   \
		GIVEUP_KEEP(clock_gettime), GIVEUP_KEEP(clock_nanosleep), GIVEUP_KEEP(nanosleep),  \
		GIVEUP_KEEP(gettimeofday), GIVEUP_KEEP(time),                                      \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_GETFD)),                              \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_SETFD)),                              \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_GETFL)),                              \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_SETFL)),                              \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_DUPFD_CLOEXEC)),                      \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_OFD_GETLK)),                          \
		GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_OFD_SETLK)),                          \
		GIVEUP_KEEP_IF(mmap, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)),                   \
		GIVEUP_KEEP_IF(mprotect, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)),               \
		GIVEUP_KEEP(brk), GIVEUP_KEEP(munmap), GIVEUP_KEEP(mremap), GIVEUP_KEEP(madvise),  \
		GIVEUP_KEEP(getrandom), GIVEUP_KEEP_SELF(tgkill), GIVEUP_KEEP(futex),              \
		GIVEUP_KEEP(sched_getaffinity), GIVEUP_KEEP(sched_yield), GIVEUP_NOT_SIGSYS(1),    \
		GIVEUP_NOT_SIGSYS(2), GIVEUP_NOT_SIGSYS(4), GIVEUP_NOT_SIGSYS(8),                  \
		GIVEUP_NOT_SIGSYS(16), GIVEUP_KEEP(rt_sigprocmask), GIVEUP_KEEP(rt_sigreturn),     \
		GIVEUP_KEEP(sigaltstack), GIVEUP_KEEP(restart_syscall), GIVEUP_KEEP(getpid),       \
		GIVEUP_KEEP(gettid), GIVEUP_KEEP(exit_group), GIVEUP_KEEP(prlimit64),              \
		GIVEUP_KEEP(sysinfo), GIVEUP_KEEP(uname)

/*
 * Ends the process (SIGSYS) if it makes a call that is in no row, or whose arguments fit none. who, a program's name that
 * stays: before its end it says on standard error which call it was, and exits with 128 + SIGSYS; NULL: the kernel kills
 * it. Requires giveup_privileges, or root. Returns 0 or -errno.
 */
int giveup_calls(const struct giveup_call *calls, unsigned n, const char *who);
/* Would the filter let this call pass? For a caller that wants an error, not the end. */
bool giveup_permits(const struct giveup_call *calls, unsigned n, int nr, const uint64_t arg[6]);

/*
 * No new privileges, no core, no capability but those of keep, and no other process of the user may look into this one.
 * A change of user afterwards would undo the last. Returns 0 or -errno.
 */
int giveup_privileges(uint64_t keep);
/* For keep: what root needs to open and make files of any user. */
extern const uint64_t giveup_file_caps;
/* A part of that. Root that changes its user first calls it before. */
void giveup_bounding(void);

/* Lowers both limits, and never raises one: the user may have set it on purpose (ulimit). 0 or -errno. */
int giveup_limit(__rlimit_resource_t what, uint64_t at_most);

/* What may be done below a folder, or with a file. */
enum {
	GIVEUP_READ = 1,    /* files: open for reading */
	GIVEUP_WRITE = 2,   /* files: open for writing, cut */
	GIVEUP_LIST = 4,    /* folders: read their entries */
	GIVEUP_NAME = 8,    /* folders: give a name to a file */
	GIVEUP_REMOVE = 16, /* folders: take one away, and so replace it */
};
struct giveup_path {
	const char *path; /* NULL, or not there: the row counts for nothing */
	unsigned what;
};

/*
 * From now on only these files can be opened, and no TCP port be bound. Names, sizes and times of others stay visible:
 * the filter has to refuse what takes a path. Does nothing on kernels without Landlock. A descriptor for each of the first
 * files stays open (O_PATH). Returns 0 or -errno.
 */
int giveup_files(const struct giveup_path *paths, unsigned n);

#endif
