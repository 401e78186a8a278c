/*
 * machine: see machine.h.
 *
 * Theory of operation. The machine is built in the order that is cheapest for KVM.
 * The memory slots come before anything is registered on an I/O bus, because a later
 * slot would wait for a grace period. Then come the vCPUs: all but the first prepare
 * themselves in their own threads, while this thread creates the devices and loads the
 * kernel. ioeventfds and irqfds are bound when a driver starts a device, not here. The
 * machine's own thread then becomes the first vCPU (the guest would have to wait for a
 * hand-over to another thread), and the devices' loop gets a thread.
 *
 * Any thread may end the VM: end_with records the first cause, tells the owner, and
 * stops the vCPUs. A vCPU may be waiting for a device's I/O, so the loop runs until the
 * last vCPU has left. Then the threads of loops leave them, and the devices are
 * destroyed, and the rest, backward. What destroys a device runs its loop until its
 * last request is done. The loop's own thread rests meanwhile: the kernel would
 * cancel what it has begun (io_uring) if it ended before. All of this waits for disks
 * and daemons; an owner that cannot wait has to end the process (run.c does so at the
 * second SIGTERM).
 *
 * In a confined process the threads of vCPUs and loops have few system calls. What a guest makes them
 * change in the VM (queues, interrupts, the end), and what the first vCPU's thread does after its guest,
 * are errands (errand/errand.h). The end of the devices is one, which waits for no loop: a loop may wait for an
 * errand of its own until it has ended.
 */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/errand/errand.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"
#include "vmm/machine/affinity.h"
#include "vmm/machine/machine_impl.h"

/* A panicking kernel still prints after it has written to pvpanic. */
#define PANIC_GRACE_NS 1000000000ull
#define LOOP_STACK_BYTES (256 << 10)

struct ending {
	struct machine *machine;
	struct machine_end end;
};

static void end_now(void *opaque)
{
	const struct ending *ending = opaque;
	struct machine *m = ending->machine;
	bool first, started;

	pthread_mutex_lock(&m->lock);
	first = !m->ending;
	started = m->started;
	if (first) {
		m->ending = true;
		m->end = ending->end;
	}
	pthread_mutex_unlock(&m->lock);
	/* m->end does not change any more. */
	if (first && m->events.ending)
		m->events.ending(m->events.opaque, &m->end);
	for (unsigned i = 0; started && i < m->nvcpus; i++)
		vcpu_stop(m->vcpu[i]);
}

__attribute__((format(printf, 3, 4))) static void end_with(struct machine *m, int outcome,
							   const char *fmt, ...)
{
	struct ending ending = { m, { .outcome = outcome } };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ending.end.why.text, sizeof(ending.end.why.text), fmt, ap);
	va_end(ap);
	errand_run(end_now, &ending);
}

void machine_stop(struct machine *m, int outcome, const char *why)
{
	end_with(m, outcome, "%s", why);
}

static void end_loop(struct machine *m)
{
	atomic_store(&m->loop_ends, true);
	loop_stop(m->loop);
}

static void on_vcpu_finished(void *opaque)
{
	struct machine *m = opaque;

	if (atomic_fetch_sub(&m->live_vcpus, 1) != 1)
		return;
	end_loop(m);
	pthread_mutex_lock(&m->lock);
	m->vcpus_gone = true;
	pthread_cond_broadcast(&m->gone);
	pthread_mutex_unlock(&m->lock);
}

static void end_panicked(void *opaque)
{
	end_with(opaque, OUTCOME_PANIC, "the guest panicked (pvpanic)");
}

static void on_timer(void *opaque)
{
	struct machine *m = opaque;

	if (atomic_load(&m->panicked))
		end_panicked(m);
	else
		machine_explain_silence(m);
}

static void arm_panic_timer(void *opaque)
{
	struct machine *m = opaque;

	loop_timer_arm(m->timer, PANIC_GRACE_NS);
}

