/*
 * store/foreign: files that are no raw disks though their names do not say what they are, and raw
 * disks that end before their partitions do. See store.h.
 *
 * Only the first sectors are looked at, and the last of a VHD or DMG; a guest can write them, so nothing here
 * is more than a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/store/image_file.h"
#include "devices/backend/store/store.h"
#include "vmm/core/bytes.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"

#define SECTOR 512u
#define MBR_ENTRIES 446u
#define MBR_GPT 0xeeu
#define GPT_LAST_USABLE 48u

static const char convert[] = "qemu-img convert -O qcow2 makes a qcow2 of it";

static const struct {
	const char *name;
	uint16_t at, len;
	const char *magic;
	const char *suffix; /* NULL: any name */
	const char *advice; /* what makes a disk of it */
} known[] = {
	{ "a VMDK image", 0, 4, "KDMV", NULL, convert },
	{ "a VMDK image", 0, 4, "COWD", NULL, convert },
	{ "a VMDK descriptor", 0, 21, "# Disk DescriptorFile", NULL, convert },
	{ "a VHDX image", 0, 8, "vhdxfile", NULL, convert },
	{ "a VHD image", 0, 8, "conectix", NULL, convert },
	{ "a QED image", 0, 4, "QED\0", NULL, convert },
	{ "a VDI image", 0x40, 4, "\x7f\x10\xda\xbe", NULL, convert },
	{ "a Parallels image", 0, 16, "WithoutFreeSpace", NULL, convert },
	{ "a Parallels image", 0, 16, "WithouFreSpacExt", NULL, convert },
	{ "an xz file", 0, 6,
	  "\xfd"
	  "7zXZ\0",
	  NULL, "xz -dc <FILE >DISK unpacks it" },
	{ "a gzip file", 0, 3, "\x1f\x8b\x08", NULL, "gzip -dc <FILE >DISK unpacks it" },
	{ "a zstd file", 0, 4, "\x28\xb5\x2f\xfd", NULL, "zstd -dc <FILE >DISK unpacks it" },
	{ "a bzip2 file", 4, 6, "1AY&SY", NULL, "bzip2 -dc <FILE >DISK unpacks it" },
	{ "an lz4 file", 0, 4, "\x04\x22\x4d\x18", NULL, "lz4 -dc <FILE >DISK unpacks it" },
	{ "an lzop file", 0, 9, "\x89LZO\0\r\n\x1a\n", NULL, "lzop -dc <FILE >DISK unpacks it" },
	{ "an lzip file", 0, 4, "LZIP", NULL, "lzip -dc <FILE >DISK unpacks it" },
	{ "a 7z file", 0, 6, "7z\xbc\xaf\x27\x1c", NULL, "7z x unpacks it" },
	{ "a RAR file", 0, 6, "Rar!\x1a\x07", NULL, "unrar x unpacks it" },
	{ "an Android sparse image", 0, 4, "\x3a\xff\x26\xed", NULL,
	  "simg2img FILE DISK unpacks it" },
	{ "a Bochs image", 0, 23, "Bochs Virtual HD Image", NULL, convert },
	{ "a zip file", 0, 4, "PK\3\4", NULL, "unzip unpacks it" },
	{ "a tar file", 257, 5, "ustar", ".ova", "tar -xf unpacks it" },
	{ "a tar file", 257, 5, "ustar", ".tar", "tar -xf unpacks it" },
};

static bool has_suffix(const char *path, const char *suffix)
{
	size_t n = strlen(path), len = strlen(suffix);

	return n >= len && !strcasecmp(path + n - len, suffix);
}

/* A VHD of fixed size is a raw disk with a sector after it; a DMG has all that tells it there. */
static const char *name_by_end(const char *path, int fd, uint64_t size_bytes)
{
	char magic[8];

	if (size_bytes < SECTOR ||
	    pread(fd, magic, sizeof(magic), (off_t)(size_bytes - SECTOR)) != sizeof(magic))
		return NULL;
	if (has_suffix(path, ".vhd") && !memcmp(magic, "conectix", 8))
		return "a VHD image";
	return has_suffix(path, ".dmg") && !memcmp(magic, "koly\0\0\0\4", 8) ? "a DMG image" : NULL;
}

