/*
 * fake_kernel: tiny kernels of every format, which tests damage.
 *
 * Blobs are memory of the test's process. The test frees them with blob_free, or leaves them until
 * the process ends.
 */
#ifndef TESTS_FAKE_KERNEL_H
#define TESTS_FAKE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "boot/boot.h"
#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

struct blob {
	uint8_t *b;
	size_t len;  /* tests may shorten it */
	size_t room; /* 0: not from blob_new */
};

struct blob blob_new(size_t len, uint8_t with);

#define FAKE_MIB (1ull << 20)
#define FAKE_KERNEL_AT (2 * FAKE_MIB)
#define FAKE_KERNEL_BYTES 0x3000u /* content of the only segment */
#define FAKE_KERNEL_MEM 0x5000u

/* A 64-bit ELF with one segment of FAKE_KERNEL_BYTES at FAKE_KERNEL_AT, and the chosen notes. */
struct blob fake_elf(int pvh, int linux_note);
/* Offsets in fake_elf that tests change. */
#define FAKE_ELF_PHDR 64u
#define FAKE_ELF_NPHDRS 2u
#define FAKE_ELF_DATA 0x1000u  /* file offset of the segment */
#define FAKE_ELF_NOTES 0x2000u /* within the segment */

/* A bzImage around a payload, whose unpacked size is appended if size is not 0. */
struct blob fake_bzimage(struct blob payload, uint32_t size);
#define FAKE_BZ_BODY 1024u    /* file offset of the protected-mode part */
#define FAKE_BZ_PAYLOAD 2048u /* file offset of the payload */

/* Packs plain; kind is one of enum unpack_kind. */
struct blob fake_pack(struct blob plain, int kind);
struct blob blob_dup(struct blob blob);
void blob_free(struct blob *blob);

/* Makes an unnamed file with that content. The returned path is valid for the next 64 calls. */
const char *fake_file(struct blob blob);

struct fake_guest {
	struct mem mem;
	struct board board;
	struct boot_request req;
	struct boot_info info;
	struct err err;
};

/* A guest with mib of memory from 0 on, a plain board, and this kernel. */
void fake_guest_init(struct fake_guest *g, uint64_t mib, struct blob kernel);
int fake_guest_boot(struct fake_guest *g);
void fake_guest_clear(struct fake_guest *g);

#endif
