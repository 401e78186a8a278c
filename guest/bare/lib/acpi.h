/*
 * acpi: what a test guest needs of the firmware tables (ACPI 6.4).
 *
 * Nothing about the board is known beforehand: ports come from the FADT, MADT
 * and MCFG, devices from a search through the DSDT's bytes for their _HID and
 * the first resource descriptors that follow it (no AML interpreter).
 */
#ifndef GUEST_ACPI_H
#define GUEST_ACPI_H

#include <stdbool.h>
#include <stdint.h>

struct acpi_reg {
	uint8_t space; /* 0 memory, 1 port */
	uint8_t width_bits;
	uint64_t addr; /* 0: absent */
};

struct acpi_info {
	const uint8_t *dsdt;
	uint32_t dsdt_bytes;
	bool hw_reduced;
	struct acpi_reg sleep_control, reset, pm1a_control;
	uint8_t reset_value;
	uint8_t s5_type;
	uint64_t ecam_base; /* 0: no MCFG */
	unsigned ecam_buses;
	unsigned ncpus; /* enabled local APICs */
	uint32_t apic_id[256];
	uint64_t ioapic;
	unsigned bad_checksums;
	unsigned tables;
};
extern struct acpi_info acpi;

/* Reads all tables; leaves acpi zeroed when there is no RSDP. */
void acpi_init(void);
/* A table by signature, or NULL. */
const uint8_t *acpi_table(const char *signature);
void acpi_write(const struct acpi_reg *reg, uint64_t v);
/* Returns only if the machine stays on. */
void acpi_poweroff(void);
void acpi_reset(void);

/* The nth device with this _HID string: its first window and interrupt. */
struct acpi_device {
	uint64_t base;
	uint32_t len;
	bool port;
	uint32_t gsi;	   /* 0: none */
	uint8_t irq_flags; /* of the extended interrupt descriptor: bit 1 edge, bit 2 low */
};
bool acpi_find(const char *hid, unsigned nth, struct acpi_device *out);

#endif
