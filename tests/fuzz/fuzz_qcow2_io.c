/*
 * fuzz_qcow2_io: any operations on a good image, compared with an array.
 *
 * Input: a byte for the kind of image (cluster size, version, an image below it), then 6 bytes
 * for each operation. Each read must give the array's bytes; in the end the check must find
 * neither corruption nor leaks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"
#include "devices/backend/store/store.h"
#include "vmm/core/log.h"

#define DISK_BYTES (768u * 1024u)
#define BASE_BYTES (500u * 1024u)

static uint8_t want[DISK_BYTES], buf[DISK_BYTES];
static char base[64], image[64];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static struct store *must_open(const char *path)
{
	struct store_options options = { .path = path, .format = STORE_AUTO };
	struct store *s;
	struct err err;

	check(!store_open(&options, &s, &err));
	return s;
}

static void make(uint8_t kind)
{
	static const uint32_t clusters[] = { 512, 1024, 4096, 65536 };
	struct store_create c = { .path = image,
				  .format = STORE_QCOW2,
				  .size_bytes = DISK_BYTES,
				  .cluster_bytes = clusters[kind & 3],
				  .version = kind & 4 ? 2 : 3 };
	struct err err;

	unlink(image);
	memset(want, 0, sizeof(want));
	if (kind & 8) {
		c.backing = strrchr(base, '/') + 1;
		c.backing_format = STORE_QCOW2;
		for (unsigned i = 0; i < BASE_BYTES; i++)
			want[i] = (uint8_t)(i / 997 % 255 + 1);
	}
	check(!store_create(&c, &err));
}

static void make_base(void)
{
	struct store_create c = {
		.path = base, .format = STORE_QCOW2, .size_bytes = BASE_BYTES, .cluster_bytes = 4096
	};
	const char *dir = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	struct store *s;
	struct err err;

	snprintf(base, sizeof(base), "%s/fuzz-%d-base.qcow2", dir, getpid());
	snprintf(image, sizeof(image), "%s/fuzz-%d.qcow2", dir, getpid());
	unlink(base);
	check(!store_create(&c, &err));
	make(8 | 2);
	s = must_open(base);
	check(!store_write(s, want, 0, BASE_BYTES));
	store_close(s);
}

static void gone(void)
{
	unlink(base);
	unlink(image);
}

static struct store *step(struct store *s, const uint8_t *op)
{
	uint64_t at = (uint64_t)(op[1] | op[2] << 8) * 12 % DISK_BYTES;
	uint64_t n = (uint64_t)(op[3] | op[4] << 8) * (op[0] & 16 ? 8 : 1);

	if (n > DISK_BYTES - at)
		n = DISK_BYTES - at;
	switch (op[0] % 8) {
	case 0:
	case 1:
	case 2:
		memset(buf, op[5] | 1, n);
		check(!store_write(s, buf, at, n));
		memcpy(want + at, buf, n);
		break;
	case 3:
		check(!s->ops->zero(s, at, n, op[5] & 1));
		memset(want + at, 0, n);
		break;
	case 4:
		check(!s->ops->discard(s, at, n));
		check(!store_read(s, buf, at, n));
		for (uint64_t i = 0; i < n; i++)
			check(!buf[i] || buf[i] == want[at + i]);
		memcpy(want + at, buf, n);
		break;
	case 5:
		check(!s->ops->flush(s));
		break;
	case 6:
		check(!store_read(s, buf, at, n));
		check(!memcmp(buf, want + at, n));
		break;
	case 7:
		store_close(s);
		s = must_open(image);
		break;
	}
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_check result = { .repair = QCOW2_REPAIR_NONE };
	struct store *s;
	struct err err;

	if (size < 1)
		return 0;
	if (!base[0]) {
		log_set_level(LOG_ERROR - 1);
		atexit(gone);
		make_base();
	}
	make(data[0]);
	s = must_open(image);
	for (data++, size--; size >= 6; data += 6, size -= 6)
		s = step(s, data);
	check(!store_read(s, buf, 0, DISK_BYTES));
	check(!memcmp(buf, want, DISK_BYTES));
	store_close(s);
	check(!qcow2_check(&result, image, &err));
	check(!result.corruptions && !result.leaks);
	return 0;
}
