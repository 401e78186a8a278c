/* boot: the cache of unpacked kernels, and every way in which it may fail silently. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/unpack.h"
#include "tests/unit/fake_kernel.h"

static char top[64], cache[80], dir[96], kernel[80];
static struct blob elf;

static void write_file(const char *path, struct blob b)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, b.b, b.len), (ssize_t)b.len);
	close(fd);
}

static void setup(void)
{
	struct blob packed;

	snprintf(top, sizeof(top), "/tmp/bantam-cache-XXXXXX");
	cr_assert(mkdtemp(top));
	snprintf(cache, sizeof(cache), "%s/a/b", top);
	snprintf(dir, sizeof(dir), "%s/unpacked", cache);
	snprintf(kernel, sizeof(kernel), "%s/kernel", top);
	elf = fake_elf(1, 1);
	packed = fake_pack(elf, UNPACK_ZSTD);
	write_file(kernel, packed);
}

static void teardown(void)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(boot_cache, .init = setup, .fini = teardown);

/* Boots. Returns true if the kernel came from the cache. */
static bool boot_cached(const char *path)
{
	struct fake_guest g;
	bool cached;

	fake_guest_init(&g, 16, elf);
	g.req.kernel = path;
	g.req.cache_dir = cache;
	cr_assert_eq(fake_guest_boot(&g), 0, "%s", g.err.text);
	cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT);
	cr_assert_eq(memcmp(mem_slice(&g.mem, gpa(FAKE_KERNEL_AT), FAKE_KERNEL_BYTES),
			    elf.b + FAKE_ELF_DATA, FAKE_KERNEL_BYTES),
		     0);
	cached = strstr(g.info.format, "cached");
	fake_guest_clear(&g);
	return cached;
}

