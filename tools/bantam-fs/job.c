/* job: how a command reports its failure; see fs.h. */
#include <stdio.h>

#include "tools/bantam-fs/fs.h"

int job_fail(const struct job *job, const struct err *err)
{
	fflush(stdout);
	fprintf(stderr, "bantam: %s: %s\n", job->image, err->text);
	return 1;
}
