/* bzimage: see bzimage.h. */
#include "boot/x86_64/bzimage.h"

#include <errno.h>
#include <string.h>

#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

/* Offsets of the setup header's fields in the file (boot.rst, "The Real-Mode Kernel Header"). */
enum {
	SETUP_SECTS = 0x1f1,
	SYSSIZE = 0x1f4,
	BOOT_FLAG = 0x1fe,
	JUMP_LEN = 0x201,
	MAGIC = 0x202,
	VERSION = 0x206,
	LOADFLAGS = 0x211,
	INITRD_ADDR_MAX = 0x22c,
	KERNEL_ALIGNMENT = 0x230,
	RELOCATABLE = 0x234,
	XLOADFLAGS = 0x236,
	CMDLINE_SIZE = 0x238,
	PAYLOAD_OFFSET = 0x248,
	PAYLOAD_LENGTH = 0x24c,
	PREF_ADDRESS = 0x258,
	INIT_SIZE = 0x260,
	HEADER_END_MIN = 0x264,
};

_Static_assert(SETUP_HEADER_END_MAX - SETUP_HEADER <= KERNEL_HEADER_MAX,
	       "struct kernel has room for a setup header");

#define SETUP_MAGIC 0x53726448u /* "HdrS" */
#define LOADED_HIGH 1u
#define XLF_KERNEL_64 1u
#define XLF_CAN_BE_LOADED_ABOVE_4G 2u
#define ENTRY_64 0x200u /* offset of the 64-bit entry in the protected-mode part */
#define SECTOR 512u

bool bzimage_detect(const uint8_t *head, uint32_t n)
{
	return n >= MAGIC + 4 && get_le32(head + MAGIC) == SETUP_MAGIC;
}

static int bad(const struct boot_file *file, struct err *err, const char *why)
{
	return err_set(err, ENOEXEC, "%s %s: bad bzImage: %s", file->what, file->path, why);
}

/* Finds the protected-mode part and the payload in it. */
static int parse_body(const struct boot_file *file, const uint8_t *h, struct bzimage *bz,
		      struct err *err)
{
	uint64_t sects = h[SETUP_SECTS] ? h[SETUP_SECTS] : 4;
	uint64_t syssize = (uint64_t)get_le32(h + SYSSIZE) * 16;

	bz->body = (sects + 1) * SECTOR;
	if (bz->body >= file->size_bytes)
		return bad(file, err, "truncated within its setup code");
	bz->body_bytes = file->size_bytes - bz->body;
	/*
	 * syssize counts 16 bytes and is rounded up; the file need not be. The bytes after it
	 * are not part of the kernel: a signature, padding.
	 */
	if (syssize > bz->body_bytes && syssize - bz->body_bytes < 16)
		syssize = bz->body_bytes;
	if (syssize > bz->body_bytes)
		return err_set(
			err, ENOEXEC,
			"%s %s: bad bzImage: truncated: %llu bytes, but its header says %llu",
			file->what, file->path, (unsigned long long)file->size_bytes,
			(unsigned long long)(bz->body + syssize));
	if (syssize)
		bz->body_bytes = syssize;
	if (bz->body_bytes <= ENTRY_64)
		return bad(file, err, "no code at its 64-bit entry");

	bz->payload_bytes = get_le32(h + PAYLOAD_LENGTH);
	bz->payload = get_le32(h + PAYLOAD_OFFSET);
	if (!bz->payload_bytes || !bz->payload) {
		bz->payload = bz->payload_bytes = 0;
	} else if (bz->payload > bz->body_bytes ||
		   bz->payload_bytes > bz->body_bytes - bz->payload) {
		return bad(file, err, "its payload is outside the file");
	} else {
		bz->payload += bz->body;
	}
	return 0;
}

int bzimage_parse(const struct boot_file *file, struct bzimage *bz, struct kernel *k,
		  struct err *err)
{
	uint8_t h[SETUP_HEADER_END_MAX] = { 0 };
	unsigned version, end;
	int ret;

