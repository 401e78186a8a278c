/*
 * keep: what outlives a machine on the host: descriptors that a back end leaves when its machine ends
 * and takes again when the next one begins (a tap's queues, a listening socket).
 *
 * Each kept thing has the id of its device and a name of its kind ("tap"). The back end knows what is
 * in it; the keeper's owner only decides when it goes: it drops what no next machine will take (the VM
 * is deleted, a device is removed, the first machine could not be built).
 *
 * Any thread; the functions never wait, except for a drop of the back end.
 */
#ifndef BANTAM_CORE_KEEP_H
#define BANTAM_CORE_KEEP_H

#include "vmm/core/err.h"

#define KEEP_NAME_BYTES 96

struct keep;

/* Embedded first in what a back end keeps. */
struct kept {
	/* Closes and removes everything, and frees the object. Any thread, no lock held. */
	void (*drop)(struct kept *kept);
	/* private */
	struct kept *next;
	char name[KEEP_NAME_BYTES]; /* "ID/KIND" */
};

/* 0 or -ENOMEM. */
int keep_create(struct keep **out);
/* Drops everything. Accepts NULL. */
void keep_destroy(struct keep *k);
/*
 * Drops what is kept of the device of that id; "": of all devices. What a machine has taken is not
 * here: it comes back when the machine is destroyed.
 */
void keep_drop(struct keep *k, const char *id);

/*
 * For back ends. keep_put takes kept over; what is there under the same id and kind is dropped, and so
 * is kept itself if the names are too long together. keep_take returns what keep_put left, which then
 * belongs to the caller, or NULL. k NULL: nothing is there.
 */
void keep_put(struct keep *k, const char *id, const char *kind, struct kept *kept);
struct kept *keep_take(struct keep *k, const char *id, const char *kind);

#endif
