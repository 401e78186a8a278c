/* arch for x86_64: see vmm/arch/arch.h. */
#include "vmm/arch/arch.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/ioapic.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/legacy.h"

struct arch_vm {
	const struct kvm *kvm;
	struct irq *irq;
	struct bus *pio, *mmio;
	struct ioapic ioapic;
	struct legacy legacy;
	bool is_legacy; /* then legacy is in use, else ioapic */
	struct cpuid_topology topology;
	union cpuid_table *cpuid; /* the template; const once the vCPUs start */
};

/* Local APIC entries of the MADT have 8 bits, of which 255 is every processor. */
#define MAX_APIC_ID 254

static void ioapic_message(void *opaque, uint64_t addr, uint32_t data)
{
	struct arch_vm *vm = opaque;

	/* KVM refuses a message to a destination that does not exist: nothing to do. */
	kvm_signal_msi(vm->kvm, addr, data);
}

static void ioapic_watch_eoi(void *opaque, unsigned pin, uint64_t addr, uint32_t data)
{
	struct arch_vm *vm = opaque;

	irq_set_pin(vm->irq, pin, addr, data);
}

static const struct ioapic_ops ioapic_ops = { ioapic_message, ioapic_watch_eoi };

static struct cpuid_topology for_cpuid(const struct arch_topology *t)
{
	return (struct cpuid_topology){ t->threads_per_core, t->cores_per_die, t->dies_per_package,
					t->packages };
}

int arch_check_topology(const struct arch_topology *t, unsigned ncpus, struct err *err)
{
	const unsigned count[] = { t->threads_per_core, t->cores_per_die, t->dies_per_package,
				   t->packages };
	struct cpuid_topology topology = for_cpuid(t);
	uint64_t places = 1;

	for (unsigned i = 0; i < 4; i++) {
		if (!count[i] || count[i] > MAX_APIC_ID + 1)
			return err_set(err, EINVAL,
				       "cpus.topology: each of its numbers must be from 1 to %d",
				       MAX_APIC_ID + 1);
		places *= count[i];
	}
	if (places < ncpus)
		return err_set(err, EINVAL, "cpus.topology: %u vCPUs do not fit into %llu places",
			       ncpus, (unsigned long long)places);
	if (t->threads_per_core * (uint64_t)t->cores_per_die * t->dies_per_package >
		    MAX_APIC_ID + 1 ||
	    cpuid_apic_id(&topology, ncpus - 1) > MAX_APIC_ID)
		return err_set(err, EINVAL,
			       "cpus.topology: the last vCPU's APIC id would be above %d; make "
			       "all but packages a power of two",
			       MAX_APIC_ID);
	return 0;
}

void arch_board_cpus(struct board *board, const struct arch_topology *t, unsigned ncpus)
{
	struct cpuid_topology topology = for_cpuid(t);

	board->ncpus = ncpus;
	for (unsigned i = 0; i < ncpus; i++)
		board->x86.apic_id[i] = (uint8_t)cpuid_apic_id(&topology, i);
}

/* Only for a table that lacks them: each CPUID costs an exit where the host is a VM itself. */
static void fill_names(struct kvm_cpuid2 *cpuid)
{
	struct cpuid_names host = { 0 };
	uint32_t last = __get_cpuid_max(0x80000000, NULL);

	for (uint32_t i = 0; i < CPUID_NAMES && CPUID_NAMES_FIRST + i <= last; i++)
		__cpuid(CPUID_NAMES_FIRST + i, host.leaf[i].eax, host.leaf[i].ebx, host.leaf[i].ecx,
			host.leaf[i].edx);
	cpuid_fill_names(cpuid, &host);
}

/*
 * Intel's PMU is gone with its CPUID leaf. AMD's first four counters have no CPUID bit: KVM (Linux
 * 5.18) has to refuse them. An older one leaves them to the guest, as it does on every monitor.
 */
static void hide_amd_pmu(const struct kvm *kvm)
{
	struct kvm_enable_cap off = { .cap = KVM_CAP_PMU_CAPABILITY,
				      .args = { KVM_PMU_CAP_DISABLE } };

	if (kvm_check(kvm, KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE)
		kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &off);
}

