/*
 * pack: builds an initrd: files of the host, texts, device nodes, links, and kernel modules in the
 * order in which they are to be loaded.
 *
 * The caller adds entries in any order, then writes the archive once or more often. Names are paths
 * in the archive, with or without the leading slash; the directories above them come by themselves. A name
 * that leads through links of the archive lands where they lead.
 * All entries belong to 0:0 and have the time 0, and they are sorted by name, so the same input
 * gives the same bytes. /dev and /dev/console are always there: the kernel opens the console before
 * it runs /init.
 *
 * A host file is looked at when it is added and read when the archive is written, a part at a time,
 * so a large one takes no memory unless the archive is compressed. One that changes in between is
 * packed as it is then; one that becomes shorter while it is read is an error, never SIGBUS.
 *
 * Errors: 0 or -errno and one line in err. After a failed call the archive is as it was before, or,
 * for pack_add_module, has some of the modules; the caller gives up then. -EEXIST: the name is there
 * already, -EINVAL: a bad name (cpio.h) or spec.
 * Thread: one at a time.
 */
#ifndef BANTAM_PACK_H
#define BANTAM_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/core/err.h"

struct pack;

enum pack_compression { PACK_PLAIN, PACK_GZIP, PACK_ZSTD };

int pack_create(struct pack **out, struct err *err);
/* Accepts NULL. */
void pack_destroy(struct pack *pack);

/* perm: the lower 12 bits of a mode. A directory that is there gets this one. */
int pack_add_dir(struct pack *pack, const char *name, unsigned perm, struct err *err);
/* A file with a copy of these bytes. */
int pack_add_bytes(struct pack *pack, const char *name, unsigned perm, const void *data,
		   size_t len_bytes, struct err *err);
/* A regular file of the host; its mode is 0755 if anyone may execute it, else 0644. */
int pack_add_file(struct pack *pack, const char *name, const char *source, struct err *err);
/*
 * The contents of a folder of the host, as the folder name, which may be "/": files with the lower 12 bits
 * of their modes (set-user-id and set-group-id only of root's), links as they are, device nodes. Sockets
 * and FIFOs are left out, and what lies on other file systems (/proc of "/"). -E2BIG: more than
 * PACK_FOLDER_MAX bytes.
 */
#define PACK_FOLDER_MAX (8ull << 30)
int pack_add_folder(struct pack *pack, const char *name, const char *source, struct err *err);
/* A node; block: of a block device, else of a character device. */
int pack_add_node(struct pack *pack, const char *name, unsigned perm, bool block, unsigned major,
		  unsigned minor, struct err *err);
/* A symbolic link. target is any text; nothing looks where it leads. */
int pack_add_link(struct pack *pack, const char *name, const char *target, struct err *err);

bool pack_has(const struct pack *pack, const char *name);

/*
 * Tells pack which names are in the initrd path already, to which the archive will be appended: pack_has
 * knows them, links among them count, a file may be added over one of its files, and none of its
 * directories is written again. -EINVAL: it is damaged, -ENOTSUP: a compression that only kernels know; the
 * names before that place are known then.
 */
int pack_add_below(struct pack *pack, const char *path, struct err *err);

/* Writes the archive to fd, which stays open; path is its name for errors. */
int pack_write(struct pack *pack, int fd, const char *path, enum pack_compression compression,
	       struct err *err);
/* The archive in memory; the caller frees *data. */
int pack_to_memory(struct pack *pack, enum pack_compression compression, void **data,
		   size_t *len_bytes, struct err *err);

#endif
