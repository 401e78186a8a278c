/*
 * reboot: requests a reset in the way that the command line names (reset=acpi,
 * the default, reset=i8042, reset=cf9); the monitor exits with its status for a reboot.
 * With apic=on the local APIC stays enabled, as in a kernel that restarts from a panic.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"

static bool asked(const char *way)
{
	size_t n = strlen(way);
	for (const char *s = boot_cmdline; *s; s++)
		if (!memcmp(s, way, n))
			return true;
	return false;
}

void main(void)
{
	if (asked("apic=on"))
		lapic_enable();
	if (asked("reset=i8042"))
		outb(0x64, 0xfe);
	else if (asked("reset=cf9"))
		outb(0xcf9, 0x06);
	else
		acpi_reset();
	for (uint64_t end = now_us() + 1000000; now_us() < end;)
		relax();
	rt_die("still running after the reset");
}
