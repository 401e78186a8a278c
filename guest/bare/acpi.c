/*
 * acpi: the boot protocol's pointer leads to the tables; their checksums are right; they
 * describe a usable board.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"

static bool sum_ok(const uint8_t *p, uint32_t n)
{
	uint8_t s = 0;
	while (n--)
		s = (uint8_t)(s + *p++);
	return s == 0;
}

void main(void)
{
	const uint8_t *rsdp = (const uint8_t *)boot_rsdp;

	if (!ok(rsdp != NULL, "the boot protocol passes the RSDP (%lx)", boot_rsdp))
		return;
	ok(!memcmp(rsdp, "RSD PTR ", 8), "RSDP signature");
	ok(sum_ok(rsdp, 20), "RSDP checksum");
	if (ok(rsdp[15] >= 2, "RSDP revision %u", rsdp[15]))
		ok(sum_ok(rsdp, load32(rsdp + 20)), "RSDP extended checksum");
	const uint8_t *xsdt = (const uint8_t *)load64(rsdp + 24);
	ok(sum_ok(xsdt, load32(xsdt + 4)), "XSDT checksum");
	for (uint32_t i = 36; i + 8 <= load32(xsdt + 4); i += 8) {
		const uint8_t *t = (const uint8_t *)load64(xsdt + i);
		ok(sum_ok(t, load32(t + 4)), "table %c%c%c%c: %u bytes, checksum", t[0], t[1], t[2],
		   t[3], load32(t + 4));
	}
	ok(acpi.dsdt && sum_ok(acpi.dsdt, acpi.dsdt_bytes), "DSDT: %u bytes, checksum",
	   acpi.dsdt_bytes);
	ok(acpi.ncpus > 0, "MADT: %u CPUs", acpi.ncpus);
	ok(acpi.ioapic != 0, "MADT: IOAPIC at %lx", acpi.ioapic);
	if (acpi.hw_reduced)
		ok(acpi.sleep_control.addr != 0, "FADT: sleep control at %lx",
		   acpi.sleep_control.addr);
	else
		ok(acpi.pm1a_control.addr != 0, "FADT: PM1a control at %lx",
		   acpi.pm1a_control.addr);
	ok(acpi.reset.addr != 0, "FADT: reset register at %lx", acpi.reset.addr);
	rt_print("# S5 type %u, ECAM %lx, %u buses\n", acpi.s5_type, acpi.ecam_base,
		 acpi.ecam_buses);
}
