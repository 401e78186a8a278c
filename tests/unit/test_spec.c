/* spec: which partition a text names, in every form of fstab(5), udev and the kernel's root=. */
#include <criterion/criterion.h>

#include "boot/spec.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct spec_volume disk[] = {
	{ 1, "aaaaaaaa-0000-4000-8000-000000000001", "rootA",
	  "11111111-2222-3333-4444-00000000000a", "partA" },
	{ 2, "bbbbbbbb-0000-4000-8000-000000000002", "my root",
	  "11111111-2222-3333-4444-00000000000b", "Linux filesystem" },
	{ 5, "cccccccc-0000-4000-8000-000000000003",
	  "gr\xc3\xb6\xc3\x9f"
	  "e",
	  "1234abcd-05", "part\"C" },
	{ 6, "", "", "11111111-2222-3333-4444-00000000000d", "" },
	{ 7, "dddddddd-0000-4000-8000-000000000004", "twice", "", "same" },
	{ 8, "dddddddd-0000-4000-8000-000000000004", "twice", "", "same" },
};
static const struct spec_volume bare[] = { { 0, "aaaaaaaa-0000-4000-8000-000000000001", "r", "",
					     "" } };

#define NONE SPEC_NONE
#define MANY SPEC_SEVERAL

Test(spec, forms)
{
	static const struct {
		const char *text;
		int index; /* in disk */
	} t[] = {
		/* tags */
		{ "UUID=aaaaaaaa-0000-4000-8000-000000000001", 0 },
		{ "UUID=BBBBBBBB-0000-4000-8000-000000000002", 1 },
		{ "UUID=\"bbbbbbbb-0000-4000-8000-000000000002\"", 1 },
		{ "UUID='bbbbbbbb-0000-4000-8000-000000000002'", 1 },
		{ "\"UUID=bbbbbbbb-0000-4000-8000-000000000002\"", 1 },
		{ "UUID=bbbbbbbb-0000-4000-8000-00000000000", NONE },
		{ "UUID=bbbbbbbb-0000-4000-8000-0000000000020", NONE },
		{ "uuid=bbbbbbbb-0000-4000-8000-000000000002", NONE },
		{ "UUID=dddddddd-0000-4000-8000-000000000004", MANY },
		{ "UUID=", NONE },
		{ "LABEL=rootA", 0 },
		{ "LABEL=roota", NONE },
		{ "LABEL=my\\040root", 1 },
		{ "LABEL=\"my root\"", 1 },
		{ "LABEL=my\\x20root", NONE },
		{ "LABEL=twice", MANY },
		{ "LABEL=", NONE },
		{ "LABEL=gr\\303\\266\\303\\237e", 2 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000b", 1 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000B", 1 },
		{ "PARTUUID=1234abcd-05", 2 },
		{ "PARTUUID=1234ABCD-05", 2 },
		{ "PARTUUID=1234abcd-06", NONE },
		{ "PARTLABEL=partA", 0 },
		{ "PARTLABEL=\"Linux filesystem\"", 1 },
		{ "PARTLABEL=Linux\\040filesystem", 1 },
		{ "PARTLABEL=PARTA", NONE },
		{ "PARTLABEL=same", MANY },
		/* the kernel's offset */
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=1", 1 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000b/PARTNROFF=-1", 0 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000b/PARTNROFF=+3", 2 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=0", 0 },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=2", NONE },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=", NONE },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=1x", NONE },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/PARTNROFF=99999999999999999999",
		  NONE },
		{ "PARTUUID=11111111-2222-3333-4444-00000000000a/OFF=1", NONE },
		{ "PARTUUID=00000000-2222-3333-4444-00000000000a/PARTNROFF=1", NONE },
		/* udev's links */
		{ "/dev/disk/by-uuid/aaaaaaaa-0000-4000-8000-000000000001", 0 },
		{ "/dev/disk/by-uuid/AAAAAAAA-0000-4000-8000-000000000001", 0 },
		{ "/dev/disk/by-label/my\\x20root", 1 },
		{ "/dev/disk/by-label/my\\134x20root", 1 },
		{ "/dev/disk/by-label/rootA", 0 },
		{ "/dev/disk/by-partuuid/1234abcd-05", 2 },
		{ "/dev/disk/by-partuuid/11111111-2222-3333-4444-00000000000a/PARTNROFF=1", NONE },
		{ "/dev/disk/by-partlabel/Linux\\x20filesystem", 1 },
		{ "/dev/disk/by-partlabel/part\\x22C", 2 },
		{ "/dev/disk/by-partlabel/x", NONE },
		{ "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part2", 1 },
		{ "/dev/disk/by-id/a-part1-part5", 2 },
		{ "/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1", 0 },
		{ "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", NONE },
		{ "/dev/disk/by-path/x-partition", NONE },
		{ "/dev/disk/by-nothing/x", NONE },
		/* partitions of a first disk */
		{ "/dev/vda1", 0 },
		{ "/dev/sda2", 1 },
		{ "/dev/hda5", 2 },
		{ "/dev/xvda6", 3 },
		{ "/dev/dasda1", 0 },
		{ "/dev/nvme0n1p2", 1 },
		{ "/dev/mmcblk0p5", 2 },
		{ "/dev/pmem0p1", 0 },
		{ "/dev/nbd0p1", 0 },
		{ "/dev/cciss/c0d0p2", 1 },
		{ "/dev/sda3", NONE },
		{ "/dev/sda", NONE },
		{ "/dev/sda01", NONE },
		{ "/dev/sda1x", NONE },
		{ "/dev/sda99999999999", NONE },
		{ "/dev/sdaa1", NONE },
		{ "/dev/sdb1", NONE },
		{ "/dev/nvme0n1", NONE },
		{ "/dev/nvme0n12", NONE },
		{ "/dev/nvme0n2p1", NONE },
		{ "/dev/nvme1n1p1", NONE },
		{ "/dev/mmcblk1p1", NONE },
		{ "/dev/root", NONE },
		{ "/dev/mapper/vg-root", NONE },
		{ "/dev/vg/root", NONE },
		{ "/dev/", NONE },
		/* device numbers */
		{ "8:1", 0 },
		{ "8:5", 2 },
		{ "0801", 0 },
		{ "801", 0 },
		{ "0x801", NONE },
		{ "0305", 2 },
		{ "8:17", NONE },
		{ "259:1", NONE },
		{ "8:", NONE },
		{ ":1", NONE },
		{ "8:1:1", NONE },
		/* others */
		{ "none", NONE },
		{ "tmpfs", NONE },
		{ "nfs:/export", NONE },
		{ "//server/share", NONE },
		{ "ID=ata-x-part1", NONE },
		{ "ZFS=rpool/root", NONE },
		{ "\\", NONE },
		{ "\\777", NONE },
		{ "", NONE },
	};
	cr_assert_geq(N(t), 90);
	for (size_t i = 0; i < N(t); i++)
		cr_expect_eq(spec_find(disk, N(disk), t[i].text), t[i].index, "%s: %d", t[i].text,
			     spec_find(disk, N(disk), t[i].text));
}

