/*
 * fuzz_modules: the lists of a module tree, a module in it, and a kernel's header.
 *
 * The input is the name of a module and the files below, with a byte 0xff between the parts. Whatever
 * is in them: the calls end, with an archive or one line of error.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/pack/modules.h"
#include "boot/pack/release.h"

static const char files[][16] = { "modules.dep",     "modules.order", "modules.builtin",
				  "modules.softdep", "modules.alias", "a.ko",
				  "bzImage" };
#define NFILES (sizeof(files) / sizeof(files[0]))

static char folder[] = "/tmp/bantam-fuzz-XXXXXX";

static void clean(void)
{
	char path[64];

	for (size_t i = 0; i < NFILES; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
		unlink(path);
	}
	rmdir(folder);
}

/* Writes the part up to the next 0xff; returns what is behind it. */
static const uint8_t *put(const char *file, const uint8_t *at, const uint8_t *end)
{
	const uint8_t *stop = at < end ? memchr(at, 0xff, (size_t)(end - at)) : NULL;
	char path[64];
	int fd;

	stop = stop ? stop : end;
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	unlink(path);
	if (stop > at) { /* an empty part is a file that is not there */
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		BUG_ON(fd < 0 || write(fd, at, (size_t)(stop - at)) != stop - at);
		close(fd);
	}
	return stop < end ? stop + 1 : end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data, *end = data + size;
	char spec[256] = "", kernel[64], release[PACK_RELEASE_MAX];
	size_t n = 0, len;
	struct pack *pack;
	struct pack_tree *tree;
	struct err err = { "" };
	void *archive;
	int ret;

	if (folder[sizeof(folder) - 2] == 'X') {
		BUG_ON(!mkdtemp(folder));
		atexit(clean);
	}
	for (; at < end && *at != 0xff; at++)
		if (n < sizeof(spec) - 1)
			spec[n++] = (char)*at;
	at += at < end;
	for (size_t i = 0; i < NFILES; i++)
		at = put(files[i], at, end);
	snprintf(kernel, sizeof(kernel), "%s/bzImage", folder);
	if (!pack_release_of_kernel(kernel, release, &err))
		BUG_ON(strlen(release) >= PACK_RELEASE_MAX || strchr(release, '\n'));
	*err.text = 0;
	if (pack_tree_open(&tree, folder, &err)) {
		BUG_ON(!*err.text || tree);
		return 0;
	}
	BUG_ON(pack_create(&pack, &err));
	ret = pack_check_release(tree, kernel, &err);
	if (!ret)
		ret = pack_add_modules(pack, tree, spec, &err);
	if (!ret)
		ret = pack_to_memory(pack, PACK_PLAIN, &archive, &len, &err);
	BUG_ON(ret && !*err.text);
	if (!ret) {
		BUG_ON(len % 512 || memcmp(archive, "070701", 6));
		free(archive);
	}
	pack_tree_close(tree);
	pack_destroy(pack);
	return 0;
}
