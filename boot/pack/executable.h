/*
 * executable: a program of the host, with what it needs to run in a guest that has nothing else: its ELF
 * interpreter, the shared libraries of its dynamic section and of theirs, the interpreter of a script.
 *
 * Nothing of the host is run to find them: a program that the user wants to see in a VM first may
 * not run here, and the host's `ld.so --list` maps whatever a file asks for. libraries.c does what ld.so(8)
 * says instead. What a program opens while it runs (dlopen, the modules of a language) is not found.
 *
 * What is there already stays as it is: files of the user, and of an initrd below (pack_add_below).
 *
 * Input is hostile: files that are named by others must be ELF objects for the same processor, or scripts;
 * their number and sizes are bounded. Errors: 0 or -errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_PACK_EXECUTABLE_H
#define BANTAM_PACK_EXECUTABLE_H

#include <limits.h>

#include "boot/pack/pack.h"

/*
 * Adds the program source as name. With NULL as name it comes to the place where it lies on the host, and
 * if source is an absolute path with links in it, that path becomes a link.
 *
 * A file that no kernel can run (no x bit, damaged, for another processor) is added alone: the guest says
 * what is wrong with it. A text without "#!" is a script for /bin/sh, as in every shell.
 *
 * -ENOENT: it, or something that it needs, is not on this host. -EEXIST: name is there already.
 */
int pack_add_executable(struct pack *pack, const char *name, const char *source, struct err *err);

/*
 * Adds what the file name of the archive needs, if it came with a folder of the host (pack_add_folder) and the
 * archive has no interpreter for it. What is no program of the host stays as it is.
 */
int pack_complete_executable(struct pack *pack, const char *name, struct err *err);

/* Looks a program up as a shell does: name itself if it has a slash, else in $PATH. False: not there. */
bool pack_find_program(const char *name, char path[PATH_MAX]);

#endif
