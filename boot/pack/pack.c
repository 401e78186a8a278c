/* pack: what an initrd may hold; see pack.h. entries.c keeps it, write.c makes the archive of it. */
#include "boot/pack/pack.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"

static const char *relative(const char *name)
{
	while (*name == '/')
		name++;
	return name;
}

static int no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "cannot build an initrd");
}

bool pack_has(const struct pack *pack, const char *name)
{
	return pack_entry_find(pack, name, false) != NULL;
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
	pack_entries_free(pack);
	free(pack->list);
	free(pack);
}

int pack_add_dir(struct pack *pack, const char *name, unsigned perm, struct err *err)
{
	const struct entry dir = { .kind = ENTRY_DIR, .perm = perm };

	return pack_entry_add(pack, name, &dir, NULL, err);
}

int pack_add_bytes(struct pack *pack, const char *name, unsigned perm, const void *data,
		   size_t len_bytes, struct err *err)
{
	const struct entry file = { .kind = ENTRY_BYTES, .perm = perm, .len_bytes = len_bytes };

	return pack_entry_add(pack, name, &file, len_bytes ? data : "", err);
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
	return pack_entry_add(pack, name, &file, source, err);
}

int pack_add_node(struct pack *pack, const char *name, unsigned perm, bool block, unsigned major,
		  unsigned minor, struct err *err)
{
	const struct entry node = { .kind = block ? ENTRY_BLOCK : ENTRY_CHAR,
				    .perm = perm,
				    .major = major,
				    .minor = minor };

	return pack_entry_add(pack, name, &node, NULL, err);
}

int pack_add_link(struct pack *pack, const char *name, const char *target, struct err *err)
{
	const struct entry link = { .kind = ENTRY_LINK, .len_bytes = strlen(target) };

	if (!*target || link.len_bytes >= 4096)
		return err_set(err, EINVAL, "initrd: link /%.200s: a target has 1 to 4095 bytes",
			       relative(name));
	return pack_entry_add(pack, name, &link, target, err);
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
	ret = pack_entry_add(pack, path, &module, source, err);
	if (!ret && !pack->list)
		ret = pack_entry_add(pack, "modules.list", &list, NULL, err);
	if (ret)
		return ret;
	room = strlen(path) + strlen(args) + 4;
	if (pack->list_bytes + room > PACK_LIST_MAX)
		return err_set(err, E2BIG,
			       "initrd: the names and parameters of its modules have more than %u "
			       "KiB",
			       PACK_LIST_MAX >> 10);
	more = realloc(pack->list, pack->list_bytes + room);
	if (!more)
		return no_memory(err);
	pack->list = more;
	pack->list_bytes += (size_t)snprintf(more + pack->list_bytes, room, "/%s%s%s\n", path,
					     *args ? " " : "", args);
	return 0;
}
