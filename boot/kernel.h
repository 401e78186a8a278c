/*
 * kernel: finds out what a kernel file is, and loads it into guest memory.
 *
 *	kernel.c	tells the formats apart, loads ELF files
 *	arch.h		what the guest's architecture supplies: its own formats
 *			(boot/x86_64: bzImage), and the entry of a kernel
 *	unified.c	a unified kernel image: kernel, initrd and command line in one file
 *	foreign.c	names what is no kernel of ours
 *	elf.c		ELF executables
 *	payload.c	the ELF inside a kernel file, packed or not
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
#include "boot/file.h"

#define KERNEL_HEADER_MAX 160u
#define KERNEL_INITRDS 2u

/* A kernel in guest memory, and its properties. */
struct kernel {
	enum boot_entry_kind entry; /* not AUTO */
	const char *format;	    /* static text */
	uint64_t entry_addr;	    /* of its first instruction */
	uint64_t base, end;	    /* the memory it needs before it knows its map */
	bool is_linux;
	/* The highest address for the initrd's last byte, in the RAM region with the kernel. */
	uint64_t initrd_max;
	/* If it does not fit there: the highest address for its last byte, in any RAM. */
	uint64_t initrd_far;
	uint32_t cmdline_max; /* without the NUL */
	/* The header of the architecture's own format, as found in the file (bzImage: boot/x86_64). */
	uint8_t header[KERNEL_HEADER_MAX];
	unsigned header_bytes; /* 0: the file has none */
	/* A unified kernel image's own initrd and command line: parts of file. */
	struct boot_file file, initrd[KERNEL_INITRDS];
	unsigned ninitrds;
	char *cmdline; /* owned; NULL: none */
};

/*
 * Opens req->kernel (or uses req->kernel_fd), loads it and fills *k. Returns 0 or -errno. The
 * caller calls kernel_close in both cases.
 */
int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k, struct err *err);
void kernel_close(struct kernel *k);

#endif
