/* foreign: see foreign.h. */
#include "boot/foreign.h"

#include <string.h>

#include "boot/unpack.h"
#include "vmm/core/bytes.h"

#define MULTIBOOT_BYTES 8192u

static const struct {
	const char *name;
	uint16_t at, len;
	const char *bytes;
} known[] = {
	{ "a bzImage", 0x202, 4, "HdrS" },
	{ "a Linux kernel packed for EFI (zboot)", 4, 4, "zimg" },
	{ "an arm64 Image", 0x38, 4, "ARM\x64" },
	{ "a RISC-V Image", 0x38, 4, "RSC\x05" },
	{ "an Android boot image", 0, 8, "ANDROID!" },
	{ "an Android vendor boot image", 0, 8, "VNDRBOOT" },
	{ "a uImage (U-Boot)", 0, 4, "\x27\x05\x19\x56" },
	{ "a device tree or a FIT image (U-Boot)", 0, 4, "\xd0\x0d\xfe\xed" },
	{ "an initrd (cpio); give it with --initrd", 0, 5, "07070" },
	{ "a qcow2 image; give it with --disk", 0, 4, "QFI\xfb" },
	{ "an ELF", 0, 4,
	  "\x7f"
	  "ELF" },
};

/* A Multiboot header of version 1 or 2 in what we have of the file; its words add up to 0. */
static bool is_multiboot(const uint8_t *head, uint32_t n)
{
	for (uint32_t at = 0; at + 16 <= n && at < MULTIBOOT_BYTES; at += 4) {
		uint32_t sum = get_le32(head + at) + get_le32(head + at + 4) +
			       get_le32(head + at + 8);

		if ((get_le32(head + at) == 0x1badb002 && !sum) ||
		    (get_le32(head + at) == 0xe85250d6 && !(sum + get_le32(head + at + 12))))
			return true;
	}
	return false;
}

const char *foreign_name(const uint8_t *head, uint32_t n)
{
	enum unpack_kind kind = unpack_detect(head, n);

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (n >= known[i].at + known[i].len &&
		    !memcmp(head + known[i].at, known[i].bytes, known[i].len))
			return known[i].name;
	if (kind != UNPACK_NONE)
		return "packed a second time";
	if (is_multiboot(head, n))
		return "a Multiboot kernel, which GRUB starts";
	if (n >= 0x40 && !memcmp(head, "MZ", 2))
		return "an EFI or DOS program, which needs firmware";
	return "";
}
