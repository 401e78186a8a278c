/* pack_impl: what the sources of boot/pack share; see pack.h. */
#ifndef BANTAM_PACK_IMPL_H
#define BANTAM_PACK_IMPL_H

#include "boot/pack/pack.h"

enum entry_kind {
	ENTRY_DIR,
	ENTRY_BYTES,
	ENTRY_FILE,   /* data: its path on the host */
	ENTRY_MODULE, /* data: its path on the host; unpacked if it is compressed */
	ENTRY_CHAR,
	ENTRY_BLOCK,
	ENTRY_LINK, /* data: the target */
	ENTRY_LIST, /* /modules.list */
};

struct entry {
	char *name; /* no leading slash */
	enum entry_kind kind;
	unsigned perm;
	unsigned major, minor;
	char *data; /* owned, with a NUL behind it */
	size_t len_bytes;
};

struct pack {
	struct entry *entries;
	size_t nentries;
	char *list; /* the text of /modules.list; NULL: no modules */
	size_t list_bytes;
};

/*
 * Adds the module whose file on the host is source as /modules/NAME.ko, and a line for it to
 * /modules.list, which guest programs read: "/modules/NAME.ko[ ARGS]".
 */
int pack_list_module(struct pack *pack, const char *name, const char *source, const char *args,
		     struct err *err);

#endif
