/*
 * dsdt: see acpi.h. The comments show the ASL that the calls write.
 *
 * Short on purpose: a small guest searches the table byte by byte, and where guest kernels are
 * interpreted, each byte costs microseconds of the host's time. So objects that say what their absence
 * says, too (_STA, _SEG, _BBN), are left out.
 */
#include <stdio.h>
#include <string.h>

#include "boot/acpi/acpi.h"

/* Room for one resource template. */
#define RES_BYTES 256
#define HOTPLUG_BYTES 12

static void add_reg(struct aml *res, const struct board_reg *reg, uint8_t len_bytes)
{
	if (reg->port)
		aml_res_io(res, (uint16_t)reg->addr, len_bytes);
	else
		aml_res_memory(res, reg->addr, len_bytes);
}

/* The board's registers, which lie side by side: as one range. */
static void add_board_regs(struct aml *res, const struct board *board)
{
	const struct {
		const struct board_reg *reg;
		uint8_t len_bytes;
	} all[] = { { &board->sleep_control, 1 },
		    { &board->sleep_status, 1 },
		    { &board->reset, 1 },
		    { &board->ged, 4 } };
	uint64_t low = UINT64_MAX, end = 0;
	bool ports = true;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint64_t at = all[i].reg->addr;

		ports = ports && all[i].reg->port;
		low = at < low ? at : low;
		end = at + all[i].len_bytes > end ? at + all[i].len_bytes : end;
	}
	if (ports && end - low <= 8) {
		aml_res_io(res, (uint16_t)low, (uint8_t)(end - low));
		return;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		add_reg(res, all[i].reg, all[i].len_bytes);
}

/* Processor devices: Linux binds its driver to them; the MADT describes them. */
static void write_cpus(struct aml *aml, const struct board *board)
{
	char name[8];

	for (unsigned i = 0; i < board->ncpus; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_mark dev = aml_device(aml, name);

		aml_name_string_val(aml, "_HID", "ACPI0007");
		aml_name_int(aml, "_UID", i);
		aml_close(aml, dev);
	}
}

/*
 * Method (_OSC, 4) {
 *   CreateDWordField (Arg3, 0, CDW1)
 *   If (Arg0 == ToUUID (PCI host bridge)) {
 *     CreateDWordField (Arg3, 8, CDW3)
 *     Local0 = CDW3
 *     CDW3 = Local0 & granted
 *     If (Arg1 != 1) { CDW1 |= 0x08 }		// unknown revision
 *     If (CDW3 != Local0) { CDW1 |= 0x10 }	// some were masked
 *   } Else { CDW1 |= 0x04 }			// unknown UUID
 *   Return (Arg3)
 * }
 *
 * No firmware runs beside the guest, so the guest may control every PCI Express
 * feature that it asks for: hot plug, PME, AER, capability structure, LTR, DPC.
 */
static void write_osc(struct aml *aml)
{
	const uint32_t granted = 0xbf;
	aml_mark method = aml_method(aml, "_OSC", 4, true), block, inner;

	aml_op(aml, AML_CREATE_DWORD_FIELD);
	aml_op(aml, AML_ARG3);
	aml_int(aml, 0);
	aml_name_string(aml, "CDW1");

	block = aml_if(aml);
	aml_op(aml, AML_LEQUAL);
	aml_op(aml, AML_ARG0);
	aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	aml_op(aml, AML_CREATE_DWORD_FIELD);
	aml_op(aml, AML_ARG3);
	aml_int(aml, 8);
	aml_name_string(aml, "CDW3");
	aml_op(aml, AML_STORE);
	aml_name_string(aml, "CDW3");
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_AND);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, granted);
	aml_name_string(aml, "CDW3");

	inner = aml_if(aml);
	aml_op(aml, AML_LNOT);
	aml_op(aml, AML_LEQUAL);
	aml_op(aml, AML_ARG1);
	aml_int(aml, 1);
	aml_op(aml, AML_OR);
	aml_name_string(aml, "CDW1");
	aml_int(aml, 0x08);
	aml_name_string(aml, "CDW1");
	aml_close(aml, inner);

	inner = aml_if(aml);
	aml_op(aml, AML_LNOT);
	aml_op(aml, AML_LEQUAL);
	aml_name_string(aml, "CDW3");
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_OR);
	aml_name_string(aml, "CDW1");
	aml_int(aml, 0x10);
	aml_name_string(aml, "CDW1");
	aml_close(aml, inner);
	aml_close(aml, block);

	block = aml_else(aml);
	aml_op(aml, AML_OR);
	aml_name_string(aml, "CDW1");
	aml_int(aml, 0x04);
	aml_name_string(aml, "CDW1");
	aml_close(aml, block);

	aml_op(aml, AML_RETURN);
	aml_op(aml, AML_ARG3);
	aml_close(aml, method);
}

