/*
 * modinfo: what a kernel module says of itself in its section ".modinfo": strings "KEY=VALUE"
 * (MODULE_INFO in linux/module.h), such as depends, softdep, alias, name and vermagic.
 *
 * Input is hostile. Internal to boot/pack and its tests. Thread: any.
 */
#ifndef BANTAM_PACK_MODINFO_H
#define BANTAM_PACK_MODINFO_H

#include <stddef.h>

#include "boot/pack/source.h"

/* The section headers of an ELF object as the file has them (Elf64_Shdr), and their names. */
struct pack_sections {
	uint8_t *table;
	size_t count;
	size_t names_at; /* the index of the section that holds the names */
	char *names;	 /* with a NUL behind them */
	size_t names_bytes;
};

/* As pack_modinfo_read, for any relocatable object. */
int pack_sections_read(const struct pack_source *source, struct pack_sections *out,
		       struct err *err);
void pack_sections_free(struct pack_sections *sections);

#define PACK_MODINFO_MAX (1u << 20)

struct pack_modinfo {
	char *text; /* strings, the last one with a NUL behind it, too */
	size_t len_bytes;
};

/*
 * Reads the section of an ELF object (64-bit, little-endian, of any processor). -EINVAL: it is none,
 * is damaged, or has no such section; then *out is empty.
 */
int pack_modinfo_read(const struct pack_source *source, struct pack_modinfo *out, struct err *err);
void pack_modinfo_free(struct pack_modinfo *info);

/* The value of the next KEY after the value prev (the first one after NULL), or NULL. */
const char *pack_modinfo_next(const struct pack_modinfo *info, const char *key, const char *prev);

#endif
