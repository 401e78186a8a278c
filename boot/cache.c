/*
 * cache: see cache.h.
 *
 * Theory of operation: pread reads an entry; nothing maps it. pread was as fast as mmap
 * when measured, because both copy into the guest's private huge pages; and pread gives
 * no SIGBUS if another process truncates the file.
 * The checksum of each piece is computed while the piece is in the CPU's cache.
 */
#include "boot/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "boot/elf.h"
#include "vmm/core/bytes.h"
#include "vmm/core/log.h"

#define SUBDIR "unpacked"
#define PAGE 4096ull
#define PIECE (256u << 10)   /* read one piece, then sum it while it is in the cache */
#define ZERO_RUN (64u << 10) /* cut a segment at this many zeroes */
#define TEMP_PREFIX "tmp."
#define TEMP_MAX_AGE_S 3600

/* The header, one page of little-endian words. */
enum {
	H_MAGIC = 0,
	H_DEV = 8,
	H_INO = 16,
	H_SIZE = 24,
	H_MTIME = 32,
	H_CTIME = 40,
	H_TOTAL = 48, /* of this file */
	H_DATA_SUM = 56,
	H_ENTRY = 64,
	H_PVH_ENTRY = 72,
	H_FLAGS = 80,
	H_NSEGS = 88,
	H_TAIL = 96,
	H_TAIL_BYTES = 104,
	H_SEGS = 128, /* paddr, file_bytes, mem_bytes, offset */
	SEG_BYTES = 32,
	H_HEAD_SUM = 4088,
};
#define MAGIC "bantamK2"
#define FLAG_ENTRY_OK 1u
#define FLAG_PVH 2u
#define FLAG_LINUX 4u
#define FLAG_DOUBT_SHIFT 3 /* two bits: enum kernel_doubt */

/*
 * A checksum: four lanes of multiply-and-add over 64-bit words. It is not cryptographic,
 * but depends on each word and its position, and runs at the speed of memory.
 */
struct sum {
	uint64_t lane[4];
};

static void sum_add(struct sum *sum, const uint8_t *b, size_t n)
{
	const uint64_t prime = 0x9e3779b97f4a7c15ull;
	uint64_t a0 = sum->lane[0], a1 = sum->lane[1], a2 = sum->lane[2], a3 = sum->lane[3];
	uint64_t w[4];

	for (; n; b += sizeof(w), n -= sizeof(w)) {
		if (n >= sizeof(w)) {
			memcpy(w, b, sizeof(w));
		} else {
			memset(w, 0, sizeof(w));
			memcpy(w, b, n);
			n = sizeof(w);
		}
		a0 = a0 * prime + w[0] + 1;
		a1 = a1 * prime + w[1] + 1;
		a2 = a2 * prime + w[2] + 1;
		a3 = a3 * prime + w[3] + 1;
	}
	*sum = (struct sum){ { a0, a1, a2, a3 } };
}

static uint64_t sum_end(const struct sum *sum)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < 4; i++)
		val = (val ^ sum->lane[i]) * 0xff51afd7ed558ccdull;
	return val ^ val >> 32;
}

static uint64_t ns(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
}

/*
 * Opens the directory, and creates it if make is true. Returns its fd or -1. Only our user may be
 * able to write to the directory.
 */
