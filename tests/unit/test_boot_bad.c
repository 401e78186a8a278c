/*
 * boot: kernels that are broken in every way that we know. Each must give
 * one line of error, or boot if the damage has no effect; the sanitizers
 * check the rest.
 */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <lzma.h>
#include <string.h>

#include "boot/unpack.h"
#include "tests/unit/fake_kernel.h"

static uint8_t ram[8 << 20];

/* Like fake_guest_boot, but reuses the guest's memory. */
static int try(struct blob kernel, struct err *err)
{
	struct boot_request req = { .cmdline = "x", .kernel = fake_file(kernel) };
	struct board board = { .ncpus = 1, .sleep_control = { true, 1 } };
	struct boot_info info;
	struct mem mem = { 0 };
	int ret;

	cr_assert_eq(mem_add(&mem, gpa(0), sizeof(ram), ram), 0);
	err->text[0] = 0;
	ret = boot_load(&mem, &req, &board, &info, err);
	cr_assert_leq(ret, 0);
	if (ret < 0) {
		cr_assert(strstr(err->text, "--kernel") || strstr(err->text, "--cmdline"), "'%s'",
			  err->text);
		cr_assert_null(strchr(err->text, '\n'));
	} else {
		cr_assert_lt(info.entry_addr, sizeof(ram));
		cr_assert_leq(info.kernel_base + info.kernel_bytes, sizeof(ram));
	}
	return ret;
}

static void refused(struct blob kernel, const char *why)
{
	struct err err;
	int ret = try(kernel, &err);

	cr_assert_lt(ret, 0, "accepted: %s", why);
	cr_assert(strstr(err.text, why), "'%s' lacks '%s'", err.text, why);
}

/* Cut off at every byte of the headers, then in steps. */
static void truncate_everywhere(struct blob whole, size_t headers)
{
	struct err err;

	for (size_t n = 1; n < whole.len; n += n < headers ? 1 : 509) {
		struct blob cut = whole;

		cut.len = n;
		cr_assert_lt(try(cut, &err), 0, "%zu of %zu bytes were enough", n, whole.len);
	}
	cr_assert_eq(try(whole, &err), 0, "%s", err.text);
}

Test(boot_bad, truncated_bzimage)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0);

	truncate_everywhere(z, 0x290);
}

Test(boot_bad, truncated_elf)
{
	struct blob elf = fake_elf(1, 1);

	/* The notes are the last bytes with a meaning; the segment ends the file. */
	truncate_everywhere(elf, 64 + 2 * 56);
}

Test(boot_bad, truncated_payloads)
{
	struct blob elf = fake_elf(0, 1);
	struct err err;

	for (int kind = UNPACK_GZIP; kind <= UNPACK_LZ4; kind++) {
		struct blob packed = fake_pack(elf, kind);

		for (size_t n = 8; n < packed.len; n += n < 64 ? 1 : 97) {
			struct blob cut = packed;

			cut.len = n;
			cr_assert_lt(try(cut, &err), 0, "%s: %zu of %zu", unpack_name(kind), n,
				     packed.len);
			cr_assert_lt(try(fake_bzimage(cut,
						      kind == UNPACK_GZIP ? 0 : (uint32_t)elf.len),
					 &err),
				     0);
		}
	}
}

/* With one byte of a packed kernel flipped, the decoder or the checksum must find the damage. */
Test(boot_bad, flipped_bits_in_payloads)
{
	struct blob elf = fake_elf(0, 1);
	struct err err;

	for (int kind = UNPACK_GZIP; kind <= UNPACK_LZ4; kind++) {
		struct blob packed = fake_pack(elf, kind);
		unsigned refusals = 0, tries = 0;

		for (size_t i = 0; i < packed.len; i += packed.len / 150 + 1) {
			struct blob bad = blob_dup(packed);

			bad.b[i] ^= 1u << i % 8;
			refusals += try(bad, &err) < 0;
			tries++;
			blob_free(&bad);
		}
		/* zstd's simple interface and LZ4's legacy frame write no checksum. */
		if (kind == UNPACK_XZ)
			cr_assert_eq(refusals, tries);
		else
			cr_assert_gt(refusals, 0);
	}
}

