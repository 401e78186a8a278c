/* proc: see proc.h. */
#include "tests/unit/proc.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
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
