/*
 * fat/layout: the size, which FAT, and where everything goes. See fat.h.
 *
 * "Spec" is Microsoft's "FAT: General Overview of On-Disk Format". A volume with fewer than 4085
 * clusters is FAT12, with fewer than 65525 FAT16, else FAT32; nothing else decides. Because other
 * implementations miscount by one or two, the spec advises to stay 16 away from both limits.
 */
#include "devices/backend/fat/fat_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_SECTORS 2048u /* 1 MiB */
/* BIOS geometry: mtools requires whole tracks. */
#define TRACK_SECTORS 32u
#define ALIGN_SECTORS 8u /* clusters begin at multiples of 4 KiB in the image */
#define MARGIN 16u
#define LAST_FAT12 (4084u - MARGIN)
#define FIRST_FAT16 (4085u + MARGIN)
#define LAST_FAT16 (65524u - MARGIN)
#define FIRST_FAT32 (65525u + MARGIN)
#define LAST_FAT32 0x0ffffff0u

/* Cluster sizes by the volume's size, from the spec's tables for FAT16 and FAT32. */
static const struct row {
	uint32_t max_sectors;
	uint8_t cluster_sectors, bits;
} rows[] = {
	{ 4096, 1, 12 },      { 8384, 4, 12 },	      { 32672, 2, 16 },	   { 262144, 4, 16 },
	{ 524288, 8, 16 },    { 1048576, 16, 16 },    { 16777216, 8, 32 }, { 33554432, 16, 32 },
	{ 67108864, 32, 32 }, { 0xffffffe0, 64, 32 },
};

static uint32_t fat_sectors_for(unsigned bits, uint64_t clusters)
{
	return (uint32_t)(((clusters + 2) * bits + FAT_SECTOR * 8 - 1) / (FAT_SECTOR * 8));
}

/*
 * Lay out a volume of this many sectors, with the smallest FAT that has an entry for each cluster.
 */
static void split(struct fat_geometry *geo, uint64_t sectors)
{
	uint32_t root = geo->root_entries * FAT_ENTRY_BYTES / FAT_SECTOR;
	uint32_t first = geo->bits == 32 ? 32 : 1;
	uint32_t fat = fat_sectors_for(geo->bits, sectors / geo->cluster_sectors);

	for (;; fat--) {
		uint64_t start = first + 2ull * fat + root;
		uint32_t pad = (uint32_t)(-start & (ALIGN_SECTORS - 1));
		uint64_t left = sectors > start + pad ? sectors - start - pad : 0;
		uint64_t clusters = left / geo->cluster_sectors;

		if (geo->fat_sectors && fat_sectors_for(geo->bits, clusters) > fat)
			return;
		*geo = (struct fat_geometry){
			.bits = geo->bits,
			.cluster_sectors = geo->cluster_sectors,
			.root_entries = geo->root_entries,
			.reserved = first + pad,
			.fat_sectors = fat,
			.data_start = (uint32_t)(start + pad),
			.clusters = (uint32_t)clusters,
			.sectors = sectors,
		};
		if (fat == 1)
			return;
	}
}

static uint64_t whole_tracks(uint64_t sectors)
{
	return (sectors + TRACK_SECTORS - 1) / TRACK_SECTORS * TRACK_SECTORS;
}

int fat_geometry_find(struct fat_geometry *geo, uint64_t min_sectors, uint32_t root_entries,
		      uint64_t (*need)(const void *opaque, uint32_t cluster_bytes, bool root),
		      const void *opaque)
{
	if (min_sectors < LEAST_SECTORS)
		min_sectors = LEAST_SECTORS;
	if (min_sectors > rows[sizeof(rows) / sizeof(rows[0]) - 1].max_sectors)
		return -EFBIG;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned bits = rows[i].bits;
		uint32_t last = bits == 12 ? LAST_FAT12 : bits == 16 ? LAST_FAT16 : LAST_FAT32;
		uint64_t wanted = need(opaque, rows[i].cluster_sectors * FAT_SECTOR, bits == 32);
		uint64_t least = bits == 12 ? 1 : bits == 16 ? FIRST_FAT16 : FIRST_FAT32;
		uint64_t sectors;

		if (wanted < least)
			wanted = least;
		if (wanted > last)
			continue;
		*geo = (struct fat_geometry){ .bits = bits,
					      .cluster_sectors = rows[i].cluster_sectors,
					      .root_entries = bits == 32 ? 0 : root_entries };
		sectors = wanted * geo->cluster_sectors + geo->root_entries / 16 +
			  2ull * fat_sectors_for(bits, wanted);
		if (sectors < min_sectors)
			sectors = min_sectors;
		for (sectors = whole_tracks(sectors); sectors <= rows[i].max_sectors;
		     sectors += TRACK_SECTORS) {
			geo->fat_sectors = 0;
			split(geo, sectors);
			if (geo->clusters >= wanted)
				break;
		}
		if (sectors <= rows[i].max_sectors && geo->clusters <= last)
			return 0;
	}
	return -EFBIG;
}