static const uint64_t extremes[] = {
	0,
	1,
	2,
	3,
	0x1f,
	0x20,
	0x7f,
	0xff,
	0x100,
	0xfff,
	0x1000,
	0x7fff,
	0xffff,
	0x10000,
	0xfffff,
	0x100000,
	0x1fffff,
	0x200000,
	0x7fffff,
	0x800000,
	0x7fffffff,
	0x80000000,
	0xfffff000,
	0xffffffff,
	0x100000000,
	0x7fffffffffffffff,
	0x8000000000000000,
	0xfffffffffffff000,
	0xffffffffffe00000,
	0xffffffffffffffff,
};
#define NEXTREMES (sizeof(extremes) / sizeof(extremes[0]))

static void put(uint8_t *at, unsigned width, uint64_t val)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(val >> 8 * i);
}

/* Sets every field of both headers to every extreme value, alone and in pairs with the next. */
static void damage_fields(struct blob whole, const uint16_t (*field)[2], unsigned n)
{
	struct err err;

	for (unsigned f = 0; f < n; f++) {
		for (unsigned v = 0; v < NEXTREMES; v++) {
			struct blob bad = blob_dup(whole);

			put(bad.b + field[f][0], field[f][1], extremes[v]);
			try(bad, &err);
			for (unsigned w = 0; f + 1 < n && w < NEXTREMES; w++) {
				put(bad.b + field[f + 1][0], field[f + 1][1], extremes[w]);
				try(bad, &err);
			}
			blob_free(&bad);
		}
	}
}

Test(boot_bad, bzimage_fields)
{
	static const uint16_t field[][2] = {
		{ 0x1f1, 1 }, { 0x1f4, 4 }, { 0x1fe, 2 }, { 0x201, 1 }, { 0x206, 2 },
		{ 0x211, 1 }, { 0x22c, 4 }, { 0x230, 4 }, { 0x234, 1 }, { 0x236, 2 },
		{ 0x238, 4 }, { 0x248, 4 }, { 0x24c, 4 }, { 0x258, 8 }, { 0x260, 4 },
	};

	damage_fields(fake_bzimage(blob_new(4096, 0x5a), 0), field,
		      sizeof(field) / sizeof(field[0]));
}

Test(boot_bad, elf_fields)
{
#define E(f)                                                                                       \
	{                                                                                          \
		offsetof(Elf64_Ehdr, f), sizeof(((Elf64_Ehdr *)0)->f)                              \
	}
#define P(i, f)                                                                                    \
	{                                                                                          \
		FAKE_ELF_PHDR + (i) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, f),                \
			sizeof(((Elf64_Phdr *)0)->f)                                               \
	}
	static const uint16_t field[][2] = {
		{ EI_CLASS, 1 }, { EI_DATA, 1 }, E(e_type),	E(e_machine),	E(e_entry),
		E(e_phoff),	 E(e_phentsize), E(e_phnum),	P(0, p_type),	P(0, p_offset),
		P(0, p_filesz),	 P(0, p_memsz),	 P(0, p_paddr), P(1, p_offset), P(1, p_filesz),
		P(1, p_align),	 P(1, p_type),	 P(1, p_memsz), P(1, p_paddr),
	};

	damage_fields(fake_elf(1, 1), field, sizeof(field) / sizeof(field[0]));
}

Test(boot_bad, notes)
{
	struct err err;

	/* Each word of the notes: sizes that wrap, sizes beyond the end, zero. */
	for (unsigned word = 0; word < 24; word++) {
		for (unsigned v = 0; v < NEXTREMES; v++) {
			struct blob elf = fake_elf(1, 1);

			put(elf.b + FAKE_ELF_NOTES + 4 * word, 4, extremes[v]);
			cr_assert_eq(try(elf, &err), 0, "notes are no reason to refuse: %s",
				     err.text);
			blob_free(&elf);
		}
	}
}

