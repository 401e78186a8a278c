/*
 * layout: the PC's guest-physical addresses, ports and interrupt pins.
 *
 *   0           … 3 GiB         RAM, or less of it; below 1 MiB see boot/x86_64/layout.h
 *   0x000ff000                  VM generation id
 *   0xc0000000  … 0xdfffffff    BARs of PCI devices
 *   0xe0000000  … 0xe00fffff    ECAM, bus 0
 *   0xe8000000  …               virtio-mmio slots, 4 KiB each
 *   0xfec00000                  IOAPIC
 *   0xfee00000                  local APIC
 *   0xfffbc000  … 0xfffc0000    Intel's identity map and TSS, for KVM
 *   4 GiB       …               the rest of RAM
 */
#ifndef BANTAM_X86_LAYOUT_H
#define BANTAM_X86_LAYOUT_H

#define LAYOUT_VMGENID 0xff000ull
#define LAYOUT_HOLE_START 0xc0000000ull
#define LAYOUT_HOLE_END 0x100000000ull

#define LAYOUT_PCI_MMIO 0xc0000000ull
#define LAYOUT_PCI_MMIO_BYTES 0x20000000ull
#define LAYOUT_ECAM 0xe0000000ull
#define LAYOUT_ECAM_BYTES 0x100000ull
#define LAYOUT_VIRTIO_MMIO 0xe8000000ull
#define LAYOUT_VIRTIO_MMIO_STRIDE 0x1000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_IDENTITY_MAP 0xfffbc000ull
#define LAYOUT_TSS 0xfffbd000ull

#define PORT_RTC 0x70
#define PORT_COM1 0x3f8
#define PORT_COM2 0x2f8
#define PORT_PVPANIC 0x505
#define PORT_PCI_CONFIG 0xcf8 /* devices/pci/pci.c */
/* ACPI: sleep control, sleep status, reset, then 4 bytes of GED events. */
#define PORT_ACPI 0x600
#define PORT_SLEEP_CONTROL (PORT_ACPI + 0)
#define PORT_SLEEP_STATUS (PORT_ACPI + 1)
#define PORT_RESET (PORT_ACPI + 2)
#define PORT_GED (PORT_ACPI + 4)
/* The legacy board only: 4 bytes of events, 2 of control. */
#define PORT_PM1_EVENT (PORT_ACPI + 8)
#define PORT_PM1_CONTROL (PORT_ACPI + 12)
#define PORT_HOTPLUG (PORT_ACPI + 16) /* 12 bytes; only where devices may come later */
#define RESET_VALUE 0x0f

#define GSI_COM2 3
#define GSI_COM1 4
#define GSI_GED 5
/* Virtio-mmio slots use the pins from 6 up, except the RTC's. */
#define GSI_MMIO 6
#define GSI_RTC 8
#define GSI_PCI 16 /* INTA of slot n: GSI_PCI + n % GSI_PCI_COUNT */
#define GSI_PCI_COUNT 8
/* On the legacy board all interrupts are below 16, where the 8259 has them. */
#define GSI_SCI 9
#define GSI_LEGACY_PCI 10
#define GSI_LEGACY_PCI_COUNT 2
#define GSI_PIC_END 16
#define LEGACY_LEVEL_GSIS (1u << 9 | 1u << 10 | 1u << 11)

#endif
