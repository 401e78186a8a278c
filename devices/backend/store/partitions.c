/* store/partitions: see partitions.h. */
#include "devices/backend/store/partitions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "vmm/core/bytes.h"

#define SECTOR_MAX 4096u
#define MBR_ENTRIES 446u
#define MBR_ENTRY_BYTES 16u
#define MBR_GPT 0xeeu
/* Linux stops there, too; the limit also ends a chain that loops. */
#define LOGICAL_MAX 100u

#define GPT_HEADER_BYTES 92u
#define GPT_ENTRY_BYTES_MIN 128u
#define GPT_ENTRY_BYTES_MAX 4096u
#define GPT_ENTRIES_MAX 1024u

/* Add a partition if a byte of it is within the image; what is beyond the end is cut off. */
static struct partition *add(struct store *s, struct store_partitions *out, unsigned number,
			     uint64_t sector, uint64_t nsectors)
{
	struct partition *p = &out->part[out->n];
	uint64_t limit = s->size_bytes / out->sector_bytes;

	if (nsectors && !out->beyond && (sector >= limit || nsectors > limit - sector))
		out->beyond = number;
	if (!nsectors || sector >= limit || out->n == PARTITIONS_MAX)
		return NULL;
	if (nsectors > limit - sector)
		nsectors = limit - sector;
	*p = (struct partition){ .number = number,
				 .offset = sector * out->sector_bytes,
				 .len_bytes = nsectors * out->sector_bytes };
	out->n++;
	return p;
}

/* --- MBR ---------------------------------------------------------------------------------- */

static const uint8_t *mbr_entry(const uint8_t *sector, unsigned i)
{
	return sector + MBR_ENTRIES + i * MBR_ENTRY_BYTES;
}

static bool is_extended(uint8_t type)
{
	return type == 0x05 || type == 0x0f || type == 0x85;
}

/* The signature is not enough: FAT and boot loaders end their first sector with it, too. */
static bool is_mbr(const uint8_t *sector)
{
	unsigned used = 0;

	if (sector[510] != 0x55 || sector[511] != 0xaa)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *e = mbr_entry(sector, i);

		if (e[0] & 0x7f)
			return false;
		used += e[4] && get_le32(e + 12);
	}
	return used;
}

static void add_mbr(struct store *s, struct store_partitions *out, uint32_t disk, unsigned number,
		    uint64_t sector, uint64_t nsectors)
{
	struct partition *p = add(s, out, number, sector, nsectors);

	/* A disk whose signature is 0 has no PARTUUIDs. */
	if (p && disk)
		snprintf(p->partuuid, sizeof(p->partuuid), "%08x-%02x", disk, number);
}

/* Follow a chain of sectors, each with one logical partition and the address of the next. */
static void read_logical(struct store *s, struct store_partitions *out, uint32_t disk,
			 uint64_t base)
{
	uint64_t at = base;
	unsigned number = 5;

	for (unsigned i = 0; i < LOGICAL_MAX; i++) {
		uint8_t sector[512];
		const uint8_t *next = NULL;

		if (store_read(s, sector, at * out->sector_bytes, sizeof(sector)) ||
		    sector[510] != 0x55 || sector[511] != 0xaa)
			return;
		for (unsigned k = 0; k < 4; k++) {
			const uint8_t *e = mbr_entry(sector, k);

			if (!get_le32(e + 12))
				continue;
			if (is_extended(e[4]))
				next = next ? next : e;
			else if (e[4])
				add_mbr(s, out, disk, number++, at + get_le32(e + 8),
					get_le32(e + 12));
		}
		if (!next || !get_le32(next + 8))
			return;
		at = base + get_le32(next + 8);
	}
}

static void read_mbr(struct store *s, struct store_partitions *out, const uint8_t *sector)
{
	uint32_t disk = get_le32(sector + 440);
	bool seen = false;

	out->table = PART_TABLE_MBR;
	out->sector_bytes = 512;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *e = mbr_entry(sector, i);

		if (e[4] && !is_extended(e[4]))
			add_mbr(s, out, disk, i + 1, get_le32(e + 8), get_le32(e + 12));
	}
	for (unsigned i = 0; i < 4 && !seen; i++) {
		const uint8_t *e = mbr_entry(sector, i);

		seen = is_extended(e[4]) && get_le32(e + 12);
		if (seen)
			read_logical(s, out, disk, get_le32(e + 8));
	}
}

/* --- GPT ---------------------------------------------------------------------------------- */

struct gpt {
	uint64_t lba, alternate_lba, entries_lba;
	uint32_t nentries, entry_bytes, entries_crc;
};

