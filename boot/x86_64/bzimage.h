/*
 * bzimage: kernels of the Linux x86 boot protocol, 2.12 and later (Linux
 * Documentation/arch/x86/boot.rst), and their random virtual address.
 *
 * Every byte of the file is hostile. Errors name the file and the reason.
 * Thread: the builder.
 */
#ifndef BANTAM_X86_64_BZIMAGE_H
#define BANTAM_X86_64_BZIMAGE_H

#include "boot/file.h"
#include "boot/kernel.h"
#include "boot/kernel_image.h"

/*
 * The setup header begins here in the file and in boot_params alike. struct
 * kernel.header holds a bzImage's from this byte on.
 */
#define SETUP_HEADER 0x1f1u
#define SETUP_HEADER_END_MAX 0x290u

/* The fields of a bzImage that we use, checked. Offsets are into the file. */
struct bzimage {
	uint64_t body, body_bytes;	 /* the protected-mode part */
	uint64_t payload, payload_bytes; /* 0: does not say */
	uint64_t pref_address;
	uint64_t init_size;
	uint32_t kernel_alignment;
	bool relocatable;
};

/* True if head (the first n bytes of the file) begins a bzImage. */
bool bzimage_detect(const uint8_t *head, uint32_t n);
/* Checks the header; fills *bz and the fields of *k that come from it. */
int bzimage_parse(const struct boot_file *file, struct bzimage *bz, struct kernel *k,
		  struct err *err);
/* Finds and checks its memory: sets k->base and k->end. */
int bzimage_place(const struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		  struct kernel *k, struct err *err);
/* Loads it there as it is: the guest unpacks itself. */
int bzimage_load(struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		 struct kernel *k, struct err *err);

/*
 * Move a Linux image in mem to another virtual address, as its own decompressor
 * would have: k->header says so to the kernel. Without relocations that make
 * sense, or when the command line says nokaslr, nothing happens.
 */
void kaslr_apply(struct mem *mem, const struct kernel_image *image, const char *cmdline,
		 struct kernel *k);

#endif
