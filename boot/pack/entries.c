/*
 * entries: the names of an initrd, and where each of them leads; see pack.h.
 *
 * Theory of operation: entries lie in the order in which they came, with a hash table over their names
 * beside them, since a folder may bring a hundred thousand. The kernel unpacks an archive in the order of
 * its entries and follows links that are there already; to rely on neither, a name whose directories are
 * links in the same archive is resolved when it is added: with /lib a link to usr/lib, /lib/x becomes
 * /usr/lib/x. A directory that is to be where a link is never replaces it, which would cut off what the
 * link leads to.
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/cpio.h"
#include "boot/pack/pack_impl.h"

#define ENTRIES_MAX (1u << 20)
#define LINKS_MAX 40u /* as in the kernel (MAXSYMLINKS) */

static int no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "cannot build an initrd");
}

/* FNV-1a */
static uint32_t hash(const char *name, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 16777619u;
	return h;
}

/* The slot of the name, or the free one where it belongs. There is always a free one. */
static uint32_t *slot_of(const struct pack *pack, const char *name, size_t len)
{
	size_t mask = pack->nslots - 1, at = hash(name, len) & mask;

	while (pack->slots[at]) {
		const struct entry *e = &pack->entries[pack->slots[at] - 1];

		if (!strncmp(e->name, name, len) && !e->name[len])
			break;
		at = (at + 1) & mask;
	}
	return &pack->slots[at];
}

static struct entry *find(const struct pack *pack, const char *name, size_t len)
{
	uint32_t *slot = pack->nslots ? slot_of(pack, name, len) : NULL;

	return slot && *slot ? &pack->entries[*slot - 1] : NULL;
}

/* Makes room for one entry more: twice as many slots as entries at least. */
static int grow(struct pack *pack, struct err *err)
{
	size_t room = pack->room ? pack->room * 2 : 64;
	struct entry *entries;
	uint32_t *slots;

	if (pack->nentries < pack->room)
		return 0;
	if (pack->nentries >= ENTRIES_MAX)
		return err_set(err, E2BIG, "initrd: more than %u files are too many", ENTRIES_MAX);
	entries = realloc(pack->entries, room * sizeof(*entries));
	if (!entries)
		return no_memory(err);
	pack->entries = entries;
	slots = calloc(room * 2, sizeof(*slots));
	if (!slots)
		return no_memory(err);
	free(pack->slots);
	pack->slots = slots;
	pack->nslots = room * 2;
	pack->room = room;
	for (size_t i = 0; i < pack->nentries; i++) {
		const char *name = pack->entries[i].name;

		*slot_of(pack, name, strlen(name)) = (uint32_t)i + 1;
	}
	return 0;
}

/* Appends entry with copies of name and of data; the caller has checked the name. */
static int append(struct pack *pack, const char *name, size_t len, const struct entry *entry,
		  const void *data, struct err *err)
{
	struct entry e = *entry;
	int ret = grow(pack, err);

	if (ret)
		return ret;
	e.name = strndup(name, len);
	e.data = data ? malloc(e.len_bytes + 1) : NULL;
	if (!e.name || (data && !e.data)) {
		free(e.name);
		free(e.data);
		return no_memory(err);
	}
	if (data) {
		memcpy(e.data, data, e.len_bytes);
		e.data[e.len_bytes] = 0;
	}
	pack->entries[pack->nentries++] = e;
	*slot_of(pack, name, len) = (uint32_t)pack->nentries;
	pack->nlinks += e.kind == ENTRY_LINK;
	return 0;
}

