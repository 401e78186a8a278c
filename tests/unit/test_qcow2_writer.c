/* Images written in one pass: read by our reader, checked by qemu-img and by our check. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"
#include "devices/backend/qcow2_image/file.h"
#include "devices/backend/qcow2_image/writer.h"
#include "tests/unit/qcow2_files.h"

TestSuite(qcow2_writer, .init = scratch_enter, .fini = scratch_leave, .timeout = 120);

static struct qcow2_writer *begin(int *fd, const struct store_create *create)
{
	struct qcow2_writer *w;
	struct err err = { "" };

	must("rm -f w.qcow2");
	*fd = open("w.qcow2", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	cr_assert(*fd >= 0);
	cr_assert(!qcow2_writer_create(*fd, create, &w, &err), "%s", err.text);
	return w;
}

static void end(int fd, struct qcow2_writer *w)
{
	struct qcow2_check check = { .repair = QCOW2_REPAIR_NONE };
	struct err err = { "" };

	cr_assert(!qcow2_writer_finish(w));
	qcow2_writer_destroy(w);
	close(fd);
	cr_assert_eq(qemu_check("w.qcow2"), 0);
	cr_assert(!qcow2_check(&check, "w.qcow2", &err), "%s", err.text);
	cr_assert_eq(check.corruptions + check.leaks, 0);
}

/* Writes a mixture of all kinds of clusters, and a raw file to compare with. */
static void mixture(const struct store_create *create)
{
	uint32_t cluster = create->cluster_bytes;
	uint64_t n = create->size_bytes / cluster;
	uint8_t *bytes = malloc(cluster), *packed = malloc(cluster);
	struct qcow2_packer *packer = qcow2_packer_create(create->zstd, cluster);
	int fd, raw = open("raw", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct qcow2_writer *w = begin(&fd, create);
	struct store *s;

	cr_assert(bytes && packed && packer && !ftruncate(raw, (off_t)create->size_bytes));
	for (uint64_t i = 0; i < n; i++) {
		struct qcow2_piece p = { .kind = QCOW2_PIECE_DATA, .cluster = i };
		const void *data = bytes;

		if (i % 5 == 4)
			continue;
		pattern(bytes, cluster, i);
		/* Three quarters of one repeated byte: every method can compress the cluster. */
		if (i % 5 < 3)
			memset(bytes + cluster / 4, (int)i | 1, cluster - cluster / 4);
		p.len_bytes = i % 5 < 3 ? qcow2_pack(packer, bytes, packed) : 0;
		if (p.len_bytes) {
			p.kind = QCOW2_PIECE_PACKED;
			data = packed;
		}
		cr_assert(i % 5 >= 3 || cluster < 4096 || p.len_bytes);
		cr_assert(!qcow2_writer_place(w, &p, 1));
		cr_assert(p.host >= cluster);
		cr_assert_eq(pwrite(fd, data, p.len_bytes ? p.len_bytes : cluster, (off_t)p.host),
			     p.len_bytes ? p.len_bytes : cluster);
		cr_assert_eq(pwrite(raw, bytes, cluster, (off_t)(i * cluster)), cluster);
	}
	end(fd, w);
	close(raw);
	must("qemu-img compare -f raw -F qcow2 raw w.qcow2");
	s = must_open("w.qcow2", STORE_QCOW2, true);
	same_as_raw(s, "raw");
	store_close(s);
	qcow2_packer_destroy(packer);
	free(bytes);
	free(packed);
}

Test(qcow2_writer, mixture)
{
	for (uint32_t cluster = 512; cluster <= 2 * MIB; cluster *= 8) {
		for (unsigned how = 0; how < 3; how++)
			mixture(&(struct store_create){
				.size_bytes = cluster < 65536 ? 301ull * cluster : 31ull * cluster,
				.cluster_bytes = cluster,
				.version = how == 1 ? 2 : 3,
				.zstd = how == 2,
				.lazy_refcounts = how == 2 });
	}
}

/* More small compressed clusters in a host cluster than a refcount can count. */
Test(qcow2_writer, full_refcount)
{
	struct store_create create = { .size_bytes = 70000ull << 21, .cluster_bytes = 2 * MIB };
	struct qcow2_writer *w;
	struct qcow2_file q;
	struct err err;
	uint64_t last = 0;
	int fd;

	w = begin(&fd, &create);
	for (uint64_t i = 0; i < 70000; i++) {
		struct qcow2_piece p = { .kind = QCOW2_PIECE_PACKED,
					 .cluster = i,
					 .len_bytes = 20 };

		cr_assert(!qcow2_writer_place(w, &p, 1));
		if (last && p.host != last + 20)
			cr_assert(i == 65535 && !(p.host % (2 * MIB)));
		last = p.host;
	}
	end(fd, w);
	cr_assert(!qcow2_file_open(&q, "w.qcow2", NULL, QCOW2_READ, false, &err), "%s", err.text);
	cr_assert_eq(q.disk_bytes, create.size_bytes);
	qcow2_file_close(&q);
}

Test(qcow2_writer, refuses)
{
	static const struct {
		struct store_create c;
		const char *word;
	} bad[] = {
		{ { .size_bytes = 0 }, "cannot hold" },
		{ { .size_bytes = 1ull << 63 }, "cannot hold" },
		{ { .size_bytes = UINT64_MAX }, "cannot hold" },
		{ { .size_bytes = 1ull << 40, .cluster_bytes = 512 }, "larger clusters can" },
		{ { .size_bytes = MIB, .cluster_bytes = 256 }, "power of two" },
		{ { .size_bytes = MIB, .cluster_bytes = 4 * MIB }, "power of two" },
		{ { .size_bytes = MIB, .cluster_bytes = 65537 }, "power of two" },
		{ { .size_bytes = MIB, .version = 4 }, "version 4" },
		{ { .size_bytes = MIB, .version = 2, .zstd = true }, "version 3" },
		{ { .size_bytes = MIB, .version = 2, .lazy_refcounts = true }, "version 3" },
	};
	static char name[1100];
	struct store_create small = { .size_bytes = MIB, .cluster_bytes = 512, .backing = name };
	struct qcow2_writer *w;
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(qcow2_writer_create(-1, &bad[i].c, &w, &err) && !w);
		cr_assert(strstr(err.text, bad[i].word), "%zu: %s", i, err.text);
	}
	memset(name, 'n', 400);
	cr_assert(qcow2_writer_create(-1, &small, &w, &err) && strstr(err.text, "too long"));
	memset(name, 'n', 1024);
	small.cluster_bytes = 65536;
	cr_assert(qcow2_writer_create(-1, &small, &w, &err) && strstr(err.text, "too long"));
}
