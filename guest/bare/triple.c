/* triple: faults without an IDT, so the CPU shuts down. */
#include "guest/bare/lib/rt.h"

void main(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" ::"m"(none));
}
