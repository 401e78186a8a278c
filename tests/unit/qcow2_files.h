/* qcow2_files: a scratch folder, qemu-img, and patterns, for the tests of qcow2. */
#ifndef BANTAM_QCOW2_FILES_H
#define BANTAM_QCOW2_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/store/store.h"

#define KIB 1024u
#define MIB (1024u * KIB)

/* Makes a new folder and changes into it. scratch_leave removes it. */
void scratch_enter(void);
void scratch_leave(void);

/* Runs a printf-formatted shell command, without its output. Returns its exit status. */
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Like sh; the command must succeed. */
void must(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Returns the status of qemu-img check: 0: good, 2: corrupt, 3: leaks; others: it failed. */
int qemu_check(const char *image);

/* Fills p with bytes that are not zero and differ by seed and place. */
void pattern(uint8_t *p, uint64_t n, uint64_t seed);
/* Writes a sparse raw file: a third data, some zeroes, rest holes. */
void make_raw(const char *path, uint64_t bytes, unsigned seed);
/* Reads the whole store in pieces of odd sizes and compares it with a raw file. */
void same_as_raw(struct store *s, const char *raw);

struct store *must_open(const char *path, enum store_format format, bool readonly);
/* Opening path must fail; the message must contain word. */
void must_refuse(const char *path, enum store_format format, bool readonly, const char *word);
/* Overwrites bytes of a file. */
void poke(const char *path, uint64_t offset, const void *bytes, uint64_t n);
void poke64(const char *path, uint64_t offset, uint64_t value);
void poke32(const char *path, uint64_t offset, uint32_t value);
uint64_t peek64(const char *path, uint64_t offset);

#endif