static bool has_gpt(const uint8_t *sector)
{
	if (sector[510] != 0x55 || sector[511] != 0xaa)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (mbr_entry(sector, i)[4] == MBR_GPT)
			return true;
	return false;
}

static bool read_header(struct store *s, uint32_t sector_bytes, uint64_t lba, struct gpt *gpt)
{
	uint8_t b[SECTOR_MAX];
	uint32_t header_bytes, crc;

	if (lba >= s->size_bytes / sector_bytes ||
	    store_read(s, b, lba * sector_bytes, sector_bytes) || memcmp(b, "EFI PART", 8))
		return false;
	header_bytes = get_le32(b + 12);
	if (header_bytes < GPT_HEADER_BYTES || header_bytes > sector_bytes)
		return false;
	crc = get_le32(b + 16);
	memset(b + 16, 0, 4);
	*gpt = (struct gpt){ .lba = get_le64(b + 24),
			     .alternate_lba = get_le64(b + 32),
			     .entries_lba = get_le64(b + 72),
			     .nentries = get_le32(b + 80),
			     .entry_bytes = get_le32(b + 84),
			     .entries_crc = get_le32(b + 88) };
	return crc32(0, b, header_bytes) == crc && gpt->lba == lba;
}

static bool entries_ok(struct store *s, uint32_t sector_bytes, const struct gpt *gpt)
{
	uint8_t buf[4096];
	uint64_t limit = s->size_bytes / sector_bytes, total;
	uint32_t crc = 0;

	if (gpt->entry_bytes < GPT_ENTRY_BYTES_MIN || gpt->entry_bytes > GPT_ENTRY_BYTES_MAX ||
	    (gpt->entry_bytes & (gpt->entry_bytes - 1)) || gpt->nentries > GPT_ENTRIES_MAX ||
	    gpt->entries_lba < 1 || gpt->entries_lba >= limit)
		return false;
	total = (uint64_t)gpt->nentries * gpt->entry_bytes;
	for (uint64_t done = 0; done < total;) {
		uint64_t part = total - done < sizeof(buf) ? total - done : sizeof(buf);

		if (store_read(s, buf, gpt->entries_lba * sector_bytes + done, part))
			return false;
		crc = (uint32_t)crc32(crc, buf, (uInt)part);
		done += part;
	}
	return crc == gpt->entries_crc;
}

/* Format a GUID. The first three groups are little-endian numbers. */
static void guid_text(const uint8_t *g, char text[37])
{
	snprintf(text, 37, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", get_le32(g),
		 get_le16(g + 4), get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14],
		 g[15]);
}

/* Converts a GPT name, 36 units of UTF-16 at most. Half a surrogate pair becomes a "?". */
static void name_text(const uint8_t *b, char to[112])
{
	size_t n = 0;

	for (unsigned i = 0; i < 36; i++) {
		uint32_t c = get_le16(b + 2 * i), low = i < 35 ? get_le16(b + 2 * i + 2) : 0;

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i++;
		} else if (c >= 0xd800 && c < 0xe000) {
			c = '?';
		}
		if (c < 0x80) {
			to[n++] = (char)c;
			continue;
		}
		/* At most 3 bytes for a unit of UTF-16, 4 for two. */
		if (c >= 0x10000) {
			to[n++] = (char)(0xf0 | c >> 18);
			to[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		} else if (c >= 0x800) {
			to[n++] = (char)(0xe0 | c >> 12);
		}
		to[n++] = (char)(c < 0x800 ? 0xc0 | c >> 6 : 0x80 | (c >> 6 & 0x3f));
		to[n++] = (char)(0x80 | (c & 0x3f));
	}
	to[n] = 0;
}

static enum part_role role_of(const uint8_t *type)
{
	char text[37];