/* KVM takes a quarter of a millisecond for this where the host is a VM itself. */
static int ask_cpuid(const struct kvm *kvm, union cpuid_table **out)
{
	union cpuid_table *table = calloc(1, sizeof(*table));
	int rc;

	*out = NULL;
	if (!table)
		return -ENOMEM;
	table->head.nent = CPUID_MAX_ENTRIES;
	rc = kvm_ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, table);
	if (rc < 0)
		free(table);
	else
		*out = table;
	return rc;
}

/* The same for each VM of this host. NULL: not asked, or taken. */
static union cpuid_table *asked;

void arch_ask_ahead(const struct kvm *kvm)
{
	(void)ask_cpuid(kvm, &asked);
}

static int make_cpuid(struct arch_vm *vm, struct err *err)
{
	int rc = 0;

	vm->cpuid = asked;
	asked = NULL;
	if (!vm->cpuid)
		rc = ask_cpuid(vm->kvm, &vm->cpuid);
	if (rc < 0)
		return err_sys(err, -rc, "KVM: cannot read the supported CPUID");
	if (cpuid_lacks_names(&vm->cpuid->head))
		fill_names(&vm->cpuid->head);
	if (cpuid_is_amd(&vm->cpuid->head))
		hide_amd_pmu(vm->kvm);
	cpuid_normalise(&vm->cpuid->head, &vm->topology,
			kvm_check(vm->kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
	return 0;
}

/*
 * The split irqchip: the kernel emulates the local APICs, bantam emulates the IOAPIC, and
 * there is no PIC or PIT. So a start needs fewer calls (each device that the kernel puts on
 * an I/O bus costs an SRCU grace period), and a guest reaches less kernel code. The legacy board
 * has all of them in the kernel.
 */
int arch_create_irqchip(const struct kvm *kvm, bool legacy, struct err *err)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS } };
	int rc;

	if (legacy)
		return legacy_create(kvm, LEGACY_LEVEL_GSIS, err);
	rc = kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &split);
	return rc < 0 ? err_sys(err, -rc,
				"/dev/kvm: no split irqchip (Linux 4.5 or later is needed)") :
			0;
}

bool arch_has_legacy(const struct kvm *kvm)
{
	return legacy_possible(kvm);
}

/* Creates what bantam emulates of the interrupt controller. */
static int create_pins(struct arch_vm *vm, bool legacy, struct err *err)
{
	int rc;

	vm->is_legacy = legacy;
	if (legacy)
		rc = legacy_init(&vm->legacy, vm->kvm, vm->irq);
	else
		rc = bus_add(vm->mmio, LAYOUT_IOAPIC, 0x1000, &ioapic_bus_ops, &vm->ioapic);
	return rc ? err_sys(err, -rc, "I/O APIC") : 0;
}

int arch_vm_create(const struct arch_vm_config *config, struct arch_vm **out, struct err *err)
{
	const struct kvm *kvm = config->kvm;
	uint64_t identity = LAYOUT_IDENTITY_MAP;
	struct arch_vm *vm = calloc(1, sizeof(*vm));
	int rc;

	*out = NULL;
	if (!vm)
		return err_sys(err, ENOMEM, "VM");
	vm->kvm = kvm;
	vm->irq = config->irq;
	vm->pio = config->pio;
	vm->mmio = config->mmio;
	ioapic_init(&vm->ioapic, &ioapic_ops, vm);
	/* Intel CPUs without unrestricted guest mode need these; elsewhere they cost nothing. */
	kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)LAYOUT_TSS);
	vm->topology = for_cpuid(&config->topology);
	rc = make_cpuid(vm, err);
	if (!rc)
		rc = create_pins(vm, config->legacy, err);
	if (rc) {
		arch_vm_destroy(vm);
		return rc;
	}
	*out = vm;
	return 0;
}

