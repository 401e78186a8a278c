/*
 * acpi: reads what a test guest needs from the firmware tables (ACPI 6.4).
 *
 * A guest knows nothing about the board beforehand. It takes ports and addresses from the
 * FADT, MADT and MCFG. It finds a device by searching the DSDT's bytes for the _HID and reading
 * the first resource descriptors after it (no AML interpreter).
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

/* Reads all tables; leaves acpi zeroed if there is no RSDP. */
void acpi_init(void);
/* Returns the table with this signature, or NULL. */
const uint8_t *acpi_table(const char *signature);
void acpi_write(const struct acpi_reg *reg, uint64_t v);
/* Enters S5. Returns only if the machine stays on. */
void acpi_poweroff(void);
void acpi_reset(void);

/* The first window and interrupt of the nth device with this _HID string. */
struct acpi_device {
	uint64_t base;
	uint32_t len;
	bool port;
	uint32_t gsi;	   /* 0: none */
	uint8_t irq_flags; /* of the extended interrupt descriptor: bit 1 edge, bit 2 active low */
};
bool acpi_find(const char *hid, unsigned nth, struct acpi_device *out);

#endif
