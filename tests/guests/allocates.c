/*
 * allocates: a library to preload (tests/guests/calls). A thread that has entered KVM_RUN notes each allocation in the
 * file $ALLOCATES, which processes share: numbers of 8 bytes, first how many processes there were, then how many
 * notes, and the notes, which are places in the program. It needs no system call for that. A confined vCPU has no
 * call by which malloc gets more memory: an allocation that finds room may not find it the next time, and then ends the
 * process.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BYTES 4096

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static __thread int is_vcpu __attribute__((tls_model("initial-exec")));

static _Atomic uint64_t *notes;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("ALLOCATES");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED) {
		notes = map;
		notes[0]++;
	}
	close(fd);
}

static void note(const void *caller)
{
	Dl_info where;
	uint64_t n;

	if (!is_vcpu || !notes)
		return;
	n = 2 + notes[1]++;
	if (n < BYTES / sizeof(notes[0]))
		notes[n] = dladdr(caller, &where) ? (uintptr_t)caller - (uintptr_t)where.dli_fbase :
						    0;
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
