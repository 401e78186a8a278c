/*
 * machine: see machine.h.
 *
 * Theory of operation. The order of building is what KVM makes cheap: memory
 * slots before anything is registered on an I/O bus (a later slot would wait
 * for a grace period), then the vCPUs; all but the first are prepared by threads
 * of their own while this one makes the devices and loads the kernel. ioeventfds
 * and irqfds are bound when a driver starts a device, not here. The builder's
 * thread then becomes the first vCPU, and the loop gets a thread.
 *
 * An event that ends the VM may come from any thread: end_with notes the first
 * one and stops the vCPUs. A vCPU may be waiting for a device's I/O, so the
 * loop goes on until the last of them has left. Then its thread, which is the one
 * that knows their I/O, destroys the devices, and the builder's the rest,
 * backward. A second SIGTERM does not wait.
 */
#include "vmm/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "devices/backend/chardev.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/machine_impl.h"

/* A panicking kernel still prints after it has told pvpanic. */
#define PANIC_GRACE_NS 1000000000ull
#define LOOP_STACK_BYTES (256 << 10)

__attribute__((format(printf, 3, 4)))
static void end_with(struct machine *m, int outcome, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&m->lock);
	if (m->outcome < 0) {
		m->outcome = outcome;
		va_start(ap, fmt);
		vsnprintf(m->why.text, sizeof(m->why.text), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&m->lock);
	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_stop(m->vcpu[i]);
}

static void on_vcpu_finished(void *opaque)
{
	struct machine *m = opaque;

	if (atomic_fetch_sub(&m->live_vcpus, 1) == 1)
		loop_stop(m->loop);
}

static void end_panicked(void *opaque)
{
	end_with(opaque, OUTCOME_PANIC, "the guest panicked (pvpanic)");
}

static void arm_panic_timer(void *opaque)
{
	struct machine *m = opaque;

	loop_timer_arm(m->panic_timer, PANIC_GRACE_NS);
}

static void on_reset(struct machine *m)
{
	if (atomic_load(&m->panicked))
		end_panicked(m);
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
		if (atomic_load(&m->panicked))
			end_panicked(m);
		else
			end_with(m, OUTCOME_POWEROFF, "the guest powered off");
		return;
	case VM_EVENT_RESET:
		on_reset(m);
		return;
	case VM_EVENT_PANIC:
		if (!atomic_exchange(&m->panicked, true) &&
		    loop_post(m->loop, arm_panic_timer, m))
			end_panicked(m);
		return;
	case VM_EVENT_CRASH_LOADED:
		log_put(LOG_INFO, "the guest panicked and starts its crash kernel");
		return;
	case VM_EVENT_LOST_OUTPUT:
		atomic_store(&m->output_lost, true);
		return;
	}
}

static void on_vcpu_end(void *opaque, enum vcpu_end end, const char *text)
{
	struct machine *m = opaque;

	if (end == VCPU_END_TRIPLE_FAULT && atomic_load(&m->panicked))
		end_panicked(m);
	else if (end == VCPU_END_TRIPLE_FAULT)
		end_with(m, OUTCOME_TRIPLE_FAULT, "the guest crashed (triple fault)");
	else
		end_with(m, OUTCOME_KVM, "KVM cannot run this guest: %s", text);
}

