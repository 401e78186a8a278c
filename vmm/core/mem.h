/*
 * mem: guest physical memory.
 *
 * A guest address is a gpa_t and cannot be dereferenced; only this module
 * turns one into a host slice, checked against the regions. Regions never
 * overlap, are sorted by gpa and never change once the vCPUs run, so every
 * function may be called from any thread without a lock. The guest changes the
 * bytes at any time: copy what you check, then use the copy.
 */
#ifndef BANTAM_MEM_H
#define BANTAM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

struct mem_region {
	gpa_t base;
	uint64_t len_bytes;
	uint8_t *host;
};

#define MEM_MAX_REGIONS 8

struct mem {
	struct mem_region region[MEM_MAX_REGIONS];
	unsigned nregions;
	uint64_t total_bytes;
	uint8_t *map; /* the one mapping that all created regions share */
	uint64_t map_bytes;
	int fd; /* of shared memory (region n begins at host - map); else -1 or 0 */
};

/*
 * Map total_bytes (a multiple of 4 KiB) of zeroed guest memory: up to
 * hole_start below, the rest from hole_end up. Owner: destroys with
 * mem_destroy, which accepts a zeroed object.
 */
int mem_create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
	       struct err *err);
/* The same, as a memfd that another process (a vhost-user daemon) can map: mem->fd. */
int mem_create_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		      struct err *err);
/*
 * The same, and shared memory has huge pages as mem_create's has: a huge_file, which cannot be
 * sealed. So mem->fd is only for helpers of ours that are confined and cannot cut it (ftruncate,
 * fallocate), never for a daemon of others. Who maps it asks for huge pages himself (MADV_HUGEPAGE).
 * -errno without a message: not on this host; take other memory.
 */
int mem_create_huge_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start,
			   uint64_t hole_end);
void mem_destroy(struct mem *mem);

/* For tests and special pages: add memory that the caller owns. */
int mem_add(struct mem *mem, gpa_t base, uint64_t len_bytes, void *host);

/*
 * The host bytes from base on, and how many of them lie in the same region; NULL: no memory
 * there. Inline: every descriptor of every queue comes by here, and there are one or two regions.
 */
static inline void *mem_find(const struct mem *mem, gpa_t base, uint64_t *run_bytes)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];
		uint64_t off = base.v - r->base.v;

		if (off < r->len_bytes) {
			*run_bytes = r->len_bytes - off;
			return r->host + off;
		}
	}
	return NULL;
}

/*
 * The host bytes of [base, base + len). NULL if any byte lies outside one
 * region (a slice never spans two). len 0 is NULL.
 */
static inline void *mem_slice(const struct mem *mem, gpa_t base, uint64_t len_bytes)
{
	uint64_t run_bytes;
	void *host = mem_find(mem, base, &run_bytes);

	return host && len_bytes && len_bytes <= run_bytes ? host : NULL;
}

/* How many bytes from base on lie in the same region (0: none). */
static inline uint64_t mem_run(const struct mem *mem, gpa_t base)
{
	uint64_t run_bytes;

	return mem_find(mem, base, &run_bytes) ? run_bytes : 0;
}

/* Copy; false (and nothing copied) if the range is not wholly in one region. */
bool mem_write(const struct mem *mem, gpa_t base, const void *src, size_t len_bytes);

/*
 * Give the memory back to the host; the guest finds zeroes there from now on. Whole host pages
 * only, what lies around them stays. False (and nothing done): not wholly in one region, or memory
 * that mem_create did not make.
 */
bool mem_discard(const struct mem *mem, gpa_t base, uint64_t len_bytes);
/* The same of a slice. */
bool mem_discard_host(const struct mem *mem, void *host, uint64_t len_bytes);

#endif
