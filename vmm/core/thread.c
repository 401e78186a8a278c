/* thread: see thread.h. */
#include "vmm/core/thread.h"

int thread_start(pthread_t *out, size_t stack_bytes, void *(*fn)(void *), void *opaque)
{
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_bytes);
	rc = pthread_create(out, &attr, fn, opaque);
	pthread_attr_destroy(&attr);
	return -rc;
}
