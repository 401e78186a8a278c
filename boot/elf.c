/*
 * elf: see elf.h.
 *
 * Both classes are supported: a vCPU can enter a 32-bit ELF through its PVH note only.
 * Program headers must be in the first SOURCE_HEAD_MAX bytes, so that the decoder of a
 * packed ELF can write the segments straight to guest memory.
 *
 * Notes: the fields of a note are aligned to 4 bytes in most sections and to 8 in some
 * (.note.gnu.property), and the linker puts both kinds into one PT_NOTE, whose p_align is then 8.
 * p_align says nothing about one note, so scan_notes follows both alignments: it marks
 * each place where a note may begin, and reads the notes at all marked places in ascending order.
 */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/foreign.h"
#include "vmm/core/bytes.h"

#define MAX_PHDRS 128u
#define MAX_NOTE_BYTES 65536u
#define XEN_ELFNOTE_PHYS32_ENTRY 18u
#define GO_BUILD_ID 4u
/* Where a Multiboot header may be: version 1 in the first 8 KiB, version 2 in the first 32 KiB. */
#define MULTIBOOT_BYTES 32768u

struct phdr {
	uint32_t type;
	uint64_t offset, vaddr, paddr, filesz, memsz;
};

struct header {
	bool is64;
	uint64_t entry, phoff;
	unsigned phnum, phentsize;
	uint8_t osabi;
};

bool elf_detect(const uint8_t *head, uint32_t n)
{
	return n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG);
}

static int bad(const struct boot_file *file, struct err *err, const char *why)
{
	return err_set(err, ENOEXEC, "%s %s: bad ELF: %s", file->what, file->path, why);
}

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_X86_64:
	case EM_386:
		return "x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "arm";
	case EM_RISCV:
		return "risc-v";
	case EM_PPC64:
		return "powerpc";
	case EM_S390:
		return "s390";
	default:
		return "another machine";
	}
}

static int parse_header(const struct boot_file *file, const uint8_t *b, uint32_t n,
			struct header *h, struct err *err)
{
	unsigned machine, type;

