/*
 * hello: the guest's very first instructions write '!' to the serial port; the
 * start-up benchmark waits for that byte. The instructions have the same encoding in
 * 32-bit and 64-bit mode, so both entries begin with them.
 */
#include "guest/bare/lib/rt.h"

#define FIRST "mov $0x3f8, %dx; mov $'!', %al; out %al, %dx;"
__asm__(".section .text.entry, \"ax\"\n"
	".globl _start, _start32\n"
	".code64\n_start: " FIRST " jmp start64_common\n"
	".code32\n_start32: " FIRST " jmp start32_common\n"
	".code64\n.text");

void main(void)
{
	rt_print("hello from %s, command line: %s\n", boot_kind == 1 ? "linux64" : "PVH",
		 boot_cmdline);
	ok(true, "hello");
}
