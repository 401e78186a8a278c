/*
 * sys: system calls, strings and output for programs that run without a libc.
 *
 * For programs that run as PID 1 of any kernel: no dynamic linker, no locale, no
 * thread-local storage, no heap. System calls return -errno as the kernel does.
 * One source file per program includes this header. It defines _start, which calls
 * main(argc, argv, envp).
 */
#ifndef GUEST_SYS_H
#define GUEST_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

int main(int argc, char **argv, char **envp);

#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov (%rsp), %rdi\n"
	"	lea 8(%rsp), %rsi\n"
	"	lea 16(%rsp,%rdi,8), %rdx\n"
	"	and $-16, %rsp\n"
	"	call main\n"
	"	mov %eax, %edi\n"
	"	mov $231, %eax\n" /* exit_group */
	"	syscall\n"
	"	hlt\n");

static long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	ldr x0, [sp]\n"
	"	add x1, sp, #8\n"
	"	add x2, x1, x0, lsl #3\n"
	"	add x2, x2, #8\n"
	"	bl main\n"
	"	mov x8, #94\n" /* exit_group */
	"	svc #0\n");

static long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "no system calls for this architecture"
#endif

#define SYS5(nr, a, b, c, d, e, ...)                                                               \
	sys6(__NR_##nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS(nr, ...) SYS5(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

static inline int sys_open(const char *path, int flags, int mode)
{
	return (int)SYS(openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static inline long sys_read(int fd, void *buf, size_t len)
{
	return SYS(read, fd, buf, len);
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
	return SYS(write, fd, buf, len);
}

static inline void sys_close(int fd)
{
	SYS(close, fd);
}

struct sys_timespec {
	int64_t sec;
	int64_t nsec;
};

static inline void sys_sleep_ms(unsigned ms)
{
	struct sys_timespec ts = { ms / 1000, (int64_t)(ms % 1000) * 1000000 };

	SYS(nanosleep, &ts, 0);
}

static inline uint64_t sys_clock_ms(int clock)
{
	struct sys_timespec ts = { 0, 0 };

	SYS(clock_gettime, clock, &ts);
	return (uint64_t)ts.sec * 1000 + (uint64_t)ts.nsec / 1000000;
}

/* --- what the compiler may call ------------------------------------------ */

void *memset(void *dst, int c, size_t len)
{
	unsigned char *d = dst;

	for (; len; len--) {
		*d++ = (unsigned char)c;
		__asm__ volatile("" ::: "memory"); /* else this becomes a call of itself */
	}
	return dst;
}

void *memcpy(void *restrict dst, const void *restrict src, size_t len)
{
	unsigned char *d = dst;
	const unsigned char *s = src;

	for (; len; len--) {
		*d++ = *s++;
		__asm__ volatile("" ::: "memory");
	}
	return dst;
}

void *memmove(void *dst, const void *src, size_t len)
{
	unsigned char *d = dst;
	const unsigned char *s = src;

	if (d <= s || d >= s + len)
		return memcpy(dst, src, len);
	while (len--) {
		d[len] = s[len];
		__asm__ volatile("" ::: "memory");
	}
	return dst;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const unsigned char *x = a, *y = b;

	for (; len; len--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* --- strings ------------------------------------------------------------- */

static inline int str_cmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (unsigned char)*a - (unsigned char)*b;
}

static inline bool str_eq(const char *a, const char *b)
{
	return str_cmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

/* Copies at most size - 1 bytes and terminates; returns the number of bytes copied. */
static inline size_t str_copy(char *dst, size_t size, const char *src)
{
	size_t n = 0;

	while (src[n] && n + 1 < size) {
		dst[n] = src[n];
		n++;
	}
	dst[n] = 0;
	return n;
}

/* dst = a + b + c, bounded */
static inline void str_join(char *dst, size_t size, const char *a, const char *b, const char *c)
{
	size_t n = str_copy(dst, size, a);

	n += str_copy(dst + n, size - n, b);
	str_copy(dst + n, size - n, c);
}

/* Parses a decimal number, or hexadecimal with 0x, with an optional K, M or G. */
static inline uint64_t str_number(const char *s)
{
	uint64_t v = 0;
	unsigned base = 10;

	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned digit;

		if (*s >= '0' && *s <= '9')
			digit = (unsigned)(*s - '0');
		else if (base == 16 && (*s | 32) >= 'a' && (*s | 32) <= 'f')
			digit = (unsigned)((*s | 32) - 'a') + 10;
		else
			break;
		v = v * base + digit;
	}
	switch (*s) {
	case 'K':
		return v << 10;
	case 'M':
		return v << 20;
	case 'G':
		return v << 30;
	default:
		return v;
	}
}

/* --- output -------------------------------------------------------------- */

/*
 * Lines go to descriptor 1. For PID 1 that descriptor may not be open yet, because the
 * console's driver is a module: then the lines wait here until out_reopen().
 */
static struct {
	char pending[4096];
	size_t npending;
	bool closed;
} sys_out;

static void out_write(const char *s, size_t len)
{
	while (len && !sys_out.closed) {
		long n = sys_write(1, s, len);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0) {
			sys_out.closed = true;
			break;
		}
		s += n;
		len -= (size_t)n;
	}
	if (len > sizeof(sys_out.pending) - sys_out.npending)
		len = sizeof(sys_out.pending) - sys_out.npending;
	memcpy(sys_out.pending + sys_out.npending, s, len);
	sys_out.npending += len;
}

/* Makes fd the standard streams, and prints what has waited for them. */
static inline void out_take(int fd)
{
	size_t pending = sys_out.npending;

	for (int i = 0; i < 3; i++)
		SYS(dup3, fd, i, 0);
	if (fd > 2)
		sys_close(fd);
	sys_out.closed = false;
	sys_out.npending = 0;
	out_write(sys_out.pending, pending);
}

static inline void out_reopen(const char *path)
{
	int fd = sys_out.closed ? sys_open(path, O_RDWR | O_NOCTTY, 0) : -1;

	if (fd >= 0)
		out_take(fd);
}

/* Supports %s %d %u %x %c %%, l for 64 bits, 0 and width for numbers, - and width for strings. */
static size_t fmt_v(char *buf, size_t size, const char *fmt, va_list ap)
{
	size_t n = 0;
#define PUT(ch) (n + 1 < size ? (void)(buf[n++] = (ch)) : (void)0)

	for (; *fmt; fmt++) {
		char digits[24], pad = ' ';
		bool left = false, is_long = false, neg = false;
		unsigned width = 0, len = 0;
		uint64_t v;

		if (*fmt != '%') {
			PUT(*fmt);
			continue;
		}
		for (fmt++; *fmt == '-' || *fmt == '0'; fmt++) {
			left |= *fmt == '-';
			pad = *fmt == '0' ? '0' : pad;
		}
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			is_long = true;
		if (*fmt == 's') {
			const char *s = va_arg(ap, const char *);

			for (len = (unsigned)strlen(s); !left && width > len; width--)
				PUT(' ');
			for (; *s; s++)
				PUT(*s);
			for (; left && width > len; width--)
				PUT(' ');
			continue;
		}
		if (*fmt == 'c' || *fmt == '%') {
			PUT(*fmt == 'c' ? (char)va_arg(ap, int) : '%');
			continue;
		}
		if (*fmt == 'd') {
			int64_t d = is_long ? va_arg(ap, long) : va_arg(ap, int);

			neg = d < 0;
			v = neg ? 0 - (uint64_t)d : (uint64_t)d;
		} else {
			v = is_long ? va_arg(ap, unsigned long) : va_arg(ap, unsigned);
		}
		do {
			unsigned base = *fmt == 'x' ? 16 : 10;

			digits[len++] = "0123456789abcdef"[v % base];
			v /= base;
		} while (v);
		if (neg)
			digits[len++] = '-';
		for (; width > len; width--)
			PUT(pad);
		while (len)
			PUT(digits[--len]);
	}
#undef PUT
	if (size)
		buf[n] = 0;
	return n;
}

__attribute__((format(printf, 3, 4))) static inline size_t fmt_buf(char *buf, size_t size,
								   const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = fmt_v(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

__attribute__((format(printf, 1, 2))) static inline void out(const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = fmt_v(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	out_write(buf, n);
}

/* Reads a small file (sysfs, procfs) without its last newline, terminated; length or -errno. */
static inline long file_read(const char *path, char *buf, size_t size)
{
	int fd = sys_open(path, O_RDONLY, 0);
	size_t n = 0;
	long got = 0;

	buf[0] = 0;
	if (fd < 0)
		return fd;
	while (n + 1 < size) {
		got = sys_read(fd, buf + n, size - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	sys_close(fd);
	if (n && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return got < 0 ? got : (long)n;
}

static inline long file_write(const char *path, const char *text)
{
	int fd = sys_open(path, O_WRONLY, 0);
	long n;

	if (fd < 0)
		return fd;
	n = sys_write(fd, text, strlen(text));
	sys_close(fd);
	return n < 0 ? n : 0;
}

struct sys_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* Calls fn with every name in a directory except . and ..; returns 0 or -errno. */
static inline long dir_each(const char *path, void (*fn)(const char *name, void *arg), void *arg)
{
	int fd = sys_open(path, O_RDONLY | O_DIRECTORY, 0);
	__attribute__((aligned(8))) char buf[4096];
	long n;

	if (fd < 0)
		return fd;
	while ((n = SYS(getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			struct sys_dirent *d = (struct sys_dirent *)(buf + at);

			at += d->reclen;
			if (!str_eq(d->name, ".") && !str_eq(d->name, ".."))
				fn(d->name, arg);
		}
	}
	sys_close(fd);
	return n;
}

#endif
