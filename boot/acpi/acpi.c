/* acpi: see acpi.h. */
#include "boot/acpi/acpi.h"

#include <errno.h>
#include <string.h>

#include "boot/boot.h"
#include "vmm/core/bytes.h"
#include "vmm/core/err.h"

#define OEM_ID "BANTAM"
#define OEM_TABLE_ID "BANTAMVM"
#define OEM_REVISION 1u
#define CREATOR_ID "BNTM"

#define RSDP_BYTES 36u
#define TABLE_ALIGN 16u
#define MAX_TABLES 4

/* FADT flags (ACPI 6.4, table 5.10). */
#define FADT_PWR_BUTTON (1u << 4) /* 1: no fixed power button */
#define FADT_SLP_BUTTON (1u << 5)
#define FADT_FIX_RTC (1u << 6) /* 1: no RTC wake status in fixed registers */
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED (1u << 20)

static uint8_t checksum(const uint8_t *b, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

/* Writes a table's header; table_end fills in the length and the checksum. */
static void table_begin(struct aml *t, const char *signature, uint8_t revision)
{
	aml_bytes(t, signature, 4);
	aml_u32(t, 0);
	aml_u8(t, revision);
	aml_u8(t, 0);
	aml_bytes(t, OEM_ID, 6);
	aml_bytes(t, OEM_TABLE_ID, 8);
	aml_u32(t, OEM_REVISION);
	aml_bytes(t, CREATOR_ID, 4);
	aml_u32(t, OEM_REVISION);
}

static void table_end(struct aml *t)
{
	if (t->full)
		return;
	put_le32(t->buf + 4, (uint32_t)t->len);
	t->buf[9] = checksum(t->buf, t->len);
}

static void zeros(struct aml *t, unsigned n)
{
	while (n--)
		aml_u8(t, 0);
}

/* Generic address structure (section 5.2.3.2): an 8-bit register, or none. */
static void gas_reg8(struct aml *t, const struct board_reg *reg)
{
	if (!reg->addr) {
		zeros(t, 12);
		return;
	}
	aml_u8(t, reg->port); /* 0: system memory, 1: system I/O */
	aml_u8(t, 8);	      /* bits wide */
	aml_u8(t, 0);	      /* bit offset */
	aml_u8(t, 1);	      /* byte access */
	aml_u64(t, reg->addr);
}

static bool is_reduced(const struct board *board)
{
	return !board->pm1.control.addr;
}

#define FACS_BYTES 64u /* and its alignment */

/* The waking vectors of sleep states that the board does not have; but a kernel looks for them. */
static void write_facs(struct aml *t)
{
	aml_bytes(t, "FACS", 4);
	aml_u32(t, FACS_BYTES);
	zeros(t, 32 - 8);
	aml_u8(t, 2); /* version */
	zeros(t, FACS_BYTES - 33);
}

/* Enters the fixed hardware into a FADT. There is no SMI command: the board is always in ACPI mode. */
static void put_pm1(struct aml *t, const struct board *board)
{
	if (t->full)
		return;
	put_le16(t->buf + 46, board->pm1.gsi);
	put_le32(t->buf + 56, (uint32_t)board->pm1.event.addr);
	put_le32(t->buf + 64, (uint32_t)board->pm1.control.addr);
	t->buf[88] = 4; /* PM1_EVT_LEN */
	t->buf[89] = 2; /* PM1_CNT_LEN */
}

/* Revision 6.4. Fields of fixed hardware are zero, unless the board has it. facs 0: no FACS. */
static void write_fadt(struct aml *t, const struct board *board, uint64_t facs, uint64_t dsdt)
{
	struct acpi_fadt arch = acpi_arch_fadt(board);
	const struct board_reg none = { 0 };

	table_begin(t, "FACP", 6);
	aml_u32(t, (uint32_t)facs);
	aml_u32(t, (uint32_t)dsdt);
	zeros(t, 109 - 44); /* … CENTURY */
	aml_u16(t, arch.iapc_boot);
	aml_u8(t, 0);
	aml_u32(t, arch.flags | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC |
			   FADT_RESET_REG_SUP | (is_reduced(board) ? FADT_HW_REDUCED : 0));
	gas_reg8(t, &board->reset);
	aml_u8(t, board->reset_value);
	aml_u16(t, arch.arm_boot);
	aml_u8(t, 4);  /* minor revision */
	aml_u64(t, 0); /* X_FIRMWARE_CTRL */
	aml_u64(t, dsdt);
	zeros(t, 244 - 148); /* X_PM1a_EVT_BLK … X_GPE1_BLK */
	gas_reg8(t, is_reduced(board) ? &board->sleep_control : &none);
	gas_reg8(t, is_reduced(board) ? &board->sleep_status : &none);
	aml_bytes(t, "bantam\0\0", 8); /* hypervisor vendor identity */
	if (!is_reduced(board))
		put_pm1(t, board);
	table_end(t);
}

static void write_mcfg(struct aml *t, const struct board *board)
{
	table_begin(t, "MCFG", 1);
	aml_u64(t, 0);
	aml_u64(t, board->pci.ecam.base);
	aml_u16(t, 0); /* segment */
	aml_u8(t, 0);
	aml_u8(t, (uint8_t)((board->pci.ecam.len_bytes >> 20) - 1));
	aml_u32(t, 0);
	table_end(t);
}

static void write_rsdp(uint8_t *p, uint64_t rsdt, uint64_t xsdt)
{
	memset(p, 0, RSDP_BYTES);
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, OEM_ID, 6);
	p[15] = 2; /* ACPI 2.0 and later */
	put_le32(p + 16, (uint32_t)rsdt);
	put_le32(p + 20, RSDP_BYTES);
	put_le64(p + 24, xsdt);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_BYTES);
}