	guid_text(type, text);
	if (!strcmp(text, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"))
		return PART_ROLE_ESP;
	if (!strcmp(text, "bc13c2ff-59e6-4262-a352-b275fd6f7172"))
		return PART_ROLE_BOOT;
	/* x86-64 */
	if (!strcmp(text, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"))
		return PART_ROLE_ROOT;
	return PART_ROLE_OTHER;
}

static void add_entries(struct store *s, struct store_partitions *out, const struct gpt *gpt)
{
	static const uint8_t unused[16];
	uint8_t e[GPT_ENTRY_BYTES_MIN];

	for (uint32_t i = 0; i < gpt->nentries; i++) {
		uint64_t at = gpt->entries_lba * out->sector_bytes + (uint64_t)i * gpt->entry_bytes;
		uint64_t first, last;
		struct partition *p;

		if (store_read(s, e, at, sizeof(e)) || !memcmp(e, unused, 16))
			continue;
		first = get_le64(e + 32);
		last = get_le64(e + 40);
		if (last < first || last == UINT64_MAX)
			continue;
		p = add(s, out, i + 1, first, last - first + 1);
		if (!p)
			continue;
		p->role = role_of(e);
		guid_text(e + 16, p->partuuid);
		name_text(e + 56, p->partlabel);
	}
}

/*
 * Read the GPT, if sectors have this size. Returns 1 if there is one, 0 if there is no sign of it,
 * or -EINVAL if it is damaged.
 */
static int read_gpt(struct store *s, struct store_partitions *out, uint32_t sector_bytes)
{
	uint64_t last = s->size_bytes / sector_bytes;
	struct gpt first, gpt;
	bool have_first;

	if (last < 3)
		return 0;
	last--;
	out->sector_bytes = sector_bytes;
	have_first = read_header(s, sector_bytes, 1, &first);
	if (have_first && entries_ok(s, sector_bytes, &first)) {
		gpt = first;
	} else if ((read_header(s, sector_bytes, last, &gpt) &&
		    entries_ok(s, sector_bytes, &gpt)) ||
		   /* The image has grown since the GPT was written. */
		   (have_first && read_header(s, sector_bytes, first.alternate_lba, &gpt) &&
		    entries_ok(s, sector_bytes, &gpt))) {
		out->from_backup = true;
	} else {
		return have_first ? -EINVAL : 0;
	}
	out->table = PART_TABLE_GPT;
	add_entries(s, out, &gpt);
	return 1;
}

int store_partitions_read(struct store *s, struct store_partitions *out, struct err *err)
{
	uint8_t sector[512] = { 0 };
	int rc = 0;

	memset(out, 0, sizeof(*out));
	out->sector_bytes = 512;
	if (s->size_bytes >= sizeof(sector))
		rc = store_read(s, sector, 0, sizeof(sector));
	if (rc)
		return err_sys(err, -rc, "cannot read its first sector");
	if (has_gpt(sector)) {
		/* A damaged header of the one size may be a left-over. */
		rc = read_gpt(s, out, 512);
		if (rc <= 0)
			rc = read_gpt(s, out, 4096);
		if (rc > 0)
			return 0;
		return err_set(err, EINVAL,
			       "its GPT is damaged, and so is the GPT's copy at the end");
	}
	if (is_mbr(sector)) {
		read_mbr(s, out, sector);
		return 0;
	}
	if (s->size_bytes)
		out->part[out->n++] = (struct partition){ .len_bytes = s->size_bytes };
	return 0;
}

/* --- what is in them ------------------------------------------------------------------------ */

static const struct signature {
	const char *name;
	uint32_t offset;
	uint32_t len;
	const char *bytes;
} signatures[] = {
	{ "LUKS", 0, 6, "LUKS\xba\xbe" },
	{ "LVM", 512, 8, "LABELONE" },
	{ "LVM", 0, 8, "LABELONE" },
	{ "RAID", 4096, 4, "\xfc\x4e\x2b\xa9" },
	{ "RAID", 0, 4, "\xfc\x4e\x2b\xa9" },
	{ "ext4", 1024 + 56, 2, "\x53\xef" },
	{ "xfs", 0, 4, "XFSB" },
	{ "btrfs", 65536 + 64, 8, "_BHRfS_M" },
	{ "swap", 4096 - 10, 10, "SWAPSPACE2" },
	{ "f2fs", 1024, 4, "\x10\x20\xf5\xf2" },
	{ "erofs", 1024, 4, "\xe2\xe1\xf5\xe0" },
	{ "squashfs", 0, 4, "hsqs" },
	{ "bcachefs", 4096 + 24, 4, "\xc6\x85\x73\xf6" },
	{ "ISO 9660", 32769, 5, "CD001" },
	{ "NTFS", 3, 8, "NTFS    " },
	{ "exFAT", 3, 8, "EXFAT   " },
	{ "vfat", 82, 5, "FAT32" },
	{ "vfat", 54, 3, "FAT" },
};

const char *store_partitions_content(struct store *s, uint64_t offset, uint64_t len_bytes)
{
	uint8_t b[16];

	for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
		const struct signature *sig = &signatures[i];

		if (sig->offset + sig->len <= len_bytes &&
		    !store_read(s, b, offset + sig->offset, sig->len) &&
		    !memcmp(b, sig->bytes, sig->len))
			return sig->name;
	}
	return NULL;
}
