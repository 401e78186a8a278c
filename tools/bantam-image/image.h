/*
 * image: functions that the commands of bantam image share. bantam-image is a program of its own,
 * so that no VM process contains its code; `bantam image` runs it.
 *
 * Each command parses its words, does its work and returns its exit status; it prints its one
 * line of error with image_fail. One thread, except for those that convert starts.
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

/* Prints the error as one line, even if it contains a strange file name; returns status. */
int image_fail(const struct err *err, int status);

/* The option of each command that opens backing files. */
#define IMAGE_BACKING_DIR                                                                          \
	{                                                                                          \
		"backing-dir", 0, "DIR", NULL,                                                     \
			"backing files may also lie in or below DIR; may be repeated", true        \
	}

/*
 * Parses, and allows the folders of --backing-dir. Returns true if the command must return *status
 * now (--help, or a mistake).
 */
bool image_args(const struct args_table *table, int argc, char **argv, struct args *args,
		int usage_status, int *status);

/* True if both are there, and are the same file. */
bool image_same_file(const char *a, const char *b);

/* What a command does beside reading images. */
enum {
	IMAGE_WRITES = 1,   /* it changes the image that it reads */
	IMAGE_REPLACES = 2, /* the new image has a temporary name, or takes the place of another */
};
/*
 * confine.c: opens and locks the images that the words name, and closes them: what is in the way is told, with the
 * process that holds a lock. No byte is read. One that is to be changed stays open for store_image_open; the words have to
 * last. Returns 0 or -errno.
 */
int image_look(const struct args_table *table, const struct args *args, unsigned how,
	       struct err *err);
/*
 * Before the first byte of an image is read. From now on this process opens only the images that the words
 * of table name, the files in their folders and below those of --backing-dir; it makes names only in the folder of the
 * new image, whose file is open already. how: IMAGE_….
 */
void image_confine(const struct args_table *table, const struct args *args, unsigned how);
/* Parts of that: the files; the calls, by what the command does with files (image.calls). Return 0 or -errno. */
int image_confine_files(const struct args_table *table, const struct args *args, unsigned how);
int image_confine_calls(const struct args_table *table, const struct args *args, unsigned how);

/* Parses a format; text NULL: AUTO. option: its name, for the message. */
int image_parse_format(const char *option, const char *text, enum store_format *out,
		       struct err *err);
/* Parses a disk's size with an optional suffix: not 0, a multiple of 512, at most 4 EiB. */
int image_parse_size(const char *text, uint64_t *out, struct err *err);
/* Parses --mode; text NULL: *out becomes 0. */
int image_parse_mode(const char *text, unsigned *out, struct err *err);

/* Opens an image for reading (or writing); a message names the option -f where it helps. */
int image_open_store(const char *path, enum store_format format, bool readonly, struct store **out,
		     struct err *err);

/* Finds the format by the file's content, for commands that trust no byte of it. via: as in
 * store_options. */
int image_detect(const char *path, const char *via, enum store_format *out, struct err *err);

/* Tells the user if a VM opens the new image's backing file only with --backing-dir. */
void image_note_backing(const char *path, const char *backing);

/* Parses --threads; NULL: the number of CPUs, but at least 4 and at most 8. */
int image_parse_threads(const char *text, unsigned *out, struct err *err);

/* Returns the signal (SIGINT, SIGTERM, SIGHUP) by which the user stopped the program; 0: none. */
int image_stopped(void);
/* From now on these signals only set image_stopped; one that is ignored stays ignored. */
void image_catch_signals(void);

/* True if all n bytes are zero. */
bool image_is_zero(const void *bytes, uint64_t n);

/* Writes a JSON string, quoted, without control characters; a byte that is not UTF-8 counts as
 * Latin-1. */
void image_json_string(FILE *f, const char *text);

#endif
