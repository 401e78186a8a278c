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
	int fd; /* of shared memory (region n begins at offset host - map); else -1 or 0 */
};

/*
 * How the host holds the memory. All zero: private, and transparent huge pages where they fit but for the
 * first 16 MiB.
 */
struct mem_options {
	bool shared; /* a sealed memfd that another process (a vhost-user daemon) can map: mem->fd */
	bool huge_pages;	  /* from the host's pool (hugetlbfs), as a sealed memfd too */
	uint64_t huge_page_bytes; /* a power of two; 0: the host's default size */
	bool prefault;		  /* all pages are there when mem_create returns */
	bool mergeable;		  /* let the host merge equal pages (KSM); only private memory */
	bool no_thp;		  /* no transparent huge pages */
	bool all_thp;		  /* also in the first 16 MiB, which have none otherwise */
};

/*
 * Map total_bytes (a multiple of 4 KiB) of zeroed guest memory: up to hole_start below the hole,
 * the rest from hole_end up. The caller destroys it with mem_destroy, which accepts a zeroed
 * object. Huge pages are reserved: if the pool has too few, this fails, and no later access does.
 * Logs a warning if mergeable has no effect.
 */
int mem_create_as(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		  const struct mem_options *options, struct err *err);
/* The same without options. */
int mem_create(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
	       struct err *err);
/* The same, shared. */
int mem_create_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start, uint64_t hole_end,
		      struct err *err);
/*
 * The same with transparent huge pages, as mem_create's memory has them: a huge_file, which cannot
 * be sealed. So mem->fd is only for bantam's own helpers, which are confined and cannot truncate it
 * (ftruncate, fallocate), never for another project's daemon. A helper that maps it asks for huge
 * pages itself (MADV_HUGEPAGE). Of the options, only prefault, mergeable and all_thp count. Returns -errno
 * without a message if this host cannot do it: create other memory.
 */
int mem_create_huge_shared(struct mem *mem, uint64_t total_bytes, uint64_t hole_start,
			   uint64_t hole_end, const struct mem_options *options);
void mem_destroy(struct mem *mem);

/* For tests and special pages: add memory that the caller owns. */
int mem_add(struct mem *mem, gpa_t base, uint64_t len_bytes, void *host);

/*
 * Returns the host address of base, and in *run_bytes how many bytes from there lie in the same
 * region; NULL if no memory is there. Inline: every descriptor of every queue passes here, and
 * there are only one or two regions.
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
 * Returns the host address of [base, base + len), or NULL if len is 0 or any byte lies outside one
 * region (a slice never spans two).
 */
static inline void *mem_slice(const struct mem *mem, gpa_t base, uint64_t len_bytes)
{
	uint64_t run_bytes;
	void *host = mem_find(mem, base, &run_bytes);

	return host && len_bytes && len_bytes <= run_bytes ? host : NULL;
}

/* Returns how many bytes from base on lie in the same region; 0: no memory there. */
static inline uint64_t mem_run(const struct mem *mem, gpa_t base)
{
	uint64_t run_bytes;

	return mem_find(mem, base, &run_bytes) ? run_bytes : 0;
}

/* Copy. Returns false (and copies nothing) if the range is not wholly in one region. */
bool mem_write(const struct mem *mem, gpa_t base, const void *src, size_t len_bytes);

/*
 * Give the memory back to the host; the guest reads zeroes there from now on. Only whole host pages
 * go; the bytes around them stay. Returns false (and does nothing) if the range is not wholly in
 * one region, if mem_create did not make the memory, or if the host refuses.
 */
bool mem_discard(const struct mem *mem, gpa_t base, uint64_t len_bytes);
/* The same for a slice. */
bool mem_discard_host(const struct mem *mem, void *host, uint64_t len_bytes);

#endif
