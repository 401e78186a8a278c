/*
 * platform: the small devices of the board that no option names.
 *
 * The machine creates them with the ports that it also writes into the ACPI tables. Every create
 * runs in the loop's thread, before the vCPUs run; device_destroy frees *out; on failure nothing is
 * left behind and *out is NULL. Any vCPU thread may access the registers.
 */
#ifndef BANTAM_BOARD_PLATFORM_H
#define BANTAM_BOARD_PLATFORM_H

#include "devices/device.h"

/* --- acpi_pm: power management of the hardware-reduced model, and the GED ------------------- */

struct acpi_pm_config {
	uint16_t sleep_control_port; /* 1 byte; ACPI 6.4, table 4.19 */
	uint16_t sleep_status_port;  /* 1 byte; table 4.20 */
	uint8_t s5_type;	     /* SLP_TYPx that \_S5 gives */
	uint16_t reset_port;	     /* 1 byte; section 4.8.3.6 */
	uint8_t reset_value;
	/* Fixed hardware (section 4.8.3): 4 bytes of status and enable, 2 of control; 0: none. */
	uint16_t pm1_event_port, pm1_control_port;
	uint16_t ged_port;	   /* 4 bytes: a read returns and clears the pending bits */
	uint8_t ged_gsi;	   /* pulsed when a bit is raised; edge */
	uint8_t ged_holder;	   /* of that line, below 32 */
	uint32_t power_button_bit; /* what device_ops.power_button raises */
};

/* S5 gives VM_EVENT_POWEROFF, the reset register VM_EVENT_RESET. */
int acpi_pm_create(const struct device_env *env, const struct acpi_pm_config *config,
		   struct device **out, struct err *err);
/* Raise bits of the GED port and pulse its line. Any thread. pm is acpi_pm_create's. */
void acpi_pm_notify(struct device *pm, uint32_t bits);
/* The same, and the line is pulsed again, less and less often, until the guest has read the bits. The loop's thread. */
void acpi_pm_insist(struct device *pm, uint32_t bits);

/* --- hotplug: how a guest learns that a PCI device has come, and gives one up ------------------- */

/*
 * 12 bytes of registers, as QEMU's docs/specs/acpi_pci_hotplug has them for one bus; only aligned accesses of 4 bytes do
 * something. Bit n is slot n.
 *
 *	0	read: the slots whose device has come since the last read
 *	4	read: the slots whose device the host asks for, since the last read
 *	8	write: the guest has given up the devices of these slots (_EJ0)
 *
 * A slot that the guest ejects without being asked stays as it is.
 */
#define HOTPLUG_PORT_BYTES 12

struct hotplug_config {
	uint16_t port;
	/* The guest has given up a device that it was asked for. A vCPU's thread; only record it and return. */
	void (*ejected)(void *opaque);
	void *opaque;
};

int hotplug_create(const struct device_env *env, const struct hotplug_config *config,
		   struct device **out, struct err *err);
/*
 * Any thread. The caller then raises the event at which the guest looks at the registers.
 * hotplug_came: a device is in this slot now. hotplug_ask: the guest is asked for it, perhaps again.
 */
void hotplug_came(struct device *dev, unsigned slot);
void hotplug_ask(struct device *dev, unsigned slot);
/* Returns the slots that were asked for and that the guest has ejected since the last call, and forgets them. */
uint32_t hotplug_take_ejected(struct device *dev);

/* --- i8042: the reset line of the keyboard controller, and the reason of an NMI --------------- */

/* Ports 0x60, 0x61 and 0x64. */
int i8042_create(const struct device_env *env, struct device **out, struct err *err);

/* --- cmos: MC146818A clock and its memory --------------------------------------------------- */

struct cmos_config {
	uint16_t port;		 /* 0x70: index, and data after it */
	uint64_t below_4g_bytes; /* guest memory below 4 GiB, for guests that read sizes here */
	uint64_t above_4g_bytes;
	int64_t offset_s; /* the guest's clock minus the host's UTC; within 3000 years */
};

int cmos_create(const struct device_env *env, const struct cmos_config *config, struct device **out,
		struct err *err);

/* --- pvpanic: the guest reports its panic (QEMU's docs/specs/pvpanic) ----------------------- */

#define PVPANIC_PANICKED 1u
#define PVPANIC_CRASH_LOADED 2u

/* One byte at port. */
int pvpanic_create(const struct device_env *env, uint16_t port, struct device **out,
		   struct err *err);

/* --- vmgenid: a GUID that changes whenever this VM's past forks ----------------------------- */

#define VMGENID_BYTES 16

/*
 * Writes a random GUID to the 16 bytes of guest memory at addr (8-byte aligned, in memory that the
 * guest's memory map reserves). Changes are notified to pm with ged_bit; pm outlives the device.
 */
int vmgenid_create(const struct device_env *env, gpa_t addr, struct device *pm, uint32_t ged_bit,
		   struct device **out, struct err *err);
/* After a snapshot was restored: writes a new GUID and notifies the guest. Any thread. */
int vmgenid_regenerate(struct device *dev, struct err *err);

#endif
