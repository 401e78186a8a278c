/* user: see user.h. */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"

#define PAGE_USER 4ull
#define USER_DATA 0x33ull
#define USER_CODE 0x3bull
#define FLAGS_IF 0x202ull

extern uint64_t page_pd[2048];
static uint8_t stack[65536] __attribute__((aligned(4096)));
static void (*call_fn)(uint64_t op, uint64_t a, uint64_t b);

static void on_ud(struct trap_frame *f)
{
	if ((f->cs & 3) != 3)
		rt_die("invalid instruction at %lx", f->rip);
	call_fn(f->rdi, f->rsi, f->rdx);
	f->rip += 2;
}

void user_enter(void (*code)(void), void (*fn)(uint64_t op, uint64_t a, uint64_t b))
{
	uint64_t cr3;

	call_fn = fn;
	trap_set(6, on_ud);
	for (unsigned i = 0; i < 2048; i++)
		page_pd[i] |= PAGE_USER;
	__asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3)::"memory");
	__asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq" ::"r"(USER_DATA),
			 "r"((uint64_t)(stack + sizeof(stack) - 8)), "r"(FLAGS_IF), "r"(USER_CODE),
			 "r"((uint64_t)code));
	__builtin_unreachable();
}
