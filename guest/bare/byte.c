/*
 * byte: writes '!' to the serial port as its first instructions, and halts: the least that a guest can
 * do. The benchmark of many VMs starts it. The instructions have the same encoding in 32-bit and 64-bit
 * mode.
 */
#include "guest/bare/lib/rt.h"

#define ALL "mov $0x3f8, %dx; mov $'!', %al; out %al, %dx; 1: cli; hlt; jmp 1b;"
__asm__(".section .text.entry, \"ax\"\n"
	".globl _start, _start32\n"
	".code64\n_start: " ALL ".code32\n_start32: " ALL ".code64\n.text");

void main(void)
{
}