/* Returns the path of the last entry; *n is the number of entries. */
static const char *entry(unsigned *n)
{
	static char path[400];
	DIR *d = opendir(dir);
	struct dirent *e;

	*n = 0;
	*path = 0;
	while (d && (e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		(*n)++;
	}
	if (d)
		closedir(d);
	return path;
}

static const char *the_entry(void)
{
	unsigned n;
	const char *path = entry(&n);

	cr_assert_eq(n, 1);
	return path;
}

Test(boot_cache, second_boot_finds_it)
{
	struct stat st;

	cr_assert(!boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	cr_assert_eq(stat(dir, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0700);
	cr_assert_eq(stat(the_entry(), &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
}

/* What a process left that was killed while it wrote goes; the file of one that still writes stays. */
Test(boot_cache, what_a_killed_process_left)
{
	char left[200], written[200];
	int fd;

	cr_assert(!boot_cached(kernel));
	cr_assert_eq(unlink(the_entry()), 0);
	snprintf(left, sizeof(left), "%s/tmp.0123456789abcdef", dir);
	snprintf(written, sizeof(written), "%s/tmp.fedcba9876543210", dir);
	write_file(left, elf);
	write_file(written, elf);
	fd = open(written, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_assert(!boot_cached(kernel));
	cr_expect(access(left, F_OK));
	cr_expect_not(access(written, F_OK));
	close(fd);
	/* Nothing is written, so nothing is looked for. */
	cr_assert(boot_cached(kernel));
	cr_expect_not(access(written, F_OK));
	unlink(written);
	cr_assert(boot_cached(kernel));
	the_entry();
}

/* Boots from an open descriptor: uses the cache by the sum, or not at all. */
static bool boot_open(const uint8_t *sha256)
{
	struct fake_guest g;
	int fd = open(kernel, O_RDONLY | O_CLOEXEC);
	bool cached;

	fake_guest_init(&g, 16, elf);
	g.req.kernel = "/boot/vmlinuz";
	g.req.kernel_fd = &fd;
	g.req.kernel_sha256 = sha256;
	g.req.cache_dir = cache;
	cr_assert_eq(fake_guest_boot(&g), 0, "%s", g.err.text);
	cached = strstr(g.info.format, "cached");
	fake_guest_clear(&g);
	/* The caller still owns fd. */
	cr_assert_eq(close(fd), 0);
	return cached;
}

Test(boot_cache, by_content)
{
	uint8_t sum[32] = { 1, 2, 3 }, other[32] = { 1, 2, 3, [31] = 1 };
	struct stat st;

	cr_assert(!boot_open(NULL));
	cr_assert(!boot_open(NULL));
	cr_assert_neq(stat(dir, &st), 0);
	cr_assert(!boot_open(sum));
	cr_assert(boot_open(sum));
	cr_assert(strstr(the_entry(), "/sha256-"));
	/* The same name with another sum. */
	cr_assert(!boot_open(other));
	cr_assert(!boot_open(sum));
	/* The entry of a named file is another one. */
	cr_assert(!boot_cached(kernel));
	cr_assert(boot_open(sum));
}

Test(boot_cache, pvh_too)
{
	struct fake_guest g;

	for (int i = 0; i < 2; i++) {
		fake_guest_init(&g, 16, elf);
		g.req.kernel = kernel;
		g.req.cache_dir = cache;
		g.req.entry = BOOT_ENTRY_PVH;
		cr_assert_eq(fake_guest_boot(&g), 0, "%s", g.err.text);
		cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT + 0x100);
		fake_guest_clear(&g);
	}
	cr_assert(strstr(g.info.format, "cached"));
}

Test(boot_cache, another_kernel_at_the_same_place)
{
	cr_assert(!boot_cached(kernel));
	elf.b[FAKE_ELF_DATA] ^= 1;
	write_file(kernel, fake_pack(elf, UNPACK_ZSTD));
	cr_assert(!boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	the_entry();
}

/* With any byte changed, boot rejects the entry and writes it again. */
Test(boot_cache, corrupt_entries)
{
	struct stat st;
	uint8_t byte;
	int fd;

	cr_assert(!boot_cached(kernel));
	cr_assert_eq(stat(the_entry(), &st), 0);
	for (off_t i = 0; i < st.st_size; i += i < 256 ? 3 : 577) {
		fd = open(the_entry(), O_RDWR);
		cr_assert_eq(pread(fd, &byte, 1, i), 1);
		byte ^= 0x10;
		cr_assert_eq(pwrite(fd, &byte, 1, i), 1);
		close(fd);
		/* The padding between the segments is never read. */
		if (boot_cached(kernel))
			cr_assert(i > 4096, "a change of byte %ld went unseen", (long)i);
		else
			cr_assert(boot_cached(kernel));
	}
}

Test(boot_cache, truncated_entries)
{
	struct stat st;

	cr_assert(!boot_cached(kernel));
	cr_assert_eq(stat(the_entry(), &st), 0);
	for (off_t n = 0; n < st.st_size; n += 509) {
		cr_assert_eq(truncate(the_entry(), n), 0);
		cr_assert(!boot_cached(kernel));
		cr_assert(boot_cached(kernel));
	}
	cr_assert_eq(truncate(the_entry(), st.st_size + 1), 0);
	cr_assert(!boot_cached(kernel));
}

Test(boot_cache, entries_that_others_could_write)
{
	char target[128];
	const char *path;

	cr_assert(!boot_cached(kernel));
	cr_assert_eq(chmod(the_entry(), 0660), 0);
	cr_assert(!boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	/* A link, even to a good entry. */
	path = the_entry();
	snprintf(target, sizeof(target), "%s/elsewhere", top);
	cr_assert_eq(rename(path, target), 0);
	cr_assert_eq(symlink(target, path), 0);
	cr_assert(!boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	cr_assert_eq(chmod(dir, 0770), 0);
	cr_assert(!boot_cached(kernel));
	cr_assert_eq(chmod(dir, 0700), 0);
	cr_assert(boot_cached(kernel));
	if (geteuid())
		return;
	cr_assert_eq(chown(the_entry(), 1, 1), 0);
	cr_assert(!boot_cached(kernel));
	cr_assert(boot_cached(kernel));
	cr_assert_eq(chown(dir, 1, 1), 0);
	cr_assert(!boot_cached(kernel));
	cr_assert(!boot_cached(kernel));
}

Test(boot_cache, nowhere_to_write)
{
	struct rlimit limit = { 4096, 4096 };
	struct fake_guest g;

	/* A file where the directory should be. */
	snprintf(cache, sizeof(cache), "%s/file", top);
	write_file(cache, (struct blob){ (uint8_t *)"x", 1 });
	cr_assert(!boot_cached(kernel));
	snprintf(cache, sizeof(cache), "/proc/nothing/here");
	cr_assert(!boot_cached(kernel));
	snprintf(cache, sizeof(cache), "/dev/full");
	cr_assert(!boot_cached(kernel));
	snprintf(cache, sizeof(cache), "%s/c", top);
	/* A limit on file sizes, with SIGXFSZ ignored as in main. */
	signal(SIGXFSZ, SIG_IGN);
	fake_guest_init(&g, 16, elf);
	g.req.kernel = kernel;
	g.req.cache_dir = cache;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(fake_guest_boot(&g), 0);
	cr_assert_eq(fake_guest_boot(&g), 0);
	cr_assert(!strstr(g.info.format, "cached"));
	fake_guest_clear(&g);
}

Test(boot_cache, many_at_once)
{
	pid_t pid[8];
	unsigned n;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 8; i++) {
			pid[i] = fork();
			if (!pid[i]) {
				struct fake_guest g;
				int ok = 1;

				for (unsigned j = 0; ok && j < 4; j++) {
					fake_guest_init(&g, 16, elf);
					g.req.kernel = kernel;
					g.req.cache_dir = cache;
					ok = !fake_guest_boot(&g) &&
					     !memcmp(mem_slice(&g.mem, gpa(FAKE_KERNEL_AT), 4096),
						     elf.b + FAKE_ELF_DATA, 4096);
					fake_guest_clear(&g);
					if (i == 0)
						unlink(entry(&n));
				}
				_exit(!ok);
			}
		}
		for (unsigned i = 0; i < 8; i++) {
			int status;

			waitpid(pid[i], &status, 0);
			cr_assert_eq(status, 0);
		}
	}
	boot_cached(kernel);
	cr_assert(boot_cached(kernel));
	entry(&n);
	cr_assert_eq(n, 1, "%u files: something was left behind", n);
}

Test(boot_cache, only_a_few_are_kept)
{
	unsigned n;

	for (unsigned i = 0; i < 12; i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/kernel%u", top, i);
		write_file(path, fake_pack(elf, UNPACK_ZSTD));
		cr_assert(!boot_cached(path));
	}
	entry(&n);
	cr_assert_eq(n, 8);
	snprintf(kernel, sizeof(kernel), "%s/kernel11", top);
	cr_assert(boot_cached(kernel));
	snprintf(kernel, sizeof(kernel), "%s/kernel0", top);
	cr_assert(!boot_cached(kernel));
}

/* The entry omits long runs of zeroes, and reading it restores them. */
Test(boot_cache, zeroes)
{
	struct blob big = blob_new(4 << 20, 0);
	struct stat st;
	struct fake_guest g;

	memcpy(big.b, elf.b, elf.len);
	put_le64(big.b + FAKE_ELF_PHDR + offsetof(Elf64_Phdr, p_filesz), big.len - FAKE_ELF_DATA);
	put_le64(big.b + FAKE_ELF_PHDR + offsetof(Elf64_Phdr, p_memsz), big.len);
	for (size_t i = 1 << 20; i < 3 << 20; i += 40000)
		big.b[i] = 1;
	big.b[big.len - 1] = 2;
	write_file(kernel, fake_pack(big, UNPACK_ZSTD));
	for (int i = 0; i < 2; i++) {
		fake_guest_init(&g, 16, elf);
		g.req.kernel = kernel;
		g.req.cache_dir = cache;
		cr_assert_eq(fake_guest_boot(&g), 0, "%s", g.err.text);
		cr_assert_eq(!!strstr(g.info.format, "cached"), i);
		cr_assert_eq(g.info.kernel_bytes, big.len);
		cr_assert_eq(memcmp(mem_slice(&g.mem, gpa(FAKE_KERNEL_AT), big.len),
				    big.b + FAKE_ELF_DATA, big.len - FAKE_ELF_DATA),
			     0);
		fake_guest_clear(&g);
	}
	cr_assert_eq(stat(the_entry(), &st), 0);
	cr_assert_lt(st.st_size, 3 << 20);
	blob_free(&big);
}

/* --- KASLR ------------------------------------------------------------- */

#define PLACE(off) (0x80000000u + (uint32_t)FAKE_KERNEL_AT + (off))

/* Appends lists as the kernel's build does: 64-bit, (negated,) 32-bit, each after a zero. */
static struct blob with_relocations(bool negated, uint32_t extra)
{
	struct blob e = blob_new(elf.len + 64, 0);
	uint8_t *data = e.b + FAKE_ELF_DATA, *p = e.b + elf.len;

	memcpy(e.b, elf.b, elf.len);
	put_le64(data + 0x10, 0xffffffff80200123);
	put_le64(data + 0x20, 0xffffffff80200456);
	put_le32(data + 0x30, 0x80200789);
	put_le32(data + 0x40, 0x7ff00000);
	put_le32(p, 0), p += 4;
	put_le32(p, PLACE(0x10)), p += 4;
	put_le32(p, PLACE(0x20)), p += 4;
	put_le32(p, 0), p += 4;
	if (negated) {
		put_le32(p, PLACE(0x40)), p += 4;
		put_le32(p, 0), p += 4;
	}
	put_le32(p, PLACE(0x30)), p += 4;
	if (extra)
		put_le32(p, extra), p += 4;
	e.len = (size_t)(p - e.b);
	return e;
}

/* Boots e in a bzImage. Returns the distance by which the first relocated place moved. */
static uint64_t moved(struct blob e, const char *cmdline, bool negated)
{
	struct fake_guest g;
	uint64_t delta;
	uint8_t *data;

	fake_guest_init(&g, 16, fake_bzimage(fake_pack(e, UNPACK_ZSTD), (uint32_t)e.len));
	g.req.cmdline = cmdline;
	cr_assert_eq(fake_guest_boot(&g), 0, "%s", g.err.text);
	data = mem_slice(&g.mem, gpa(FAKE_KERNEL_AT), 0x1000);
	delta = get_le64(data + 0x10) - 0xffffffff80200123;
	cr_assert_eq(get_le64(data + 0x20) - 0xffffffff80200456, delta);
	cr_assert_eq(get_le32(data + 0x30) - 0x80200789, (uint32_t)delta);
	cr_assert_eq(get_le32(data + 0x40) - (negated ? 0x7ff00000 : get_le32(data + 0x40)),
		     negated ? -(uint32_t)delta : 0);
	cr_assert_eq(delta % 0x200000, 0);
	cr_assert_lt(delta, 1 << 30);
	/* KASLR_FLAG tells the kernel. */
	if (delta)
		cr_assert_eq(*(uint8_t *)mem_slice(&g.mem, gpa(g.info.regs.x86.rsi + 0x211), 1), 3);
	fake_guest_clear(&g);
	return delta;
}

Test(boot_cache, kaslr)
{
	for (int negated = 0; negated < 2; negated++) {
		struct blob e = with_relocations(negated, 0);
		unsigned n = 0;

		for (unsigned i = 0; i < 20; i++)
			n += moved(e, "quiet", negated) != 0;
		cr_assert_gt(n, 10, "of 512 places, it seldom draws the first");
		cr_assert_eq(moved(e, "nokaslr", negated), 0);
		cr_assert_eq(moved(e, "quiet nokaslr x", negated), 0);
	}
}

/* One impossible place makes the whole list invalid. */
Test(boot_cache, kaslr_damaged)
{
	static const uint32_t bad[] = {
		1, 0x7fffffff, 0x80000000, PLACE(0) - 1, PLACE(0x100000), PLACE(0xffff9), 0xffffffff
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(moved(with_relocations(true, bad[i]), "quiet", false), 0, "%#x",
			     bad[i]);
	for (unsigned cut = 1; cut < 20; cut++) {
		struct blob e = with_relocations(true, 0);

		e.len -= cut;
		cr_assert_eq(moved(e, "quiet", false), 0, "%u", cut);
	}
}
