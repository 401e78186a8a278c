/*
 * acpi: the tables that describe the board (ACPI 6.4; PCI Firmware 3.3 for
 * MCFG and _OSC).
 *
 *	acpi.c	acpi_build (declared in boot.h): RSDP, XSDT, FADT, FACS, MADT, MCFG
 *	dsdt.c	the DSDT's AML
 *
 * The board is hardware-reduced: no PM timer, no SCI, no fixed power button. Sleep
 * and reset are registers; the Generic Event Device signals events. A board with
 * board.pm1 is not: Linux uses an 8259 only if there is fixed hardware. Even so all
 * events come from the Generic Event Device. boot/ARCH writes the parts that depend on
 * the processor. Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_ACPI_H
#define BANTAM_ACPI_H

#include "boot/acpi/aml.h"
#include "boot/board.h"

/* The definition block's terms, without the table header. */
void dsdt_write(struct aml *aml, const struct board *board);

/* --- what boot/ARCH supplies ------------------------------------------------------------------ */

/* The fields of the FADT that depend on the processor (ACPI 6.4, tables 5.9 to 5.12). */
struct acpi_fadt {
	uint16_t iapc_boot; /* IAPC_BOOT_ARCH */
	uint16_t arm_boot;  /* ARM_BOOT_ARCH */
	uint32_t flags;	    /* those of the processor */
};
struct acpi_fadt acpi_arch_fadt(const struct board *board);

/* The MADT's body (section 5.2.12): interrupt controllers and processors. */
void acpi_arch_madt(struct aml *aml, const struct board *board);

/* Devices in \_SB that only this architecture's boards have. */
void acpi_arch_devices(struct aml *aml, const struct board *board);

#endif
