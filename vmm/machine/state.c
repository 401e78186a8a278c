/*
 * state: the states of a machine, pause and resume, and what its vCPUs do. See machine.h.
 *
 * Theory of operation. Under state_lock a change of state, its call to the owner and the orders to
 * the vCPUs are one step: the owner hears of all changes in their order, and the orders of a pause
 * and of a resume do not mix. No thread waits for a vCPU with this lock held. machine_pause orders
 * the vCPUs to rest, waits without the lock, and makes the state MACHINE_PAUSED if the machine has
 * not begun to end. The end (end_with) does not take state_lock: it stops the vCPUs, which also ends
 * the wait of machine_pause and the rest of a paused vCPU.
 */
#include <errno.h>

#include "vmm/machine/machine_impl.h"

/* A vCPU leaves the guest within microseconds, if the host has time for it. */
#define SAMPLE_MS 200u

enum machine_state machine_state(const struct machine *m)
{
	return atomic_load(&m->state);
}

static void change(struct machine *m, enum machine_state state)
{
	atomic_store(&m->state, state);
	if (m->events.state)
		m->events.state(m->events.opaque, state);
}

void machine_set_state(struct machine *m, enum machine_state state)
{
	pthread_mutex_lock(&m->state_lock);
	change(m, state);
	pthread_mutex_unlock(&m->state_lock);
}

static bool ending(struct machine *m)
{
	bool ending;

	pthread_mutex_lock(&m->lock);
	ending = m->ending;
	pthread_mutex_unlock(&m->lock);
	return ending;
}

/* Returns 0 if the machine is in this state and does not end, else -EBUSY. */
static int check_state(struct machine *m, enum machine_state state, const char *what,
		       struct err *err)
{
	static const char *const is[] = {
		[MACHINE_CREATED] = "has not started",
		[MACHINE_RUNNING] = "is running",
		[MACHINE_PAUSED] = "is paused",
		[MACHINE_SHUTDOWN] = "has ended",
	};
	enum machine_state now = machine_state(m);

	if (now == state && !ending(m))
		return 0;
	return err_set(err, EBUSY, "cannot %s: the VM %s", what,
		       now == state ? "is ending" : is[now]);
}

int machine_pause(struct machine *m, struct err *err)
{
	bool rest = true;
	int rc;

	pthread_mutex_lock(&m->state_lock);
	rc = m->pausing ? err_set(err, EBUSY, "cannot pause: another pause has begun") :
			  check_state(m, MACHINE_RUNNING, "pause", err);
	m->pausing |= !rc;
	for (unsigned i = 0; !rc && i < m->nvcpus; i++)
		vcpu_pause(m->vcpu[i]);
	pthread_mutex_unlock(&m->state_lock);
	if (rc)
		return rc;
	for (unsigned i = 0; i < m->nvcpus; i++)
		rest &= vcpu_await_rest(m->vcpu[i]);
	pthread_mutex_lock(&m->state_lock);
	m->pausing = false;
	rc = check_state(m, MACHINE_RUNNING, "pause", err);
	if (!rc && !rest)
		rc = err_set(err, EBUSY, "cannot pause: the VM is ending");
	if (!rc)
		change(m, MACHINE_PAUSED);
	pthread_mutex_unlock(&m->state_lock);
	return rc;
}

int machine_resume(struct machine *m, struct err *err)
{
	int rc;

	pthread_mutex_lock(&m->state_lock);
	rc = check_state(m, MACHINE_PAUSED, "resume", err);
	if (!rc)
		change(m, MACHINE_RUNNING);
	for (unsigned i = 0; !rc && i < m->nvcpus; i++)
		vcpu_resume(m->vcpu[i]);
	pthread_mutex_unlock(&m->state_lock);
	return rc;
}

void machine_nmi(struct machine *m)
{
	enum machine_state state = machine_state(m);

	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED)
		return;
	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_nmi(m->vcpu[i]);
}

int machine_sample(struct machine *m, unsigned vcpu, struct machine_sample *out, struct err *err)
{
	static const char *const is[] = {
		[MACHINE_CREATED] = "has not started",
		[MACHINE_RUNNING] = "is ending",
		[MACHINE_PAUSED] = "is ending",
		[MACHINE_SHUTDOWN] = "has ended",
	};
	enum machine_state state = machine_state(m);
	struct arch_sample sample;
	int rc = -ECANCELED;

	if (vcpu >= m->nvcpus)
		return err_set(err, EINVAL, "there is no vCPU %u; the last one is %u", vcpu,
			       m->nvcpus - 1);
	if (state == MACHINE_RUNNING || state == MACHINE_PAUSED)
		rc = vcpu_sample(m->vcpu[vcpu], SAMPLE_MS, &sample);
	switch (rc) {
	case 0:
		*out = (struct machine_sample){ sample.pc, sample.level, sample.halted,
						sample.interrupts };
		return 0;
	case -ECANCELED:
		return err_set(err, EBUSY, "cannot look at vCPU %u: the VM %s", vcpu, is[state]);
	case -ETIMEDOUT:
		return err_set(err, ETIMEDOUT,
			       "vCPU %u does not answer within %u ms: it waits in a device, or the "
			       "host has no time for it",
			       vcpu, SAMPLE_MS);
	default:
		return err_sys(err, -rc, "KVM: registers of vCPU %u", vcpu);
	}
}