	if (n < sizeof(Elf32_Ehdr))
		return bad(file, err, "truncated within its header");
	h->osabi = b[EI_OSABI];
	h->is64 = b[EI_CLASS] == ELFCLASS64;
	if ((!h->is64 && b[EI_CLASS] != ELFCLASS32) || b[EI_DATA] != ELFDATA2LSB)
		return bad(file, err, "neither 32- nor 64-bit little endian");
	if (h->is64 && n < sizeof(Elf64_Ehdr))
		return bad(file, err, "truncated within its header");
	type = get_le16(b + offsetof(Elf64_Ehdr, e_type));
	machine = get_le16(b + offsetof(Elf64_Ehdr, e_machine));
	if (!boot_arch_runs(machine))
		return err_set(err, ENOEXEC, "%s %s: an ELF for %s; the guest is %s", file->what,
			       file->path, machine_name(machine), boot_arch_name);
	if (type == ET_REL)
		return bad(file, err, "an object file, not linked (a kernel module?)");
	if (type != ET_EXEC && type != ET_DYN)
		return bad(file, err, "not an executable");
	if (h->is64) {
		h->entry = get_le64(b + offsetof(Elf64_Ehdr, e_entry));
		h->phoff = get_le64(b + offsetof(Elf64_Ehdr, e_phoff));
		h->phentsize = get_le16(b + offsetof(Elf64_Ehdr, e_phentsize));
		h->phnum = get_le16(b + offsetof(Elf64_Ehdr, e_phnum));
	} else {
		h->entry = get_le32(b + offsetof(Elf32_Ehdr, e_entry));
		h->phoff = get_le32(b + offsetof(Elf32_Ehdr, e_phoff));
		h->phentsize = get_le16(b + offsetof(Elf32_Ehdr, e_phentsize));
		h->phnum = get_le16(b + offsetof(Elf32_Ehdr, e_phnum));
	}
	if (!h->phnum)
		return bad(file, err, "no program headers");
	if (h->phnum > MAX_PHDRS)
		return err_set(err, ENOEXEC, "%s %s: bad ELF: %u program headers, at most %u",
			       file->what, file->path, h->phnum, MAX_PHDRS);
	if (h->phentsize != (h->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return bad(file, err, "program headers of a wrong size");
	if (h->phoff > SOURCE_HEAD_MAX || h->phoff + h->phnum * h->phentsize > SOURCE_HEAD_MAX)
		return bad(file, err, "program headers too far from the file's beginning");
	return 0;
}

static void parse_phdr(bool is64, const uint8_t *b, struct phdr *p)
{
	p->type = get_le32(b);
	if (is64) {
		p->offset = get_le64(b + offsetof(Elf64_Phdr, p_offset));
		p->vaddr = get_le64(b + offsetof(Elf64_Phdr, p_vaddr));
		p->paddr = get_le64(b + offsetof(Elf64_Phdr, p_paddr));
		p->filesz = get_le64(b + offsetof(Elf64_Phdr, p_filesz));
		p->memsz = get_le64(b + offsetof(Elf64_Phdr, p_memsz));
	} else {
		p->offset = get_le32(b + offsetof(Elf32_Phdr, p_offset));
		p->vaddr = get_le32(b + offsetof(Elf32_Phdr, p_vaddr));
		p->paddr = get_le32(b + offsetof(Elf32_Phdr, p_paddr));
		p->filesz = get_le32(b + offsetof(Elf32_Phdr, p_filesz));
		p->memsz = get_le32(b + offsetof(Elf32_Phdr, p_memsz));
	}
}

static int add_segment(const struct boot_file *file, struct kernel_image *elf, const struct phdr *p,
		       struct err *err)
{
	unsigned at = elf->nsegs;

	if (!p->memsz)
		return 0;
	if (p->filesz > p->memsz)
		return bad(file, err, "a segment larger in the file than in memory");
	if (p->offset + p->filesz < p->offset)
		return bad(file, err, "a segment's end in the file overflows");
	if (elf->nsegs == KERNEL_MAX_SEGMENTS)
		return bad(file, err, "more than 64 segments to load");
	while (at && elf->seg[at - 1].offset > p->offset) {
		elf->seg[at] = elf->seg[at - 1];
		at--;
	}
	elf->seg[at] = (struct kernel_segment){ .paddr = p->paddr,
						.file_bytes = p->filesz,
						.mem_bytes = p->memsz,
						.offset = p->offset };
	elf->nsegs++;
	return 0;
}

int elf_check_segments(const struct mem *mem, const struct boot_file *file,
		       const struct kernel_image *elf, struct err *err)
{
	for (unsigned i = 0; i < elf->nsegs; i++) {
		const struct kernel_segment *s = &elf->seg[i];

		if (s->paddr < boot_arch_place.kernel_min)
			return err_set(
				err, ENOEXEC,
				"%s %s: a segment at %#llx; below %llu MiB is bantam's own boot data",
				file->what, file->path, (unsigned long long)s->paddr,
				(unsigned long long)boot_arch_place.kernel_min >> 20);
		if (!mem_slice(mem, gpa(s->paddr), s->mem_bytes))
			return err_set(
				err, ENOMEM,
				"%s %s: a segment of %llu KiB at %#llx lies outside the guest's %llu MiB of memory",
				file->what, file->path,
				(unsigned long long)(s->mem_bytes + 1023) >> 10,
				(unsigned long long)s->paddr,
				(unsigned long long)mem->total_bytes >> 20);
		/* No sum overflows: both segments are in memory. */
		for (unsigned j = 0; j < i; j++) {
			const struct kernel_segment *t = &elf->seg[j];

			if (s->paddr < t->paddr + t->mem_bytes &&
			    t->paddr < s->paddr + s->mem_bytes)
				return bad(file, err, "segments overlap in memory");
		}
	}
	return 0;
}

/* The next multiple of align (a power of two) that is at least at + skew, without skew again. */
static uint64_t align_up(uint64_t at, uint64_t skew, uint64_t align)
{
	return ((at + skew + align - 1) & ~(align - 1)) - skew;
}

static void take_note(struct kernel_image *elf, const uint8_t *name, uint32_t namesz, uint32_t type,
		      const uint8_t *desc, uint32_t descsz)
{
	if (namesz == 4 && !memcmp(name, "Xen", 4) && type == XEN_ELFNOTE_PHYS32_ENTRY &&
	    (descsz == 4 || descsz == 8) && !elf->has_pvh) {
		elf->has_pvh = true;
		elf->pvh_entry = descsz == 8 ? get_le64(desc) : get_le32(desc);
	}
	if (namesz == 6 && !memcmp(name, "Linux", 6))
		elf->is_linux = true;
	if ((namesz == 4 && !memcmp(name, "GNU", 4) && type == NT_GNU_ABI_TAG && descsz == 16) ||
	    (namesz == 4 && !memcmp(name, "Go\0", 4) && type == GO_BUILD_ID))
		elf->doubt = KERNEL_DOUBT_PROGRAM;
}

/*
 * Reads the notes of a PT_NOTE (n bytes, at most MAX_NOTE_BYTES) for those that tell what the ELF
 * is. skew: 4 if the segment's address is 4 modulo 8, else 0. Malformed notes are no reason to refuse a kernel.
 */
static void scan_notes(struct kernel_image *elf, const uint8_t *b, uint64_t n, uint64_t skew)
{
	uint8_t begins[MAX_NOTE_BYTES / 4 / 8 + 1] = { 1 }; /* a bit for each multiple of 4 */

	for (uint64_t at = 0; at + 12 <= n; at += 4) {
		uint32_t namesz = get_le32(b + at), descsz = get_le32(b + at + 4);

		if (!(begins[at / 32] & 1u << at / 4 % 8))
			continue;
		for (uint64_t align = 4; align <= 8; align += 4) {
			uint64_t desc = align_up(at + 12 + namesz, skew, align);

			if (desc > n || descsz > n - desc)
				continue;
			take_note(elf, b + at + 12, namesz, get_le32(b + at + 8), b + desc, descsz);
			for (uint64_t after = 4; after <= 8; after += 4) {
				uint64_t next = align_up(desc + descsz, skew, after);

				if (next % 4 == 0 && next < n)
					begins[next / 32] |= (uint8_t)(1u << next / 4 % 8);
			}
		}
	}
}

/*
 * Reads the notes from the loaded segment that holds them, else from a plain file. The notes of a
 * packed file that are in no segment are ignored.
 */
static int load_notes(struct mem *mem, struct boot_source *src, struct kernel_image *elf,
		      const struct phdr *p, struct err *err)
{
	uint8_t buf[4096];
	uint64_t n = p->filesz < MAX_NOTE_BYTES ? p->filesz : MAX_NOTE_BYTES;

	for (unsigned i = 0; i < elf->nsegs; i++) {
		const struct kernel_segment *s = &elf->seg[i];

		if (p->offset < s->offset || p->offset - s->offset >= s->file_bytes ||
		    n > s->file_bytes - (p->offset - s->offset))
			continue;
		if (n)
			scan_notes(elf, mem_slice(mem, gpa(s->paddr + (p->offset - s->offset)), n),
				   n, p->vaddr & 4);
		return 0;
	}
	if (src->unpack)
		return 0;
	if (n > sizeof(buf))
		n = sizeof(buf);
	if (boot_source_read(src, p->offset, buf, n, err) < 0)
		return bad(src->file, err, "its notes lie outside the file");
	scan_notes(elf, buf, n, p->vaddr & 4);
	return 0;
}

bool elf_entry_ok(const struct kernel_image *elf, uint64_t addr)
{
	if (addr >= boot_arch_place.entry_end)
		return false;
	for (unsigned i = 0; i < elf->nsegs; i++)
		if (addr >= elf->seg[i].paddr && addr - elf->seg[i].paddr < elf->seg[i].mem_bytes)
			return true;
	return false;
}

static bool has_multiboot(struct boot_source *src)
{
	uint8_t b[MULTIBOOT_BYTES];
	int64_t n = boot_source_head(src, b, sizeof(b), NULL);

	for (int64_t at = 0; at + 16 <= n; at += 4) {
		uint32_t magic = get_le32(b + at), one = get_le32(b + at + 4),
			 two = get_le32(b + at + 8), three = get_le32(b + at + 12);

		if ((at < 8192 && magic == 0x1badb002 && !(magic + one + two)) ||
		    (at % 8 == 0 && magic == 0xe85250d6 && !(magic + one + two + three)))
			return true;
	}
	return false;
}

/*
 * Is it a program header that programs of an operating system have? Their linker maps the ELF's own
 * headers, too, from which a kernel has nothing.
 */
static bool is_users(const struct phdr *p, const struct header *h)
{
	uint64_t headers_end = h->phoff + (uint64_t)h->phnum * h->phentsize;

	return p->type == PT_INTERP || p->type == PT_GNU_RELRO || p->type == PT_TLS ||
	       p->type == PT_GNU_EH_FRAME ||
	       (p->type == PT_LOAD && !p->offset && p->filesz >= headers_end);
}

/* Signs of something else than a kernel that bantam enters, in an ELF without a kernel's notes. */
static void look_for_doubt(struct boot_source *src, const struct header *h, bool user_headers,
			   struct kernel_image *elf)
{
	if (elf->has_pvh || elf->is_linux)
		elf->doubt = KERNEL_DOUBT_NONE;
	else if (user_headers || h->osabi == ELFOSABI_GNU)
		elf->doubt = KERNEL_DOUBT_PROGRAM;
	else if (elf->doubt == KERNEL_DOUBT_NONE && has_multiboot(src))
		elf->doubt = KERNEL_DOUBT_MULTIBOOT;
}

int elf_load(struct mem *mem, struct boot_source *src, struct kernel_image *elf, struct err *err)
{
	const struct boot_file *file = src->file;
	uint8_t b[MAX_PHDRS * sizeof(Elf64_Phdr)];
	struct header h = { 0 };
	bool user_headers = false;
	struct phdr p;
	int64_t n;
	int ret;

	memset(elf, 0, sizeof(*elf));
	n = boot_source_head(src, b, sizeof(b), err);
	if (n < 0)
		return (int)n;
	if (src->unpack && !elf_detect(b, (uint32_t)n))
		return err_set(err, ENOEXEC,
			       "%s %s: what is packed in it is no ELF but %s: unpack it first",
			       file->what, file->path, foreign_name(b, (uint32_t)n));
	ret = parse_header(file, b, (uint32_t)n, &h, err);
	if (ret < 0)
		return ret;
	if (boot_source_read(src, h.phoff, b, h.phnum * h.phentsize, err) < 0)
		return bad(file, err, "truncated within its program headers");
	for (unsigned i = 0; i < h.phnum; i++) {
		parse_phdr(h.is64, b + i * h.phentsize, &p);
		user_headers |= is_users(&p, &h);
		ret = p.type == PT_LOAD ? add_segment(file, elf, &p, err) : 0;
		if (ret < 0)
			return ret;
	}
	if (!elf->nsegs)
		return bad(file, err, "nothing to load");
	ret = elf_check_segments(mem, file, elf, err);
	for (unsigned i = 0; !ret && i < elf->nsegs; i++) {
		const struct kernel_segment *s = &elf->seg[i];

		if (s->file_bytes)
			ret = boot_source_read(src, s->offset,
					       mem_slice(mem, gpa(s->paddr), s->file_bytes),
					       s->file_bytes, err);
	}
	for (unsigned i = 0; !ret && i < h.phnum; i++) {
		parse_phdr(h.is64, b + i * h.phentsize, &p);
		if (p.type == PT_NOTE)
			ret = load_notes(mem, src, elf, &p, err);
	}
	elf->entry = h.entry;
	elf->entry_ok = h.is64 && elf_entry_ok(elf, h.entry);
	elf->has_pvh = elf->has_pvh && elf_entry_ok(elf, elf->pvh_entry);
	look_for_doubt(src, &h, user_headers, elf);
	return ret;
}