static void note_panic(void *opaque)
{
	struct machine *m = opaque;

	if (m->events.panicked)
		m->events.panicked(m->events.opaque, false);
	if (m->ignore_panic)
		return;
	if (!atomic_exchange(&m->panicked, true) && loop_post(m->loop, arm_panic_timer, m))
		end_panicked(m);
}

static void note_crash_kernel(void *opaque)
{
	struct machine *m = opaque;

	atomic_store(&m->crash_kernel, true);
	if (m->events.panicked)
		m->events.panicked(m->events.opaque, true);
}

static void on_poweroff(struct machine *m)
{
	if (atomic_load(&m->panicked))
		end_panicked(m);
	else if (atomic_load(&m->crash_kernel))
		end_with(m, m->ignore_panic ? OUTCOME_POWEROFF : OUTCOME_PANIC,
			 "the guest panicked, and its crash kernel powered off");
	else
		end_with(m, OUTCOME_POWEROFF, "the guest powered off");
}

/* A crash kernel has written its dump, so its reboot is one that the guest asked for. */
static void on_reset(struct machine *m)
{
	if (atomic_load(&m->panicked))
		end_panicked(m);
	else if (atomic_load(&m->crash_kernel))
		end_with(m, vcpu_emergency() ? OUTCOME_EMERGENCY : OUTCOME_REBOOT,
			 "the guest panicked, and its crash kernel asked for a reboot");
	else if (vcpu_emergency())
		end_with(m, OUTCOME_EMERGENCY,
			 "the guest restarted in an emergency (its kernel panicked, or sysrq-b)");
	else
		end_with(m, OUTCOME_REBOOT, "the guest asked for a reboot");
}

/* Any thread. */
static void on_event(void *opaque, enum vm_event event)
{
	struct machine *m = opaque;

	switch (event) {
	case VM_EVENT_POWEROFF:
		on_poweroff(m);
		return;
	case VM_EVENT_RESET:
		on_reset(m);
		return;
	case VM_EVENT_PANIC:
		errand_run(note_panic, m);
		return;
	case VM_EVENT_CRASH_LOADED:
		errand_run(note_crash_kernel, m);
		return;
	case VM_EVENT_LOST_OUTPUT:
		atomic_store(&m->output_lost, true);
		return;
	}
}

/* Any thread, a device's lock held. */
static void on_driver(void *opaque, const char *id, bool active)
{
	struct machine *m = opaque;

	if (m->events.device)
		m->events.device(m->events.opaque, id, active);
}

static void on_forwarded(void *opaque, const char *id, const char *proto, const char *host,
			 const char *guest)
{
	struct machine *m = opaque;

	if (m->events.forwarded)
		m->events.forwarded(m->events.opaque, id, proto, host, guest);
}

static void on_vcpu_end(void *opaque, enum vcpu_end end, const char *text)
{
	struct machine *m = opaque;

	if (end == VCPU_END_CRASHED && atomic_load(&m->panicked))
		end_panicked(m);
	else if (end == VCPU_END_CRASHED)
		end_with(m, OUTCOME_TRIPLE_FAULT, "the guest crashed (triple fault)");
	else
		end_with(m, OUTCOME_KVM, "KVM cannot run this guest: %s; run bantam doctor", text);
}

/* Returns the bus of I/O ports, or NULL if the processor has none. */
static struct bus *ports(struct machine *m)
{
	return arch_traits.has_ports ? &m->pio : NULL;
}

/* Without a topology, each vCPU is a core of its own in one package. */
static int set_cpus(struct machine *m, struct err *err)
{
	const struct config_cpus *c = &m->config->cpus;
	unsigned ncpus = (unsigned)keys_num(&m->config->vm, CONFIG_CPUS);
	int rc;

	m->topology = (struct arch_topology){ c->threads_per_core, c->cores_per_die,
					      c->dies_per_package, c->packages };
	if (!c->threads_per_core && !c->cores_per_die && !c->dies_per_package && !c->packages)
		m->topology = (struct arch_topology){ 1, ncpus, 1, 1 };
	rc = arch_check_topology(&m->topology, ncpus, err);
	if (!rc)
		rc = affinity_check(c, ncpus, err);
	return rc;
}

