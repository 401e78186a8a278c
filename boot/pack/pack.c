/* pack: the entries of an initrd; see pack.h. write.c makes the archive of them. */
#include "boot/pack/pack.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/cpio.h"
#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"

static struct entry *find(const struct pack *pack, const char *name, size_t len)
{
	for (size_t i = 0; i < pack->nentries; i++) {
		struct entry *e = &pack->entries[i];

		if (!strncmp(e->name, name, len) && !e->name[len])
			return e;
	}
	return NULL;
}

static const char *relative(const char *name)
{
	while (*name == '/')
		name++;
	return name;
}

bool pack_has(const struct pack *pack, const char *name)
{
	name = relative(name);
	return find(pack, name, strlen(name)) != NULL;
}

static int no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "cannot build an initrd");
}

/* Appends entry with copies of name and of data; the caller has checked the name. */
static int append(struct pack *pack, const char *name, size_t len, const struct entry *entry,
		  const void *data, struct err *err)
{
	struct entry e = *entry, *more;

	/* Room for the next power of two, when the count is one. */
	if (!(pack->nentries & (pack->nentries - 1))) {
		size_t room = pack->nentries ? pack->nentries * 2 : 1;

		more = realloc(pack->entries, room * sizeof(*more));
		if (!more)
			return no_memory(err);
		pack->entries = more;
	}
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
	return 0;
}

/* Adds an entry and the directories above it. */
static int add(struct pack *pack, const char *name, const struct entry *entry, const void *data,
	       struct err *err)
{
	const struct entry *old;
	int ret;

	name = relative(name);
	if (!cpio_name_ok(name))
		return err_set(
			err, EINVAL,
			"initrd: '/%.200s' is no name for an entry: it may not be empty, end with '/', "
			"have '//', '.' or '..' in it, or exceed 4095 bytes",
			name);
	if (find(pack, name, strlen(name)))
		return err_set(err, EEXIST, "/%.200s is given twice", name);
	for (const char *at = strchr(name, '/'); at; at = strchr(at + 1, '/')) {
		const struct entry dir = { .kind = ENTRY_DIR, .perm = 0755 };

		old = find(pack, name, (size_t)(at - name));
		if (old && old->kind != ENTRY_DIR)
			return err_set(err, EEXIST, "initrd: /%.200s: /%.200s is no directory",
				       name, old->name);
		ret = old ? 0 : append(pack, name, (size_t)(at - name), &dir, NULL, err);
		if (ret)
			return ret;
	}
	return append(pack, name, strlen(name), entry, data, err);
}

int pack_create(struct pack **out, struct err *err)
{
	struct pack *pack = calloc(1, sizeof(*pack));
	int ret;

	*out = NULL;
	if (!pack)
		return no_memory(err);
	ret = pack_add_dir(pack, "dev", 0755, err);
	if (!ret)
		ret = pack_add_node(pack, "dev/console", 0600, false, 5, 1, err);
	if (ret) {
		pack_destroy(pack);
		return ret;
	}
	*out = pack;
	return 0;
}

void pack_destroy(struct pack *pack)
{
	if (!pack)
		return;
	for (size_t i = 0; i < pack->nentries; i++) {
		free(pack->entries[i].name);
		free(pack->entries[i].data);
	}
	free(pack->entries);
	free(pack->list);
	free(pack);
}

int pack_add_dir(struct pack *pack, const char *name, unsigned perm, struct err *err)
{
	const struct entry dir = { .kind = ENTRY_DIR, .perm = perm };
	struct entry *old;

	name = relative(name);
	old = find(pack, name, strlen(name));
	if (!old || old->kind != ENTRY_DIR)
		return add(pack, name, &dir, NULL, err);
	old->perm = perm;
	return 0;
}

int pack_add_bytes(struct pack *pack, const char *name, unsigned perm, const void *data,
		   size_t len_bytes, struct err *err)
{
	const struct entry file = { .kind = ENTRY_BYTES, .perm = perm, .len_bytes = len_bytes };

	return add(pack, name, &file, len_bytes ? data : "", err);
}

int pack_add_file(struct pack *pack, const char *name, const char *source, struct err *err)
{
	struct entry file = { .kind = ENTRY_FILE, .len_bytes = strlen(source) };
	struct pack_source look;
	int ret = pack_source_open(&look, source, false, err);

	if (ret)
		return ret;
	file.perm = look.file.st.st_mode & 0111 ? 0755 : 0644;
	pack_source_close(&look);
	return add(pack, name, &file, source, err);
}

int pack_add_node(struct pack *pack, const char *name, unsigned perm, bool block, unsigned major,
		  unsigned minor, struct err *err)
{
	const struct entry node = { .kind = block ? ENTRY_BLOCK : ENTRY_CHAR,
				    .perm = perm,
				    .major = major,
				    .minor = minor };

	return add(pack, name, &node, NULL, err);
}

int pack_add_link(struct pack *pack, const char *name, const char *target, struct err *err)
{
	const struct entry link = { .kind = ENTRY_LINK, .len_bytes = strlen(target) };

	if (!*target || link.len_bytes >= 4096)
		return err_set(err, EINVAL, "initrd: link /%.200s: a target has 1 to 4095 bytes",
			       relative(name));
	return add(pack, name, &link, target, err);
}

int pack_list_module(struct pack *pack, const char *name, const char *source, const char *args,
		     struct err *err)
{
	const struct entry list = { .kind = ENTRY_LIST, .perm = 0644 };
	const struct entry module = { .kind = ENTRY_MODULE,
				      .perm = 0644,
				      .len_bytes = strlen(source) };
	char path[96], *more;
	size_t room;
	int ret;

	snprintf(path, sizeof(path), "modules/%s.ko", name);
	ret = add(pack, path, &module, source, err);
	if (!ret && !pack->list)
		ret = add(pack, "modules.list", &list, NULL, err);
	if (ret)
		return ret;
	room = strlen(path) + strlen(args) + 4;
	more = realloc(pack->list, pack->list_bytes + room);
	if (!more)
		return no_memory(err);
	pack->list = more;
	pack->list_bytes += (size_t)snprintf(more + pack->list_bytes, room, "/%s%s%s\n", path,
					     *args ? " " : "", args);
	return 0;
}
