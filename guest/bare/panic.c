/*
 * panic: writes to pvpanic (QEMU0001 in the DSDT), as a Linux guest's panic notifier does.
 *
 * Command line: crash=off or crash=reset reports a crash kernel instead, as Linux does if one is
 * loaded, and then powers off or resets, as that kernel does when it has written its dump.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"

void main(void)
{
	struct acpi_device d;

	if (!acpi_find("QEMU0001", 0, &d) || !d.port)
		rt_die("no pvpanic in the DSDT");
	uint8_t events = inb((uint16_t)d.base);
	ok(events & 1, "pvpanic at port %lx reports event bits %x", d.base, events);
	rt_print("panicking\n");
	if (!memcmp(boot_cmdline, "crash=", 6)) {
		outb((uint16_t)d.base, 2);
		if (boot_cmdline[6] == 'o')
			acpi_poweroff();
		else
			acpi_reset();
		rt_die("still on");
	}
	outb((uint16_t)d.base, 1);
	rt_halt(); /* a monitor may wait for the last console output of the panic */
}
