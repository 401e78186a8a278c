/*
 * cmdline: what options of Linux's command line ask of a PC. See vmm/arch/arch.h.
 *
 * Theory of operation. The plain board has no 8259 and no 8254: interrupts come by the I/O APIC and
 * by messages, time by the local APIC and kvmclock. Options that take one of these away worked on
 * PCs, and are in the default arguments of other monitors; so they bring the legacy board. The tables
 * follow Documentation/admin-guide/kernel-parameters.txt of Linux 6.12; each row was tried.
 */
#include <stdio.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/cmdline.h"

struct option {
	char name[16];
	char item[8]; /* its value, or one of a list; "": with any value or none */
};

/* Linux then uses 8259 or 8254, or takes IRQ 4 without having been told by ACPI that it exists. */
static const struct option needs_legacy[] = {
	{ "noapic" },	    { "nolapic" },	 { "disableapic" },   { "nosmp" },
	{ "maxcpus", "0" }, { "nolapic_timer" }, { "noapictimer" },   { "no-kvmclock" },
	{ "nopv" },	    { "acpi", "noirq" }, { "pci", "noacpi" }, { "pnpacpi", "off" },
};

static bool matches(const struct cmdline_word *word, const struct option *o)
{
	return cmdline_is(word, o->name) && (!*o->item || cmdline_lists(word, o->item));
}

static const struct option *find_legacy(const struct cmdline_word *word)
{
	for (unsigned i = 0; i < sizeof(needs_legacy) / sizeof(needs_legacy[0]); i++)
		if (matches(word, &needs_legacy[i]))
			return &needs_legacy[i];
	return NULL;
}

static bool has(const char *cmdline, const char *name, const char *item)
{
	struct cmdline_word word;

	while (cmdline_next(&cmdline, &word))
		if (cmdline_is(&word, name) && cmdline_lists(&word, item))
			return true;
	return false;
}

bool arch_needs_legacy(const char *cmdline)
{
	struct cmdline_word word;

	while (cmdline_next(&cmdline, &word))
		if (find_legacy(&word))
			return true;
	return false;
}

bool arch_hides_acpi(const char *cmdline)
{
	return has(cmdline, "acpi", "off");
}

static void check_acpi_off(const char *cmdline, const struct board *board,
			   void (*warn)(void *opaque, const char *line), void *opaque)
{
	warn(opaque,
	     "acpi=off: the guest cannot power off and has no power button; its reboot ends "
	     "the VM");
	if (board->pci.present && (has(cmdline, "pci", "off") || has(cmdline, "pci", "conf2")))
		warn(opaque,
		     "acpi=off with pci=off or pci=conf2: the guest does not find PCI, so it "
		     "has no disk and no network; leave out one of them");
	if (board->nmmio)
		warn(opaque,
		     "acpi=off with --transport mmio: the guest finds its devices only if its "
		     "kernel has CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES");
}

void arch_check_cmdline(const char *cmdline, const struct board *board, const struct kvm *kvm,
			void (*warn)(void *opaque, const char *line), void *opaque)
{
	const char *at = cmdline;
	struct cmdline_word word;
	char line[200];

	while (!board->x86.pic && cmdline_next(&at, &word)) {
		const struct option *o = find_legacy(&word);

		if (!o)
			continue;
		snprintf(line, sizeof(line), "%s%s%s: %s", o->name, *o->item ? "=" : "", o->item,
			 !kvm || arch_has_legacy(kvm) ?
				 "comes from the kernel image; give it by --cmdline, too, or the "
				 "guest may hang in silence" :
				 "this host's KVM has no 8259 and 8254 (CONFIG_KVM_IOAPIC), so the "
				 "guest may hang in silence; leave it out");
		warn(opaque, line);
	}
	if (arch_hides_acpi(cmdline))
		check_acpi_off(cmdline, board, warn, opaque);
}
