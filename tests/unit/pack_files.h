/* pack_files: a scratch folder with files, for the tests of boot/pack. */
#ifndef BANTAM_TEST_PACK_FILES_H
#define BANTAM_TEST_PACK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes a folder below /tmp and goes there; removes it. */
void pack_files_setup(void);
void pack_files_teardown(void);
/* Writes a file, and makes the folders above it. */
void pack_files_write(const char *path, const void *data, size_t len_bytes);
void pack_files_text(const char *path, const char *text);

/* An entry of an archive. */
struct pack_files_entry {
	unsigned mode, major, minor;
	const char *data;
	size_t len;
};

/* Looks the entry `name` up in an archive that is not compressed. */
bool pack_files_find(const char *archive, size_t len_bytes, const char *name,
		     struct pack_files_entry *out);

/* Makes an ELF program for this processor. Paths: NULL: none. needed: names with a '|' behind each. */
#define PACK_FILES_PROGRAM_BYTES 4096
struct pack_files_program {
	const char *interpreter, *needed, *rpath, *runpath;
};
/* Places in it: the headers of the segments PT_LOAD, PT_DYNAMIC and PT_INTERP, and the dynamic section. */
#define PACK_FILES_LOAD 64
#define PACK_FILES_DYNAMIC (64 + 56)
#define PACK_FILES_INTERP (64 + 2 * 56)
#define PACK_FILES_TAGS 2048
void pack_files_program(uint8_t out[PACK_FILES_PROGRAM_BYTES], const struct pack_files_program *p);
/* Writes one with mode 0755. */
void pack_files_write_program(const char *path, const struct pack_files_program *p);

#define PACK_FILES_MODULE_MAX 4096
/*
 * Makes a module with these strings in .modinfo, each with a '|' behind it; returns its length.
 * Sections: 0 is null, 1 is .modinfo, at byte 64, 2 is .shstrtab; their headers are at the end.
 */
size_t pack_files_module(uint8_t *out, const char *info);
void pack_files_write_module(const char *path, const char *info);

/* Writes a bzImage of that release, as far as the release goes. */
void pack_files_image(const char *path, const char *release);

#endif