/* cmdline: what is known of the guest's command line, or NULL. KVM is open, or this is a dry run. */
static void choose_board(struct machine *m, const char *cmdline)
{
	m->legacy = cmdline && arch_needs_legacy(cmdline) &&
		    (m->dry_run || arch_has_legacy(&m->kvm));
	arch_board_init(&m->board, m->legacy);
	arch_board_cpus(&m->board, &m->topology, (unsigned)keys_num(&m->config->vm, CONFIG_CPUS));
}

static int create_vm(struct machine *m, struct err *err)
{
	unsigned ncpus = (unsigned)keys_num(&m->config->vm, CONFIG_CPUS);
	struct vcpu_env vcpu_env = { .kvm = &m->kvm,
				     .mmio = &m->mmio,
				     .cpus = &m->config->cpus,
				     .ended = on_vcpu_end,
				     .finished = on_vcpu_finished,
				     .opaque = m };
	struct arch_vm_config arch = { .kvm = &m->kvm,
				       .irq = &m->irq,
				       .pio = ports(m),
				       .mmio = &m->mmio,
				       .topology = m->topology,
				       .legacy = m->legacy };
	int rc = kvm_create_vm(&m->kvm, err);

	if (!rc)
		rc = arch_create_irqchip(&m->kvm, m->legacy, err);
	for (unsigned i = 0; !rc && i < m->mem.nregions; i++) {
		const struct mem_region *r = &m->mem.region[i];

		rc = kvm_set_memory(&m->kvm, i, r->base.v, r->len_bytes, r->host, err);
	}
	if (rc)
		return rc;
	rc = arch_vm_create(&arch, &m->arch, err);
	if (rc)
		return rc;
	vcpu_env.arch = m->arch;
	atomic_store(&m->live_vcpus, ncpus);
	for (unsigned i = 0; !rc && i < ncpus; i++) {
		rc = vcpu_create(&vcpu_env, i, &m->vcpu[i], err);
		if (!rc)
			m->nvcpus++;
	}
	return rc;
}

static void destroy_vcpus(struct machine *m)
{
	while (m->nvcpus)
		vcpu_destroy(m->vcpu[--m->nvcpus]);
}

static void destroy_vm(struct machine *m)
{
	destroy_vcpus(m);
	arch_vm_destroy(m->arch);
	m->arch = NULL;
	if (m->irq_ready)
		irq_destroy(&m->irq);
	m->irq_ready = false;
	kvm_close(&m->kvm);
	m->kvm = (struct kvm){ -1, -1 };
}

/* Creates the VM, with the board that fits the command line; KVM is open. */
static int make_vm(struct machine *m, const char *cmdline, struct err *err)
{
	choose_board(m, cmdline);
	irq_init(&m->irq, &m->kvm, arch_traits.npins);
	m->irq_ready = true;
	return m->dry_run ? 0 : create_vm(m, err);
}

/*
 * Waits for the helper, before the disk's device locks the image. Only now the distribution's options
 * are known: in the rare case that they need the legacy board, the VM is created again.
 */
static int finish_bootdisk(struct machine *m, struct err *err)
{
	int rc = bootdisk_finish(m->bootdisk, err);

	if (rc || m->legacy || !arch_needs_legacy(m->bootdisk->options))
		return rc;
	destroy_vm(m);
	rc = m->dry_run ? 0 : kvm_open(&m->kvm, err);
	return rc ? rc : make_vm(m, m->bootdisk->options, err);
}

