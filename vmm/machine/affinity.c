/* affinity: see affinity.h. */
#include "vmm/machine/affinity.h"

#include <errno.h>
#include <string.h>

int affinity_check(const struct config_cpus *cpus, unsigned ncpus, struct err *err)
{
	for (unsigned i = 0; i < cpus->naffinity; i++)
		if (cpus->affinity[i].vcpu >= ncpus)
			return err_set(err, EINVAL,
				       "cpus.affinity: there is no vCPU %u; the last one is %u",
				       cpus->affinity[i].vcpu, ncpus - 1);
	return 0;
}

void affinity_get(struct affinity *a)
{
	memset(a, 0, sizeof(*a));
	sched_getaffinity(0, sizeof(a->set), a->set);
}

void affinity_set(const struct affinity *a)
{
	sched_setaffinity(0, sizeof(a->set), a->set);
}

static bool allowed(const struct affinity *a, unsigned cpu)
{
	return cpu < AFFINITY_MAX_CPUS && CPU_ISSET_S(cpu, sizeof(a->set), a->set);
}

static int bind_thread(const struct config_affinity *c, struct err *err)
{
	struct affinity before, want = { 0 }, now;

	affinity_get(&before);
	for (unsigned i = 0; i < c->nhost_cpus; i++)
		if (c->host_cpu[i] < AFFINITY_MAX_CPUS)
			CPU_SET_S(c->host_cpu[i], sizeof(want.set), want.set);
	affinity_set(&want);
	/* The kernel leaves out CPUs that are not there or not allowed, without an error. */
	affinity_get(&now);
	for (unsigned i = 0; i < c->nhost_cpus; i++) {
		if (allowed(&now, c->host_cpu[i]) && allowed(&want, c->host_cpu[i]))
			continue;
		affinity_set(&before);
		return err_set(
			err, EINVAL,
			"cpus.affinity: vCPU %u cannot run on host CPU %u: it is not there, or "
			"this process may not use it",
			c->vcpu, c->host_cpu[i]);
	}
	return 0;
}

int affinity_bind(const struct config_cpus *cpus, unsigned vcpu, struct err *err)
{
	for (unsigned i = 0; i < cpus->naffinity; i++)
		if (cpus->affinity[i].vcpu == vcpu && cpus->affinity[i].nhost_cpus)
			return bind_thread(&cpus->affinity[i], err);
	return 0;
}
