/* pack_impl: what the sources of boot/pack share; see pack.h. */
#ifndef BANTAM_PACK_IMPL_H
#define BANTAM_PACK_IMPL_H

#include <stdint.h>

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
	bool below; /* in an archive that the kernel unpacks before this one: not written */
	char *data; /* owned, with a NUL behind it */
	size_t len_bytes;
};

struct pack {
	struct entry *entries;
	size_t nentries, room;
	uint32_t *slots; /* hash table: 1 + an entry's index, 0: free */
	size_t nslots;	 /* a power of two */
	size_t nlinks;	 /* entries that are links */
	char *list;	 /* the text of /modules.list; NULL: no modules */
	size_t list_bytes;
};

/*
 * Adds an entry with a copy of len_bytes of data (NULL: none), and the directories above it. A directory
 * that is there gets the new mode; any other name that is there is -EEXIST, but if it is below.
 */
int pack_entry_add(struct pack *pack, const char *name, const struct entry *entry, const void *data,
		   struct err *err);
/* The same for an entry below: it replaces one below, and is left out beside another one. */
int pack_entry_note(struct pack *pack, const char *name, const struct entry *entry,
		    const void *data, struct err *err);
/* The entry to which name leads through links; with follow, through that of its last component, too. */
struct entry *pack_entry_find(const struct pack *pack, const char *name, bool follow);
void pack_entries_free(struct pack *pack);

/* Bytes of /modules.list, as much as guest/setup.h reads. */
#define PACK_LIST_MAX (64u << 10)

/*
 * Adds the module whose file on the host is source as /modules/NAME.ko, and a line for it to
 * /modules.list, which guest programs read: "/modules/NAME.ko[ ARGS]".
 */
int pack_list_module(struct pack *pack, const char *name, const char *source, const char *args,
		     struct err *err);

#endif
