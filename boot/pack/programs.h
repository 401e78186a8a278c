/*
 * programs: the guest programs that this program carries, so that it needs no file beside it.
 *
 * They are static and stripped. Their bytes lie in a section of their own behind all other read-only
 * data that a VM touches: only unwinding data and the API's tables follow it, so a VM that does not use
 * the programs has no more pages than without them.
 *
 * Thread: any.
 */
#ifndef BANTAM_PACK_PROGRAMS_H
#define BANTAM_PACK_PROGRAMS_H

#include <stddef.h>

#include "boot/pack/pack.h"

enum pack_program {
	PACK_INIT,  /* guest/init.c */
	PACK_AGENT, /* guest/agent.c */
};

/* The program's file; NULL if this build carries none (for a processor without guest programs). */
const void *pack_program(enum pack_program program, size_t *len_bytes);
/* Adds it as an executable file. -ENOTSUP: this build carries none. */
int pack_add_program(struct pack *pack, const char *name, enum pack_program program,
		     struct err *err);

#endif
