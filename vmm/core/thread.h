/* thread: start a thread with a stack of its own size; any thread. */
#ifndef BANTAM_THREAD_H
#define BANTAM_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* 0 or -errno. The caller joins *out. */
int thread_start(pthread_t *out, size_t stack_bytes, void *(*fn)(void *), void *opaque);

#endif