/* The tables, written one after the other straight to guest memory. */
struct tables {
	uint8_t *buf;
	uint64_t base;
	size_t len, cap;
	bool full;
};

static struct aml next_table(const struct tables *ts)
{
	struct aml t;

	aml_init(&t, ts->buf + ts->len, ts->cap - ts->len);
	return t;
}

/* Adds a finished table. Returns its guest address. */
static uint64_t take(struct tables *ts, const struct aml *t)
{
	uint64_t at = ts->base + ts->len;
	size_t padded = (t->len + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);

	ts->full = ts->full || t->full;
	ts->len += padded < ts->cap - ts->len ? padded : ts->cap - ts->len;
	return at;
}

int64_t acpi_build(struct mem *mem, const struct board *board, gpa_t base, uint64_t len_bytes,
		   struct err *err)
{
	uint64_t entry[MAX_TABLES], facs = 0, dsdt, rsdt, xsdt;
	unsigned n = 0;
	struct aml t;
	struct tables ts = { .buf = mem_slice(mem, base, len_bytes),
			     .base = base.v,
			     .cap = len_bytes };

	if (!ts.buf || base.v % TABLE_ALIGN || len_bytes < RSDP_BYTES + TABLE_ALIGN)
		return err_set(err, EINVAL, "ACPI tables: no guest memory at %#llx",
			       (unsigned long long)base.v);
	ts.len = (RSDP_BYTES + TABLE_ALIGN - 1) & ~(TABLE_ALIGN - 1);

	if (!is_reduced(board)) {
		ts.len += -(base.v + ts.len) % FACS_BYTES;
		ts.full = ts.len > ts.cap;
		ts.len = ts.full ? ts.cap : ts.len;
		t = next_table(&ts);
		write_facs(&t);
		facs = take(&ts, &t);
	}

	t = next_table(&ts);
	/* Revision 2: integers are 64 bits wide. */
	table_begin(&t, "DSDT", 2);
	dsdt_write(&t, board);
	table_end(&t);
	dsdt = take(&ts, &t);

	t = next_table(&ts);
	write_fadt(&t, board, facs, dsdt);
	entry[n++] = take(&ts, &t);
	t = next_table(&ts);
	table_begin(&t, "APIC", 5);
	acpi_arch_madt(&t, board);
	table_end(&t);
	entry[n++] = take(&ts, &t);
	if (board->pci.present) {
		t = next_table(&ts);
		write_mcfg(&t, board);
		entry[n++] = take(&ts, &t);
	}

	t = next_table(&ts);
	table_begin(&t, "XSDT", 1);
	for (unsigned i = 0; i < n; i++)
		aml_u64(&t, entry[i]);
	table_end(&t);
	xsdt = take(&ts, &t);
	/* The same with 32 bits, for kernels that want it (Linux: acpi=rsdt). */
	t = next_table(&ts);
	table_begin(&t, "RSDT", 1);
	for (unsigned i = 0; i < n; i++)
		aml_u32(&t, (uint32_t)entry[i]);
	table_end(&t);
	rsdt = take(&ts, &t);
	if (ts.full)
		return err_set(err, ENOSPC, "ACPI tables: need more than %llu bytes",
			       (unsigned long long)len_bytes);
	write_rsdp(ts.buf, rsdt, xsdt);
	return (int64_t)ts.len;
}