Test(boot_bad, not_kernels)
{
	struct blob b;

	refused(blob_new(1, 'x'), "not a kernel");
	refused(blob_new(4096, 0), "not a kernel");
	refused(blob_new(1 << 20, 0xff), "not a kernel");
	b = blob_new(4096, 0);
	memcpy(b.b, "#!/bin/sh\n", 10);
	refused(b, "not a kernel");
	memcpy(b.b + 0x38, "ARM\x64", 4);
	refused(b, "arm64");
	memcpy(b.b, "BZh91AY&SY", 10);
	refused(b, "bzip2");
	b = fake_elf(0, 0);
	put_le16(b.b + 18, EM_AARCH64);
	refused(b, "arm64");
	b = fake_elf(0, 0);
	put_le16(b.b + 16, ET_REL);
	refused(b, "not linked");
	b = fake_elf(0, 0);
	put_le64(b.b + 24, 0xffffffff80200000);
	refused(b, "e_entry");
}

Test(boot_bad, bzimages_that_say_why)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0), b;

	b = blob_dup(z);
	put_le16(b.b + 0x206, 0x20b);
	refused(b, "boot protocol 2.11");
	b = blob_dup(z);
	put_le16(b.b + 0x236, 0);
	refused(b, "32-bit");
	b = blob_dup(z);
	put_le32(b.b + 0x1f4, 0xffffffff);
	refused(b, "truncated");
	b = blob_dup(z);
	put_le32(b.b + 0x260, 0x7fffffff);
	refused(b, "give it more");
	b = blob_dup(z);
	put_le32(b.b + 0x24c, 0x7fffffff);
	refused(b, "payload");
	b = blob_dup(z);
	put_le32(b.b + 0x230, 0x3);
	refused(b, "power of two");
	b = blob_dup(z);
	put_le64(b.b + 0x258, 1ull << 33);
	refused(b, "wants to run");
}

static struct blob two_segments(uint64_t paddr, uint64_t memsz, uint64_t offset, uint64_t filesz)
{
	struct blob elf = fake_elf(0, 0);
	Elf64_Phdr p = { .p_type = PT_LOAD,
			 .p_offset = offset,
			 .p_paddr = paddr,
			 .p_filesz = filesz,
			 .p_memsz = memsz };

	memcpy(elf.b + FAKE_ELF_PHDR + sizeof(p), &p, sizeof(p));
	return elf;
}

Test(boot_bad, elf_segments)
{
	struct blob b;
	struct err err;

	cr_assert_eq(try(two_segments(0x400000, 0x1000, 0x1000, 0x1000), &err), 0);
	cr_assert_eq(try(two_segments(0x200000 - 0x1000, 0x1000, 0x1000, 0x1000), &err), 0);
	cr_assert_eq(try(two_segments(0x200000 + FAKE_KERNEL_MEM, 0x1000, 0, 0), &err), 0);
	refused(two_segments(0x200000, 0x1000, 0x1000, 0x1000), "overlap");
	refused(two_segments(0x1ff001, 0x1000, 0x1000, 0x1000), "overlap");
	refused(two_segments(0x200000 + FAKE_KERNEL_MEM - 1, 0x1000, 0, 0), "overlap");
	refused(two_segments(0x100000, 0x700000, 0, 0), "overlap");
	refused(two_segments(0xfffff, 0x1000, 0, 0), "below 1 MiB");
	refused(two_segments(0x7ff001, 0x1000, 0, 0), "outside");
	refused(two_segments(0x400000, UINT64_MAX, 0, 0), "outside");
	refused(two_segments(UINT64_MAX, 2, 0, 0), "outside");
	refused(two_segments(0x400000, 0x1000, 0, 0x1001), "larger in the file");
	refused(two_segments(0x400000, 0x1000, UINT64_MAX, 0x1000), "overflows");
	refused(two_segments(0x400000, 0x1000, 1 << 30, 0x1000), "truncated");
	b = fake_elf(0, 0);
	put_le16(b.b + 56, 129);
	refused(b, "129 program headers");
	put_le16(b.b + 56, 0);
	refused(b, "no program headers");
}

/* 65 segments, each of one page. */
Test(boot_bad, too_many_segments)
{
	for (unsigned n = 64; n <= 65; n++) {
		struct blob elf = fake_elf(0, 0);
		struct err err;

		put_le16(elf.b + 56, (uint16_t)n);
		for (unsigned i = 0; i < n; i++) {
			Elf64_Phdr p = { .p_type = PT_LOAD,
					 .p_memsz = 0x1000,
					 .p_paddr = FAKE_KERNEL_AT + i * 0x1000 };

			memcpy(elf.b + FAKE_ELF_PHDR + i * sizeof(p), &p, sizeof(p));
		}
		if (n == 64)
			cr_assert_eq(try(elf, &err), 0, "%s", err.text);
		else
			refused(elf, "64 segments");
	}
}

