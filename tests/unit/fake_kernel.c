/* fake_kernel: see fake_kernel.h. */
#include "tests/unit/fake_kernel.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/unpack.h"

struct blob blob_new(size_t len, uint8_t with)
{
	/* Mapped, so that a test that does not free it causes no leak report. */
	struct blob blob = {
		mmap(NULL, len + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), len
	};

	cr_assert_neq(blob.b, MAP_FAILED);
	blob.room = len + 1;
	if (with)
		memset(blob.b, with, len);
	return blob;
}

struct blob blob_dup(struct blob blob)
{
	struct blob copy = blob_new(blob.len, 0);

	memcpy(copy.b, blob.b, blob.len);
	return copy;
}

void blob_free(struct blob *blob)
{
	munmap(blob->b, blob->room);
	*blob = (struct blob){ 0 };
}

static size_t put_note(uint8_t *b, const char *owner, uint32_t type, uint32_t desc)
{
	uint32_t namesz = (uint32_t)strlen(owner) + 1, padded = (namesz + 3) & ~3u;

	put_le32(b, namesz);
	put_le32(b + 4, 4);
	put_le32(b + 8, type);
	memcpy(b + 12, owner, namesz);
	put_le32(b + 12 + padded, desc);
	return 16 + padded;
}

struct blob fake_elf(int pvh, int linux_note)
{
	struct blob e = blob_new(FAKE_ELF_DATA + FAKE_KERNEL_BYTES, 0);
	Elf64_Ehdr h = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = FAKE_KERNEL_AT,
		.e_phoff = FAKE_ELF_PHDR,
		.e_ehsize = sizeof(h),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = FAKE_ELF_NPHDRS,
	};
	Elf64_Phdr p[FAKE_ELF_NPHDRS] = {
		{
			.p_type = PT_LOAD,
			.p_offset = FAKE_ELF_DATA,
			.p_vaddr = 0xffffffff80000000 + FAKE_KERNEL_AT,
			.p_paddr = FAKE_KERNEL_AT,
			.p_filesz = FAKE_KERNEL_BYTES,
			.p_memsz = FAKE_KERNEL_MEM,
		},
		{ .p_type = PT_NOTE, .p_offset = FAKE_ELF_NOTES, .p_align = 4 }
	};
	size_t n = 0;

	for (size_t i = FAKE_ELF_DATA; i < e.len; i++)
		e.b[i] = (uint8_t)(i * 7 + (i >> 8));
	n += put_note(e.b + FAKE_ELF_NOTES + n, "GNU", 3, 0x12345678);
	if (linux_note)
		n += put_note(e.b + FAKE_ELF_NOTES + n, "Linux", 0x100, 0);
	if (pvh)
		n += put_note(e.b + FAKE_ELF_NOTES + n, "Xen", 18, FAKE_KERNEL_AT + 0x100);
	p[1].p_filesz = p[1].p_memsz = n;
	memcpy(e.b, &h, sizeof(h));
	memcpy(e.b + FAKE_ELF_PHDR, p, sizeof(p));
	return e;
}

struct blob fake_bzimage(struct blob payload, uint32_t size)
{
	size_t packed = payload.len + (size ? 4 : 0);
	size_t body = (FAKE_BZ_PAYLOAD - FAKE_BZ_BODY + packed + 15) & ~15ul;
	struct blob z = blob_new(FAKE_BZ_BODY + body, 0);

	z.b[0x1f1] = 1; /* setup_sects */
	put_le32(z.b + 0x1f4, (uint32_t)(body / 16));
	put_le16(z.b + 0x1fe, 0xaa55);
	put_le16(z.b + 0x200, 0x6aeb); /* jmp over the header */
	memcpy(z.b + 0x202, "HdrS", 4);
	put_le16(z.b + 0x206, 0x20f);
	z.b[0x211] = 1;			   /* LOADED_HIGH */
	put_le32(z.b + 0x22c, 0x7fffffff); /* initrd_addr_max */
	put_le32(z.b + 0x230, 0x200000);
	z.b[0x234] = 1;		    /* relocatable */
	put_le16(z.b + 0x236, 0x3); /* KERNEL_64, CAN_BE_LOADED_ABOVE_4G */
	put_le32(z.b + 0x238, 2047);
	put_le32(z.b + 0x248, FAKE_BZ_PAYLOAD - FAKE_BZ_BODY);
	put_le32(z.b + 0x24c, (uint32_t)packed);
	put_le64(z.b + 0x258, FAKE_KERNEL_AT);
	put_le32(z.b + 0x260, 0x100000); /* init_size */
	memcpy(z.b + FAKE_BZ_PAYLOAD, payload.b, payload.len);
	if (size)
		put_le32(z.b + FAKE_BZ_PAYLOAD + payload.len, size);
	return z;
}

