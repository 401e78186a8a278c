/* fuzz_below: initrds of users. Whatever is in one, an archive behind it can be built. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/pack/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "bin/sh", "a/b", "lib/x", "init", "dev/console/x" };
	struct err err = { "" };
	struct pack *pack;
	char path[64];
	void *archive;
	size_t len;
	int fd = memfd_create("fuzz", MFD_CLOEXEC), ret;

	BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	BUG_ON(pack_create(&pack, &err));
	ret = pack_add_below(pack, path, &err);
	BUG_ON(ret && !*err.text);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ret = pack_add_bytes(pack, names[i], 0644, "x", 1, &err);
		BUG_ON(ret && !*err.text);
		BUG_ON(!ret && !pack_has(pack, names[i]));
	}
	BUG_ON(pack_to_memory(pack, PACK_PLAIN, &archive, &len, &err));
	/* No entry of the user's is written again: there are few of ours. */
	BUG_ON(len > 16384);
	free(archive);
	pack_destroy(pack);
	close(fd);
	return 0;
}
