/*
 * spin: each CPU counts in memory as fast as it can, and counts its NMIs. The first CPU also reads a
 * device's register again and again. Every third CPU sleeps; with aps=off none but the first is
 * started. For tests that pause a machine: spin.h says what they see. does= lets the first CPU do one
 * thing only: "idle" and "dead" halt with interrupts on and off, "off" and "on" count so, "user" counts in
 * ring 3.
 */
#include "guest/bare/spin.h"

#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"
#include "guest/bare/lib/virtio.h"

#define VECTOR 0x45
static volatile struct spin *const spin = (volatile struct spin *)SPIN_AT;

static void on_nmi(struct trap_frame *f)
{
	spin->cpu[lapic_id() % SPIN_CPUS].nmis++;
}

static void on_button(struct trap_frame *f)
{
	spin->buttons++;
}

static void on_ap(unsigned index)
{
	volatile struct spin_cpu *c = &spin->cpu[lapic_id() % SPIN_CPUS];

	c->count++;
	while (index % 3 == 2)
		__asm__ volatile("cli; hlt");
	for (;;)
		c->count++;
}

static uint32_t read_register(const struct vio *v)
{
	return v ? vio_status(v) : pci_read(0, PCI_VENDOR, 4);
}

static bool asked(const char *what)
{
	size_t n = strlen(what);

	for (const char *s = boot_cmdline; *s; s++)
		if (!memcmp(s, what, n))
			return true;
	return false;
}

static void count(void)
{
	for (;;)
		spin->cpu[0].count++;
}

static void on_call(uint64_t op, uint64_t a, uint64_t b)
{
}

/* Returns if the command line says nothing. */
static void do_one_thing(void)
{
	if (!asked("does="))
		return;
	spin->cpu[0].count++;
	if (asked("does=user"))
		user_enter(count, on_call);
	for (; asked("does=idle");)
		__asm__ volatile("sti; hlt");
	for (; asked("does=dead");)
		__asm__ volatile("cli; hlt");
	if (asked("does=off"))
		__asm__ volatile("cli");
	else
		__asm__ volatile("sti");
	count();
}

void main(void)
{
	struct acpi_device ged;
	struct vio rng, *v = vio_find(VIRTIO_RNG, 0, &rng) ? &rng : NULL;
	uint32_t first;

	trap_set(2, on_nmi);
	trap_set(VECTOR, on_button);
	lapic_enable();
	acpi_find("ACPI0013", 0, &ged);
	if (ged.gsi)
		ioapic_route(ged.gsi, VECTOR, 0);
	if (v)
		vio_negotiate(v, 0);
	first = read_register(v);
	if (!asked("aps=off"))
		smp_start(on_ap);
	do_one_thing();
	for (;; spin->cpu[0].count++) {
		__asm__ volatile("sti; nop; cli");
		if (read_register(v) != first)
			spin->wrong++;
	}
}