/* --- the tree ------------------------------------------------------------------ */

static uint64_t clusters_of(const struct fat_node *node, uint32_t cluster_bytes)
{
	uint64_t len = node->dir ? (uint64_t)node->nentries * FAT_ENTRY_BYTES : node->len_bytes;

	return (len + cluster_bytes - 1) / cluster_bytes;
}

static uint64_t need_below(const struct fat_node *dir, uint32_t cluster_bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < dir->nchild; i++) {
		sum += clusters_of(dir->child[i], cluster_bytes);
		sum += need_below(dir->child[i], cluster_bytes);
	}
	return sum;
}

static uint64_t need_clusters(const void *opaque, uint32_t cluster_bytes, bool root)
{
	const struct fat_node *top = opaque;
	uint64_t own = clusters_of(top, cluster_bytes);

	/* An empty root still has a cluster. */
	return need_below(top, cluster_bytes) + (!root ? 0 : own ? own : 1);
}

/* Prepare the names, the aliases and the number of entries of every folder. */
static int prepare(struct fat_node *dir, uint32_t own_entries, struct err *err)
{
	uint64_t n = own_entries;
	char buf[200];
	int rc = fat_name_folder(dir, err);

	for (size_t i = 0; !rc && i < dir->nchild; i++) {
		const struct fat_node *node = dir->child[i];

		n += 1 + (node->has_long ?
				  (node->nwide + FAT_UNITS_PER_ENTRY - 1) / FAT_UNITS_PER_ENTRY :
				  0);
	}
	if (!rc && n > FAT_DIR_MAX)
		return err_set(err, EFBIG,
			       "%s: has more names than a FAT folder can hold (65520 "
			       "entries, of which a long name takes several)",
			       fat_name_print(dir->path ? dir->path : "/", buf, sizeof(buf)));
	dir->nentries = (uint32_t)n;
	for (size_t i = 0; !rc && i < dir->nchild; i++)
		if (dir->child[i]->dir)
			rc = prepare(dir->child[i], 2, err); /* "." and ".." */
	return rc;
}

/* Place clusters. Folders come first: a guest that lists them reads one contiguous range. */
static void place(struct fat *fat, struct fat_node *dir, bool folders)
{
	uint32_t cluster_bytes = fat->geo.cluster_sectors * FAT_SECTOR;

	for (size_t i = 0; i < dir->nchild; i++) {
		struct fat_node *node = dir->child[i];

		if (node->dir == folders && clusters_of(node, cluster_bytes)) {
			node->cluster = 2 + fat->used;
			node->nclusters = (uint32_t)clusters_of(node, cluster_bytes);
			fat->used += node->nclusters;
			fat->order[fat->norder++] = node;
		}
		if (node->dir)
			place(fat, node, folders);
	}
}

int fat_layout(struct fat *fat, struct err *err)
{
	uint64_t min_sectors = (fat->options.min_bytes + FAT_SECTOR - 1) / FAT_SECTOR;
	struct fat_node *root = fat->root;
	uint32_t root_entries;
	int rc = prepare(root, fat->label[0] ? 1 : 0, err);

	if (rc)
		return rc;
	root_entries = root->nentries <= 512 ? 512 : (root->nentries + 15) / 16 * 16;
	rc = fat_geometry_find(&fat->geo, min_sectors, root_entries, need_clusters, root);
	if (rc)
		return err_set(err, EFBIG, "too large for FAT, which ends at 2 TiB");
	fat->order = calloc((size_t)fat->files + fat->folders + 1, sizeof(*fat->order));
	if (!fat->order)
		return err_sys(err, ENOMEM, "FAT");
	if (fat->geo.bits == 32) {
		uint32_t own = (uint32_t)clusters_of(root, fat->geo.cluster_sectors * FAT_SECTOR);

		root->cluster = 2;
		root->nclusters = fat->used = own ? own : 1;
		fat->order[fat->norder++] = root;
	}
	place(fat, root, true);
	place(fat, root, false);
	BUG_ON(fat->used > fat->geo.clusters);
	return 0;
}

void fat_get_info(const struct fat *fat, struct fat_info *info)
{
	*info = (struct fat_info){
		.bits = fat->geo.bits,
		.cluster_bytes = fat->geo.cluster_sectors * FAT_SECTOR,
		.clusters = fat->geo.clusters,
		.size_bytes = fat->geo.sectors * FAT_SECTOR,
		.data_bytes = fat->data_bytes,
		.files = fat->files,
		.folders = fat->folders,
	};
}
