/* kernel_image: see kernel_image.h. */
#include "boot/kernel_image.h"

#include <string.h>
#include <sys/mman.h>

/* Mapped, not from the heap: it is about a megabyte and needed for a few milliseconds. */
bool kernel_image_alloc_tail(struct kernel_image *image, uint64_t tail_bytes)
{
	void *p = mmap(NULL, tail_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		return false;
	image->tail = p;
	image->tail_bytes = tail_bytes;
	return true;
}

void kernel_image_clear(struct kernel_image *image)
{
	if (image->tail)
		munmap(image->tail, image->tail_bytes);
	memset(image, 0, sizeof(*image));
}