void arch_vm_destroy(struct arch_vm *vm)
{
	if (!vm)
		return;
	if (vm->is_legacy)
		legacy_destroy(&vm->legacy);
	bus_remove(vm->mmio, LAYOUT_IOAPIC);
	ioapic_destroy(&vm->ioapic);
	free(vm->cpuid);
	free(vm);
}

void arch_memory_hole(uint64_t *start, uint64_t *end)
{
	*start = LAYOUT_HOLE_START;
	*end = LAYOUT_HOLE_END;
}

/* The slots of virtio-mmio, for a machine with that transport. */
static void init_mmio_slots(struct board *board, bool legacy)
{
	unsigned end = legacy ? GSI_PIC_END : IOAPIC_PINS;

	for (unsigned i = 0, gsi = GSI_MMIO; i < BOARD_MAX_SLOTS && gsi < end; gsi++) {
		if (gsi == GSI_RTC || (legacy && LEGACY_LEVEL_GSIS >> gsi & 1))
			continue;
		board->mmio[i].window = (struct board_window){
			LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_MMIO_STRIDE,
			LAYOUT_VIRTIO_MMIO_STRIDE
		};
		board->mmio[i].gsi = (uint8_t)gsi;
		board->nmmio = ++i;
	}
}

void arch_board_init(struct board *board, bool legacy)
{
	memset(board, 0, sizeof(*board));
	board->x86 = (struct board_x86){ .lapic = LAYOUT_LAPIC,
					 .ioapic = LAYOUT_IOAPIC,
					 .rtc_port = PORT_RTC,
					 .i8042 = true,
					 .pic = legacy };
	board->pci.ecam = (struct board_window){ LAYOUT_ECAM, LAYOUT_ECAM_BYTES };
	board->pci.mmio32 = (struct board_window){ LAYOUT_PCI_MMIO, LAYOUT_PCI_MMIO_BYTES };
	board->pci.config_port = PORT_PCI_CONFIG;
	for (unsigned i = 0; i < BOARD_MAX_SLOTS; i++)
		board->pci.gsi[i] = legacy ? GSI_LEGACY_PCI + i % GSI_LEGACY_PCI_COUNT :
					     GSI_PCI + i % GSI_PCI_COUNT;
	board->serial[0].regs = (struct board_reg){ true, PORT_COM1 };
	board->serial[0].gsi = GSI_COM1;
	board->serial[1].regs = (struct board_reg){ true, PORT_COM2 };
	board->serial[1].gsi = GSI_COM2;
	board->sleep_control = (struct board_reg){ true, PORT_SLEEP_CONTROL };
	board->sleep_status = (struct board_reg){ true, PORT_SLEEP_STATUS };
	board->reset = (struct board_reg){ true, PORT_RESET };
	board->reset_value = RESET_VALUE;
	board->ged = (struct board_reg){ true, PORT_GED };
	board->ged_gsi = GSI_GED;
	board->hotplug = (struct board_reg){ true, PORT_HOTPLUG };
	board->pvpanic = (struct board_reg){ true, PORT_PVPANIC };
	board->vmgenid = LAYOUT_VMGENID;
	/* Linux does not use the 8259 on a hardware-reduced board. */
	if (legacy) {
		board->pm1.event = (struct board_reg){ true, PORT_PM1_EVENT };
		board->pm1.control = (struct board_reg){ true, PORT_PM1_CONTROL };
		board->pm1.gsi = GSI_SCI;
	}
	init_mmio_slots(board, legacy);
}

unsigned arch_board_regions(const struct board *board, struct arch_region out[ARCH_REGIONS_MAX])
{
	out[0] = (struct arch_region){ board->x86.ioapic, 0x1000, "IOAPIC" };
	out[1] = (struct arch_region){ board->x86.lapic, 0x1000, "local APIC" };
	return 2;
}

void arch_board_describe(const struct board *board, FILE *out)
{
	if (board->x86.pic)
		fprintf(out,
			"  ports 0x20, 0x40, 0xa0      two 8259s and an 8254, for the command line\n");
}

