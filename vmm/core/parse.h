/*
 * parse: numbers, sizes, durations and key=value lists as people write them.
 *
 * Pure functions over NUL-terminated text; any thread.
 */
#ifndef BANTAM_PARSE_H
#define BANTAM_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

/* Decimal or 0x hex, the whole text; 0 or -EINVAL/-ERANGE. No sign, no space. */
int parse_u64(const char *text, uint64_t *out);
/*
 * "512M", "2G", "1.5G", "64k", "4096": bytes, powers of 1024 (K M G T P E, optional iB/B). A fraction
 * of at most six digits is rounded up: to a page of 4 KiB from M on, else to a byte.
 */
int parse_size(const char *text, uint64_t *out);
/*
 * "500ms", "60s", "5m", "2h": microseconds; a number alone is one of seconds. -EINVAL, or -ERANGE if it does
 * not fit.
 */
int parse_duration(const char *text, uint64_t *usec);
/* Reads a file's mode: octal, from 1 to 0777. */
int parse_mode(const char *text, unsigned *out);
/* on/off, true/false, yes/no, 1/0. */
int parse_bool(const char *text, bool *out);

/* The nearest of n names (edit distance, at most a third of its length), or NULL. */
const char *parse_nearest(const char *text, const char *const *names, size_t n);

/*
 * "k=v,flag,k2=v2" -> pairs. A comma inside a value is written ",,". text is
 * copied; the pairs point into *copy, which the caller frees. A bare word has
 * val NULL. -E2BIG when there are more than max.
 */
struct parse_pair {
	const char *key;
	const char *val;
};
int parse_pairs(const char *text, struct parse_pair *pair, size_t max, size_t *n, char **copy);

/*
 * Reads one character of NUL-terminated UTF-8 and advances *at. Returns -1 if there is none (also
 * for overlong forms and surrogates).
 */
int32_t parse_utf8(const uint8_t **at);

/* Writes "512M", "1536M", "4097" … into buf. */
const char *parse_size_text(uint64_t bytes, char *buf, size_t len);

#endif
