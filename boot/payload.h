/*
 * payload: the ELF inside a kernel file, packed or as it is.
 *
 * Internal to boot. Errors name the file and the reason. Thread: the builder.
 */
#ifndef BANTAM_BOOT_PAYLOAD_H
#define BANTAM_BOOT_PAYLOAD_H

#include "boot/boot.h"
#include "boot/file.h"
#include "boot/kernel_image.h"

struct payload {
	uint64_t off, len_bytes;
	int kind; /* enum unpack_kind; UNPACK_NONE: as it is */
	/* As the kernel's header says; then the image's tail is kept. 0: unknown. */
	uint64_t unpacked_bytes;
};

/*
 * Loads it; a packed one from the request's cache if that has it, which *cached
 * tells. The caller clears *image in any case.
 */
int boot_payload_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		      const struct payload *payload, struct kernel_image *image, bool *cached,
		      struct err *err);

#endif
