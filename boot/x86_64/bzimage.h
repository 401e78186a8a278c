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
 * The setup header begins at this offset, in the file and in boot_params. A bzImage's
 * struct kernel.header holds the bytes from this one on.
 */
#define SETUP_HEADER 0x1f1u
#define SETUP_HEADER_END_MAX 0x290u

/* The fields of a bzImage that bantam uses, checked. Offsets are into the file. */
struct bzimage {
	uint64_t body, body_bytes;	 /* the protected-mode part */
	uint64_t payload, payload_bytes; /* 0: not in the header */
	uint64_t pref_address;
	uint64_t init_size;
	uint32_t kernel_alignment;
	bool relocatable;
};

/* Returns true if head (the file's first n bytes) begins a bzImage. */
bool bzimage_detect(const uint8_t *head, uint32_t n);
/* Checks the header; fills *bz and the fields of *k that come from it. */
int bzimage_parse(const struct boot_file *file, struct bzimage *bz, struct kernel *k,
		  struct err *err);
/* Chooses and checks the guest memory that the kernel runs in: sets k->base and k->end. */
int bzimage_place(const struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		  struct kernel *k, struct err *err);
/* Loads the protected-mode part to k->base, still packed: it unpacks itself in the guest. */
int bzimage_load(struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		 struct kernel *k, struct err *err);

/*
 * Moves a Linux image in mem to another virtual address, as its own decompressor
 * does, and sets the KASLR flag in k->header for the kernel. Does nothing without
 * valid relocations, or if the command line has nokaslr.
 */
void kaslr_apply(struct mem *mem, const struct kernel_image *image, const char *cmdline,
		 struct kernel *k);

#endif
