/* confine: see fs.h. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/bantam-fs/fs.h"
#include "tools/giveup/giveup.h"

#define MEMORY_MAX (1ull << 30)

/*
 * There is no open, socket, clone or exec. No call here takes a path, because Landlock does not forbid reading names,
 * sizes and times. Each row says who makes the call, unless it is plain.
 */
const struct giveup_call reader_calls[] = {
	/* the image, what comes out of it, messages */
	GIVEUP_KEEP(read),
	GIVEUP_KEEP(readv),
	GIVEUP_KEEP(pread64),
	GIVEUP_KEEP(preadv),
	GIVEUP_KEEP(write),
	GIVEUP_KEEP(writev),
	GIVEUP_KEEP(pwrite64), /* boot: kernel and initrd, with holes */
	GIVEUP_KEEP(lseek),    /* stdio, and where a file has data */
	GIVEUP_KEEP(close),
	GIVEUP_KEEP(clock_gettime),
	/* memory */
	GIVEUP_KEEP(brk),
	GIVEUP_KEEP_IF(mmap, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)),
	GIVEUP_KEEP_IF(mprotect,
		       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)), /* malloc's second arena */
	GIVEUP_KEEP(munmap),
	GIVEUP_KEEP(mremap),
	GIVEUP_KEEP(madvise),
	GIVEUP_KEEP(getrandom), /* malloc, of newer C libraries */
	GIVEUP_KEEP(futex),
	/* the end, also by abort */
	GIVEUP_KEEP(exit_group),
	GIVEUP_KEEP(rt_sigreturn),
	GIVEUP_KEEP(rt_sigprocmask),
	GIVEUP_KEEP(restart_syscall),
	GIVEUP_KEEP(getpid),
	GIVEUP_KEEP(gettid),
	GIVEUP_KEEP_SELF(tgkill),
	GIVEUP_LIBRARY,
	GIVEUP_ERROR(ioctl),
};
const unsigned reader_ncalls = sizeof(reader_calls) / sizeof(reader_calls[0]);

bool reader_confine(uint64_t file_bytes_max, unsigned cpu_s)
{
	int rc = giveup_limit(RLIMIT_NPROC, 0);

	if (!rc)
		rc = giveup_limit(RLIMIT_CPU, cpu_s);
	if (!rc)
		rc = giveup_limit(RLIMIT_FSIZE, file_bytes_max);
	if (!rc)
		rc = giveup_privileges(0);
#ifndef __SANITIZE_ADDRESS__ /* ASan's shadow memory is larger than any limit, and its reports open files. */
	if (!rc)
		rc = giveup_files(NULL, 0);
	if (!rc)
		rc = giveup_limit(RLIMIT_AS, MEMORY_MAX);
	if (!rc)
		rc = giveup_limit(RLIMIT_NOFILE, 0);
	if (!rc)
		rc = giveup_calls(reader_calls, reader_ncalls, NULL);
#endif
	errno = -rc;
	return !rc;
}
