/*
 * silence: says why a guest says nothing.
 *
 * A KVM that interprets kernel mode, or refuses instructions of it, looks like any other until a stock
 * kernel stands still or dies, after many seconds in which the screen stays empty. bantam doctor finds that
 * out with a guest of its own, which costs a start of a VM more than the VM has. So a guest is only asked about
 * if it is a Linux kernel and has written nothing to any console after PATIENCE_NS: where KVM is fine, that
 * costs one setting of a timer, and the probe's two milliseconds for a kernel that is silent for another reason.
 *
 * A confined loop creates no VM. There the probe runs before, beside the guest's first milliseconds, and only if a
 * person reads the log.
 */
#include <stdlib.h>

#include "devices/backend/chardev/chardev.h"
#include "vmm/arch/probe.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"
#include "vmm/machine/machine_impl.h"

#define PATIENCE_NS 3000000000ull

void machine_expect_output(struct machine *m)
{
	if (!m->boot.is_linux)
		return;
	chardev_expect();
	loop_timer_arm(m->timer, PATIENCE_NS);
}

static void ask(struct machine *m)
{
	struct err err;

	m->probe = malloc(sizeof(*m->probe));
	if (m->probe && probe_run(&m->kvm, m->probe, &err)) {
		free(m->probe);
		m->probe = NULL;
	}
}

void machine_prepare_silence(struct machine *m)
{
	if (thread_confines() && m->viewer && m->boot.is_linux)
		ask(m);
}

void machine_explain_silence(struct machine *m)
{
	const struct probe *probe;

	if (chardev_heard())
		return;
	if (!thread_confines())
		ask(m);
	probe = m->probe;
	if (!probe || probe->stock_kernels)
		return;
	if (probe->refused[0])
		log_put(LOG_WARN,
			"the guest has said nothing yet, and this KVM refuses instructions of stock "
			"kernels (%s); run bantam doctor",
			probe->refused);
	else
		log_put(LOG_WARN,
			"the guest has said nothing yet, and this KVM runs stock kernels at %.1f "
			"million instructions a second: it may take minutes; run bantam doctor",
			probe->mips);
}
