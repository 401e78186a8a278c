/*
 * board: the machine as plain data, handed from vmm/machine/machine.c to boot.
 *
 * boot writes the tables that describe it to the guest; it knows no device and
 * no KVM. Addresses are guest-physical, lengths bytes, gsi = IOAPIC pin.
 */
#ifndef BANTAM_BOARD_H
#define BANTAM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#define BOARD_MAX_SLOTS 32
#define BOARD_MAX_CPUS 254

struct board_window {
	uint64_t base;
	uint64_t len_bytes;
};

struct board {
	unsigned ncpus; /* APIC ids 0 … ncpus-1 */

	uint64_t lapic;
	uint64_t ioapic;

	struct {
		bool present;
		struct board_window ecam;     /* bus 0 … len/1 MiB - 1 */
		struct board_window mmio32;   /* for BARs */
		uint32_t slots;		      /* bit n: slot n holds a device */
		uint8_t gsi[BOARD_MAX_SLOTS]; /* of INTA; level, active low as PCI has it */
	} pci;

	struct {
		struct board_window window;
		uint8_t gsi; /* edge, active high */
	} mmio[BOARD_MAX_SLOTS];
	unsigned nmmio;

	struct {
		bool present;
		uint16_t port; /* 8 ports */
		uint8_t gsi;   /* edge */
	} serial;

	uint16_t rtc_port; /* 2 ports; 0: none */
	bool i8042;	   /* ports 0x60, 0x64: reset only, no keyboard */

	/* ACPI hardware-reduced power management (ACPI 6.4, section 4.8.3.7) */
	uint16_t sleep_control_port;
	uint16_t sleep_status_port;
	uint16_t reset_port;
	uint8_t reset_value;
	/* Generic Event Device: reading this port gives and clears the pending bits below. */
	uint16_t ged_port; /* 4 bytes wide */
	uint8_t ged_gsi;   /* edge */

	uint16_t pvpanic_port; /* 0: none */
	uint64_t vmgenid;      /* address of the 16-byte GUID, in no RAM of the map; 0: none */
};

/* Bits of the GED port. */
#define BOARD_GED_POWER_BUTTON 1u
#define BOARD_GED_VMGENID 2u

/* _SLP_TYP of \_S5, as the FADT's sleep control register wants it. */
#define BOARD_S5_TYPE 5u

#endif