void arch_set_line(struct arch_vm *vm, unsigned gsi, unsigned holder, bool level)
{
	if (vm->is_legacy)
		legacy_set_line(&vm->legacy, gsi, holder, level);
	else
		ioapic_set_line(&vm->ioapic, gsi, holder, level);
}

static void handle_io(const struct arch_vm *vm, struct kvm_run *run)
{
	unsigned size = run->io.size;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t val = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&val, data, size);
			bus_write(vm->pio, run->io.port, size, val);
		} else {
			val = bus_read(vm->pio, run->io.port, size);
			memcpy(data, &val, size);
		}
	}
}

enum arch_exit arch_vcpu_exit(struct arch_vm *vm, struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vm, run);
		return ARCH_EXIT_DONE;
	case KVM_EXIT_IOAPIC_EOI:
		ioapic_eoi(&vm->ioapic, run->eoi.vector);
		return ARCH_EXIT_DONE;
	case KVM_EXIT_SHUTDOWN:
		return ARCH_EXIT_CRASHED;
	default:
		return ARCH_EXIT_UNKNOWN;
	}
}

const char *arch_exit_name(unsigned reason)
{
	switch (reason) {
	case KVM_EXIT_IO:
		return "io";
	case KVM_EXIT_HLT:
		return "hlt";
	case KVM_EXIT_SHUTDOWN:
		return "shutdown";
	case KVM_EXIT_IOAPIC_EOI:
		return "ioapic-eoi";
	default:
		return NULL;
	}
}

/* KVM sets a flag that Linux's watchdog reads and clears. It refuses a guest without kvmclock. */
void arch_vcpu_resumed(int vcpu_fd)
{
	kvm_ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, NULL);
}

/*
 * A processor that waits for its SIPI does not take an NMI. KVM would keep it pending, and KVM_RUN
 * would return at once, again and again.
 */
void arch_vcpu_nmi(int vcpu_fd)
{
	struct kvm_mp_state mp;

	if (kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp) >= 0 &&
	    (mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	     mp.mp_state == KVM_MP_STATE_INIT_RECEIVED))
		return;
	kvm_ioctl(vcpu_fd, KVM_NMI, NULL);
}

#define RFLAGS_IF (1u << 9)
#define RFLAGS_VM (1u << 17)
#define CR0_PE 1u

/* The privilege level is in CS (Intel SDM, volume 3, section 6.5), but for the modes without segments' rights. */
static unsigned privilege(const struct kvm_sregs *s, uint64_t rflags)
{
	if (!(s->cr0 & CR0_PE))
		return 0;
	return rflags & RFLAGS_VM ? 3 : s->cs.selector & 3;
}

int arch_vcpu_sample(int vcpu_fd, struct arch_sample *out)
{
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs s;
	int rc = kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp);
	bool off;

	if (rc >= 0)
		rc = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &regs);
	if (rc >= 0)
		rc = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s);
	if (rc < 0)
		return rc;
	off = mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	      mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
	*out = (struct arch_sample){ .pc = regs.rip,
				     .level = privilege(&s, regs.rflags),
				     .halted = off || mp.mp_state == KVM_MP_STATE_HALTED,
				     .interrupts = off || regs.rflags & RFLAGS_IF };
	return 0;
}

static uint32_t lapic_get(const struct kvm_lapic_state *lapic, unsigned reg)
{
	uint32_t val;

	memcpy(&val, lapic->regs + reg, sizeof(val));
	return val;
}

#define APIC_SPIV 0xf0
#define APIC_SPIV_ENABLED (1u << 8)

/*
 * Before an orderly reboot, Linux masks the IOAPIC's pins and disables the local APICs; sysrq-b
 * does neither, and a panic (panic=N) only disables the local APICs. On the legacy board it also masks
 * the 8259, and leaves the local APIC on.
 */
bool arch_vcpu_emergency(struct arch_vm *vm, int vcpu_fd)
{
	struct kvm_lapic_state lapic;

	if (vm->is_legacy)
		return legacy_live(&vm->legacy);
	if (ioapic_live(&vm->ioapic))
		return true;
	return kvm_ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) >= 0 &&
	       (lapic_get(&lapic, APIC_SPIV) & APIC_SPIV_ENABLED);
}

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1u
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE_WRITE_BACK (1u << 11 | 6u)