/* A few kilobytes that unpack to 300 MiB. */
Test(boot_bad, bombs)
{
	struct blob head = fake_elf(0, 1), plain = blob_new(300 << 20, 0), packed;
	const size_t offset = FAKE_ELF_PHDR + offsetof(Elf64_Phdr, p_offset);
	struct err err;

	memcpy(plain.b, head.b, head.len);
	packed = fake_pack(plain, UNPACK_ZSTD);
	cr_assert_lt(packed.len, 100000);
	refused(packed, "unpacks to more than");
	/* The segment's content is far behind the header: fine at 64 MiB … */
	plain.len = 64 << 20;
	put_le64(plain.b + offset, plain.len - FAKE_KERNEL_BYTES);
	cr_assert_eq(try(fake_pack(plain, UNPACK_ZSTD), &err), 0, "%s", err.text);
	/* … and refused at 1 TiB, which never comes. */
	put_le64(plain.b + offset, 1ull << 40);
	refused(fake_pack(plain, UNPACK_ZSTD), "truncated");
	refused(fake_pack(plain, UNPACK_GZIP), "truncated");
	blob_free(&plain);
}

/* An xz stream that declares a dictionary of 1.5 GiB, and a zstd frame with a window of 2 GiB. */
Test(boot_bad, decoders_that_want_too_much_memory)
{
	lzma_options_lzma lzma;
	lzma_filter filter[] = { { LZMA_FILTER_LZMA2, &lzma }, { LZMA_VLI_UNKNOWN, NULL } };
	struct blob out = blob_new(1 << 16, 0);
	lzma_stream_flags flags = { .check = LZMA_CHECK_NONE };
	lzma_block block = { .check = LZMA_CHECK_NONE,
			     .filters = filter,
			     .compressed_size = LZMA_VLI_UNKNOWN,
			     .uncompressed_size = LZMA_VLI_UNKNOWN };

	cr_assert(!lzma_lzma_preset(&lzma, 1));
	lzma.dict_size = 1536u << 20;
	cr_assert_eq(lzma_stream_header_encode(&flags, out.b), LZMA_OK);
	cr_assert_eq(lzma_block_header_size(&block), LZMA_OK);
	cr_assert_eq(lzma_block_header_encode(&block, out.b + LZMA_STREAM_HEADER_SIZE), LZMA_OK);
	refused(out, "takes more than 256 MiB");

	/* Magic, a descriptor without a single segment, window exponent 21 (2 GiB). */
	memset(out.b, 0, out.len);
	memcpy(out.b, "\x28\xb5\x2f\xfd\x00\xa8", 6);
	refused(out, "takes more than 256 MiB");
}

/* A bzImage with a wrong unpacked size. */
Test(boot_bad, wrong_unpacked_size)
{
	struct blob elf = fake_elf(0, 1), packed = fake_pack(elf, UNPACK_ZSTD);
	struct err err;

	cr_assert_eq(try(fake_bzimage(packed, (uint32_t)elf.len), &err), 0, "%s", err.text);
	refused(fake_bzimage(packed, (uint32_t)elf.len + 1), "");
	refused(fake_bzimage(packed, (uint32_t)elf.len - 1), "");
	refused(fake_bzimage(packed, 1), "");
	refused(fake_bzimage(packed, UINT32_MAX), "");
}

/* In a stream the segments must come in order; a header that breaks the order is refused. */
Test(boot_bad, packed_segments_that_overlap_in_the_file)
{
	struct blob big = blob_new(256 << 10, 0x11), elf;

	elf = two_segments(0x400000, 0x20000, 0x18000, 0x20000);
	memcpy(big.b, elf.b, elf.len);
	put_le64(big.b + FAKE_ELF_PHDR + offsetof(Elf64_Phdr, p_filesz), 0x20000);
	put_le64(big.b + FAKE_ELF_PHDR + offsetof(Elf64_Phdr, p_memsz), 0x20000);
	refused(fake_pack(big, UNPACK_ZSTD), "out of order");
}
