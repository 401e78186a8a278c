/* poweroff: only enters ACPI S5; the monitor exits with status 0. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"

void main(void)
{
	acpi_poweroff();
	rt_die("still on after S5");
}
