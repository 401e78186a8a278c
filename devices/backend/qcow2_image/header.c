/*
 * qcow2_image/header: reads the header and checks each field before it is used. See file.h.
 *
 * A size in the header decides an allocation only after a comparison with QEMU's limits and with
 * the file's own size.
 */
#include "devices/backend/qcow2_image/file.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A message shows at most this many bytes of a name from the file. */
#define SHOWN 46u

static int bad(const struct qcow2_file *f, struct err *err, const char *what)
{
	return err_set(err, EINVAL, "disk %s: damaged qcow2 image: %s", f->path, what);
}

/* Copies a name from the file without control characters: messages may reach a terminal. */
static void printable(char *to, size_t room, const char *from, size_t len)
{
	size_t n = 0;

	for (; n < len && n + 1 < room && from[n]; n++)
		to[n] = from[n] >= ' ' && from[n] < 127 ? from[n] : '?';
	to[n] = '\0';
}

static bool misaligned(const struct qcow2_file *f, uint64_t offset)
{
	return offset & (f->cluster_bytes - 1);
}

/* Returns true if a table of len bytes is inside the file, whose last cluster may be incomplete. */
static bool inside(const struct qcow2_file *f, uint64_t offset, uint64_t len)
{
	return offset >= f->cluster_bytes && offset < f->image.size_bytes &&
	       len <= f->bytes - offset;
}

/* --- features ------------------------------------------------------------------- */

static int refuse_feature(const struct qcow2_file *f, unsigned bit, const char *names, size_t len,
			  struct err *err)
{
	char name[SHOWN + 1] = "";

	for (; len >= sizeof(struct qcow2_feature); len -= sizeof(struct qcow2_feature)) {
		const struct qcow2_feature *feature = (const void *)names;

		if (feature->type == 0 && feature->bit == bit)
			printable(name, sizeof(name), feature->name, sizeof(feature->name));
		names += sizeof(*feature);
	}
	return err_set(err, ENOTSUP,
		       "disk %s: uses the qcow2 feature %s%s%s(incompatible feature "
		       "bit %u), which is not supported",
		       f->path, name[0] ? "\"" : "", name, name[0] ? "\" " : "", bit);
}

static int check_features(const struct qcow2_file *f, const char *names, size_t len,
			  struct err *err)
{
	uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_COMPRESSION;
	uint64_t unknown = f->incompatible & ~known;

