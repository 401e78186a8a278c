/*
 * fat_reader: reads and checks a FAT image without any code of the writer. The
 * unit tests and the fuzz target use it.
 */
#ifndef BANTAM_FAT_READER_H
#define BANTAM_FAT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fat_found {
	char *path;	/* "a/b"; UTF-8 */
	char alias[13]; /* "NAME.EXT" */
	bool dir;
	uint32_t size;
	uint32_t first; /* first cluster, or 0 */
	uint16_t date, time;
	uint8_t tenths;
};

struct fat_seen {
	unsigned bits, cluster_bytes;
	uint32_t clusters, used;
	uint32_t serial;
	char label[12], root_label[12]; /* without padding; root_label is "" if none */
	struct fat_found *file;		/* a folder comes before its contents */
	size_t nfiles;
	char fault[300]; /* "" if none */
	/* private */
	const uint8_t *img;
	uint64_t len;
	uint32_t reserved, fat_sectors, root_entries, data_start, root_cluster;
	uint8_t *owned;
};

/* Fills *seen. Returns false, and sets fault, if anything breaks the specification. */
bool fat_read_image(struct fat_seen *seen, const void *img, uint64_t len);
void fat_seen_clear(struct fat_seen *seen);
const struct fat_found *fat_seen_find(const struct fat_seen *seen, const char *path);
/* Returns the byte at offset at of the file. */
uint8_t fat_seen_byte(const struct fat_seen *seen, const struct fat_found *file, uint32_t at);

#endif
