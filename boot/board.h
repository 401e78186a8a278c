/*
 * board: the machine as plain data, handed from vmm/machine/machine.c to boot.
 *
 * boot writes the tables that describe the machine to the guest; boot knows no
 * device and no KVM. Part of boot's public header. Addresses are guest-physical,
 * lengths are in bytes; a gsi is an input of the interrupt controller (x86: a pin
 * of the IOAPIC). struct board_x86 holds the parts that only a PC has; it is all
 * zero on other machines.
 */
#ifndef BANTAM_BOARD_H
#define BANTAM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#define BOARD_MAX_SLOTS 32
#define BOARD_MAX_CPUS 254
#define BOARD_SERIAL_PORTS 2

struct board_window {
	uint64_t base;
	uint64_t len_bytes;
};

/* A register, or the first of several; addr 0: no register. */
struct board_reg {
	bool port; /* addr is an I/O port, not an address in memory */
	uint64_t addr;
};

struct board_x86 {
	uint64_t lapic; /* the same for every processor */
	uint8_t apic_id[BOARD_MAX_CPUS];
	uint64_t ioapic;
	uint16_t rtc_port; /* 2 ports; 0: none */
	bool i8042;	   /* ports 0x60, 0x61 and 0x64: reset and NMI only, no keyboard */
	bool pic;	   /* two 8259s, and an 8254 on IRQ 0 */
};

struct board {
	unsigned ncpus;

	struct {
		bool present;
		struct board_window ecam;     /* bus 0 … len/1 MiB - 1 */
		struct board_window mmio32;   /* for BARs */
		uint16_t config_port;	      /* 8 ports of configuration mechanism #1; 0: none */
		uint8_t gsi[BOARD_MAX_SLOTS]; /* of INTA; level, active low as PCI requires */
		/*
		 * Bit n: the tables describe slot n. All, if a device may come later; else those in
		 * use, because a guest reads all of the table at its start.
		 */
		uint32_t slots;
	} pci;

	struct {
		struct board_window window;
		uint8_t gsi; /* edge, active high */
	} mmio[BOARD_MAX_SLOTS];
	unsigned nmmio;

	struct {
		bool present;
		struct board_reg regs; /* 8 registers of one byte */
		uint8_t gsi;	       /* edge */
	} serial[BOARD_SERIAL_PORTS];  /* COM1, COM2 */

	/* ACPI hardware-reduced power management (ACPI 6.4, section 4.8.3.7): one byte each. */
	struct board_reg sleep_control;
	struct board_reg sleep_status;
	struct board_reg reset;
	uint8_t reset_value;
	/*
	 * ACPI fixed hardware (section 4.8.3), without events of its own: 2 bytes of status, 2 of
	 * enable; 2 of control, which replace the sleep registers. addr 0: the board is
	 * hardware-reduced.
	 */
	struct {
		struct board_reg event, control;
		uint8_t gsi; /* the SCI; level */
	} pm1;
	/* Generic Event Device: a read of its 4 bytes returns and clears the pending bits below. */
	struct board_reg ged;
	uint8_t ged_gsi; /* edge */
	/*
	 * PCI hot-plug: 4 bytes with a bit for each slot whose device has come, cleared when they are read; 4 of devices
	 * that the guest is asked to give up, likewise; 4 to which it writes the slots that it has given up. addr 0: none.
	 */
	struct board_reg hotplug;

	struct board_reg pvpanic; /* one byte */
	uint64_t vmgenid;	  /* address of the 16-byte GUID, not RAM in the map; 0: none */

	struct board_x86 x86;
};

/* Bits of the GED register. */
#define BOARD_GED_POWER_BUTTON 1u
#define BOARD_GED_VMGENID 2u
#define BOARD_GED_HOTPLUG 4u

/* _SLP_TYP of \_S5: the value that the guest writes to the FADT's sleep control register. */
#define BOARD_S5_TYPE 5u

#endif
