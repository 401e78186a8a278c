/*
 * image: what the commands of bantam image share. bantam-image is a program of its own, so that
 * no VM carries its code; `bantam image` runs it.
 *
 * Each command parses its words, does its work and returns its exit status; it prints its one
 * line of error with image_fail. One thread, but for what convert, compare and sha256 start.
 */
#ifndef BANTAM_IMAGE_TOOL_H
#define BANTAM_IMAGE_TOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "devices/backend/store/store.h"
#include "tools/bantam-image/args.h"
#include "vmm/core/err.h"

enum image_status { IMAGE_OK = 0, IMAGE_ERROR = 1, IMAGE_USAGE = 2 };

int image_create_main(int argc, char **argv);
int image_info_main(int argc, char **argv);
int image_check_main(int argc, char **argv);
int image_convert_main(int argc, char **argv);
int image_resize_main(int argc, char **argv);
int image_sha256_main(int argc, char **argv);
int image_map_main(int argc, char **argv);
int image_compare_main(int argc, char **argv);

/* Print the line; returns status. Whatever a name contains, it stays one line. */
int image_fail(const struct err *err, int status);

/* Parse; true: *status is what the command shall return now (--help, or a mistake). */
bool image_args(const struct args_table *table, int argc, char **argv, struct args *args,
		int usage_status, int *status);

/* What -f says, NULL: AUTO. */
int image_parse_format(const char *option, const char *text, enum store_format *out,
		       struct err *err);
/* A disk's size as people write it: not 0, a multiple of 512, and one that files can have. */
int image_parse_size(const char *text, uint64_t *out, struct err *err);

/* Open for reading (or writing), with messages in terms of -f. */
int image_open_store(const char *path, enum store_format format, bool readonly, struct store **out,
		     struct err *err);

/* The format that the file's content has, for commands that do not believe a byte of it. */
int image_detect(const char *path, enum store_format *out, struct err *err);

/* How many threads --threads asks for; NULL: as many as there are CPUs, but 4 to 8. */
int image_parse_threads(const char *text, unsigned *out, struct err *err);

/* Set when the user wants us to stop (SIGINT, SIGTERM, SIGHUP); 0: not. */
int image_stopped(void);
void image_catch_signals(void);

/* True if all n bytes are zero. */
bool image_is_zero(const void *bytes, uint64_t n);

/* JSON text, quoted, without control characters; bytes that are not UTF-8 are shown as Latin-1. */
void image_json_string(FILE *f, const char *text);

#endif