	if (f->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(
			err, ENOTSUP,
			"disk %s: keeps its data in an external data file, "
			"which is not supported; qemu-img convert -O qcow2 makes one file of it",
			f->path);
	if (f->incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		return err_set(err, ENOTSUP,
			       "disk %s: has extended L2 entries (subclusters), "
			       "which are not supported; qemu-img convert -O qcow2 "
			       "makes an image without them",
			       f->path);
	if (unknown)
		return refuse_feature(f, (unsigned)__builtin_ctzll(unknown), names, len, err);
	if (f->incompatible & QCOW2_INCOMPAT_CORRUPT && f->will_write)
		return err_set(err, EINVAL,
			       "disk %s: is marked corrupt; open it ro, or repair it "
			       "with qemu-img check -r all",
			       f->path);
	return 0;
}

/* --- header extensions, backing file ----------------------------------------------- */

struct extensions {
	const char *features;
	size_t features_len;
	char format[SHOWN];
	bool has_format;
};

/* Reads the extensions in [at, end). end: the backing file's name, or the first cluster's end. */
static int walk_extensions(const struct qcow2_file *f, const char *first, uint64_t at, uint64_t end,
			   struct extensions *out, struct err *err)
{
	while (end - at >= sizeof(struct qcow2_extension)) {
		struct qcow2_extension ext;
		uint64_t len;

		memcpy(&ext, first + at, sizeof(ext));
		at += sizeof(ext);
		len = be32toh(ext.len);
		if (be32toh(ext.type) == QCOW2_EXT_END)
			return 0;
		if (len > end - at)
			return bad(f, err, "a header extension is longer than the header");
		if (be32toh(ext.type) == QCOW2_EXT_FEATURES) {
			out->features = first + at;
			out->features_len = len;
		} else if (be32toh(ext.type) == QCOW2_EXT_BACKING_FORMAT) {
			printable(out->format, sizeof(out->format), first + at, len);
			out->has_format = true;
		}
		len = (len + 7) & ~7ull;
		at = len > end - at ? end : at + len;
	}
	return 0;
}

static int take_backing(struct qcow2_file *f, const char *first, uint64_t first_len,
			const struct qcow2_header *h, const struct extensions *ext, struct err *err)
{
	uint64_t offset = be64toh(h->backing_offset);
	uint32_t len = be32toh(h->backing_len);

	if (!offset)
		return 0;
	if (len > QCOW2_MAX_NAME || offset > first_len || len > first_len - offset)
		return bad(f, err, "the backing file's name lies outside the first cluster");
	if (!len)
		return 0;
	if (memchr(first + offset, '\0', len))
		return bad(f, err, "the backing file's name contains a zero byte");
	f->backing_name = strndup(first + offset, len);
	if (!f->backing_name)
		return err_sys(err, ENOMEM, "disk %s", f->path);
	if (ext->has_format && (store_format_parse(ext->format, &f->backing_format) ||
				f->backing_format == STORE_AUTO))
		return err_set(err, ENOTSUP,
			       "disk %s: its backing file has the format \"%s\"; only "
			       "raw and qcow2 are supported",
			       f->path, ext->format);
	return 0;
}

/* --- tables ----------------------------------------------------------------------- */

static int load_table(struct qcow2_file *f, uint64_t offset, uint64_t len, uint64_t **out,
		      struct err *err)
{
	uint64_t *table = len ? malloc(len) : calloc(1, sizeof(*table));
	int rc;

	if (!table)
		return err_sys(err, ENOMEM, "disk %s", f->path);
	rc = qcow2_pread(f, table, len, offset);
	if (rc) {
		free(table);
		return err_sys(err, -rc, "disk %s: cannot read", f->path);
	}
	for (uint64_t i = 0; i < len / sizeof(*table); i++)
		table[i] = be64toh(table[i]);
	*out = table;
	return 0;
}

static int take_l1(struct qcow2_file *f, const struct qcow2_header *h, struct err *err)
{
	uint64_t per_l2 = f->cluster_bytes << f->l2_bits;
	uint64_t want = f->disk_bytes / per_l2 + !!(f->disk_bytes % per_l2);
	uint64_t bytes;

	f->l1.n = be32toh(h->l1_size);
	f->l1.offset = be64toh(h->l1_offset);
	bytes = (uint64_t)f->l1.n * 8;
	if (want > f->l1.n)
		return bad(f, err, "the L1 table is too small for the disk's size");
	if (bytes > QCOW2_MAX_L1_BYTES)
		return bad(f, err, "the L1 table is larger than 32 MiB");
	if (bytes && (misaligned(f, f->l1.offset) || !inside(f, f->l1.offset, bytes)))
		return bad(f, err, "the L1 table does not lie inside the file");
	return load_table(f, f->l1.offset, bytes, &f->l1.entry, err);
}

static int take_reftable(struct qcow2_file *f, const struct qcow2_header *h, struct err *err)
{
	uint64_t bytes;

	f->reftable.offset = be64toh(h->reftable_offset);
	f->reftable.clusters = be32toh(h->reftable_clusters);
	/* Only writers need it. */
	if (!f->will_write)
		return 0;
	bytes = (uint64_t)f->reftable.clusters << f->cluster_bits;
	if (!bytes || bytes > QCOW2_MAX_REFTABLE_BYTES)
		return bad(f, err, "the refcount table is empty or larger than 8 MiB");
	if (misaligned(f, f->reftable.offset) || !inside(f, f->reftable.offset, bytes))
		return bad(f, err, "the refcount table does not lie inside the file");
	f->reftable.n = bytes / 8;
	return load_table(f, f->reftable.offset, bytes, &f->reftable.entry, err);
}

static int take_snapshots(struct qcow2_file *f, const struct qcow2_header *h, struct err *err)
{
	f->nsnapshots = be32toh(h->nsnapshots);
	f->snapshots_offset = be64toh(h->snapshots_offset);
	if (f->nsnapshots > QCOW2_MAX_SNAPSHOTS)
		return bad(f, err, "more than 65536 snapshots");
	if (f->nsnapshots &&
	    (misaligned(f, f->snapshots_offset) || !inside(f, f->snapshots_offset, 1)))
		return bad(f, err, "the snapshot table does not lie inside the file");
	return 0;
}

/* --- the header itself -------------------------------------------------------------- */

static int take_geometry(struct qcow2_file *f, const struct qcow2_header *h, struct err *err)
{
	f->cluster_bits = be32toh(h->cluster_bits);
	if (f->cluster_bits < QCOW2_MIN_CLUSTER_BITS || f->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return bad(f, err, "its cluster size is not between 512 bytes and 2 MiB");
	f->cluster_bytes = 1ull << f->cluster_bits;
	f->l2_bits = f->cluster_bits - 3;
	f->bytes = qcow2_round_up(f, f->image.size_bytes);
	f->disk_bytes = be64toh(h->size);
	if (f->disk_bytes > INT64_MAX)
		return bad(f, err, "the disk's size is too large");
	return 0;
}

static int take_v3(struct qcow2_file *f, const struct qcow2_header *h, uint32_t *header_len,
		   struct err *err)
{
	uint8_t type = 0;

	f->refcount_order = 4;
	*header_len = QCOW2_V2_HEADER_BYTES;
	if (f->version >= 3) {
		f->incompatible = be64toh(h->incompatible);
		f->compatible = be64toh(h->compatible);
		f->autoclear = be64toh(h->autoclear);
		f->refcount_order = be32toh(h->refcount_order);
		*header_len = be32toh(h->header_len);
		if (*header_len < QCOW2_V3_HEADER_BYTES || *header_len % 8 ||
		    *header_len > f->cluster_bytes)
			return bad(f, err, "its header has an invalid length");
		if (*header_len > QCOW2_V3_HEADER_BYTES)
			type = h->compression_type;
	}
	if (f->refcount_order > 6)
		return bad(f, err, "refcounts of more than 64 bits");
	f->refblock_bits = f->cluster_bits + 3 - f->refcount_order;
	f->refcount_max = ~0ull >> (64 - (1u << f->refcount_order));
	if (type > 1)
		return err_set(err, ENOTSUP,
			       "disk %s: compression type %u is not supported (zlib and zstd are)",
			       f->path, type);
	if (!type != !(f->incompatible & QCOW2_INCOMPAT_COMPRESSION))
		return bad(f, err,
			   "the compression type and its feature bit contradict each other");
	f->zstd = type == 1;
	return 0;
}

static int check_crypt(const struct qcow2_file *f, uint32_t method, struct err *err)
{
	if (!method)
		return 0;
	return err_set(err, ENOTSUP, "disk %s: is encrypted (%s), which is not supported", f->path,
		       method == 1 ? "AES" :
		       method == 2 ? "LUKS" :
				     "unknown method");
}

static int parse(struct qcow2_file *f, const char *first, uint64_t first_len, struct err *err)
{
	const struct qcow2_header *h = (const void *)first;
	struct extensions ext = { 0 };
	uint64_t name = be64toh(h->backing_offset), end;
	uint32_t header_len;
	int rc;

	rc = take_geometry(f, h, err);
	if (!rc)
		rc = take_v3(f, h, &header_len, err);
	if (rc)
		return rc;
	end = f->cluster_bytes < first_len ? f->cluster_bytes : first_len;
	if (name && name < end)
		end = name;
	if (end > header_len)
		rc = walk_extensions(f, first, header_len, end, &ext, err);
	if (!rc)
		rc = check_features(f, ext.features, ext.features_len, err);
	if (!rc)
		rc = check_crypt(f, be32toh(h->crypt_method), err);
	if (!rc)
		rc = take_backing(f, first, first_len, h, &ext, err);
	if (!rc)
		rc = take_l1(f, h, err);
	if (!rc)
		rc = take_reftable(f, h, err);
	if (!rc)
		rc = take_snapshots(f, h, err);
	return rc;
}

static int check_magic(struct qcow2_file *f, const struct qcow2_header *h, struct err *err)
{
	if (f->image.size_bytes < QCOW2_V2_HEADER_BYTES || be32toh(h->magic) != QCOW2_MAGIC)
		return err_set(err, EINVAL,
			       "disk %s: is not a qcow2 image (format=raw opens it as it is)",
			       f->path);
	f->version = be32toh(h->version);
	if (f->version != 2 && f->version != 3)
		return err_set(err, ENOTSUP,
			       "disk %s: is a qcow image of version %u; versions 2 and "
			       "3 are supported",
			       f->path, f->version);
	if (f->version == 3 && f->image.size_bytes < QCOW2_V3_HEADER_BYTES)
		return bad(f, err, "its header is cut short");
	return 0;
}

int qcow2_header_load(struct qcow2_file *f, struct err *err)
{
	/* Header, extensions and name are in the first cluster, whose size is in h. */
	uint64_t want = 1u << QCOW2_MAX_CLUSTER_BITS;
	struct qcow2_header h = { 0 };
	char *first;
	int rc;

	rc = qcow2_pread(f, &h, sizeof(h), 0);
	if (rc)
		return err_sys(err, -rc, "disk %s: cannot read", f->path);
	rc = check_magic(f, &h, err);
	if (rc)
		return rc;
	if (be32toh(h.cluster_bits) < QCOW2_MAX_CLUSTER_BITS)
		want = 1ull << (be32toh(h.cluster_bits) < 9 ? 9 : be32toh(h.cluster_bits));
	if (want > f->image.size_bytes)
		want = f->image.size_bytes;
	first = calloc(1, want < sizeof(h) ? sizeof(h) : want);
	if (!first)
		return err_sys(err, ENOMEM, "disk %s", f->path);
	rc = qcow2_pread(f, first, want, 0);
	rc = rc ? err_sys(err, -rc, "disk %s: cannot read", f->path) : parse(f, first, want, err);
	free(first);
	return rc;
}

int qcow2_header_patch(struct qcow2_file *f, uint64_t offset, const void *bytes, uint64_t len)
{
	int rc = qcow2_pwrite(f, bytes, len, offset);

	return rc ? rc : qcow2_sync(f);
}

int qcow2_header_incompatible(struct qcow2_file *f, uint64_t features)
{
	uint64_t be = htobe64(features);
	int rc;

	if (f->version < 3)
		return 0;
	rc = qcow2_header_patch(f, offsetof(struct qcow2_header, incompatible), &be, sizeof(be));
	if (!rc)
		f->incompatible = features;
	return rc;
}
