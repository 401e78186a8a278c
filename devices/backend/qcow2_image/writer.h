/*
 * qcow2_image/writer: writes a new qcow2 image once, from its beginning to its end.
 *
 * For `bantam image create` and `convert`: no program reads the file before it is complete, so all
 * metadata stays in memory until qcow2_writer_finish, and any number of threads may write data
 * at the places that qcow2_writer_place returns. Layout: header, L1 table, data in the order of
 * placement, L2 tables, refcount blocks, refcount table. Every refcount is 1, except for clusters
 * that several compressed ones share. The same calls make the same bytes.
 *
 * Functions return 0 or -errno. place and finish: one thread at a time; pack: one thread at a time
 * for each packer. Compressed clusters are as QEMU writes them: raw deflate with a window of 4 KiB,
 * or one zstd frame for each.
 */
#ifndef BANTAM_QCOW2_IMAGE_WRITER_H
#define BANTAM_QCOW2_IMAGE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/store/store.h"

enum qcow2_piece_kind {
	QCOW2_PIECE_DATA,   /* a whole cluster */
	QCOW2_PIECE_PACKED, /* a compressed cluster */
	QCOW2_PIECE_ZERO,   /* zeroes, where the backing file has data */
};

/* A guest cluster. For ZERO the caller writes nothing, unless host is not 0 (version 2). */
struct qcow2_piece {
	enum qcow2_piece_kind kind;
	uint64_t cluster;   /* number of the guest cluster; each at most once */
	uint32_t len_bytes; /* PACKED: at least 1, less than a cluster */
	uint64_t host;	    /* out: offset in the file for the bytes; 0: none to write */
};

/* Returns true if bytes is a power of two from 512 to 2M. */
bool qcow2_cluster_bytes_ok(uint64_t bytes);

struct qcow2_writer;

/* Ignores create's path and format; size_bytes must not be 0. The caller keeps owning fd. */
int qcow2_writer_create(int fd, const struct store_create *create, struct qcow2_writer **out,
			struct err *err);
/* Chooses the places of n pieces, and enters them into the L2 tables. */
int qcow2_writer_place(struct qcow2_writer *w, struct qcow2_piece *piece, unsigned n);
/* Writes all metadata. No flush. */
int qcow2_writer_finish(struct qcow2_writer *w);
void qcow2_writer_destroy(struct qcow2_writer *w);

/* Compresses clusters of cluster_bytes. */
struct qcow2_packer;
struct qcow2_packer *qcow2_packer_create(bool zstd, uint32_t cluster_bytes);
/* Returns how many bytes it wrote to out (which has room for a cluster); 0: compression gains too
 * little. */
uint32_t qcow2_pack(struct qcow2_packer *p, const void *in, void *out);
void qcow2_packer_destroy(struct qcow2_packer *p);

#endif