static bool has_slot(const struct board *board, unsigned slot)
{
	return board->pci.slots >> slot & 1;
}

/* The GSI of INTA for every slot; it never changes. */
static void write_prt(struct aml *aml, const struct board *board)
{
	aml_mark all;

	aml_name(aml, "_PRT");
	all = aml_package(aml, (uint8_t)__builtin_popcount(board->pci.slots));
	for (unsigned slot = 0; slot < BOARD_MAX_SLOTS; slot++) {
		aml_mark one;

		if (!has_slot(board, slot))
			continue;
		one = aml_package(aml, 4);
		aml_int(aml, (uint64_t)slot << 16 | 0xffff);
		aml_int(aml, 0); /* INTA */
		aml_int(aml, 0); /* no link device: the next is a GSI */
		aml_int(aml, board->pci.gsi[slot]);
		aml_close(aml, one);
	}
	aml_close(aml, all);
}

/* Method (_EJ0, 1) { PHEJ = bit }: the guest has given up the slot's device. */
static void write_eject(struct aml *aml, unsigned slot)
{
	aml_mark method = aml_method(aml, "_EJ0", 1, false);

	aml_op(aml, AML_STORE);
	aml_int(aml, 1u << slot);
	aml_name_string(aml, "PHEJ");
	aml_close(aml, method);
}

static void slot_name(unsigned slot, char name[8])
{
	snprintf(name, 8, "S%03X", slot % BOARD_MAX_SLOTS);
}

/*
 * The number of every slot: guests name network cards by it ("ens5" for _SUN 5). Slot 0 is the host
 * bridge's.
 */
static void write_slots(struct aml *aml, const struct board *board)
{
	char name[8];

	for (unsigned slot = 1; slot < BOARD_MAX_SLOTS; slot++) {
		aml_mark dev;

		if (!has_slot(board, slot))
			continue;
		slot_name(slot, name);
		dev = aml_device(aml, name);
		aml_name_int(aml, "_ADR", (uint64_t)slot << 16);
		aml_name_int(aml, "_SUN", slot);
		if (board->hotplug.addr)
			write_eject(aml, slot);
		aml_close(aml, dev);
	}
}

/*
 * Method (PHNT, 2) {			// slots, value
 *   If (Arg0 & 2) { Notify (S001, Arg1) }
 *   …
 * }
 * Method (PHEV, 0, Serialized) {	// 1: Device Check; 3: Eject Request (ACPI 6.5, 5.6.6)
 *   PHNT (PHUP, 1)
 *   PHNT (PHDN, 3)
 * }
 */
static void write_hotplug_methods(struct aml *aml, const struct board *board)
{
	char name[8];
	aml_mark method = aml_method(aml, "PHNT", 2, false);

	for (unsigned slot = 1; slot < BOARD_MAX_SLOTS; slot++) {
		aml_mark block;

		if (!has_slot(board, slot))
			continue;
		block = aml_if(aml);
		aml_op(aml, AML_AND);
		aml_op(aml, AML_ARG0);
		aml_int(aml, 1u << slot);
		aml_int(aml, 0); /* And has no target */
		aml_op(aml, AML_NOTIFY);
		slot_name(slot, name);
		aml_name_string(aml, name);
		aml_op(aml, AML_ARG1);
		aml_close(aml, block);
	}
	aml_close(aml, method);

	method = aml_method(aml, "PHEV", 0, true);
	aml_name_string(aml, "PHNT");
	aml_name_string(aml, "PHUP");
	aml_int(aml, 1);
	aml_name_string(aml, "PHNT");
	aml_name_string(aml, "PHDN");
	aml_int(aml, 3);
	aml_close(aml, method);
}

