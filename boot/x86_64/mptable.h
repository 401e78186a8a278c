/*
 * mptable: the MP configuration table (Intel MultiProcessor Specification 1.4, chapter 4).
 *
 * It describes processors, buses, the I/O APIC and interrupt lines to kernels without ACPI: tiny
 * ones, and those that are told acpi=off. A kernel with ACPI ignores it. Internal to boot. Thread:
 * the builder.
 */
#ifndef BANTAM_X86_64_MPTABLE_H
#define BANTAM_X86_64_MPTABLE_H

#include "boot/boot.h"

/*
 * Writes the table and the pointer to it where layout.h says; guest memory is there, and zero. The
 * table has room for BOARD_MAX_CPUS processors; their ids have 8 bits, as the board's have.
 */
void mptable_write(struct mem *mem, const struct board *board);

#endif
