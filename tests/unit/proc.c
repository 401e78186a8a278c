/* proc: see proc.h. */
#include "tests/unit/proc.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/log.h"

pid_t proc_child(void)
{
	char path[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", gettid());
	f = fopen(path, "r");
	cr_assert(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	return pid;
}

unsigned proc_fds(pid_t pid)
{
	unsigned n = 0;
	char path[64];
	DIR *dir;

	log_open(); /* which may take a descriptor, once */
	/* This opendir takes one descriptor of ours, which we do not count. */
	snprintf(path, sizeof(path), "/proc/%d/fd", pid ? pid : getpid());
	dir = opendir(path);
	cr_assert(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2 - !pid; /* . and .. */
}

/* io_uring's workers are the kernel's. */
static bool is_own(const char *tid)
{
	char path[300], comm[20] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", tid);
	f = tid[0] == '.' ? NULL : fopen(path, "r");
	if (!f)
		return false;
	(void)!fgets(comm, sizeof(comm), f);
	fclose(f);
	return strncmp(comm, "iou-", 4) != 0;
}

unsigned proc_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	unsigned n = 0;

	cr_assert(dir);
	while ((e = readdir(dir)))
		n += is_own(e->d_name);
	closedir(dir);
	return n;
}

bool proc_threads_are(unsigned n)
{
	for (unsigned i = 0; i < 100 && proc_threads() != n; i++)
		usleep(10000);
	return proc_threads() == n;
}
