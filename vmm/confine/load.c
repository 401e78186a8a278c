/* load: see load.h. */
#include "vmm/confine/load.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/filter_table.h"

/*
 * SPEC_ALLOW: Linux before 5.16 otherwise turns speculative store bypass off for the thread, and so for the guest,
 * which decides that for itself (SPEC_CTRL is its own). Linux before 4.17 does not know it.
 */
static int load(struct sock_fprog *prog)
{
	static const unsigned flags[] = { SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0 };

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], prog))
			return 0;
		if (errno != EINVAL)
			break;
	}
	return -errno;
}

int confine_load(const struct sock_filter *insn, unsigned len, uint32_t refused)
{
	struct sock_filter *own = malloc(len * sizeof(own[0]));
	struct sock_fprog prog = { (unsigned short)len, own };
	int rc;

	if (!own)
		return -ENOMEM;
	memcpy(own, insn, len * sizeof(own[0]));
	for (unsigned i = 0; i < len; i++) {
		if (BPF_CLASS(own[i].code) == BPF_JMP && own[i].k == FILTER_PID)
			own[i].k = (uint32_t)getpid();
		if (BPF_CLASS(own[i].code) == BPF_RET &&
		    (own[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRAP)
			own[i].k = refused;
	}
	rc = load(&prog);
	free(own);
	return rc;
}
