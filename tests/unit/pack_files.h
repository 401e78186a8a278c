/* pack_files: a scratch folder with files, for the tests of boot/pack. */
#ifndef BANTAM_TEST_PACK_FILES_H
#define BANTAM_TEST_PACK_FILES_H

#include <stddef.h>

/* Makes a folder below /tmp and goes there; removes it. */
void pack_files_setup(void);
void pack_files_teardown(void);
/* Writes a file, and makes the folders above it. */
void pack_files_write(const char *path, const void *data, size_t len_bytes);
void pack_files_text(const char *path, const char *text);

#endif
