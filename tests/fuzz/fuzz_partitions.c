/* fuzz_partitions: partition tables. All partitions found must be within the disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/store/partitions.h"

struct fake {
	struct store store; /* first */
	const uint8_t *bytes;
};

static int fake_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		     uint64_t len)
{
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return -EINVAL;
	memcpy(iov->iov_base, ((struct fake *)s)->bytes + offset, len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct store_ops ops = { .format = STORE_RAW, .read = fake_read };
	struct fake disk = { { .ops = &ops, .size_bytes = size }, data };
	static struct store_partitions parts;
	struct err err = { "" };

	if (store_partitions_read(&disk.store, &parts, &err)) {
		BUG_ON(!*err.text);
		return 0;
	}
	BUG_ON(parts.n > PARTITIONS_MAX);
	for (unsigned i = 0; i < parts.n; i++) {
		const struct partition *p = &parts.part[i];

		BUG_ON(!p->len_bytes || p->offset > size || p->len_bytes > size - p->offset);
		BUG_ON(strlen(p->partuuid) >= sizeof(p->partuuid));
		store_partitions_content(&disk.store, p->offset, p->len_bytes);
	}
	return 0;
}
