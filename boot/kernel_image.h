/*
 * kernel_image: describes an ELF in guest memory that elf.c or cache.c loaded.
 *
 * Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_KERNEL_IMAGE_H
#define BANTAM_BOOT_KERNEL_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

/* A part of an ELF: file_bytes of content, zero from there to mem_bytes. */
#define KERNEL_MAX_SEGMENTS 64
struct kernel_segment {
	uint64_t paddr;
	uint64_t file_bytes;
	uint64_t mem_bytes;
	uint64_t offset; /* of the content in its file */
};

/* Why an ELF without the notes of a kernel may be none that bantam can enter. */
enum kernel_doubt {
	KERNEL_DOUBT_NONE,
	KERNEL_DOUBT_PROGRAM,	/* a program for an operating system */
	KERNEL_DOUBT_MULTIBOOT, /* has a Multiboot header */
};

/* A loaded ELF. */
struct kernel_image {
	struct kernel_segment seg[KERNEL_MAX_SEGMENTS]; /* sorted by offset */
	unsigned nsegs;
	uint64_t entry; /* e_entry */
	bool entry_ok;	/* 64-bit code at e_entry, a physical address in a segment */
	bool has_pvh;	/* carries the PVH note; pvh_entry lies in a segment */
	uint64_t pvh_entry;
	bool is_linux; /* carries a note of owner "Linux" */
	enum kernel_doubt doubt;
	uint8_t *tail; /* what follows the segments in a packed payload: relocations */
	uint64_t tail_bytes;
};
#define KERNEL_MAX_TAIL (16u << 20)

/* Maps room for the tail. Returns false if there is no memory. */
bool kernel_image_alloc_tail(struct kernel_image *image, uint64_t tail_bytes);
/* Frees the tail; accepts a zeroed object. */
void kernel_image_clear(struct kernel_image *image);

#endif
