/* store/foreign: files that are no raw disks, and raw disks that end before their partitions do. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/store/image_file.h"
#include "devices/backend/store/store.h"
#include "vmm/core/bytes.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES (1u << 20)

static char dir[] = "/tmp/bantam-test-XXXXXX";
static char path[96];

/* Writes a file of BYTES with n bytes of content at an offset; a name of a suffix. */
static void make(const char *suffix, size_t at, const char *content, size_t n)
{
	FILE *f;

	snprintf(path, sizeof(path), "%s/disk%s", dir, suffix);
	f = fopen(path, "w");
	cr_assert(f);
	cr_assert_eq(fseek(f, (long)at, SEEK_SET), 0);
	cr_assert_eq(fwrite(content, 1, n, f), n);
	fflush(f);
	cr_assert_eq(ftruncate(fileno(f), BYTES), 0);
	fclose(f);
}

static void setup(void)
{
	cr_assert(mkdtemp(dir));
}

static void finish(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(foreign, .init = setup, .fini = finish);

Test(foreign, files_that_are_no_raw_disks)
{
	static const struct {
		size_t at, len;
		const char *magic, *suffix, *name; /* name NULL: taken as raw */
	} t[] = {
		{ 0, 4, "KDMV", ".vmdk", "VMDK" },
		{ 0, 4, "KDMV", ".img", "VMDK" },
		{ 0, 4, "COWD", ".img", "VMDK" },
		{ 0, 21, "# Disk DescriptorFile", ".vmdk", "VMDK descriptor" },
		{ 0, 8, "vhdxfile", ".vhdx", "VHDX" },
		{ 0, 8, "conectix", ".vhd", "VHD" },
		{ BYTES - 512, 8, "conectix", ".vhd", "VHD" },
		{ BYTES - 512, 8, "conectix", ".VHD", "VHD" },
		{ BYTES - 512, 8, "conectix", ".img", NULL },
		{ BYTES - 511, 8, "conectix", ".vhd", NULL },
		{ 0, 4, "QED\0", ".qed", "QED" },
		{ 0x40, 4, "\x7f\x10\xda\xbe", ".vdi", "VDI" },
		{ 0, 16, "WithoutFreeSpace", ".hdd", "Parallels" },
		{ 0, 6,
		  "\xfd"
		  "7zXZ\0",
		  ".raw.xz", "xz -d" },
		{ 0, 3, "\x1f\x8b\x08", ".img.gz", "gzip -d" },
		{ 0, 4, "\x28\xb5\x2f\xfd", ".raw.zst", "zstd -d" },
		{ 0, 10, "BZh91AY&SY", ".bz2", "bzip2 -d" },
		{ 0, 10, "BZh11AY&SY", ".img", "bzip2 -d" },
		{ 0, 4, "BZh9", ".img", NULL },
		{ 0, 4, "\x04\x22\x4d\x18", ".img", "lz4 -d" },
		{ 0, 9, "\x89LZO\0\r\n\x1a\n", ".raw", "lzop -d" },
		{ 0, 5, "LZIP\1", ".img.lz", "lzip -d" },
		{ 0, 6, "7z\xbc\xaf\x27\x1c", ".7z", "7z file" },
		{ 0, 7, "Rar!\x1a\x07\1", ".rar", "RAR" },
		{ 0, 4, "\x3a\xff\x26\xed", ".img", "Android sparse" },
		{ 0, 23, "Bochs Virtual HD Image", ".img", "Bochs" },
		{ BYTES - 512, 8, "koly\0\0\0\4", ".dmg", "DMG" },
		{ BYTES - 512, 8, "koly\0\0\0\4", ".img", NULL },
		{ 0, 4, "PK\3\4", ".zip", "unzip" },
		{ 257, 5, "ustar", ".ova", "tar -xf" },
		{ 257, 5, "ustar", ".img", NULL }, /* a guest's tape */
		{ 0, 4, "KDMW", ".vmdk", NULL },
		{ 0, 1, "", ".img", NULL },
	};

	for (size_t i = 0; i < N(t); i++) {
		struct store_options options = { .path = path, .readonly = true };
		struct store *s;
		struct err err = { "" };
		int rc;

		make(t[i].suffix, t[i].at, t[i].magic, t[i].len);
		rc = store_open(&options, &s, &err);
		if (t[i].name) {
			cr_expect_eq(rc, -ENOTSUP, "row %zu", i);
			cr_expect(strstr(err.text, t[i].name) && strstr(err.text, path), "%s",
				  err.text);
		} else {
			cr_expect_eq(rc, 0, "row %zu: %s", i, err.text);
			store_close(s);
		}
		/* The user has the last word, and the message says how. */
		cr_expect(!t[i].name || strstr(err.text, "format=raw"), "%s", err.text);
		options.format = STORE_RAW;
		cr_expect_eq(store_open(&options, &s, &err), 0, "row %zu: %s", i, err.text);
		store_close(s);
		unlink(path);
	}
}

Test(foreign, files_shorter_than_any_magic)
{
	for (long n = 0; n < 300; n++) {
		struct store_looks looks;

		make(".ova", 0, "conectix", 8);
		cr_assert_eq(truncate(path, n), 0);
		store_look(path, NULL, &looks);
		cr_assert_eq(!looks.foreign, n < 8);
	}
	{
		struct store_looks looks = { true, "x", "x" };

		store_look("/no/such/file", NULL, &looks);
		cr_assert(!looks.qcow2 && !looks.foreign);
		store_look("/dev/zero", NULL, &looks);
		cr_assert(!looks.qcow2 && !looks.foreign);
	}
}

/* --- cut short ------------------------------------------------------------------------------------ */

struct part {
	uint8_t status, type;
	uint32_t first, n;
};

Test(foreign, disks_cut_short)
{
	static const struct {
		struct part part[4];
		uint32_t gpt_sector; /* 0: none */
		uint64_t last;
		uint64_t sectors; /* of 512 bytes: the smallest disk without a warning; 0: any */
	} t[] = {
		{ { { 0, 0x83, 8, 8 } }, 0, 0, 16 },
		{ { { 0x80, 0x83, 8, 8 }, { 0, 0x83, 100, 1 } }, 0, 0, 101 },
		{ { { 0, 0x83, 8, 8 }, { 0, 0x05, 16, 100 } }, 0, 0, 116 },
		{ { { 0, 0x83, 8, 0 }, { 0, 0, 100, 100 } }, 0, 0, 0 },
		{ { { 0x12, 0x83, 8, 800 } }, 0, 0, 0 }, /* boot code of a file system */
		{ { { 0, 0x83, 0xffffffff, 0xffffffff } }, 0, 0, 0x1fffffffe },
		{ { { 0, 0xee, 1, 0xffffffff } }, 512, 199, 200 },
		{ { { 0, 0xee, 1, 0xffffffff } }, 4096, 24, 200 },
		{ { { 0, 0xee, 1, 0xffffffff } }, 0, 0, 0 },
		{ { { 0, 0xee, 1, 0xffffffff } }, 512, UINT64_MAX, 0 },
		{ { { 0 } }, 512, 9999, 0 }, /* no protective MBR: no GPT, as for Linux */
		{ { { 0, 0xee, 1, 1 }, { 0, 0x83, 8, 9999 } }, 512, 199, 200 }, /* hybrid */
	};
	int fd = memfd_create("disk", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_redirect_stderr();
	for (size_t i = 0; i < N(t); i++) {
		uint8_t b[8192] = { 0 };

		for (unsigned k = 0; k < 4; k++) {
			uint8_t *e = b + 446 + 16 * k;

			e[0] = t[i].part[k].status;
			e[4] = t[i].part[k].type;
			put_le32(e + 8, t[i].part[k].first);
			put_le32(e + 12, t[i].part[k].n);
		}
		b[510] = 0x55;
		b[511] = 0xaa;
		if (t[i].gpt_sector) {
			memcpy(b + t[i].gpt_sector, "EFI PART", 8);
			put_le64(b + t[i].gpt_sector + 48, t[i].last);
		}
		cr_assert_eq(pwrite(fd, b, sizeof(b), 0), (ssize_t)sizeof(b));
		for (int less = 0; less < 2; less++) {
			struct store_image image = {
				.fd = fd,
				.cached_fd = -1,
				.size_bytes = t[i].sectors ? t[i].sectors * 512 - (uint64_t)less :
							     1024,
			};
			char name[32];

			snprintf(name, sizeof(name), "%s-%zu", less ? "warned" : "quiet", i);
			store_warn_partitions(&image, name,
					      t[i].gpt_sector ? t[i].gpt_sector : 512);
			if (!t[i].sectors)
				break;
		}
	}
	/* A GPT, to a guest with other blocks. */
	for (size_t i = 0; i < N(t); i++) {
		struct store_image image = { .fd = fd, .cached_fd = -1, .size_bytes = UINT64_MAX };
		uint8_t b[8192] = { 0 };

		if (!t[i].gpt_sector)
			continue;
		b[446 + 4] = 0xee;
		put_le32(b + 446 + 12, 1);
		b[510] = 0x55;
		b[511] = 0xaa;
		memcpy(b + t[i].gpt_sector, "EFI PART", 8);
		cr_assert_eq(pwrite(fd, b, sizeof(b), 0), (ssize_t)sizeof(b));
		store_warn_partitions(&image, "quiet-blocks", t[i].gpt_sector);
		store_warn_partitions(&image, t[i].gpt_sector == 512 ? "blocks-512" : "blocks-4096",
				      t[i].gpt_sector == 512 ? 4096 : 512);
	}
	close(fd);
	{
		static char said[8192];
		FILE *f = cr_get_redirected_stderr();
		size_t n = 0;
		unsigned warned = 0, want = 0;

		fflush(stderr);
		n = fread(said, 1, sizeof(said) - 1, f);
		said[n] = 0;
		for (const char *s = said; (s = strstr(s, "warned-")); s++)
			warned++;
		for (size_t i = 0; i < N(t); i++)
			want += t[i].sectors != 0;
		cr_assert_null(strstr(said, "quiet-"), "%s", said);
		cr_expect(strstr(said, "disk blocks-512: its GPT has sectors of 512 bytes") &&
				  strstr(said, "give block-size=512\n") &&
				  strstr(said, "disk blocks-4096: its GPT") &&
				  strstr(said, "give block-size=4096\n"),
			  "%s", said);
		cr_assert_eq(warned, want, "%u of %u: %s", warned, want, said);
	}
}
