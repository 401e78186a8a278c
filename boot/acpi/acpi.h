/*
 * acpi: the tables that describe the board (ACPI 6.4; PCI Firmware 3.3 for
 * MCFG and _OSC).
 *
 *	acpi.c	acpi_build (declared in boot.h): RSDP, XSDT, FADT, MADT, MCFG
 *	dsdt.c	the DSDT's AML
 *
 * The board is hardware-reduced: no PM timer, no SCI, no fixed power button;
 * sleep and reset are registers, events come by the Generic Event Device. No
 * 8259, no PIT: GSIs are IOAPIC pins and need no overrides.
 */
#ifndef BANTAM_ACPI_H
#define BANTAM_ACPI_H

#include "boot/acpi/aml.h"
#include "boot/board.h"

#define ACPI_HEADER_BYTES 36u

/* The definition block's terms, without the table header. */
void dsdt_write(struct aml *aml, const struct board *board);

#endif