static int open_dir(const char *dir, bool make)
{
	struct stat st;
	char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/" SUBDIR, dir) < 0)
		return -1;
	if (make) {
		/* Every missing parent, as mkdir -p. */
		for (char *c = path + 1; *c; c++) {
			if (*c != '/')
				continue;
			*c = 0;
			mkdir(path, 0700);
			*c = '/';
		}
		mkdir(path, 0700);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	free(path);
	if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void entry_name(char name[64], const struct boot_file *file)
{
	const uint8_t *sum = file->sha256;

	if (sum) {
		snprintf(name, 64, "sha256-%016llx%016llx", (unsigned long long)get_le64(sum),
			 (unsigned long long)get_le64(sum + 8));
		return;
	}
	snprintf(name, 64, "%llx-%llx", (unsigned long long)file->st.st_dev,
		 (unsigned long long)file->st.st_ino);
}

static void put_key(uint8_t *h, const struct boot_file *file)
{
	memcpy(h + H_MAGIC, MAGIC, 8);
	put_le64(h + H_SIZE, file->size_bytes);
	if (file->sha256) {
		memcpy(h + H_DEV, file->sha256, 16);
		memcpy(h + H_MTIME, file->sha256 + 16, 16);
		return;
	}
	put_le64(h + H_DEV, file->st.st_dev);
	put_le64(h + H_INO, file->st.st_ino);
	put_le64(h + H_MTIME, ns(&file->st.st_mtim));
	put_le64(h + H_CTIME, ns(&file->st.st_ctim));
}

/* Reads the header into *image. Returns false if it is of another kernel file or invalid. */
static bool parse(const uint8_t *h, const struct boot_file *file, uint64_t total,
		  struct kernel_image *image)
{
	uint8_t key[H_TOTAL];
	struct sum sum = { 0 };

	sum_add(&sum, h, H_HEAD_SUM);
	put_key(key, file);
	if (memcmp(h, key, sizeof(key)) || get_le64(h + H_HEAD_SUM) != sum_end(&sum) ||
	    get_le64(h + H_TOTAL) != total || get_le64(h + H_NSEGS) > KERNEL_MAX_SEGMENTS ||
	    !get_le64(h + H_NSEGS))
		return false;
	image->entry = get_le64(h + H_ENTRY);
	image->pvh_entry = get_le64(h + H_PVH_ENTRY);
	image->is_linux = get_le64(h + H_FLAGS) & FLAG_LINUX;
	image->doubt = (enum kernel_doubt)(get_le64(h + H_FLAGS) >> FLAG_DOUBT_SHIFT & 3);
	image->nsegs = (unsigned)get_le64(h + H_NSEGS);
	for (unsigned i = 0; i < image->nsegs; i++) {
		const uint8_t *s = h + H_SEGS + i * SEG_BYTES;

		image->seg[i] = (struct kernel_segment){ get_le64(s), get_le64(s + 8),
							 get_le64(s + 16), get_le64(s + 24) };
		if (image->seg[i].file_bytes > image->seg[i].mem_bytes)
			return false;
	}
	image->entry_ok = (get_le64(h + H_FLAGS) & FLAG_ENTRY_OK) &&
			  elf_entry_ok(image, image->entry);
	image->has_pvh = (get_le64(h + H_FLAGS) & FLAG_PVH) &&
			 elf_entry_ok(image, image->pvh_entry);
	if (get_le64(h + H_TAIL_BYTES) > KERNEL_MAX_TAIL)
		return false;
	return !get_le64(h + H_TAIL_BYTES) ||
	       kernel_image_alloc_tail(image, get_le64(h + H_TAIL_BYTES));
}

static bool read_summed(const struct boot_file *entry, uint64_t off, uint8_t *to, uint64_t n,
			struct sum *sum)
{
	while (n) {
		uint64_t part = n < PIECE ? n : PIECE;

		if (boot_file_read(entry, off, to, part, NULL) < 0)
			return false;
		sum_add(sum, to, part);
		to += part;
		off += part;
		n -= part;
	}
	return true;
}

static bool read_entry(struct mem *mem, const struct boot_file *entry, const struct boot_file *file,
		       struct kernel_image *image)
{
	uint8_t h[PAGE];
	struct sum sum = { 0 };

	if (boot_file_read(entry, 0, h, sizeof(h), NULL) < 0 ||
	    !parse(h, file, entry->size_bytes, image) ||
	    elf_check_segments(mem, file, image, NULL) < 0)
		return false;
	for (unsigned i = 0; i < image->nsegs; i++) {
		const struct kernel_segment *s = &image->seg[i];

		if (!read_summed(entry, s->offset, mem_slice(mem, gpa(s->paddr), s->mem_bytes),
				 s->file_bytes, &sum))
			return false;
	}
	if (!read_summed(entry, get_le64(h + H_TAIL), image->tail, image->tail_bytes, &sum))
		return false;
	return sum_end(&sum) == get_le64(h + H_DATA_SUM);
}

bool boot_cache_load(struct mem *mem, const char *dir, const struct boot_file *file,
		     struct kernel_image *image)
{
	struct boot_file entry = { .fd = -1, .what = "cache", .path = dir };
	bool ok = false;
	char name[64];
	int dirfd;

	memset(image, 0, sizeof(*image));
	dirfd = open_dir(dir, false);
	if (dirfd < 0)
		return false;
	entry_name(name, file);
	entry.fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	close(dirfd);
	if (entry.fd >= 0 && !fstat(entry.fd, &entry.st) && S_ISREG(entry.st.st_mode) &&
	    entry.st.st_uid == geteuid() && !(entry.st.st_mode & 022)) {
		entry.size_bytes = (uint64_t)entry.st.st_size;
		ok = read_entry(mem, &entry, file, image);
		if (!ok)
			log_put(LOG_INFO,
				"cache: cannot use %s/" SUBDIR "/%s; unpacking the kernel again",
				dir, name);
		else /* prune needs the time of the last use; relatime does not record each */
			futimens(entry.fd, (struct timespec[2]){ { .tv_nsec = UTIME_NOW },
								 { .tv_nsec = UTIME_OMIT } });
	}
	boot_file_close(&entry);
	if (!ok)
		kernel_image_clear(image);
	return ok;
}

static bool is_zero(const uint8_t *b, size_t n)
{
	return !n || (!b[0] && !memcmp(b, b + 1, n - 1));
}

/* Returns how many bytes at the start of b are in blocks that are all zero (zero) or are not. */
static uint64_t run(const uint8_t *b, uint64_t n, bool zero)
{
	uint64_t at = 0;

	while (at < n) {
		uint64_t block = n - at < ZERO_RUN ? n - at : ZERO_RUN;

		if (is_zero(b + at, block) != zero)
			break;
		at += block;
	}
	return at;
}

/*
 * Cuts the segments at long runs of zeroes, because a kernel's ELF has its .bss as
 * content. Sets each offset to the page-aligned place in the entry's file.
 */
static void cut_segments(const struct mem *mem, const struct kernel_image *image,
			 struct kernel_image *cut)
{
	uint64_t offset = PAGE;

	cut->nsegs = 0;
	for (unsigned i = 0; i < image->nsegs; i++) {
		const struct kernel_segment *s = &image->seg[i];
		const uint8_t *b = mem_slice(mem, gpa(s->paddr), s->mem_bytes);
		uint64_t at = 0;

		while (at < s->mem_bytes) {
			uint64_t left = s->mem_bytes - at, content, zeroes;
			/* If the other segments need all other places, this one is not cut. */
			bool last = cut->nsegs + image->nsegs - i >= KERNEL_MAX_SEGMENTS;

			content = last ? left : run(b + at, left, false);
			zeroes = run(b + at + content, left - content, true);
			cut->seg[cut->nsegs++] = (struct kernel_segment){ s->paddr + at, content,
									  content + zeroes,
									  offset };
			at += content + zeroes;
			offset += (content + PAGE - 1) & ~(PAGE - 1);
		}
	}
}

static bool write_all(int fd, const uint8_t *b, uint64_t n, uint64_t off)
{
	while (n) {
		ssize_t did = pwrite(fd, b, n < 1u << 30 ? (size_t)n : 1u << 30, (off_t)off);

		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0)
			return false;
		b += did;
		off += (uint64_t)did;
		n -= (uint64_t)did;
	}
	return true;
}

static bool write_entry(int fd, const struct mem *mem, const struct boot_file *file,
			const struct kernel_image *image)
{
	struct kernel_image cut;
	uint8_t h[PAGE] = { 0 };
	struct sum sum = { 0 }, head = { 0 };
	uint64_t total = PAGE;

	cut_segments(mem, image, &cut);
	for (unsigned i = 0; i < cut.nsegs; i++) {
		const struct kernel_segment *s = &cut.seg[i];
		const uint8_t *b = mem_slice(mem, gpa(s->paddr), s->mem_bytes);
		uint8_t *p = h + H_SEGS + i * SEG_BYTES;

		for (uint64_t at = 0; at < s->file_bytes; at += PIECE)
			sum_add(&sum, b + at,
				s->file_bytes - at < PIECE ? s->file_bytes - at : PIECE);
		if (!write_all(fd, b, s->file_bytes, s->offset))
			return false;
		put_le64(p, s->paddr);
		put_le64(p + 8, s->file_bytes);
		put_le64(p + 16, s->mem_bytes);
		put_le64(p + 24, s->offset);
		if (s->file_bytes)
			total = s->offset + s->file_bytes;
	}
	put_le64(h + H_TAIL, total);
	put_le64(h + H_TAIL_BYTES, image->tail_bytes);
	for (uint64_t at = 0; at < image->tail_bytes; at += PIECE)
		sum_add(&sum, image->tail + at,
			image->tail_bytes - at < PIECE ? image->tail_bytes - at : PIECE);
	if (!write_all(fd, image->tail, image->tail_bytes, total))
		return false;
	total += image->tail_bytes;

	put_key(h, file);
	put_le64(h + H_TOTAL, total);
	put_le64(h + H_DATA_SUM, sum_end(&sum));
	put_le64(h + H_ENTRY, image->entry);
	put_le64(h + H_PVH_ENTRY, image->pvh_entry);
	put_le64(h + H_FLAGS, (image->entry_ok ? FLAG_ENTRY_OK : 0) |
				      (image->has_pvh ? FLAG_PVH : 0) |
				      (image->is_linux ? FLAG_LINUX : 0) |
				      (uint64_t)image->doubt << FLAG_DOUBT_SHIFT);
	put_le64(h + H_NSEGS, cut.nsegs);
	sum_add(&head, h, H_HEAD_SUM);
	put_le64(h + H_HEAD_SUM, sum_end(&head));
	return write_all(fd, h, sizeof(h), 0);
}

/*
 * Removes a temporary file whose process has ended, killed in the middle: its lock went with it. Where no
 * locks work, its age tells.
 */
static void remove_left(int dirfd, const char *name, const struct stat *st)
{
	int fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	if (!flock(fd, LOCK_EX | LOCK_NB) || time(NULL) - st->st_mtime > TEMP_MAX_AGE_S)
		unlinkat(dirfd, name, 0);
	close(fd);
}

/* Removes the least recently used entries if there are more than max, and temporary files that were left. */
static void prune(int dirfd, unsigned max)
{
	for (;;) {
		int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
		char oldest[256] = "";
		struct timespec when = { 0 };
		struct dirent *e;
		unsigned n = 0;

		if (!d) {
			if (fd >= 0)
				close(fd);
			return;
		}
		while ((e = readdir(d))) {
			struct stat st;

			if (fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			    !S_ISREG(st.st_mode))
				continue;
			if (!strncmp(e->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX))) {
				remove_left(dirfd, e->d_name, &st);
				continue;
			}
			n++;
			if (!*oldest || ns(&st.st_atim) < ns(&when)) {
				snprintf(oldest, sizeof(oldest), "%s", e->d_name);
				when = st.st_atim;
			}
		}
		closedir(d);
		if (n <= max || unlinkat(dirfd, oldest, 0) < 0)
			return;
	}
}