static int build(struct machine *m, const struct machine_setup *setup, struct err *err)
{
	int rc = set_cpus(m, err);

	/* The helper looks for the kernel while this thread builds the VM. */
	if (!rc)
		rc = bootdisk_start(m->config, keys_num(&m->config->vm, CONFIG_MEMORY),
				    &m->bootdisk, err);
	if (!rc && !m->dry_run)
		rc = kvm_open(&m->kvm, err);
	if (!rc)
		rc = machine_create_memory(m, err);
	if (!rc)
		rc = make_vm(m, keys_text(&m->config->vm, CONFIG_CMDLINE), err);
	if (!rc && m->bootdisk)
		rc = finish_bootdisk(m, err);
	if (rc)
		return rc;
	m->env = (struct env){ &m->kvm,	  &m->irq,	m->arch, on_event,
			       on_driver, on_forwarded, m,	 false };
	m->device_env = (struct device_env){ &m->mem, ports(m), &m->mmio, m->loop,   &env_ops,
					     &m->env, NULL,	NULL,	  m->dry_run };
	m->device_env.consoles = setup->consoles;
	m->device_env.keep = setup->keep;
	m->device_env.tell_answers = setup->viewer;
	m->device_env.limits = &m->limits;
	m->device_env.stop_by_ms = &m->stop_by_ms;
	rc = machine_create_devices(m, err);
	if (rc)
		return rc;
	rc = loop_watch_timer(m->loop, on_timer, m, &m->timer);
	if (rc)
		return err_sys(err, -rc, "timer");
	return machine_load(m, setup->cache_dir, err);
}

void machine_begin_ahead(void)
{
	kvm_begin_ahead(arch_ask_ahead);
}

void machine_end_ahead(void)
{
	kvm_end_ahead();
}

int machine_check_host(struct err *err)
{
	struct kvm kvm;
	int rc = kvm_open(&kvm, err);

	if (!rc)
		kvm_close(&kvm);
	return rc;
}

