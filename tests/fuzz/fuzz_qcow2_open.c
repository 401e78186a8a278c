/*
 * fuzz_qcow2_open: any bytes as a qcow2 image, opened, read, mapped and written.
 *
 * Input: the file. Findings are reports of the sanitizers, BUG_ON, a hang, memory use that follows
 * wrong values of the header, and results other than 0 and a negative errno.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/store/store.h"
#include "vmm/core/log.h"

#define BYTES 8192u

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void use(struct store *s)
{
	static uint8_t buf[BYTES];
	uint64_t at[] = { 0, 65536, s->size_bytes / 2, s->size_bytes - BYTES };
	struct store_extent e;
	struct err err;

	if (s->size_bytes < BYTES)
		return;
	for (unsigned i = 0; i < 4; i++) {
		if (at[i] > s->size_bytes - BYTES)
			continue;
		check(store_read(s, buf, at[i], BYTES) <= 0);
		check(s->ops->map(s, at[i], s->size_bytes - at[i], &e) || e.len_bytes);
	}
	for (unsigned i = 0; i < 4 && !s->readonly; i++) {
		if (at[i] > s->size_bytes - BYTES)
			continue;
		check(store_write(s, buf, at[i] + 1000, 2000) <= 0);
		check(s->ops->zero(s, at[i], 4096, i & 1) <= 0);
		check(s->ops->discard(s, at[i], BYTES) <= 0);
		check(s->ops->flush(s) <= 0);
	}
	if (!s->readonly && s->size_bytes < 1ull << 40)
		s->ops->resize(s, s->size_bytes + (1 << 20), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_options options = { .format = STORE_QCOW2 };
	char path[64];
	struct err err;
	int fd = memfd_create("image", MFD_CLOEXEC);

	log_set_level(LOG_ERROR - 1);
	check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	options.path = path;
	for (int rw = 0; rw < 2; rw++) {
		struct store *s;

		options.readonly = !rw;
		if (store_open(&options, &s, &err)) {
			check(err.text[0] && !strchr(err.text, '\n'));
			continue;
		}
		use(s);
		store_close(s);
	}
	close(fd);
	return 0;
}
