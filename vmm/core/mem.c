/* mem: see mem.h. */
#include "vmm/core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/core/huge_file.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/core/thread.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_BYTES (2ull << 20)
/* Linux's DMA zone: a stock kernel lies above it, and takes pages from it last. Small guests lie in it. */
#define LOW_BYTES (16ull << 20)

#define PREFAULT_THREADS 16
#define PREFAULT_BYTES (64ull << 20) /* less is not worth a thread */
#define PREFAULT_STACK_BYTES (64u << 10)
/* The kernel holds the address space for a piece, and other threads that map memory wait. */
#define PREFAULT_PIECE_BYTES HUGE_BYTES

/*
 * Map at a multiple of 2 MiB: otherwise KVM can never map guest memory with huge pages. With
 * reserve, pages of the pool are reserved; the kernel itself aligns such a mapping.
 */
static void *map_aligned(uint64_t len_bytes, int fd, bool reserve)
{
	int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) |
		    (reserve ? 0 : MAP_NORESERVE);
	uint64_t head, more = len_bytes + HUGE_BYTES;
	uint8_t *map = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (map == MAP_FAILED || reserve || len_bytes < HUGE_BYTES ||
	    !((uintptr_t)map % HUGE_BYTES))
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

/* --- prefault: the work of one thread, and of all ------------------------------------- */

struct prefault {
	uint8_t *at;
	uint64_t len_bytes, piece_bytes;
	pthread_t thread;
	int rc;
};

static int populate(uint8_t *at, uint64_t len_bytes)
{
	int rc;

	do
		rc = madvise(at, len_bytes, MADV_POPULATE_WRITE);
	while (rc && (errno == EAGAIN || errno == EINTR));
	return rc ? -errno : 0;
}

static void *prefault_main(void *opaque)
{
	struct prefault *p = opaque;

	p->rc = 0;
	for (uint64_t off = 0; off < p->len_bytes && !p->rc; off += p->piece_bytes) {
		uint64_t left = p->len_bytes - off;

		p->rc = populate(p->at + off, left < p->piece_bytes ? left : p->piece_bytes);
	}
	if (p->rc != -EINVAL)
		return NULL;
	/* Linux before 5.14. The memory is fresh: writing zero changes nothing. */
	for (uint64_t off = 0; off < p->len_bytes; off += 4096)
		((volatile uint8_t *)p->at)[off] = 0;
	p->rc = 0;
	return NULL;
}

static unsigned prefault_threads(uint64_t total_bytes)
{
	uint64_t most = total_bytes / PREFAULT_BYTES;
	unsigned cpus = 1;
	cpu_set_t set;

	if (!sched_getaffinity(0, sizeof(set), &set))
		cpus = (unsigned)CPU_COUNT(&set);
	if (cpus > PREFAULT_THREADS)
		cpus = PREFAULT_THREADS;
	return most < 2 || cpus < 2 ? 1 : most < cpus ? (unsigned)most : cpus;
}

/* Zeroing is bound by the host's CPUs, so several work at it; the caller is one of them. */
static int prefault(uint8_t *map, uint64_t total_bytes, uint64_t page_bytes)
{
	unsigned n = prefault_threads(total_bytes), started = 1;
	uint64_t part_bytes = (total_bytes / n + page_bytes - 1) & ~(page_bytes - 1), at = 0;
	struct prefault part[PREFAULT_THREADS];
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t left = total_bytes - at;

		part[i] = (struct prefault){
			.at = map + at,
			.len_bytes = left < part_bytes ? left : part_bytes,
			.piece_bytes = page_bytes < PREFAULT_PIECE_BYTES ? PREFAULT_PIECE_BYTES :
									   page_bytes,
		};
		at += part[i].len_bytes;
	}
	while (started < n && !thread_start(&part[started].thread, THREAD_WORKER, "prefault",
					    PREFAULT_STACK_BYTES, prefault_main, &part[started]))
		started++;
	prefault_main(&part[0]);
	for (unsigned i = started; i < n; i++)
		prefault_main(&part[i]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(part[i].thread, NULL);
	for (unsigned i = 0; i < n && !rc; i++)
		rc = part[i].rc;
	return rc;
}

