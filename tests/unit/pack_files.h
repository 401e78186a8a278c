/* pack_files: a scratch folder with files, for the tests of boot/pack. */
#ifndef BANTAM_TEST_PACK_FILES_H
#define BANTAM_TEST_PACK_FILES_H

#include <stddef.h>
#include <stdint.h>

/* Makes a folder below /tmp and goes there; removes it. */
void pack_files_setup(void);
void pack_files_teardown(void);
/* Writes a file, and makes the folders above it. */
void pack_files_write(const char *path, const void *data, size_t len_bytes);
void pack_files_text(const char *path, const char *text);

#define PACK_FILES_MODULE_MAX 4096
/*
 * Makes a module with these strings in .modinfo, each with a '|' behind it; returns its length.
 * Sections: 0 is null, 1 is .modinfo, at byte 64, 2 is .shstrtab; their headers are at the end.
 */
size_t pack_files_module(uint8_t *out, const char *info);
void pack_files_write_module(const char *path, const char *info);

#endif