int machine_create(const struct machine_setup *setup, struct machine **out, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int rc;

	*out = NULL;
	if (!m)
		return err_sys(err, ENOMEM, "machine");
	m->config = setup->config;
	m->events = setup->events;
	m->loop = setup->loop;
	m->ignore_panic = setup->ignore_panic;
	m->hotplug = setup->hotplug;
	m->restarts = setup->restarts;
	m->viewer = setup->viewer;
	m->dry_run = keys_num(&m->config->vm, CONFIG_DRY_RUN);
	m->kvm = (struct kvm){ -1, -1 };
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->state_lock, NULL);
	pthread_mutex_init(&m->devices_lock, NULL);
	pthread_cond_init(&m->device_back, NULL);
	pthread_cond_init(&m->gone, NULL);
	ratelimit_groups_init(&m->limits);
	rc = build(m, setup, err);
	if (rc) {
		machine_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

static void *loop_main(void *opaque)
{
	struct machine *m = opaque;
	int rc;

	errands_use(m->errands);
	machine_prepare_devices(m);
	machine_prepare_silence(m);
	thread_confine();
	/* It is also stopped to remove a device. */
	do {
		rc = loop_run(m->loop);
		machine_rest_loop(m);
	} while (!rc && !atomic_load(&m->loop_ends));
	if (rc)
		end_with(m, OUTCOME_ERROR, "event loop: %s", strerror(-rc));
	/* From here on it has no errand run. */
	pthread_mutex_lock(&m->lock);
	m->loop_left = true;
	pthread_cond_broadcast(&m->gone);
	pthread_mutex_unlock(&m->lock);
	machine_outlive_devices(m);
	return NULL;
}

/*
 * Runs the first vCPU here until the VM ends. This thread is bound to the vCPU's host CPUs only
 * meanwhile: the threads that it has started before, and starts later, are not.
 */
static int run_first_vcpu(struct machine *m, struct err *err)
{
	bool bound = m->config->cpus.naffinity;
	struct affinity before;
	int rc = vcpu_boot(m->vcpu[0], &m->boot, err);

	if (bound)
		affinity_get(&before);
	if (!rc)
		rc = affinity_bind(&m->config->cpus, 0, err);
	if (rc)
		return rc;
	machine_set_state(m, MACHINE_RUNNING);
	vcpu_run_first(m->vcpu[0]);
	/* A confined thread only waits from here on, wherever it runs. */
	if (bound && !thread_confines())
		affinity_set(&before);
	return 0;
}

/* An errand must not wait for a vCPU or a loop, which may wait for an errand of its own. */
static void wait_for_threads(struct machine *m, bool vcpus_too)
{
	pthread_mutex_lock(&m->lock);
	while ((vcpus_too && !m->vcpus_gone) || (m->loop_runs && !m->loop_left))
		pthread_cond_wait(&m->gone, &m->lock);
	pthread_mutex_unlock(&m->lock);
	machine_stop_iothreads(m);
}

/*
 * Starts the loop's thread and the further vCPUs, then runs the first vCPU here until the VM ends.
 */
static int run_vcpus(struct machine *m, struct err *err)
{
	int rc;

	m->errands = errands_used();
	machine_expect_output(m);
	/* A confined thread opens nothing, and may be the first that logs a line. */
	if (thread_confines())
		log_open();
	rc = thread_start(&m->loop_thread, THREAD_LOOP, "loop", LOOP_STACK_BYTES, loop_main, m);
	if (rc)
		return err_sys(err, -rc, "cannot start a thread");
	m->loop_runs = true;
	rc = machine_start_iothreads(m, err);
	for (unsigned i = m->nvcpus; !rc && --i > 0;)
		rc = vcpu_go(m->vcpu[i], err);
	if (!rc)
		rc = run_first_vcpu(m, err);
	if (rc) {
		/* The loop must not wait for vCPUs that never ran, nor an errand for one that did. */
		errands_use(NULL);
		end_with(m, OUTCOME_ERROR, "%s", err->text);
		end_loop(m);
	}
	return rc;
}

/* Returns false if machine_stop came first. If true, end_with stops the vCPUs from now on. */
static bool may_start(struct machine *m)
{
	bool may;

	pthread_mutex_lock(&m->lock);
	may = !m->ending;
	m->started = may;
	pthread_mutex_unlock(&m->lock);
	return may;
}

/* Normally all vCPUs and loops have left. */
static void finish(void *opaque)
{
	struct machine *m = opaque;

	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_join(m->vcpu[i]);
	if (keys_num(&m->config->vm, CONFIG_STATS))
		machine_log_device_stats(m);
	machine_destroy_devices(m);
	if (m->loop_runs)
		pthread_join(m->loop_thread, NULL);
	m->loop_runs = false;
	machine_set_state(m, MACHINE_SHUTDOWN);
}

int machine_run(struct machine *m, struct machine_end *end, struct err *err)
{
	bool may;
	int rc = 0;

	BUG_ON(m->started || m->dry_run);
	may = may_start(m);
	if (may)
		rc = run_vcpus(m, err);
	if (may)
		wait_for_threads(m, !rc);
	errand_run(finish, m);
	if (rc)
		return rc;
	*end = m->end;
	if (end->outcome == OUTCOME_POWEROFF && atomic_load(&m->output_lost)) {
		err_set(&end->why, EIO, "the guest powered off, but some of its output was lost");
		end->outcome = OUTCOME_ERROR;
	}
	return 0;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	destroy_vcpus(m);
	machine_destroy_devices(m);
	pci_host_destroy(m->device_env.pci);
	loop_unwatch(m->timer);
	loop_reset(m->loop);
	destroy_vm(m);
	mem_destroy(&m->mem);
	bootdisk_destroy(m->bootdisk);
	free(m->cmdline);
	free(m->probe);
	ratelimit_groups_destroy(&m->limits);
	pthread_cond_destroy(&m->gone);
	pthread_cond_destroy(&m->device_back);
	pthread_mutex_destroy(&m->devices_lock);
	pthread_mutex_destroy(&m->state_lock);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
