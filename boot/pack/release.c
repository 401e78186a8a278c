/* release: see release.h. */
#include "boot/pack/release.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/source.h"
#include "boot/pack/tree_impl.h"
#include "vmm/core/bytes.h"

/* So many modules may be unreadable before the tree's release is not known. */
#define TRIES 16

/* Takes the first word of text, if it is a release. */
static void take(const char *text, size_t len, char release[PACK_RELEASE_MAX])
{
	size_t n = 0;

	while (n < len && n < PACK_RELEASE_MAX && text[n] > ' ' && text[n] < 0x7f)
		n++;
	*release = 0;
	if (n < len && n < PACK_RELEASE_MAX && (!text[n] || text[n] == ' ' || text[n] == '\n')) {
		memcpy(release, text, n);
		release[n] = 0;
	}
}

int pack_release_of_modules(struct pack_tree *tree, char release[PACK_RELEASE_MAX], struct err *err)
{
	struct text text;
	int ret;

	*release = 0;
	for (size_t i = 0; i < tree->nmodules && i < TRIES && !*release; i++) {
		struct pack_modinfo info;
		const char *magic;

		if (pack_tree_modinfo(tree, &tree->modules[i], &info, NULL))
			continue; /* the module that is packed tells what is wrong with it */
		magic = pack_modinfo_next(&info, "vermagic", NULL);
		if (magic)
			take(magic, strlen(magic) + 1, release);
		pack_modinfo_free(&info);
	}
	if (*release)
		return 0;
	ret = pack_tree_text(tree, "include/config/kernel.release", &text, err);
	if (!ret && text.bytes)
		take(text.bytes, text.len_bytes, release);
	free(text.bytes);
	return ret;
}

int pack_release_of_kernel(const char *path, char release[PACK_RELEASE_MAX], struct err *err)
{
	uint8_t head[0x210], text[PACK_RELEASE_MAX];
	struct pack_source source;
	unsigned at, sectors;
	size_t n = sizeof(text);
	int ret = pack_source_open(&source, path, false, err);

	*release = 0;
	if (ret)
		return ret;
	if (source.size_bytes < sizeof(head)) {
		pack_source_close(&source);
		return 0;
	}
	ret = pack_source_read(&source, 0, head, sizeof(head), err);
	at = get_le16(head + 0x20e);
	sectors = head[0x1f1] ? head[0x1f1] : 4;
	if (!ret && get_le16(head + 0x1fe) == 0xaa55 && !memcmp(head + 0x202, "HdrS", 4) &&
	    get_le16(head + 0x206) >= 0x200 && at && at < sectors * 512 &&
	    at + 0x200 < source.size_bytes) {
		if (source.size_bytes - at - 0x200 < n)
			n = (size_t)(source.size_bytes - at - 0x200);
		ret = pack_source_read(&source, at + 0x200, text, n, err);
		if (!ret)
			take((char *)text, n, release);
	}
	pack_source_close(&source);
	return ret;
}

int pack_check_release(struct pack_tree *tree, const char *kernel, struct err *err)
{
	char modules[PACK_RELEASE_MAX], image[PACK_RELEASE_MAX];
	int ret = pack_release_of_kernel(kernel, image, err);

	if (!ret && *image)
		ret = pack_release_of_modules(tree, modules, err);
	if (ret || !*image || !*modules || !strcmp(image, modules))
		return ret;
	return err_set(
		err, EINVAL,
		"%.150s is kernel %s, but the modules in %.150s are for %s; give this kernel's own",
		kernel, image, tree->dir, modules);
}
