/*
 * button: prints which virtio function stands in which slot, sleeps until the power button is
 * pressed (by the Generic Event Device's interrupt, ACPI 6.4, section 5.6.9), and powers off.
 *
 * Command line: presses=N powers off at the Nth press only; press=reset resets the machine instead;
 * after=MS powers off after so many milliseconds without any press; late=MS leaves the interrupt masked for
 * so long, and only the interrupt makes the guest look, as in Linux. An NMI prints a line.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x43
#define POWER_BUTTON 1u /* the bit that the GED's _EVT method tests */
#define SYSTEM_IO 1

static uint16_t port;
static volatile uint32_t pressed, nmis;

static void on_event(struct trap_frame *f)
{
	if (inl(port) & POWER_BUTTON)
		pressed++;
}

static void on_nmi(struct trap_frame *f)
{
	nmis++;
}

/* Returns the text after the word on the command line, or NULL. */
static const char *argument(const char *word)
{
	size_t n = strlen(word);

	for (const char *s = boot_cmdline; *s; s++)
		if (!memcmp(s, word, n))
			return s + n;
	return NULL;
}

static unsigned number(const char *s, unsigned unset)
{
	unsigned v = 0;

	if (!s)
		return unset;
	for (; *s >= '0' && *s <= '9'; s++)
		v = 10 * v + (unsigned)(*s - '0');
	return v;
}

/* Finds the port of the GED's operation region GEDR in the DSDT; 0: none. */
static uint16_t event_port(void)
{
	for (uint32_t i = 36; acpi.dsdt && i + 8 < acpi.dsdt_bytes; i++) {
		const uint8_t *p = acpi.dsdt + i;
		if (load32(p) == load32("GEDR") && p[4] == SYSTEM_IO &&
		    (p[5] == 0x0b || p[5] == 0x0c))
			return load16(p + 6);
	}
	return 0;
}

static void print_slots(void)
{
	for (unsigned slot = 1; slot < 32; slot++) {
		uint32_t id = pci_read((uint16_t)(slot << 3), PCI_VENDOR, 4);
		if ((id & 0xffff) == 0x1af4)
			rt_print("button: slot %u is virtio %u\n", slot, (id >> 16) - 0x1040);
	}
}

void main(void)
{
	struct acpi_device ged = { 0 };
	unsigned presses = number(argument("presses="), 1), after = number(argument("after="), 0);
	uint64_t end = now_us() + 1000ull * after;
	unsigned late = number(argument("late="), 0);
	uint32_t seen = 0, seen_nmis = 0;

	port = event_port();
	acpi_find("ACPI0013", 0, &ged); /* it has an interrupt and no window */
	if (!port || !ged.gsi)
		rt_die("no Generic Event Device");
	trap_set(2, on_nmi);
	trap_set(VECTOR, on_event);
	lapic_enable();
	if (late) {
		uint64_t until = now_us() + 1000ull * late;

		rt_print("button: masked\n");
		while (now_us() < until)
			__asm__ volatile("pause");
	}
	ioapic_route(ged.gsi, VECTOR, ged.irq_flags & 2 ? 0 : IOAPIC_LEVEL);
	print_slots();
	if (!late)
		pressed = inl(port) & POWER_BUTTON; /* before this guest was ready */
	rt_print("button: ready\n");
	for (;;) {
		__asm__ volatile("cli");
		if (nmis != seen_nmis)
			rt_print("button: nmi %u\n", seen_nmis = nmis);
		if (pressed != seen) {
			rt_print("button: press %u\n", seen = pressed);
			if (argument("press=reset"))
				acpi_reset();
			if (seen >= presses)
				break;
		}
		if (after && now_us() >= end)
			break;
		if (after)
			__asm__ volatile("sti; pause");
		else
			__asm__ volatile("sti; hlt");
	}
	rt_print("button: off\n");
	acpi_poweroff();
	rt_die("still on after S5");
}