Test(spec, a_disk_without_partitions)
{
	static const char *const whole[] = {
		"/dev/vda",	"/dev/sda", "/dev/xvda", "/dev/nvme0n1",
		"/dev/mmcblk0", "8:0",	    "LABEL=r",	 "UUID=aaaaaaaa-0000-4000-8000-000000000001"
	};

	for (size_t i = 0; i < N(whole); i++)
		cr_expect_eq(spec_find(bare, 1, whole[i]), 0, "%s", whole[i]);
	cr_expect_eq(spec_find(bare, 1, "/dev/vda1"), NONE);
	cr_expect_eq(spec_find(bare, 0, "/dev/vda"), NONE);
}

Test(spec, which_last)
{
	cr_expect(spec_is_lasting("UUID=x"));
	cr_expect(spec_is_lasting("\"LABEL=x\""));
	cr_expect(spec_is_lasting("/dev/disk/by-partlabel/x"));
	cr_expect(spec_is_lasting("/dev/mapper/vg-root"));
	cr_expect(spec_is_lasting("ZFS=rpool"));
	cr_expect_not(spec_is_lasting("/dev/sda1"));
	cr_expect_not(spec_is_lasting("/dev/disk/by-path/x-part1"));
	cr_expect_not(spec_is_lasting("8:1"));
	cr_expect_not(spec_is_lasting(""));
}

/* Longer than any buffer, and every single byte. */
Test(spec, hostile_texts)
{
	static char text[3000];

	for (int c = 1; c < 256; c++) {
		memset(text, c, sizeof(text) - 1);
		cr_expect_lt(spec_find(disk, N(disk), text), 0);
		memcpy(text, "PARTUUID=", 9);
		cr_expect_lt(spec_find(disk, N(disk), text), 0);
		memcpy(text, "/dev/disk/by-label/", 19);
		cr_expect_lt(spec_find(disk, N(disk), text), 0);
		memcpy(text, "/dev/disk/by-id/", 16);
		cr_expect_lt(spec_find(disk, N(disk), text), 0);
	}
}