static void on_signal(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct signalfd_siginfo info;

	if (read(m->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	for (unsigned i = 0; info.ssi_signo == SIGUSR1 && i < m->ndevices; i++)
		if (m->device[i]->ops->power_button)
			m->device[i]->ops->power_button(m->device[i]);
	for (unsigned i = 0; info.ssi_signo == SIGUSR2 && i < m->ndevices; i++)
		if (m->device[i]->ops->refresh)
			m->device[i]->ops->refresh(m->device[i]);
	if (info.ssi_signo == SIGUSR1 || info.ssi_signo == SIGUSR2)
		return;
	if (m->outcome >= 0) {
		chardev_restore_terminal();
		_exit(m->outcome);
	}
	end_with(m, OUTCOME_SIGNAL + (int)info.ssi_signo, "killed by SIG%s",
		 sigabbrev_np((int)info.ssi_signo));
}

/* Before any thread starts, so that all of them inherit the mask. */
static int watch_signals(struct machine *m, struct err *err)
{
	static const int handled[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	sigset_t set;
	int rc;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
		sigaddset(&set, handled[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (m->signal_fd < 0)
		return err_sys(err, errno, "signals");
	rc = loop_watch_fd(m->loop, m->signal_fd, EPOLLIN, on_signal, m, &m->signals);
	return rc ? err_sys(err, -rc, "signals") : 0;
}

static int create_memory(struct machine *m, struct err *err)
{
	const char *text = keys_text(&m->config->vm, CONFIG_MEMORY);
	uint64_t bytes = keys_num(&m->config->vm, CONFIG_MEMORY), host, start, end;
	char size[32];
	struct sysinfo si;

	if (bytes % 4096)
		return err_set(err, EINVAL, "--memory %s: not a multiple of 4 KiB", text);
	sysinfo(&si);
	host = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	if (bytes > host)
		return err_set(err, ENOMEM, "--memory %s: this host has only %s", text,
			       parse_size_text(host >> 20 << 20, size, sizeof(size)));
	arch_memory_hole(&start, &end);
	return mem_create(&m->mem, bytes, start, end, err);
}

static int create_vm(struct machine *m, struct err *err)
{
	unsigned ncpus = (unsigned)keys_num(&m->config->vm, CONFIG_CPUS);
	struct vcpu_env vcpu_env = { &m->kvm, NULL, &m->pio, &m->mmio, on_vcpu_end,
				     on_vcpu_finished, m };
	int rc = kvm_create_vm(&m->kvm, err);

	for (unsigned i = 0; !rc && i < m->mem.nregions; i++) {
		const struct mem_region *r = &m->mem.region[i];

		rc = kvm_set_memory(&m->kvm, i, r->base.v, r->len_bytes, r->host, err);
	}
	if (rc)
		return rc;
	rc = arch_vm_create(&m->kvm, &m->irq, &m->mmio, ncpus, &m->arch, err);
	if (rc)
		return rc;
	vcpu_env.arch = m->arch;
	for (unsigned i = 0; !rc && i < ncpus; i++) {
		rc = vcpu_create(&vcpu_env, i, &m->vcpu[i], err);
		if (!rc)
			m->nvcpus++;
	}
	return rc;
}

/* Where the next device goes; keep counts it once it is there ("off" leaves none). */
static struct device **next_device(struct machine *m)
{
	BUG_ON(m->ndevices == MACHINE_MAX_DEVICES);
	return &m->device[m->ndevices];
}

static int keep(struct machine *m, int rc)
{
	if (!rc && m->device[m->ndevices])
		m->ndevices++;
	return rc;
}

static int create_transport(struct machine *m, struct err *err)
{
	const struct board *b = &m->board;
	struct pci_host_config cfg = { .ecam_base = b->pci.ecam.base,
				       .ecam_bytes = b->pci.ecam.len_bytes,
				       .mmio_base = b->pci.mmio32.base,
				       .mmio_bytes = b->pci.mmio32.len_bytes };

	if (keys_num(&m->config->vm, CONFIG_TRANSPORT) == TRANSPORT_MMIO) {
		m->mmio_slots = (struct virtio_mmio_slots){
			.base = b->mmio[0].window.base,
			.stride_bytes = b->mmio[0].window.len_bytes,
			.count = b->nmmio };
		for (unsigned i = 0; i < b->nmmio; i++)
			m->mmio_slots.gsi[i] = b->mmio[i].gsi;
		m->device_env.mmio_slots = &m->mmio_slots;
		return 0;
	}
	memcpy(cfg.gsi, b->pci.gsi, sizeof(cfg.gsi));
	return pci_host_create(&m->device_env, &cfg, &m->device_env.pci, err);
}

static int create_platform(struct machine *m, struct err *err)
{
	const struct device_env *env = &m->device_env;
	const struct board *b = &m->board;
	uint64_t low = m->mem.region[0].len_bytes;
	struct acpi_pm_config pm_cfg = { .sleep_control_port = b->sleep_control_port,
					 .sleep_status_port = b->sleep_status_port,
					 .s5_type = BOARD_S5_TYPE,
					 .reset_port = b->reset_port,
					 .reset_value = b->reset_value,
					 .ged_port = b->ged_port,
					 .ged_gsi = b->ged_gsi,
					 .power_button_bit = BOARD_GED_POWER_BUTTON };
	struct cmos_config cmos_cfg = { .port = PORT_RTC,
					.below_4g_bytes = low,
					.above_4g_bytes = m->mem.total_bytes - low };
	int rc = keep(m, acpi_pm_create(env, &pm_cfg, next_device(m), err));
	struct device *pm = m->device[0];

	if (!rc)
		rc = keep(m, i8042_create(env, next_device(m), err));
	if (!rc)
		rc = keep(m, cmos_create(env, &cmos_cfg, next_device(m), err));
	if (!rc)
		rc = keep(m, pvpanic_create(env, b->pvpanic_port, next_device(m), err));
	if (!rc)
		rc = keep(m, vmgenid_create(env, gpa(b->vmgenid), pm, BOARD_GED_VMGENID,
					    next_device(m), err));
	return rc;
}

static int create_device(struct machine *m, const struct device_type *type,
			 const struct keyvals *kv, struct err *err)
{
	struct device **dev = next_device(m);
	int rc = keep(m, type->create(&m->device_env, kv, dev, err));

	unsigned before = 0;

	for (unsigned i = 0; &m->device[i] < dev; i++)
		before += m->device[i]->type == type;
	if (!rc && *dev)
		snprintf((*dev)->id, sizeof((*dev)->id), "%s%u", type->option + 2, before);
	return rc;
}

/* A serial port on stdio is there unless the user says otherwise or gives stdio to a console. */
static int create_default_serial(struct machine *m, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, serial_type.option, serial_type.keys, "stdio", err);

	if (!rc)
		rc = create_device(m, &serial_type, &kv, err);
	keys_clear(&kv);
	return rc;
}

static int create_devices(struct machine *m, struct err *err)
{
	bool serial = false;
	int rc = 0;

	for (unsigned i = 0; !rc && i < m->config->ndevices; i++) {
		const struct config_device *d = &m->config->device[i];

		serial |= d->type == &serial_type;
		rc = create_device(m, d->type, &d->kv, err);
	}
	return rc || serial || chardev_stdio_taken() ? rc : create_default_serial(m, err);
}

/* What is on the board after the devices took their places. */
static void finish_board(struct machine *m)
{
	struct board *b = &m->board;

	b->ncpus = (unsigned)keys_num(&m->config->vm, CONFIG_CPUS);
	b->nmmio = m->mmio_slots.used;
	b->pci.present = m->device_env.pci != NULL;
	b->pci.slots = b->pci.present ? pci_host_slots(m->device_env.pci) : 0;
	for (unsigned i = 0; i < m->ndevices; i++)
		b->serial.present |= m->device[i]->type == &serial_type;
}

static char *default_cache_dir(void)
{
	const char *base = getenv("BANTAM_CACHE");
	char *dir = NULL;

	if (base && *base)
		return strdup(base);
	base = getenv("XDG_CACHE_HOME");
	if (base && *base)
		return asprintf(&dir, "%s/bantam", base) < 0 ? NULL : dir;
	base = getenv("HOME");
	if (base && *base)
		return asprintf(&dir, "%s/.cache/bantam", base) < 0 ? NULL : dir;
	return NULL;
}

static int load(struct machine *m, struct err *err)
{
	const struct keyvals *vm = &m->config->vm;
	struct boot_request req = {
		.kernel = keys_text(vm, CONFIG_KERNEL),
		.initrd = keys_text(vm, CONFIG_INITRD),
		.entry = (enum boot_entry_kind)keys_num(vm, CONFIG_ENTRY),
		.unpack = (enum boot_unpack)keys_num(vm, CONFIG_UNPACK),
	};

	if (keys_has(vm, CONFIG_CMDLINE))
		m->cmdline = strdup(keys_text(vm, CONFIG_CMDLINE));
	else
		m->cmdline = strdup(m->board.serial.present ? "console=ttyS0" : "console=hvc0");
	m->cache_dir = default_cache_dir();
	if (!m->cmdline)
		return err_sys(err, ENOMEM, "command line");
	req.cmdline = m->cmdline;
	req.cache_dir = m->cache_dir;
	return boot_load(&m->mem, &req, &m->board, &m->boot, err);
}

static int build(struct machine *m, struct err *err)
{
	int rc = loop_create(&m->loop, err);

	if (!rc)
		rc = watch_signals(m, err);
	if (!rc && !m->dry_run)
		rc = kvm_open(&m->kvm, err);
	if (!rc)
		rc = create_memory(m, err);
	if (rc)
		return rc;
	irq_init(&m->irq, &m->kvm);
	m->irq_ready = true;
	if (!m->dry_run)
		rc = create_vm(m, err);
	if (rc)
		return rc;
	m->env = (struct env){ &m->kvm, &m->irq, m->arch, on_event, m, false };
	m->device_env = (struct device_env){ &m->mem, &m->pio, &m->mmio, m->loop, &env_ops,
					     &m->env, NULL, NULL };
	arch_board_init(&m->board);
	rc = create_transport(m, err);
	if (!rc)
		rc = create_platform(m, err);
	if (!rc)
		rc = create_devices(m, err);
	if (rc)
		return rc;
	finish_board(m);
	rc = loop_watch_timer(m->loop, end_panicked, m, &m->panic_timer);
	if (rc)
		return err_sys(err, -rc, "timer");
	return load(m, err);
}

int machine_create(const struct config *config, struct machine **out, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int rc;

	*out = NULL;
	if (!m)
		return err_sys(err, ENOMEM, "machine");
	m->config = config;
	m->dry_run = keys_num(&config->vm, CONFIG_DRY_RUN);
	m->kvm = (struct kvm){ -1, -1 };
	m->signal_fd = -1;
	m->outcome = -1;
	pthread_mutex_init(&m->lock, NULL);
	rc = build(m, err);
	if (rc) {
		machine_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

static void destroy_devices(struct machine *m)
{
	atomic_store(&m->env.closing, true);
	while (m->ndevices)
		device_destroy(m->device[--m->ndevices]);
}

static void *loop_main(void *opaque)
{
	struct machine *m = opaque;
	int rc = loop_run(m->loop);

	if (rc)
		end_with(m, OUTCOME_ERROR, "event loop: %s", strerror(-rc));
	else
		destroy_devices(m);
	return NULL;
}

/* The loop's thread, the further vCPUs, and last the first one: here, until the VM ends. */
static int run_vcpus(struct machine *m, struct err *err)
{
	pthread_attr_t attr;
	pthread_t loop;
	int rc;

	atomic_store(&m->live_vcpus, m->nvcpus);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, LOOP_STACK_BYTES);
	rc = pthread_create(&loop, &attr, loop_main, m);
	pthread_attr_destroy(&attr);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	for (unsigned i = m->nvcpus; !rc && --i > 0;)
		rc = vcpu_go(m->vcpu[i], err);
	if (!rc)
		rc = vcpu_run_first(m->vcpu[0], &m->boot, err);
	if (rc)
		loop_stop(m->loop);
	pthread_join(loop, NULL);
	return rc;
}

int machine_run(struct machine *m, struct err *why, struct err *err)
{
	int rc = run_vcpus(m, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&m->lock);
	*why = m->why;
	rc = m->outcome;
	pthread_mutex_unlock(&m->lock);
	if (rc == OUTCOME_POWEROFF && atomic_load(&m->output_lost)) {
		err_set(why, EIO, "the guest powered off, but some of its output was lost");
		rc = OUTCOME_ERROR;
	}
	return rc;
}

void machine_print_stats(const struct machine *m, FILE *out)
{
	const char *name;
	uint64_t count, total;

	for (unsigned at = 0;; at++) {
		total = 0;
		for (unsigned i = 0; i < m->nvcpus; i++) {
			if (!vcpu_exit_count(m->vcpu[i], at, &name, &count))
				return;
			total += count;
		}
		if (total)
			fprintf(out, "bantam: exits: %s %llu\n", name, (unsigned long long)total);
	}
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->nvcpus; i++)
		vcpu_destroy(m->vcpu[i]);
	destroy_devices(m);
	pci_host_destroy(m->device_env.pci);
	loop_unwatch(m->panic_timer);
	loop_unwatch(m->signals);
	if (m->signal_fd >= 0)
		close(m->signal_fd);
	loop_destroy(m->loop);
	arch_vm_destroy(m->arch);
	if (m->irq_ready)
		irq_destroy(&m->irq);
	kvm_close(&m->kvm);
	mem_destroy(&m->mem);
	free(m->cmdline);
	free(m->cache_dir);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
