/*
 * definition: what of a VM's configuration its digest covers.
 *
 * The same VM has the same digest on every host. So of a normalised VmConfig
 * - a kernel, an initramfs and the image of a read-only disk become the SHA-256 of their content, in
 *   the field that has their path;
 * - what names a place on the host, or what the host chose, is left out: other paths and sockets, the
 *   image of a writable disk, taps with their addresses, descriptors, host processors, and a card's
 *   MAC address (a random one if the client gives none);
 * - the client's metadata is left out;
 * - all else counts, also what is there by default.
 *
 * Thread: any.
 */
#ifndef BANTAM_API_DEFINITION_H
#define BANTAM_API_DEFINITION_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/config.h"
#include "vmm/core/err.h"

#define DEFINITION_HEX_BYTES 65 /* 64 digits and a NUL */

/* What names a file whose content counts. */
struct definition_file {
	const char *path;
	bool disk;	    /* its content is what a guest reads */
	const char *format; /* of a disk: "Raw", "Qcow2", or NULL: by its name */
};

/*
 * Returns in *out the definition of config, which stays as it is; the caller drops *out. sum finds
 * the content's SHA-256, in lower case, and returns 0 or -errno with err filled, which ends it.
 */
int definition_make(const json_t *config,
		    int (*sum)(void *opaque, const struct definition_file *file,
			       char hex[DEFINITION_HEX_BYTES], struct err *err),
		    void *opaque, json_t **out, struct err *err);

/*
 * The VmConfig of a VM that bantam run's own options describe. What a VmConfig cannot say (--transport,
 * a second console, a key such as discard) is in a member "run", so that the digest covers it too: all
 * options and keys that differ from their default, but for paths and what else is left out above. The
 * content of a seed= folder does not count. The caller drops *out.
 */
int definition_of_run(const struct config *config, json_t **out, struct err *err);

#endif
