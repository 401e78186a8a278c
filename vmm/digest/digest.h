/*
 * digest: the SHA-256 of a VM's definition (definition.h) in its canonical form (RFC 8785).
 *
 * It names what was run, for audit logs: the same in every run, on every host and for every path, as
 * long as configuration and content are the same. Of the content of writable disks it says nothing,
 * and so of a kernel that boots from one.
 *
 * The files are read in a thread that gives way to every other thread of the host, and remembers what
 * it has read (sums.h).
 */
#ifndef BANTAM_API_DIGEST_H
#define BANTAM_API_DIGEST_H

#include <jansson.h>

#include "vmm/digest/definition.h"

struct digest;

/*
 * One thread at a time calls the functions.
 *
 * done is called once for each digest_start that is not cancelled: with the digest's 64 digits, or
 * with hex NULL and the reason. It runs in the digest's thread, must not wait for long, and must not
 * call functions of this module; nor may a caller of these functions hold a lock that done takes.
 */
int digest_create(void (*done)(void *opaque, const char *hex, const struct err *err), void *opaque,
		  struct digest **out, struct err *err);
/* Begins; cancels what runs. config, a normalised VmConfig, stays the caller's. 0 or -errno. */
int digest_start(struct digest *d, const json_t *config, struct err *err);
/*
 * When it returns, done is not running and is not called any more. It takes at most some 20 ms, and
 * much less unless a read hangs.
 */
void digest_cancel(struct digest *d);
/* Cancels. Accepts NULL. */
void digest_destroy(struct digest *d);

/* The same at once, in this thread; it may take as long as the disks are large. */
int digest_now(const json_t *config, char hex[DEFINITION_HEX_BYTES], struct err *err);

#endif
