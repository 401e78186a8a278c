/* confine: see fs.h. What the reader may call is in fs.calls. */
#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/bantam-fs/fs.h"
#include "tools/giveup/giveup.h"

#define MEMORY_MAX (1ull << 30)

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
		rc = giveup_calls(&giveup_fs_reader, NULL);
#endif
	errno = -rc;
	return !rc;
}
