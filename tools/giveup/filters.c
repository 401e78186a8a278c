/*
 * filters: the filters themselves, and what one would say of a call.
 *
 * Theory of operation. giveup_permits interprets the filter as the kernel does, so that there is one list for both. Of classic
 * BPF it knows the instructions that libseccomp makes; another one, or a way out of the program, is a refusal.
 */
#include <linux/seccomp.h>
#include <string.h>
#include <unistd.h>

#include "tools/giveup/giveup.h"
#include "vmm/confine/filter_table.h"

#include "helper_filters.inc"

/* Where a conditional jump goes. False: not one of those. */
static bool compare(unsigned code, uint32_t a, uint32_t k, bool *yes)
{
	switch (code) {
	case BPF_JMP | BPF_JEQ | BPF_K:
		*yes = a == k;
		return true;
	case BPF_JMP | BPF_JGT | BPF_K:
		*yes = a > k;
		return true;
	case BPF_JMP | BPF_JGE | BPF_K:
		*yes = a >= k;
		return true;
	case BPF_JMP | BPF_JSET | BPF_K:
		*yes = a & k;
		return true;
	default:
		return false;
	}
}

bool giveup_permits(const struct giveup_filter *filter, int nr, const uint64_t arg[6])
{
	struct seccomp_data d = { .nr = nr, .arch = HELPER_ARCH };
	uint32_t a = 0;

	memcpy(d.args, arg, sizeof(d.args));
	for (unsigned at = 0; at < filter->len; at++) {
		const struct sock_filter *i = &filter->insn[at];
		uint32_t k = i->k == FILTER_PID ? (uint32_t)getpid() : i->k;
		bool yes;

		if (i->code == (BPF_LD | BPF_W | BPF_ABS) && k <= sizeof(d) - sizeof(a))
			memcpy(&a, (const char *)&d + k, sizeof(a));
		else if (i->code == (BPF_ALU | BPF_AND | BPF_K))
			a &= k;
		else if (i->code == (BPF_JMP | BPF_JA))
			at += k;
		else if (compare(i->code, a, k, &yes))
			at += yes ? i->jt : i->jf;
		else
			return i->code == (BPF_RET | BPF_K) && k == SECCOMP_RET_ALLOW;
	}
	return false;
}
