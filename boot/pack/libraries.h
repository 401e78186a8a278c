/*
 * libraries: the shared libraries of a program, as the host's dynamic linker would find them. Internal to
 * boot/pack.
 *
 * Errors: 0 or -errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_PACK_LIBRARIES_H
#define BANTAM_PACK_LIBRARIES_H

#include "boot/pack/object.h"
#include "boot/pack/pack.h"

/*
 * Adds all libraries of program, which has an interpreter and lies at host here and at guest in the
 * archive; the call empties *program. -ENOENT: one is not on this host.
 */
int pack_add_libraries(struct pack *pack, struct pack_object *program, const char *host,
		       const char *guest, struct err *err);

#endif