/* OperationRegion (PHPR, …, 12) Field (PHPR, DWordAcc) { PHUP, 32, PHDN, 32, PHEJ, 32 } */
static void write_hotplug_regs(struct aml *aml, const struct board *board)
{
	static const char *const names[] = { "PHUP", "PHDN", "PHEJ" };

	aml_op_region(aml, "PHPR", board->hotplug.port, board->hotplug.addr, HOTPLUG_BYTES);
	aml_fields_dword(aml, "PHPR", names, 3);
}

static void write_pci(struct aml *aml, const struct board *board)
{
	uint8_t buf[RES_BYTES];
	struct aml res;
	aml_mark bus = aml_device(aml, "PCI0");

	aml_name_eisa(aml, "_HID", "PNP0A08");
	aml_name_eisa(aml, "_CID", "PNP0A03");
	aml_name_int(aml, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	aml_res_bus_window(&res, 0, (uint16_t)((board->pci.ecam.len_bytes >> 20) - 1));
	if (board->pci.config_port)
		aml_res_io(&res, board->pci.config_port, 8);
	aml_res_memory_window(&res, board->pci.mmio32.base, board->pci.mmio32.len_bytes);
	aml_resources(aml, &res);
	write_prt(aml, board);
	write_osc(aml);
	if (board->hotplug.addr)
		write_hotplug_regs(aml, board);
	write_slots(aml, board);
	if (board->hotplug.addr)
		write_hotplug_methods(aml, board);
	aml_close(aml, bus);
}

/* Reserves what no driver claims. Linux uses ECAM only if it is reserved. */
static void write_motherboard(struct aml *aml, const struct board *board)
{
	uint8_t buf[RES_BYTES];
	struct aml res;
	aml_mark dev = aml_device(aml, "MBRD");

	aml_name_eisa(aml, "_HID", "PNP0C02");
	aml_name_int(aml, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	if (board->pci.present)
		aml_res_memory(&res, board->pci.ecam.base, board->pci.ecam.len_bytes);
	add_board_regs(&res, board);
	if (board->pci.present && board->hotplug.addr)
		add_reg(&res, &board->hotplug, HOTPLUG_BYTES);
	aml_resources(aml, &res);
	aml_close(aml, dev);
}

static void write_small_devices(struct aml *aml, const struct board *board)
{
	uint8_t buf[RES_BYTES];
	struct aml res;
	aml_mark dev;

	for (unsigned i = 0; i < BOARD_SERIAL_PORTS; i++) {
		if (!board->serial[i].present)
			continue;
		dev = aml_device(aml, i ? "COM2" : "COM1");
		aml_name_eisa(aml, "_HID", "PNP0501");
		aml_name_int(aml, "_UID", i + 1);
		aml_init(&res, buf, sizeof(buf));
		add_reg(&res, &board->serial[i].regs, 8);
		aml_res_irq(&res, board->serial[i].gsi);
		aml_resources(aml, &res);
		aml_close(aml, dev);
	}
	acpi_arch_devices(aml, board);
	if (board->pvpanic.addr) {
		dev = aml_device(aml, "PEVT");
		aml_name_string_val(aml, "_HID", "QEMU0001");
		aml_init(&res, buf, sizeof(buf));
		add_reg(&res, &board->pvpanic, 1);
		aml_resources(aml, &res);
		aml_close(aml, dev);
	}
}

static void write_mmio(struct aml *aml, const struct board *board)
{
	uint8_t buf[RES_BYTES];
	struct aml res;
	char name[8];

	for (unsigned i = 0; i < board->nmmio; i++) {
		aml_mark dev;

		snprintf(name, sizeof(name), "VR%02X", i & 0xff);
		dev = aml_device(aml, name);
		aml_name_string_val(aml, "_HID", "LNRO0005");
		aml_name_int(aml, "_UID", i);
		aml_name_int(aml, "_CCA", 1);
		aml_init(&res, buf, sizeof(buf));
		aml_res_memory(&res, board->mmio[i].window.base, board->mmio[i].window.len_bytes);
		aml_res_irq(&res, board->mmio[i].gsi);
		aml_resources(aml, &res);
		aml_close(aml, dev);
	}
}

/* If (Local0 & bit) { Notify (target, 0x80) }; a name of one segment is searched for upwards (ACPI 6.5, 5.3). */
static void write_notify_if(struct aml *aml, uint32_t bit, const char *target)
{
	aml_mark block = aml_if(aml);

	aml_op(aml, AML_AND);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, bit);
	aml_int(aml, 0); /* And has no target */
	aml_op(aml, AML_NOTIFY);
	aml_name_string(aml, target);
	aml_int(aml, 0x80);
	aml_close(aml, block);
}

/*
 * Events: the GED's interrupt signals them, its register holds one bit for each, and
 * reading the register clears them.
 */
static void write_events(struct aml *aml, const struct board *board)
{
	uint8_t buf[RES_BYTES];
	struct aml res;
	aml_mark dev, method, pkg;

	dev = aml_device(aml, "PWRB");
	aml_name_eisa(aml, "_HID", "PNP0C0C");
	aml_close(aml, dev);

	if (board->vmgenid) {
		dev = aml_device(aml, "VGEN");
		aml_name_string_val(aml, "_HID", "BNTM0001");
		aml_name_string_val(aml, "_CID", "VM_Gen_Counter");
		aml_name_string_val(aml, "_DDN", "VM_Gen_Counter");
		aml_name(aml, "ADDR");
		pkg = aml_package(aml, 2);
		aml_int(aml, board->vmgenid & UINT32_MAX);
		aml_int(aml, board->vmgenid >> 32);
		aml_close(aml, pkg);
		aml_close(aml, dev);
	}

	dev = aml_device(aml, "GED_");
	aml_name_string_val(aml, "_HID", "ACPI0013");
	aml_name_int(aml, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	aml_res_irq(&res, board->ged_gsi);
	aml_resources(aml, &res);
	aml_op_region(aml, "GEDR", board->ged.port, board->ged.addr, 4);
	aml_field_dword(aml, "GEDR", "GEVT", 32);
	method = aml_method(aml, "_EVT", 1, true);
	aml_op(aml, AML_STORE);
	aml_name_string(aml, "GEVT");
	aml_op(aml, AML_LOCAL0);
	write_notify_if(aml, BOARD_GED_POWER_BUTTON, "PWRB");
	if (board->vmgenid)
		write_notify_if(aml, BOARD_GED_VMGENID, "VGEN");
	if (board->pci.present && board->hotplug.addr) {
		pkg = aml_if(aml);
		aml_op(aml, AML_AND);
		aml_op(aml, AML_LOCAL0);
		aml_int(aml, BOARD_GED_HOTPLUG);
		aml_int(aml, 0);
		aml_name_string(aml, "\\_SB_.PCI0.PHEV");
		aml_close(aml, pkg);
	}
	aml_close(aml, method);
	aml_close(aml, dev);
}

/* First in the table: a small guest that searches for it finds it soon. */
static void write_s5(struct aml *aml)
{
	aml_mark pkg;

	aml_name(aml, "\\_S5_");
	pkg = aml_package(aml, 4);
	aml_int(aml, BOARD_S5_TYPE);
	for (unsigned i = 0; i < 3; i++)
		aml_int(aml, 0);
	aml_close(aml, pkg);
}

void dsdt_write(struct aml *aml, const struct board *board)
{
	aml_mark scope;

	write_s5(aml);
	scope = aml_scope(aml, "\\_SB_");
	write_cpus(aml, board);
	write_motherboard(aml, board);
	if (board->pci.present)
		write_pci(aml, board);
	write_mmio(aml, board);
	write_small_devices(aml, board);
	write_events(aml, board);
	aml_close(aml, scope);
}
