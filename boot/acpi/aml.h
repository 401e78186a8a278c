/*
 * aml: a writer of ACPI Machine Language (ACPI 6.4, chapter 20).
 *
 * The functions append terms to the caller's buffer in the order of the grammar. A
 * term with a length is opened and closed; aml_close inserts the length (at most
 * 2^28 - 1 bytes), so the caller need not know it beforehand. When the buffer is full,
 * the writer sets aml->full and drops the rest: check that once, at the end. Names are
 * written as in ASL: "_SB_", "\\_SB_.PCI0", each segment four characters. Pure; any
 * thread.
 */
#ifndef BANTAM_ACPI_AML_H
#define BANTAM_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf;
	size_t len, cap;
	bool full;
};

void aml_init(struct aml *aml, void *buf, size_t cap);
void aml_bytes(struct aml *aml, const void *src, size_t n);
void aml_u8(struct aml *aml, uint8_t val);
void aml_u16(struct aml *aml, uint16_t val);
void aml_u32(struct aml *aml, uint32_t val);
void aml_u64(struct aml *aml, uint64_t val);

/* Terms without a body. */
void aml_name_string(struct aml *aml, const char *name);
void aml_int(struct aml *aml, uint64_t val);	  /* the shortest form */
void aml_uuid(struct aml *aml, const char *uuid); /* a 16-byte buffer, ToUUID's order */
void aml_name(struct aml *aml, const char *name); /* Name(name, <next term>) */
void aml_name_int(struct aml *aml, const char *name, uint64_t val);
void aml_name_string_val(struct aml *aml, const char *name, const char *text);
/* id, such as "PNP0A08", is compressed into an integer. */
void aml_name_eisa(struct aml *aml, const char *name, const char *id);
/* len_bytes of I/O ports, or of memory. */
void aml_op_region(struct aml *aml, const char *name, bool io, uint64_t at, uint64_t len_bytes);
/* One field of bits width at the region's beginning, accessed in dwords. */
void aml_field_dword(struct aml *aml, const char *region, const char *name, uint32_t bits);
/* n fields of 32 bits side by side, from the region's beginning. */
void aml_fields_dword(struct aml *aml, const char *region, const char *const *names, unsigned n);

/* Terms with a body: keep the mark, write the body, close. */
typedef size_t aml_mark;
aml_mark aml_scope(struct aml *aml, const char *name);
aml_mark aml_device(struct aml *aml, const char *name);
aml_mark aml_method(struct aml *aml, const char *name, unsigned nargs, bool serialized);
aml_mark aml_package(struct aml *aml, uint8_t count);
aml_mark aml_if(struct aml *aml); /* the predicate comes first */
aml_mark aml_else(struct aml *aml);
void aml_close(struct aml *aml, aml_mark mark);

/* Opcodes. Their operands are the terms that follow. */
enum aml_op {
	AML_LOCAL0 = 0x60,
	AML_LOCAL1 = 0x61,
	AML_ARG0 = 0x68,
	AML_ARG1 = 0x69,
	AML_ARG2 = 0x6a,
	AML_ARG3 = 0x6b,
	AML_STORE = 0x70, /* source, target */
	AML_AND = 0x7b,	  /* a, b, target */
	AML_OR = 0x7d,
	AML_NOTIFY = 0x86,	       /* object, value */
	AML_CREATE_DWORD_FIELD = 0x8a, /* buffer, byte index, name */
	AML_LNOT = 0x92,
	AML_LEQUAL = 0x93,
	AML_RETURN = 0xa4,
};
void aml_op(struct aml *aml, enum aml_op op);

/*
 * Resource descriptors (ACPI 6.4, section 6.4). The caller collects them in a second
 * writer; aml_resources wraps that: Name(_CRS, ResourceTemplate() {…}).
 */
void aml_res_io(struct aml *res, uint16_t port, uint8_t len);
void aml_res_irq(struct aml *res, uint32_t gsi); /* consumer, edge, active high */
/* Fixed memory, read-write: the 32-bit descriptor where it fits, else the 64-bit one. */
void aml_res_memory(struct aml *res, uint64_t base, uint64_t len_bytes);
/* Windows that a bridge forwards. */
void aml_res_bus_window(struct aml *res, uint16_t first, uint16_t last);
void aml_res_memory_window(struct aml *res, uint64_t base, uint64_t len_bytes);
void aml_resources(struct aml *aml, struct aml *res);

#endif
