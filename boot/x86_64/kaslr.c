/*
 * kaslr: see bzimage.h.
 *
 * Theory of operation: a bzImage's payload is an ELF followed by a list of the
 * places that hold the kernel's virtual addresses (the kernel's build calls it
 * vmlinux.relocs; arch/x86/boot/compressed/misc.c reads it). Read backwards
 * from the end, as 32-bit words: places of 32-bit values, a zero, (up to Linux
 * 6.14) places of negated 32-bit values, a zero, places of 64-bit values, a
 * zero. Each word is a virtual address, cut to 32 bits. Adding one distance to
 * all values moves the kernel in its 1 GiB of address space. The physical address
 * does not matter: startup_64 finds it out by itself.
 *
 * Nothing marks the list, so all of it is checked before the first change. If any
 * word is wrong, nothing is changed and the kernel runs where it was linked.
 */
#include <string.h>
#include <sys/random.h>

#include "boot/x86_64/bzimage.h"
#include "vmm/core/bytes.h"
#include "vmm/core/log.h"

#define START_KERNEL_MAP 0x80000000u   /* the low half of 0xffffffff80000000 */
#define KERNEL_IMAGE_SIZE (1ull << 30) /* with CONFIG_RANDOMIZE_BASE */

#define LOADFLAGS (0x211 - SETUP_HEADER)
#define KERNEL_ALIGNMENT (0x230 - SETUP_HEADER)
#define KASLR_FLAG 2u

/* The words [first, end) of the tail. */
struct list {
	const uint8_t *first, *end;
};

static size_t count(const struct list *l)
{
	return (size_t)(l->end - l->first) / 4;
}

/* The guest memory that relocations may change. */
struct window {
	uint8_t *host;
	uint64_t base, len_bytes;
};

/* Returns the host address of a place (a word of the list), or NULL if outside the window. */
static uint8_t *place(const struct window *w, uint32_t word, unsigned width)
{
	uint64_t paddr = word - START_KERNEL_MAP;

	if (word < START_KERNEL_MAP || paddr < w->base || paddr - w->base > w->len_bytes - width)
		return NULL;
	return w->host + (paddr - w->base);
}

/*
 * Takes the list that ends at *end, and moves *end to before that list's zero. Returns false if
 * there is no valid list.
 */
static bool take(const uint8_t *begin, const uint8_t **end, const struct window *w, struct list *l)
{
	const uint8_t *p = *end;

	l->end = p;
	while (p - begin >= 4 && get_le32(p - 4)) {
		p -= 4;
		if (!place(w, get_le32(p), 8))
			return false;
	}
	if (p - begin < 4)
		return false;
	l->first = p;
	*end = p - 4;
	return true;
}

/* Returns true if most places hold 64-bit kernel addresses. */
static bool is_64(const struct list *l, const struct window *w)
{
	size_t n = 0;

	for (const uint8_t *p = l->first; p < l->end; p += 4)
		n += get_le32(place(w, get_le32(p), 8) + 4) == UINT32_MAX;
	return n && n >= count(l) / 2;
}

/* Returns true if most places hold 32-bit kernel addresses, which are in the upper half. */
static bool is_32(const struct list *l, const struct window *w)
{
	size_t n = 0;

	for (const uint8_t *p = l->first; p < l->end; p += 4)
		n += get_le32(place(w, get_le32(p), 4)) >= START_KERNEL_MAP;
	return n && n >= count(l) / 2;
}

static bool has_word(const char *cmdline, const char *word)
{
	size_t len = strlen(word);

	for (const char *c = cmdline; (c = strstr(c, word)); c += len)
		if ((c == cmdline || c[-1] == ' ') && (!c[len] || c[len] == ' '))
			return true;
	return false;
}

static void apply(const struct window *w, const struct list *l, unsigned width, uint64_t delta)
{
	for (const uint8_t *p = l->first; p < l->end; p += 4) {
		uint8_t *at = place(w, get_le32(p), width);

		if (width == 8)
			put_le64(at, get_le64(at) + delta);
		else
			put_le32(at, get_le32(at) + (uint32_t)delta);
	}
}

/*
 * Returns a random multiple of the alignment that keeps the image in its address space, or 0 if
 * there is no such multiple.
 */
static uint64_t choose(const struct kernel *k)
{
	uint64_t align = get_le32(k->header + KERNEL_ALIGNMENT), slots, random;

	if (!align || k->end > KERNEL_IMAGE_SIZE)
		return 0;
	slots = (KERNEL_IMAGE_SIZE - k->end) / align + 1;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return 0;
	return random % slots * align;
}

void kaslr_apply(struct mem *mem, const struct kernel_image *image, const char *cmdline,
		 struct kernel *k)
{
	struct list narrow, second, third = { 0 }, negated = { 0 }, wide;
	const uint8_t *begin, *end;
	struct window w = { mem_slice(mem, gpa(k->base), k->end - k->base), k->base,
			    k->end - k->base };
	uint64_t delta;

	/* The PVH entry runs on physical addresses that the relocations would move too. */
	if (!image->tail || k->entry != BOOT_ENTRY_LINUX64 || has_word(cmdline, "nokaslr") ||
	    !w.host || w.len_bytes < 8)
		return;
	begin = image->tail;
	end = begin + image->tail_bytes;
	if (!take(begin, &end, &w, &narrow) || !take(begin, &end, &w, &second) ||
	    !is_32(&narrow, &w)) {
		log_put(LOG_INFO, "kernel: no relocations; it runs without KASLR");
		return;
	}
	if (!is_64(&second, &w) && take(begin, &end, &w, &third) && is_64(&third, &w)) {
		negated = second;
		wide = third;
	} else if (is_64(&second, &w)) {
		wide = second;
	} else {
		log_put(LOG_INFO, "kernel: unknown relocations; it runs without KASLR");
		return;
	}
	delta = choose(k);
	apply(&w, &narrow, 4, delta);
	apply(&w, &negated, 4, -delta);
	apply(&w, &wide, 8, delta);
	k->header[LOADFLAGS] |= KASLR_FLAG;
	log_put(LOG_DEBUG, "kernel: KASLR moves it by %#llx", (unsigned long long)delta);
}