/* Returns true if the file has not changed since it was opened. */
static bool unchanged(const struct boot_file *file)
{
	struct stat st;

	return !fstat(file->fd, &st) && st.st_size == file->st.st_size &&
	       ns(&st.st_mtim) == ns(&file->st.st_mtim) && ns(&st.st_ctim) == ns(&file->st.st_ctim);
}

void boot_cache_store(const struct mem *mem, const char *dir, const struct boot_file *file,
		      const struct kernel_image *image)
{
	char name[64], temp[64];
	uint64_t random = 0;
	int dirfd, fd = -1;
	bool ok = false;

	if (!unchanged(file))
		return;
	dirfd = open_dir(dir, true);
	if (dirfd < 0) {
		log_put(LOG_INFO, "cache: %s/" SUBDIR " cannot be used: %s", dir, strerror(errno));
		return;
	}
	/* Before, since a process that is killed while it writes leaves a file, and no entry: the next comes here. */
	prune(dirfd, UINT_MAX);
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random)) {
		entry_name(name, file);
		snprintf(temp, sizeof(temp), TEMP_PREFIX "%016llx", (unsigned long long)random);
		fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			    0600);
	}
	if (fd >= 0) {
		/* The lock tells others that it is not left. It stays until the file has its name. */
		(void)flock(fd, LOCK_EX | LOCK_NB);
		ok = write_entry(fd, mem, file, image);
		if (!ok || renameat(dirfd, temp, dirfd, name) < 0) {
			ok = false;
			unlinkat(dirfd, temp, 0);
		}
		close(fd);
	}
	if (!ok)
		log_put(LOG_INFO, "cache: cannot write to %s/" SUBDIR ": %s", dir, strerror(errno));
	else
		prune(dirfd, CACHE_MAX_ENTRIES);
	close(dirfd);
}
