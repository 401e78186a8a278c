/*
 * acpi: the parts of the ACPI tables that describe a PC. See boot/acpi/acpi.h.
 *
 * GSIs are IOAPIC pins and need no overrides: if there are 8259s and an 8254, their interrupts have the
 * IOAPIC's pin of the same number.
 */
#include "boot/acpi/acpi.h"

/* FADT flags (ACPI 6.4, table 5.10). */
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)

/* IA-PC boot architecture flags (table 5.11). */
#define IAPC_LEGACY_DEVICES (1u << 0)
#define IAPC_NO_VGA (1u << 2)
#define IAPC_NO_CMOS_RTC (1u << 5)

struct acpi_fadt acpi_arch_fadt(const struct board *board)
{
	bool rtc = board->x86.rtc_port;
	bool legacy = rtc || board->serial[0].present || board->serial[1].present;
	/* The 8042 bit stays clear even with x86.i8042: that only resets, it has no keyboard. */
	unsigned boot = (legacy ? IAPC_LEGACY_DEVICES : 0) | IAPC_NO_VGA |
			(rtc ? 0 : IAPC_NO_CMOS_RTC);

	return (struct acpi_fadt){ .iapc_boot = (uint16_t)boot,
				   .flags = FADT_WBINVD | FADT_PROC_C1 };
}

void acpi_arch_madt(struct aml *t, const struct board *board)
{
	aml_u32(t, (uint32_t)board->x86.lapic);
	aml_u32(t, board->x86.pic); /* PCAT_COMPAT: there are 8259s */
	for (unsigned i = 0; i < board->ncpus; i++) {
		aml_u8(t, 0); /* local APIC */
		aml_u8(t, 8);
		aml_u8(t, (uint8_t)i); /* processor UID */
		aml_u8(t, board->x86.apic_id[i]);
		aml_u32(t, 1); /* enabled */
	}
	aml_u8(t, 1); /* I/O APIC */
	aml_u8(t, 12);
	aml_u8(t, 0); /* id */
	aml_u8(t, 0);
	aml_u32(t, (uint32_t)board->x86.ioapic);
	aml_u32(t, 0); /* first GSI */
	aml_u8(t, 4);  /* local APIC NMI */
	aml_u8(t, 6);
	aml_u8(t, 0xff); /* all processors */
	aml_u16(t, 0);	 /* polarity and trigger of the bus */
	aml_u8(t, 1);	 /* LINT1 */
}

void acpi_arch_devices(struct aml *aml, const struct board *board)
{
	uint8_t buf[64];
	struct aml res;
	aml_mark dev;

	if (!board->x86.rtc_port)
		return;
	dev = aml_device(aml, "RTC_");
	aml_name_eisa(aml, "_HID", "PNP0B00");
	aml_init(&res, buf, sizeof(buf));
	aml_res_io(&res, board->x86.rtc_port, 2);
	aml_resources(aml, &res);
	aml_close(aml, dev);
}
