/* threads/grow: a qcow2 disk that grows while requests and workers run. */
#ifndef BANTAM_TEST_THREADS_GROW_H
#define BANTAM_TEST_THREADS_GROW_H

struct grow_result {
	unsigned long requests, times; /* finished; the disk became larger */
	const char *failed;	       /* NULL: nothing */
};

/* Makes an image in dir, and removes it. */
struct grow_result grow_threads(const char *dir, unsigned requests);

#endif