void store_look(const char *path, const char *via, struct store_looks *out)
{
	uint8_t head[SECTOR];
	struct stat st;
	ssize_t n = 0;
	int fd = open(via ? via : path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	*out = (struct store_looks){ 0 };
	if (fd < 0)
		return;
	if (!fd_stat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		n = pread(fd, head, sizeof(head), 0);
	out->qcow2 = n >= 4 && !memcmp(head, "QFI\xfb", 4);
	for (size_t i = 0; !out->foreign && i < sizeof(known) / sizeof(known[0]); i++) {
		if (n < known[i].at + known[i].len ||
		    memcmp(head + known[i].at, known[i].magic, known[i].len) ||
		    (known[i].suffix && !has_suffix(path, known[i].suffix)))
			continue;
		out->foreign = known[i].name;
		out->advice = known[i].advice;
	}
	if (n > 0 && !out->foreign) {
		out->foreign = name_by_end(path, fd, (uint64_t)st.st_size);
		out->advice = out->foreign ? convert : NULL;
	}
	close(fd);
}

int store_refuse_foreign(const char *path, const struct store_looks *looks, const char *option,
			 struct err *err)
{
	return err_set(err, ENOTSUP,
		       "disk %s: is %s; only raw and qcow2 images are supported (%s%s%s%s)", path,
		       looks->foreign, looks->advice, option ? "; " : "", option ? option : "",
		       option ? " gives the guest its bytes as they are" : "");
}

/* The number of sectors that an MBR's partitions need; *gpt: it stands before a GPT. */
static uint64_t mbr_needs(const uint8_t *sector, bool *gpt)
{
	uint64_t needs = 0;

	*gpt = false;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *e = sector + MBR_ENTRIES + i * 16;
		uint64_t end = (uint64_t)get_le32(e + 8) + get_le32(e + 12);

		/* Not an MBR, but a file system's boot code. */
		if (e[0] & 0x7f)
			return 0;
		*gpt |= e[4] == MBR_GPT;
		if (e[4] && get_le32(e + 12) && end > needs)
			needs = end;
	}
	return *gpt ? 0 : needs;
}

void store_warn_partitions(const struct store_image *image, const char *path, uint32_t block_bytes)
{
	/* O_DIRECT would need an aligned buffer. */
	int fd = image->cached_fd >= 0 ? image->cached_fd : image->fd;
	uint64_t size_bytes = image->size_bytes;
	uint8_t b[SECTOR];
	uint64_t needs;
	bool gpt;

	if (pread(fd, b, sizeof(b), 0) != sizeof(b) || b[510] != 0x55 || b[511] != 0xaa)
		return;
	needs = mbr_needs(b, &gpt);
	for (uint32_t sector = SECTOR; gpt && sector <= 4096; sector *= 8) {
		if (pread(fd, b, sizeof(b), sector) != sizeof(b) || memcmp(b, "EFI PART", 8))
			continue;
		needs = get_le64(b + GPT_LAST_USABLE);
		needs = needs < 1ull << 51 ? (needs + 1) * (sector / SECTOR) : 0;
		if (sector != block_bytes)
			log_put_for(path, LOG_WARN,
				    "disk %s: its GPT has sectors of %u bytes, and the guest sees "
				    "blocks of %u, so it finds no partitions; give block-size=%u",
				    path, sector, block_bytes, sector);
		break;
	}
	if (needs > size_bytes / SECTOR)
		log_put_for(path, LOG_WARN,
			    "disk %s: has %llu MiB, but its partitions need %llu MiB; was it cut "
			    "short? The guest may not find them",
			    path, (unsigned long long)(size_bytes >> 20),
			    (unsigned long long)((needs + 2047) >> 11));
}
