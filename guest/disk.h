/*
 * disk: lists the block devices in the kernel's order, with the file
 * system and label of each (ext2/3/4, FAT, ISO 9660). It reads the devices
 * itself, because no udev has done so in this guest.
 */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

#include "guest/sys.h"

struct disk {
	char name[32];
	uint64_t size_bytes;
	bool read_only;
	bool partition;
	char serial[32];
	char fstype[8]; /* as mount(2) expects it; "" if unknown */
	char label[36];
};

/* Directory entries, sorted alphabetically, or by length first: vda, vdb … vdz, vdaa. */
struct names {
	bool by_length;
	unsigned count;
	char name[64][64];
};

static bool name_before(const struct names *names, const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);

	return names->by_length && la != lb ? la < lb : str_cmp(a, b) < 0;
}

static void names_add(const char *name, void *arg)
{
	struct names *names = arg;
	unsigned at = names->count;

	if (at == ARRAY_LEN(names->name) || strlen(name) >= sizeof(names->name[0]))
		return;
	names->count++;
	for (; at > 0 && name_before(names, name, names->name[at - 1]); at--)
		memcpy(names->name[at], names->name[at - 1], sizeof(names->name[0]));
	str_copy(names->name[at], sizeof(names->name[at]), name);
}

static long disk_attr(const char *disk, const char *attr, char *buf, size_t size)
{
	char path[128];

	str_join(path, sizeof(path), "/sys/class/block/", disk, attr);
	return file_read(path, buf, size);
}

/* Copies a text of fixed length without its padding. */
static void disk_text(char *dst, size_t size, const uint8_t *src, size_t len)
{
	size_t n = 0;

	while (n < len && n + 1 < size && src[n]) {
		dst[n] = (char)src[n];
		n++;
	}
	while (n && dst[n - 1] == ' ')
		n--;
	dst[n] = 0;
}

static void disk_identify(struct disk *disk)
{
	static __attribute__((aligned(4096))) uint8_t sector[4096];
	char path[64];
	int fd;

	str_join(path, sizeof(path), "/dev/", disk->name, "");
	fd = sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return;
	if (SYS(pread64, fd, sector, 4096, 0) == 4096) {
		if (sector[1024 + 0x38] == 0x53 && sector[1024 + 0x39] == 0xef) {
			str_copy(disk->fstype, sizeof(disk->fstype), "ext4");
			disk_text(disk->label, sizeof(disk->label), sector + 1024 + 0x78, 16);
		} else if (sector[510] == 0x55 && sector[511] == 0xaa &&
			   !memcmp(sector + 0x52, "FAT32", 5)) {
			str_copy(disk->fstype, sizeof(disk->fstype), "vfat");
			disk_text(disk->label, sizeof(disk->label), sector + 0x47, 11);
		} else if (sector[510] == 0x55 && sector[511] == 0xaa &&
			   !memcmp(sector + 0x36, "FAT", 3)) {
			str_copy(disk->fstype, sizeof(disk->fstype), "vfat");
			disk_text(disk->label, sizeof(disk->label), sector + 0x2b, 11);
		}
	}
	if (!disk->fstype[0] && SYS(pread64, fd, sector, 2048, 32768) == 2048 &&
	    !memcmp(sector, "\001CD001", 6)) {
		str_copy(disk->fstype, sizeof(disk->fstype), "iso9660");
		disk_text(disk->label, sizeof(disk->label), sector + 40, 32);
	}
	sys_close(fd);
}

/* Makes the device node, which is missing on a kernel without devtmpfs. */
static void disk_make_node(const char *name)
{
	char path[64], dev[16], *minor;

	str_join(path, sizeof(path), "/dev/", name, "");
	if (SYS(faccessat, AT_FDCWD, path, 0) == 0 ||
	    disk_attr(name, "/dev", dev, sizeof(dev)) <= 0)
		return;
	for (minor = dev; *minor && *minor != ':';)
		minor++;
	if (*minor)
		SYS(mknodat, AT_FDCWD, path, 0060600,
		    str_number(dev) << 8 | (str_number(minor + 1) & 0xff));
}

/* Lists disks and partitions, except loop, RAM and other devices without hardware. */
static unsigned disk_scan(struct disk *disks, unsigned max)
{
	static struct names names = { .by_length = true };
	unsigned n = 0;
	char text[64];

	names.count = 0;
	dir_each("/sys/class/block", names_add, &names);
	for (unsigned i = 0; i < names.count && n < max; i++) {
		struct disk *disk = &disks[n];
		const char *name = names.name[i];

		if (str_starts(name, "loop") || str_starts(name, "ram") ||
		    str_starts(name, "zram") || str_starts(name, "dm-") || strlen(name) > 31)
			continue;
		memset(disk, 0, sizeof(*disk));
		str_copy(disk->name, sizeof(disk->name), name);
		if (disk_attr(name, "/size", text, sizeof(text)) <= 0)
			continue;
		disk->size_bytes = str_number(text) * 512;
		if (!disk->size_bytes)
			continue; /* a drive without a medium */
		disk->read_only = disk_attr(name, "/ro", text, sizeof(text)) > 0 && text[0] == '1';
		disk->partition = disk_attr(name, "/partition", text, sizeof(text)) > 0;
		if (disk_attr(name, "/serial", disk->serial, sizeof(disk->serial)) <= 0)
			disk_attr(name, "/device/serial", disk->serial, sizeof(disk->serial));
		disk_make_node(name);
		disk_identify(disk);
		n++;
	}
	return n;
}

#endif
