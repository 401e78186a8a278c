/*
 * kernel: what a kernel file is, and getting it into guest memory.
 *
 *	kernel.c	tells the formats apart, loads ELF files
 *	arch.h		what the guest's architecture supplies: its own formats
 *			(boot/x86_64: bzImage), and how a kernel is entered
 *	elf.c		ELF executables
 *	payload.c	the ELF that is packed inside a file, or lies in it
 *	unpack.c	the compressions; source.c reads through them
 *	cache.c		an unpacked ELF, kept on disk
 *
 * Internal to boot. Every byte of the file is hostile. Errors name the file and
 * the reason. Thread: the builder.
 */
#ifndef BANTAM_BOOT_KERNEL_H
#define BANTAM_BOOT_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"

#define KERNEL_HEADER_MAX 160u

/* A kernel in guest memory, and what it told about itself. */
struct kernel {
	enum boot_entry_kind entry; /* not AUTO */
	const char *format;	    /* static text */
	uint64_t entry_addr;	    /* of its first instruction */
	uint64_t base, end;	    /* the memory it needs before it knows its map */
	bool is_linux;
	/* For the initrd: its last byte's highest address, in the RAM that holds the kernel … */
	uint64_t initrd_max;
	/* … and whether it may lie in RAM beyond that. */
	bool initrd_beyond;
	uint32_t cmdline_max; /* without the NUL */
	/* The header of the architecture's own format, as found in the file (bzImage: boot/x86_64). */
	uint8_t header[KERNEL_HEADER_MAX];
	unsigned header_bytes; /* 0: the file brings none */
};

/* The whole job: opens req->kernel and loads it. */
int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k, struct err *err);

#endif
