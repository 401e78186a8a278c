/*
 * kernel: what a kernel file is, and getting it into guest memory.
 *
 *	kernel.c	tells the formats apart, unpacks, asks the cache
 *	bzimage.c	Linux x86 boot protocol 2.12 and later (Linux
 *			Documentation/arch/x86/boot.rst), 64-bit entry
 *	elf.c		ELF executables: by the 64-bit entry of Linux, or by the
 *			PVH note (XEN_ELFNOTE_PHYS32_ENTRY)
 *	payload.c	the ELF that is packed inside a bzImage or a file
 *	cache.c		the same, kept unpacked on disk
 *	kaslr.c		its random virtual address
 *
 * Every byte of the file is hostile. Guest memory is fresh, that is zero: what
 * an ELF wants zeroed is not written. Errors name the file and the reason.
 * Thread: the builder.
 */
#ifndef BANTAM_BOOT_KERNEL_H
#define BANTAM_BOOT_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"
#include "boot/file.h"
#include "boot/source.h"

/* The setup header begins here in the file and in boot_params alike. */
#define SETUP_HEADER 0x1f1u
#define SETUP_HEADER_END_MAX 0x290u

/* A kernel in guest memory, and what it told about itself. */
struct kernel {
	enum boot_entry_kind entry; /* LINUX64 or PVH */
	const char *format;	    /* static text */
	uint64_t rip;
	uint64_t base, end; /* the memory it needs before it knows its map */
	bool is_linux;
	/* For the initrd: the address of its last byte at most, when below 4 GiB. */
	uint64_t initrd_max;
	bool initrd_above_4g;
	uint32_t cmdline_max; /* without the NUL */
	/* As found in a bzImage, or made up: bytes from SETUP_HEADER on. */
	uint8_t setup[SETUP_HEADER_END_MAX - SETUP_HEADER];
	unsigned setup_bytes;
};

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
/* Load it there as it is: the guest unpacks itself. */
int bzimage_load(struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		 struct kernel *k, struct err *err);

/* A part of an ELF: file_bytes of content, zero from there to mem_bytes. */
#define KERNEL_MAX_SEGMENTS 64
struct kernel_segment {
	uint64_t paddr;
	uint64_t file_bytes;
	uint64_t mem_bytes;
	uint64_t offset; /* of the content, in the file that it comes from */
};

/* An ELF that was loaded, and what may be needed of it. */
struct kernel_image {
	struct kernel_segment seg[KERNEL_MAX_SEGMENTS]; /* sorted by offset */
	unsigned nsegs;
	uint64_t entry; /* e_entry */
	bool entry_ok;	/* 64-bit code at e_entry, a physical address in a segment */
	bool has_pvh;
	uint64_t pvh_entry;
	bool is_linux; /* carries a note of owner "Linux" */
	uint8_t *tail; /* what follows the segments in a bzImage's payload: relocations */
	uint64_t tail_bytes;
};
#define KERNEL_MAX_TAIL (16u << 20)

/* Room for the tail, mapped. False without memory. */
bool kernel_image_alloc_tail(struct kernel_image *image, uint64_t tail_bytes);
/* Frees the tail; accepts a zeroed object. */
void kernel_image_clear(struct kernel_image *image);

bool elf_detect(const uint8_t *head, uint32_t n);
/* Loads the segments of an ELF. Nothing is decided about its entry yet. */
int elf_load(struct mem *mem, struct boot_source *src, struct kernel_image *image, struct err *err);
/* Checks that the segments lie in guest memory, above 1 MiB and apart from each other. */
int elf_check_segments(const struct mem *mem, const struct boot_file *file,
		       const struct kernel_image *image, struct err *err);
/* True if addr lies in a segment and below 4 GiB. */
bool elf_entry_ok(const struct kernel_image *image, uint64_t addr);
/*
 * Sets entry and rip of *k as wanted, and widens base and end to the segments.
 * Limits are made up unless k->setup_bytes says that a bzImage gave them.
 */
int elf_enter(const struct boot_file *file, const struct kernel_image *image,
	      enum boot_entry_kind want, struct kernel *k, struct err *err);

/*
 * Move a Linux image in mem to another virtual address, as its own decompressor
 * would have: k->setup says so to the kernel. Without relocations that make
 * sense, or when the command line says nokaslr, nothing happens.
 */
void kaslr_apply(struct mem *mem, const struct kernel_image *image, const char *cmdline,
		 struct kernel *k);

/* An ELF inside a file, packed or (UNPACK_NONE) as it is. */
struct payload {
	uint64_t off, len_bytes;
	int kind;		 /* enum unpack_kind */
	uint64_t unpacked_bytes; /* as a bzImage says; then the tail is kept. 0: unknown */
};
/*
 * Load it, from cache_dir (NULL: none) if it is there; *cached tells. The
 * caller clears *image in any case.
 */
int boot_payload_load(struct mem *mem, const char *cache_dir, const struct boot_file *file,
		      const struct payload *payload, struct kernel_image *image, bool *cached,
		      struct err *err);

/* The whole job: open req->kernel and load it. */
int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k, struct err *err);

#endif
