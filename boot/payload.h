/*
 * payload: loads the ELF inside a kernel file, packed or not.
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
	int kind; /* enum unpack_kind; UNPACK_NONE: not packed */
	/* As recorded in the kernel file; if not 0, the image keeps its tail. 0: unknown. */
	uint64_t unpacked_bytes;
};

/*
 * Loads the payload. A packed one comes from the request's cache if that has it; then
 * *cached is true. Returns 0 or -errno. The caller clears *image in both cases.
 */
int boot_payload_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		      const struct payload *payload, struct kernel_image *image, bool *cached,
		      struct err *err);

#endif