static int init_msrs(int fd, unsigned id, struct err *err)
{
	static const struct kvm_msr_entry entry[] = {
		{ .index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING },
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITE_BACK },
	};
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(entry)];
	} msrs = { .head.nmsrs = 2 };
	int rc;

	memcpy(msrs.head.entries, entry, sizeof(entry));
	rc = kvm_ioctl(fd, KVM_SET_MSRS, &msrs);
	return rc == 2 ? 0 :
			 err_set(err, EIO, "KVM: vCPU %u refuses MSR 0x%x", id,
				 entry[rc < 0 ? 0 : rc].index);
}

unsigned arch_vcpu_kvm_id(const struct arch_vm *vm, unsigned id)
{
	return cpuid_apic_id(&vm->topology, id);
}

int arch_vcpu_init(struct arch_vm *vm, int vcpu_fd, unsigned id, struct err *err)
{
	union cpuid_table cpuid;
	int rc;

	memcpy(&cpuid, vm->cpuid,
	       sizeof(cpuid.head) + vm->cpuid->head.nent * sizeof(cpuid.head.entries[0]));
	cpuid_set_apic_id(&cpuid.head, &vm->topology, cpuid_apic_id(&vm->topology, id));
	rc = kvm_ioctl(vcpu_fd, KVM_SET_CPUID2, &cpuid);
	if (rc < 0)
		return err_sys(err, -rc, "KVM: CPUID of vCPU %u", id);
	return init_msrs(vcpu_fd, id, err);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = code64,
		.db = !code64,
		.g = 1,
	};
}

/* Linux Documentation/arch/x86/boot.rst, 64-bit protocol; Xen's PVH: 32-bit, paging off. */
int arch_vcpu_boot(struct arch_vm *vm, int vcpu_fd, const struct boot_info *info, struct err *err)
{
	bool long_mode = info->entry == BOOT_ENTRY_LINUX64;
	struct kvm_regs regs = {
		.rip = info->entry_addr,
		.rsi = info->regs.x86.rsi,
		.rbx = info->regs.x86.rbx,
		.rflags = 2,
	};
	struct kvm_sregs s;
	int rc = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s);

	if (rc < 0)
		return err_sys(err, -rc, "KVM: registers");
	s.cs = flat(0x10, 0xb, long_mode);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(0x18, 0x3, false);
	s.tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1 };
	s.gdt.base = info->regs.x86.gdt;
	s.gdt.limit = info->regs.x86.gdt_bytes ? (uint16_t)(info->regs.x86.gdt_bytes - 1) : 0;
	s.idt.base = 0;
	s.idt.limit = 0;
	s.cr0 = 0x31; /* PE, ET, NE */
	s.cr4 = 0;
	s.efer = 0;
	if (long_mode) {
		s.cr0 |= 1u << 31; /* PG */
		s.cr3 = info->regs.x86.cr3;
		s.cr4 = 1u << 5;	     /* PAE */
		s.efer = 1u << 8 | 1u << 10; /* LME, LMA */
	}
	rc = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &s);
	if (rc >= 0)
		rc = kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	return rc < 0 ? err_sys(err, -rc, "KVM: cannot set the entry point") : 0;
}

void arch_vcpu_where(int vcpu_fd, char *buf, size_t len)
{
	struct kvm_regs regs;
	struct kvm_sregs s;

	if (kvm_ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 ||
	    kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s) < 0) {
		snprintf(buf, len, "registers unknown");
		return;
	}
	snprintf(buf, len, "rip 0x%llx rsp 0x%llx cr0 0x%llx cr2 0x%llx cr3 0x%llx",
		 (unsigned long long)regs.rip, (unsigned long long)regs.rsp,
		 (unsigned long long)s.cr0, (unsigned long long)s.cr2, (unsigned long long)s.cr3);
}