static void advise(const struct mem *mem, const struct mem_options *o)
{
	/*
	 * No huge pages in low memory, also where the host gives them to all: zeroing one for the few pages of
	 * a boot code or of a small guest delays the start, and costs the host 2 MiB.
	 */
	uint64_t low = o->no_thp ? mem->map_bytes : o->all_thp ? 0 : LOW_BYTES;

	if (low > mem->map_bytes)
		low = mem->map_bytes;
	/* Each is best effort: a name in /proc/PID/maps, no copy in core dumps, huge pages. */
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, mem->map, mem->map_bytes, "guest-ram");
	madvise(mem->map, mem->map_bytes, MADV_DONTDUMP);
	if (!o->huge_pages && low)
		madvise(mem->map, low, MADV_NOHUGEPAGE);
	if (!o->huge_pages && low < mem->map_bytes)
		madvise(mem->map + low, mem->map_bytes - low, MADV_HUGEPAGE);
	if (o->mergeable && mem->fd > 0)
		log_put(LOG_WARN, "memory: mergeable has no effect on %s memory",
			o->huge_pages ? "huge pages'" : "shared");
	else if (o->mergeable && madvise(mem->map, mem->map_bytes, MADV_MERGEABLE))
		log_put(LOG_WARN, "memory: mergeable has no effect: this host's kernel has no KSM");
}

static int create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		  const struct mem_options *o, struct err *err)
{
	uint64_t low = total_bytes < hole_start ? total_bytes : hole_start;
	int rc;

	BUG_ON(!total_bytes || total_bytes % 4096 || hole_end < hole_start);
	mem->map = map_aligned(total_bytes, mem->fd, o->huge_pages);
	if (mem->map == MAP_FAILED) {
		int code = errno;

		mem->map = NULL;
		mem_destroy(mem);
		if (o->huge_pages && code == ENOMEM)
			return huge_file_pool_short(total_bytes, o->huge_page_bytes, err);
		return err_sys(err, code, "--memory %llu MiB: cannot map guest memory",
			       (unsigned long long)(total_bytes >> 20));
	}
	mem->map_bytes = total_bytes;
	advise(mem, o);
	rc = o->prefault ? prefault(mem->map, total_bytes,
				    o->huge_pages ? o->huge_page_bytes : HUGE_BYTES) :
			   0;
	if (rc) {
		mem_destroy(mem);
		return err_sys(err, -rc, "memory: cannot prefault %llu MiB",
			       (unsigned long long)(total_bytes >> 20));
	}
	mem_add(mem, gpa(0), low, mem->map);
	if (total_bytes > low)
		mem_add(mem, gpa(hole_end), total_bytes - low, mem->map + low);
	return 0;
}

/*
 * Opens the memfd of shared memory. Unsealed, another process could truncate it, and our next
 * access would raise SIGBUS. Punching holes stays possible.
 */
static int open_shared(struct mem *mem, uint64_t total_bytes, struct mem_options *o,
		       struct err *err)
{
	static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	char size[32];

	if (!o->huge_pages)
		mem->fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	else
		mem->fd = huge_file_create_pool(&o->huge_page_bytes, err);
	if (mem->fd < 0)
		return o->huge_pages ? mem->fd : err_sys(err, errno, "shared guest memory");
	if (o->huge_pages && total_bytes % o->huge_page_bytes) {
		mem_destroy(mem);
		return err_set(err, EINVAL,
			       "memory: %llu bytes is not a multiple of the huge pages' size, %s",
			       (unsigned long long)total_bytes,
			       parse_size_text(o->huge_page_bytes, size, sizeof(size)));
	}
	if (ftruncate(mem->fd, (off_t)total_bytes) || fcntl(mem->fd, F_ADD_SEALS, seals)) {
		int code = errno;

		mem_destroy(mem);
		return err_sys(err, code, "shared guest memory");
	}
	return 0;
}

int mem_create_as(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		  const struct mem_options *options, struct err *err)
{
	struct mem_options o = *options;
	int rc = 0;

	*mem = (struct mem){ .fd = -1 };
	if (o.shared || o.huge_pages)
		rc = open_shared(mem, total_bytes, &o, err);
	return rc ? rc : create(mem, total_bytes, hole_start, hole_end, &o, err);
}

int mem_create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
	       struct err *err)
{
	return mem_create_as(mem, total_bytes, hole_start, hole_end, &(struct mem_options){ 0 },
			     err);
}

int mem_create_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		      struct err *err)
{
	return mem_create_as(mem, total_bytes, hole_start, hole_end,
			     &(struct mem_options){ .shared = true }, err);
}

int mem_create_huge_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start,
			   uint64_t hole_end, const struct mem_options *options)
{
	const struct mem_options o = { .prefault = options->prefault,
				       .mergeable = options->mergeable,
				       .all_thp = options->all_thp };
	int fd = huge_file_create();

	*mem = (struct mem){ .fd = fd };
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)total_bytes)) {
		int code = errno;

		mem_destroy(mem);
		return -code;
	}
	return create(mem, total_bytes, hole_start, hole_end, &o, NULL);
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