/* Appends a component to the path in out, whose length is *len. "..": the last one goes. */
static int step(char out[PATH_MAX], size_t *len, const char *part, size_t part_len)
{
	if (!part_len || (part_len == 1 && *part == '.'))
		return 0;
	if (part_len == 2 && !memcmp(part, "..", 2)) {
		while (*len && out[--*len] != '/')
			;
		out[*len] = 0;
		return 0;
	}
	if (*len + part_len + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	if (*len)
		out[(*len)++] = '/';
	memcpy(out + *len, part, part_len);
	*len += part_len;
	out[*len] = 0;
	return 0;
}

/*
 * Writes where name leads: without links in its directories; with follow, the last component's link
 * counts, too. name may have "..", which does not lead above the root.
 */
static int resolve(const struct pack *pack, const char *name, bool follow, char out[PATH_MAX])
{
	char rest[PATH_MAX], more[PATH_MAX];
	size_t len = 0;
	unsigned links = 0;
	int ret = 0;

	*out = 0;
	if ((size_t)snprintf(rest, sizeof(rest), "%s", name) >= sizeof(rest))
		return -ENAMETOOLONG;
	for (char *at = rest; !ret && *at;) {
		size_t before = len, n = strcspn(at, "/");
		const struct entry *e;
		bool last = !at[n];

		ret = step(out, &len, at, n);
		at += n + !last;
		e = ret || (last && !follow) ? NULL : find(pack, out, len);
		if (!e || e->kind != ENTRY_LINK)
			continue;
		if (++links > LINKS_MAX)
			return -ELOOP;
		if ((size_t)snprintf(more, sizeof(more), "%s/%s", e->data, at) >= sizeof(more))
			return -ENAMETOOLONG;
		if (last)
			more[strlen(more) - 1] = 0; /* no slash: the target is the last one now */
		len = *more == '/' ? 0 : before;
		out[len] = 0;
		at = strcpy(rest, more);
	}
	return ret;
}

struct entry *pack_entry_find(const struct pack *pack, const char *name, bool follow)
{
	char path[PATH_MAX];

	while (*name == '/')
		name++;
	return resolve(pack, name, follow, path) ? NULL : find(pack, path, strlen(path));
}

/* Adds the directories above a resolved name. */
static int add_parents(struct pack *pack, const char *name, bool below, struct err *err)
{
	const struct entry dir = { .kind = ENTRY_DIR, .perm = 0755, .below = below };

	for (const char *at = strchr(name, '/'); at; at = strchr(at + 1, '/')) {
		const struct entry *old = find(pack, name, (size_t)(at - name));
		int ret;

		if (old && old->kind != ENTRY_DIR)
			return err_set(err, EEXIST, "initrd: /%.200s: /%.200s is no directory",
				       name, old->name);
		ret = old ? 0 : append(pack, name, (size_t)(at - name), &dir, NULL, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* An entry of the archive below, at the place of which another one comes. */
static int replace(struct pack *pack, struct entry *old, const struct entry *entry,
		   const void *data, struct err *err)
{
	struct entry e = *entry;

	e.name = old->name;
	e.data = data ? malloc(e.len_bytes + 1) : NULL;
	if (data && !e.data)
		return no_memory(err);
	if (data) {
		memcpy(e.data, data, e.len_bytes);
		e.data[e.len_bytes] = 0;
	}
	pack->nlinks += (e.kind == ENTRY_LINK) - (old->kind == ENTRY_LINK);
	free(old->data);
	*old = e;
	return 0;
}

int pack_entry_add(struct pack *pack, const char *name, const struct entry *entry, const void *data,
		   struct err *err)
{
	bool dir = entry->kind == ENTRY_DIR;
	char path[PATH_MAX];
	struct entry *old;
	int ret = 0;

	while (*name == '/')
		name++;
	if (!cpio_name_ok(name))
		return err_set(
			err, EINVAL,
			"initrd: '/%.200s' is no name for an entry: it may not be empty, end with '/', "
			"have '//', '.' or '..' in it, or exceed 4095 bytes",
			name);
	if (pack->nlinks) {
		ret = resolve(pack, name, dir, path);
		name = path;
	}
	if (ret || !*name)
		return err_sys(err, ret ? -ret : EEXIST, "initrd: /%.200s", name);
	old = find(pack, name, strlen(name));
	if (old && dir && old->kind == ENTRY_DIR) {
		old->perm = entry->perm;
		return 0;
	}
	if (old && (!old->below || dir || old->kind == ENTRY_DIR))
		return err_set(err, EEXIST, "/%.200s is given twice", name);
	ret = add_parents(pack, name, false, err);
	if (ret)
		return ret;
	return old ? replace(pack, old, entry, data, err) :
		     append(pack, name, strlen(name), entry, data, err);
}

int pack_entry_note(struct pack *pack, const char *name, const struct entry *entry,
		    const void *data, struct err *err)
{
	char path[PATH_MAX];
	struct entry *old;
	int ret;

	if (resolve(pack, name, entry->kind == ENTRY_DIR, path) || !*path)
		return 0;
	old = find(pack, path, strlen(path));
	if (old)
		return old->below && old->kind != ENTRY_DIR && entry->kind != ENTRY_DIR ?
			       replace(pack, old, entry, data, err) :
			       0;
	ret = add_parents(pack, path, true, err);
	if (ret == -EEXIST)
		return 0; /* below a file: the kernel does not make it */
	return ret ? ret : append(pack, path, strlen(path), entry, data, err);
}

void pack_entries_free(struct pack *pack)
{
	for (size_t i = 0; i < pack->nentries; i++) {
		free(pack->entries[i].name);
		free(pack->entries[i].data);
	}
	free(pack->entries);
	free(pack->slots);
}
