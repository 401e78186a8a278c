/*
 * start: enters main() in long mode, from either boot protocol.
 *
 * _start is the Linux 64-bit entry (long mode, RSI = boot_params), _start32 the
 * PVH entry (32-bit protected mode, EBX = hvm_start_info); both are weak, so
 * that a guest may begin with its own instructions and jump to
 * start64_common or start32_common. From there the guest runs on its own
 * stack, GDT, IDT and page tables, which map the first 4 GiB one to one.
 *
 * This file uses only instructions that the simplest software KVM executes at CPL0.
 */
	.section .note.pvh, "a"
	.align 4
	.long 4, 4, 18			/* "Xen", 4 bytes, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start32

	.section .text.entry, "ax"
	.code64
	.weak _start
	.globl start64_common
_start:
start64_common:
	cli
	movq $1, boot_kind
	movq %rsi, boot_ptr
	movq $page_pml4, %rax
	movq %rax, %cr3
	lgdt gdt_pointer
	movq $boot_stack_top, %rsp
	pushq $0x10
	leaq start_c(%rip), %rax
	pushq %rax
	lretq

	.code32
	.weak _start32
	.globl start32_common
_start32:
start32_common:
	cli
	movl $2, boot_kind
	movl %ebx, boot_ptr
	movl $page_pml4, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $0xc0000080, %ecx		/* EFER */
	rdmsr
	orl $0x100, %eax		/* LME */
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax		/* PG, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $0x10, $start_c

	.code64
start_c:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movq $boot_stack_top, %rsp
	xorl %ebp, %ebp
	call rt_start
1:	hlt
	jmp 1b

/* --- exceptions and interrupts: vectors 0 … 0x5f ------------------------- */
	.text
	.globl trap_stubs
	.align 16
trap_stubs:
	.set vector, 0
	.rept 0x60
	.align 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17)
	.else
	pushq $0			/* in place of the error code that the CPU does not push */
	.endif
	pushq $vector
	jmp trap_entry
	.set vector, vector + 1
	.endr

trap_entry:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	call trap_dispatch
	movq %rbx, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/* --- application processors: copied below 1 MiB, entered in real mode ---- */
	.globl ap_begin, ap_end
	.code16
ap_begin:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl (ap_gdt_pointer - ap_begin)
	movl $0x20, %eax
	movl %eax, %cr4
	movl $page_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	andl $0x9fffffff, %eax		/* caches on */
	orl $0x80000001, %eax
	movl %eax, %cr0
	ljmpl $0x10, $ap_long
	.align 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_end:

	.code64
ap_long:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $1, %eax
	lock xaddl %eax, ap_ticket
	incl %eax
	shll $12, %eax			/* 4 KiB of stack each */
	leaq ap_stacks(%rax), %rsp
	xorl %ebp, %ebp
	call rt_ap_start
1:	hlt
	jmp 1b

/* --- tables ---------------------------------------------------------------- */
	.data
	.align 4096
	.globl page_pml4, page_pdpt, page_pd
page_pml4:
	.quad page_pdpt + 7
	.fill 511, 8, 0
page_pdpt:
	.quad page_pd + 7
	.quad page_pd + 0x1000 + 7
	.quad page_pd + 0x2000 + 7
	.quad page_pd + 0x3000 + 7
	.fill 508, 8, 0
page_pd:
	.set frame, 0
	.rept 2048
	.quad frame + 0x83		/* present, writable, 2 MiB; CPL0 only */
	.set frame, frame + 0x200000
	.endr

	.align 16
	.globl gdt, tss_descriptor
gdt:
	.quad 0, 0
	.quad 0x00af9a000000ffff	/* 0x10: 64-bit code */
	.quad 0x00cf92000000ffff	/* 0x18: data */
tss_descriptor:
	.quad 0, 0			/* 0x20: filled by rt_start */
	.quad 0x00cff2000000ffff	/* 0x30: data, CPL3 */
	.quad 0x00affa000000ffff	/* 0x38: 64-bit code, CPL3 */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.globl boot_kind, boot_ptr
	.align 8
boot_kind:
	.quad 0
boot_ptr:
	.quad 0

	.bss
	.align 4096
	.globl ap_ticket
	.skip 16384
boot_stack_top:
ap_ticket:
	.skip 4096
ap_stacks:
	.skip 4096 * 256

	.section .note.GNU-stack, "", @progbits
