/*
 * allocates: a library to preload (tests/guests/calls). A thread that has entered KVM_RUN writes a line to standard error
 * for each allocation. A confined vCPU has no call by which malloc gets more memory: an allocation that finds room may
 * not find it the next time, and then ends the process.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static __thread int is_vcpu __attribute__((tls_model("initial-exec")));

static void note(const void *caller)
{
	char line[96];
	Dl_info where;
	int n;

	if (!is_vcpu)
		return;
	n = snprintf(line, sizeof(line), "ALLOCATES %#lx\n",
		     dladdr(caller, &where) ?
			     (unsigned long)((uintptr_t)caller - (uintptr_t)where.dli_fbase) :
			     0ul);
	syscall(SYS_write, STDERR_FILENO, line, n);
}

void *malloc(size_t size)
{
	note(__builtin_return_address(0));
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	note(__builtin_return_address(0));
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	note(__builtin_return_address(0));
	return __libc_realloc(old, size);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	is_vcpu |= request == KVM_RUN;
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
