/* acpi: see acpi.h. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"

struct acpi_info acpi;
static const uint8_t *xsdt;

static bool sum_ok(const uint8_t *p, uint32_t n)
{
	uint8_t s = 0;
	while (n--)
		s = (uint8_t)(s + *p++);
	return s == 0;
}

static struct acpi_reg gas(const uint8_t *p)
{
	return (struct acpi_reg){ .space = p[0], .width_bits = p[1], .addr = load64(p + 4) };
}

const uint8_t *acpi_table(const char *signature)
{
	if (!xsdt)
		return NULL;
	unsigned size = xsdt[0] == 'X' ? 8 : 4;
	for (uint32_t i = 36; i + size <= load32(xsdt + 4); i += size) {
		uint64_t a = size == 8 ? load64(xsdt + i) : load32(xsdt + i);
		if (load32((const uint8_t *)a) == load32(signature))
			return (const uint8_t *)a;
	}
	return NULL;
}

static void read_madt(const uint8_t *t)
{
	for (uint32_t i = 44; i + 2 <= load32(t + 4) && t[i + 1] >= 2; i += t[i + 1]) {
		const uint8_t *e = t + i;
		if (e[0] == 0 && (load32(e + 4) & 1) && acpi.ncpus < 256)
			acpi.apic_id[acpi.ncpus++] = e[3];
		else if (e[0] == 9 && (load32(e + 8) & 1) && acpi.ncpus < 256)
			acpi.apic_id[acpi.ncpus++] = load32(e + 4);
		else if (e[0] == 1 && !acpi.ioapic)
			acpi.ioapic = load32(e + 4);
	}
}

/* _S5_ is a Package whose first element is the sleep type: 12 len n (0A xx | 00 | 01). */
static uint8_t find_s5(void)
{
	for (uint32_t i = 36; i + 9 < acpi.dsdt_bytes; i++) {
		const uint8_t *p = acpi.dsdt + i;
		if (load32(p) != load32("_S5_") || p[4] != 0x12)
			continue;
		p += 5 + (p[5] >> 6) + 1 + 1; /* PkgLength and NumElements */
		return *p == 0x0a ? p[1] : *p;
	}
	return 0;
}

static void read_fadt(const uint8_t *t)
{
	uint32_t len = load32(t + 4), flags = load32(t + 112);

	acpi.dsdt = (const uint8_t *)(len >= 148 && load64(t + 140) ? load64(t + 140) :
								      load32(t + 40));
	acpi.dsdt_bytes = load32(acpi.dsdt + 4);
	acpi.hw_reduced = flags >> 20 & 1;
	if (flags >> 10 & 1) {
		acpi.reset = gas(t + 116);
		acpi.reset_value = t[128];
	}
	if (acpi.hw_reduced && len >= 268)
		acpi.sleep_control = gas(t + 244);
	else
		acpi.pm1a_control = (struct acpi_reg){ 1, 16, load32(t + 64) };
	acpi.s5_type = find_s5();
}

void acpi_init(void)
{
	const uint8_t *rsdp = (const uint8_t *)boot_rsdp, *t;

	/* Not every loader passes the RSDP; then search below 1 MiB, as old kernels do. */
	for (uint64_t a = 0xe0000; !rsdp && a < 0x100000; a += 16)
		if (load64((const uint8_t *)a) == 0x2052545020445352) /* "RSD PTR " */
			rsdp = (const uint8_t *)a;
	if (!rsdp || memcmp(rsdp, "RSD PTR ", 8))
		return;
	acpi.bad_checksums += !sum_ok(rsdp, 20);
	xsdt = (const uint8_t *)(rsdp[15] >= 2 && load64(rsdp + 24) ? load64(rsdp + 24) :
								      load32(rsdp + 16));
	if ((t = acpi_table("FACP")))
		read_fadt(t);
	if ((t = acpi_table("APIC")))
		read_madt(t);
	if ((t = acpi_table("MCFG")) && load32(t + 4) >= 60) {
		acpi.ecam_base = load64(t + 44);
		acpi.ecam_buses = t[55] - t[54] + 1u;
	}
}

void acpi_write(const struct acpi_reg *reg, uint64_t v)
{
	if (!reg->addr)
		return;
	if (reg->space == 1) {
		if (reg->width_bits == 16)
			outw((uint16_t)reg->addr, (uint16_t)v);
		else if (reg->width_bits == 32)
			outl((uint16_t)reg->addr, (uint32_t)v);
		else
			outb((uint16_t)reg->addr, (uint8_t)v);
	} else {
		map_range(reg->addr, 8);
		mmio_w8(reg->addr, v);
	}
}

void acpi_poweroff(void)
{
	if (acpi.hw_reduced)
		acpi_write(&acpi.sleep_control, (uint64_t)acpi.s5_type << 2 | 0x20);
	else
		acpi_write(&acpi.pm1a_control, (uint64_t)acpi.s5_type << 10 | 0x2000);
	for (uint64_t end = now_us() + 1000000; now_us() < end;) /* the monitor may need a moment */
		relax();
}

void acpi_reset(void)
{
	acpi_write(&acpi.reset, acpi.reset_value);
}

/* Reads the descriptors of one _CRS, up to its end tag or the next device. */
static void read_resources(const uint8_t *p, const uint8_t *end, struct acpi_device *d)
{
	for (; p + 12 <= end; p++) {
		if (p[0] == 0x5b && p[1] == 0x82) /* DeviceOp: the next one */
			return;
		if (p[0] == 0x47 && p[1] == 0x01 && !d->base) {
			d->port = true;
			d->base = load16(p + 2);
			d->len = p[7];
			p += 7;
		} else if (p[0] == 0x86 && load16(p + 1) == 9 && !d->base) {
			d->base = load32(p + 4);
			d->len = load32(p + 8);
			p += 11;
		} else if (p[0] == 0x89 && load16(p + 1) >= 6 && p[4] == 1) {
			d->gsi = load32(p + 5);
			d->irq_flags = p[3];
			return;
		} else if (p[0] == 0x79 && d->base) {
			return;
		}
	}
}

bool acpi_find(const char *hid, unsigned nth, struct acpi_device *out)
{
	size_t n = strlen(hid);

	for (uint32_t i = 36; acpi.dsdt && i + n < acpi.dsdt_bytes; i++) {
		if (acpi.dsdt[i] != (uint8_t)hid[0] || memcmp(acpi.dsdt + i, hid, n) || nth--)
			continue;
		*out = (struct acpi_device){ 0 };
		read_resources(acpi.dsdt + i + n, acpi.dsdt + acpi.dsdt_bytes, out);
		return out->base != 0;
	}
	return false;
}
