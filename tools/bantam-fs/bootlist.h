/*
 * bootlist: lists the kernels in a folder: by their names, then as the boot loader's files name them,
 * which also say what each boots with. For bootfind, in its thread; all input is hostile.
 */
#ifndef BANTAM_FS_BOOTLIST_H
#define BANTAM_FS_BOOTLIST_H

#include "tools/bantam-fs/bootfind.h"

/* Adds the kernels in v's folder dir to f's choices. What cannot be read is left out. */
void bootlist_add(struct bootfind *f, struct volume *v, const char *dir);

#endif