	memset(bz, 0, sizeof(*bz));
	ret = boot_file_read(file, 0, h,
			     file->size_bytes < sizeof(h) ? file->size_bytes : sizeof(h), err);
	if (ret < 0)
		return ret;
	/* The jump instruction at the header's start jumps to the header's end. */
	end = MAGIC + h[JUMP_LEN];
	if (file->size_bytes < HEADER_END_MIN || file->size_bytes < end)
		return bad(file, err, "truncated within its setup header");
	if (get_le16(h + BOOT_FLAG) != 0xaa55)
		return bad(file, err, "no 0xaa55 at the end of its first sector");
	version = get_le16(h + VERSION);
	if (version < 0x20c || end < HEADER_END_MIN)
		return err_set(
			err, ENOEXEC,
			"%s %s: boot protocol %u.%02u; bantam needs 2.12 (Linux 3.8) or later",
			file->what, file->path, version >> 8, version & 0xff);
	if (!(get_le16(h + XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(err, ENOEXEC,
			       "%s %s: a 32-bit kernel; bantam enters x86-64 kernels only",
			       file->what, file->path);
	if (!(h[LOADFLAGS] & LOADED_HIGH))
		return bad(file, err, "it is a zImage, loaded low");
	ret = parse_body(file, h, bz, err);
	if (ret < 0)
		return ret;

	bz->pref_address = get_le64(h + PREF_ADDRESS);
	bz->init_size = get_le32(h + INIT_SIZE);
	bz->kernel_alignment = get_le32(h + KERNEL_ALIGNMENT);
	bz->relocatable = h[RELOCATABLE];
	if (bz->relocatable &&
	    (!bz->kernel_alignment || (bz->kernel_alignment & (bz->kernel_alignment - 1))))
		return bad(file, err, "kernel_alignment is not a power of two");

	k->is_linux = true;
	k->initrd_max = get_le32(h + INITRD_ADDR_MAX);
	k->initrd_far = get_le16(h + XLOADFLAGS) & XLF_CAN_BE_LOADED_ABOVE_4G ? UINT64_MAX :
										k->initrd_max;
	k->cmdline_max = get_le32(h + CMDLINE_SIZE);
	k->header_bytes = (end < sizeof(h) ? end : (unsigned)sizeof(h)) - SETUP_HEADER;
	memcpy(k->header, h + SETUP_HEADER, k->header_bytes);
	return 0;
}

/* Returns the size of guest memory in MiB, for messages. */
static unsigned long long mem_mib(const struct mem *mem)
{
	return mem->total_bytes >> 20;
}

int bzimage_place(const struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		  struct kernel *k, struct err *err)
{
	uint64_t base = bz->pref_address;
	uint64_t need = bz->init_size > bz->body_bytes ? bz->init_size : bz->body_bytes;

	if (bz->relocatable) {
		uint64_t mask = bz->kernel_alignment - 1ull;

		if (base < LAYOUT_HIGH)
			base = LAYOUT_HIGH;
		if (base < LAYOUT_4G)
			base = (base + mask) & ~mask;
	}
	if (base < LAYOUT_HIGH || base >= LAYOUT_4G)
		return err_set(
			err, ENOEXEC,
			"%s %s: bad bzImage: wants to run at %#llx; bantam loads kernels at 1 MiB to 4 GiB",
			file->what, file->path, (unsigned long long)base);
	if (base + need > LAYOUT_4G || !mem_slice(mem, gpa(base), need))
		return err_set(
			err, ENOMEM,
			"%s %s: needs memory from %llu to %llu MiB; the guest has %llu MiB: give it more (--memory)",
			file->what, file->path, (unsigned long long)(base >> 20),
			(unsigned long long)((base + need + 0xfffff) >> 20), mem_mib(mem));
	k->base = base;
	k->end = base + need;
	return 0;
}

int bzimage_load(struct mem *mem, const struct boot_file *file, const struct bzimage *bz,
		 struct kernel *k, struct err *err)
{
	k->entry = BOOT_ENTRY_LINUX64;
	k->entry_addr = k->base + ENTRY_64;
	return boot_file_read(file, bz->body, mem_slice(mem, gpa(k->base), bz->body_bytes),
			      bz->body_bytes, err);
}