static struct blob pack_gzip(struct blob plain)
{
	struct blob out = blob_new(plain.len + 1024, 0);
	z_stream z = { .next_in = plain.b,
		       .avail_in = (uInt)plain.len,
		       .next_out = out.b,
		       .avail_out = (uInt)out.len };

	cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	out.len = z.total_out;
	deflateEnd(&z);
	return out;
}

static struct blob pack_lz4(struct blob plain)
{
	const size_t block = 8u << 20;
	struct blob out = blob_new(4 + plain.len + plain.len / 100 + 4096, 0);
	size_t at = 4;

	memcpy(out.b, "\x02\x21\x4c\x18", 4);
	for (size_t i = 0; i < plain.len; i += block) {
		size_t n = plain.len - i < block ? plain.len - i : block;
		int got = LZ4_compress_default((char *)plain.b + i, (char *)out.b + at + 4, (int)n,
					       (int)(out.len - at - 4));

		cr_assert_gt(got, 0);
		put_le32(out.b + at, (uint32_t)got);
		at += 4 + (size_t)got;
	}
	out.len = at;
	return out;
}

struct blob fake_pack(struct blob plain, int kind)
{
	struct blob out;
	size_t n = 0;

	switch (kind) {
	case UNPACK_GZIP:
		return pack_gzip(plain);
	case UNPACK_XZ:
		out = blob_new(lzma_stream_buffer_bound(plain.len), 0);
		cr_assert_eq(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, plain.b, plain.len,
						     out.b, &n, out.len),
			     LZMA_OK);
		break;
	case UNPACK_ZSTD:
		out = blob_new(ZSTD_compressBound(plain.len), 0);
		n = ZSTD_compress(out.b, out.len, plain.b, plain.len, 9);
		cr_assert(!ZSTD_isError(n));
		break;
	case UNPACK_LZ4:
		return pack_lz4(plain);
	default:
		return blob_dup(plain);
	}
	out.len = n;
	return out;
}

const char *fake_file(struct blob blob)
{
	static struct {
		int fd;
		char path[64];
	} file[64];
	static unsigned next;
	unsigned i = next++ % 64;
	int fd = memfd_create("fake", MFD_CLOEXEC);

	if (file[i].fd > 0)
		close(file[i].fd);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, blob.b, blob.len), (ssize_t)blob.len);
	file[i].fd = fd;
	snprintf(file[i].path, sizeof(file[i].path), "/proc/self/fd/%d", fd);
	return file[i].path;
}

void fake_guest_init(struct fake_guest *g, uint64_t mib, struct blob kernel)
{
	memset(g, 0, sizeof(*g));
	cr_assert_eq(mem_create(&g->mem, mib * FAKE_MIB, 3ull << 30, 4ull << 30, &g->err), 0, "%s",
		     g->err.text);
	g->board = (struct board){
		.ncpus = 1,
		.x86.lapic = 0xfee00000,
		.x86.ioapic = 0xfec00000,
		.sleep_control = { true, 0x600 },
		.sleep_status = { true, 0x601 },
		.reset = { true, 0x602 },
		.ged = { true, 0x604 },
		.ged_gsi = 5,
	};
	g->req = (struct boot_request){ .cmdline = "console=ttyS0" };
	g->req.kernel = fake_file(kernel);
}

int fake_guest_boot(struct fake_guest *g)
{
	g->err.text[0] = 0;
	return boot_load(&g->mem, &g->req, &g->board, &g->info, &g->err);
}

void fake_guest_clear(struct fake_guest *g)
{
	mem_destroy(&g->mem);
}
