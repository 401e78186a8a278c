/* mem: see mem.h. */
#include "vmm/core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/core/huge_file.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define HUGE_BYTES (2ull << 20)

/* Map at a multiple of 2 MiB: otherwise KVM can never map guest memory with huge pages. */
static void *map_aligned(uint64_t len_bytes, int fd)
{
	int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_NORESERVE;
	uint64_t head, more = len_bytes + HUGE_BYTES;
	uint8_t *map = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (map == MAP_FAILED || len_bytes < HUGE_BYTES || !((uintptr_t)map % HUGE_BYTES))
		return map;
	munmap(map, len_bytes);
	map = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return map;
	head = -(uintptr_t)map % HUGE_BYTES;
	if (head)
		munmap(map, head);
	munmap(map + head + len_bytes, HUGE_BYTES - head);
	return mmap(map + head, len_bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
}

static int create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		  struct err *err)
{
	uint64_t low = total_bytes < hole_start ? total_bytes : hole_start;

	BUG_ON(!total_bytes || total_bytes % 4096 || hole_end < hole_start);
	mem->map = map_aligned(total_bytes, mem->fd);
	if (mem->map == MAP_FAILED) {
		int code = errno;

		mem->map = NULL;
		mem_destroy(mem);
		return err_sys(err, code, "--memory %llu MiB: cannot map guest memory",
			       (unsigned long long)(total_bytes >> 20));
	}
	mem->map_bytes = total_bytes;
	/* Each is best effort: a name in /proc/PID/maps, no copy in core dumps, huge pages. */
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, mem->map, total_bytes, "guest-ram");
	madvise(mem->map, total_bytes, MADV_DONTDUMP);
	/*
	 * Not the first 2 MiB: zeroing a huge page for the boot code's few pages delays the start.
	 */
	if (total_bytes > HUGE_BYTES)
		madvise(mem->map + HUGE_BYTES, total_bytes - HUGE_BYTES, MADV_HUGEPAGE);
	mem_add(mem, gpa(0), low, mem->map);
	if (total_bytes > low)
		mem_add(mem, gpa(hole_end), total_bytes - low, mem->map + low);
	return 0;
}

int mem_create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
	       struct err *err)
{
	*mem = (struct mem){ .fd = -1 };
	return create(mem, total_bytes, hole_start, hole_end, err);
}

int mem_create_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		      struct err *err)
{
	/*
	 * Unsealed, another process could truncate it, and our next access would raise SIGBUS.
	 * Punching holes stays possible.
	 */
	static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	*mem = (struct mem){ .fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING) };
	if (mem->fd < 0)
		return err_sys(err, errno, "shared guest memory");
	if (ftruncate(mem->fd, (off_t)total_bytes) || fcntl(mem->fd, F_ADD_SEALS, seals)) {
		int code = errno;

		mem_destroy(mem);
		return err_sys(err, code, "shared guest memory");
	}
	return create(mem, total_bytes, hole_start, hole_end, err);
}

int mem_create_huge_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start,
			   uint64_t hole_end)
{
	int fd = huge_file_create();

	*mem = (struct mem){ .fd = fd };
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)total_bytes)) {
		int code = errno;

		mem_destroy(mem);
		return -code;
	}
	return create(mem, total_bytes, hole_start, hole_end, NULL);
}

void mem_destroy(struct mem *mem)
{
	if (mem->map)
		munmap(mem->map, mem->map_bytes);
	if (mem->fd > 0)
		close(mem->fd);
	memset(mem, 0, sizeof(*mem));
}

int mem_add(struct mem *mem, gpa_t base, uint64_t len_bytes, void *host)
{
	unsigned at = 0;

	if (mem->nregions == MEM_MAX_REGIONS || !len_bytes || base.v + len_bytes < base.v)
		return -EINVAL;
	while (at < mem->nregions && mem->region[at].base.v < base.v)
		at++;
	if (at && mem->region[at - 1].base.v + mem->region[at - 1].len_bytes > base.v)
		return -EEXIST;
	if (at < mem->nregions && base.v + len_bytes > mem->region[at].base.v)
		return -EEXIST;
	memmove(&mem->region[at + 1], &mem->region[at],
		(mem->nregions - at) * sizeof(mem->region[0]));
	mem->region[at] = (struct mem_region){ base, len_bytes, host };
	mem->nregions++;
	mem->total_bytes += len_bytes;
	return 0;
}

bool mem_write(const struct mem *mem, gpa_t base, const void *src, size_t len_bytes)
{
	void *dst = mem_slice(mem, base, len_bytes);

	if (!dst)
		return false;
	memcpy(dst, src, len_bytes);
	return true;
}

bool mem_discard(const struct mem *mem, gpa_t base, uint64_t len_bytes)
{
	void *host = mem_slice(mem, base, len_bytes);

	return host && mem_discard_host(mem, host, len_bytes);
}

bool mem_discard_host(const struct mem *mem, void *host, uint64_t len_bytes)
{
	static const uintptr_t page = 4096;
	uintptr_t at = (uintptr_t)host, start = (uintptr_t)mem->map, end = at + len_bytes;

	if (!start || at < start || len_bytes > mem->map_bytes ||
	    at - start > mem->map_bytes - len_bytes)
		return false;
	at = (at + page - 1) & ~(page - 1);
	end &= ~(page - 1);
	/*
	 * EINVAL with larger host pages: the memory stays, which the guest of a balloon cannot
	 * notice.
	 */
	return at >= end ||
	       !madvise((void *)at, end - at, mem->fd > 0 ? MADV_REMOVE : MADV_DONTNEED);
}
