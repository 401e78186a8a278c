/* probe for x86_64: see vmm/arch/probe.h. */
#include "vmm/arch/probe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/arch/arch.h"

#include "vmm/core/clock.h"

/*
 * The guest's 64 KiB, mapped one to one. A write to port 0x10 means that a snippet
 * ended; a write to port 0x11 means an exception, whose number (0 … 31) is in AL.
 */
#define MEM_BYTES 0x10000u
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define IDT 0x4000u
#define GDT 0x5000u
#define STUBS 0x6000u
#define CODE 0x7000u
#define DATA 0x8000u
#define STACK 0xf000u

#define PORT_DONE 0x10
#define PORT_TRAP 0x11
#define STUB_BYTES 8
#define VECTOR_BP 3

#define CPUID_MAX 256
#define LEAF1_ECX_CX16 (1u << 13)
#define LEAF1_ECX_XSAVE (1u << 26)
#define CR4_PAE (1ull << 5)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_OSXSAVE (1ull << 18)

/* Below this, a distribution kernel takes minutes to boot; the slowest real KVM is far above. */
#define MIN_MIPS 10.0
#define SPEED_LOOPS 1000u
/* A second opinion on a processor that seems slow: a busy or emulated host makes the short one look so. */
#define MORE_LOOPS 20000u

struct guest {
	struct kvm kvm; /* dev_fd is borrowed */
	uint8_t *ram;
	int vcpu;
	struct kvm_run *run;
	int run_bytes;
	struct kvm_cpuid2 *cpuid;
	uint32_t leaf1_ecx;
	uint64_t create_us;
};

struct snippet {
	const char *name;
	const char *code;
	unsigned len_bytes;
	int trap;	/* the exception that the code must cause, or -1 */
	uint32_t needs; /* kernels use the instruction only with these bits of CPUID 1 ECX */
};

#define CODE_BYTES(s) s, sizeof(s) - 1

/* RDI = DATA, 64-byte aligned; ECX, EDX, EAX = 0 at entry. */
static const struct snippet snippets[] = {
	{ "cmpxchg16b", CODE_BYTES("\xf0\x48\x0f\xc7\x0f"), -1, LEAF1_ECX_CX16 },
	{ "int3", CODE_BYTES("\xcc"), VECTOR_BP, 0 },
	{ "xgetbv", CODE_BYTES("\x0f\x01\xd0"), -1, LEAF1_ECX_XSAVE },
	/* mov $3,%eax; xsave (%rdi); xrstor (%rdi) */
	{ "xsave", CODE_BYTES("\xb8\x03\x00\x00\x00\x0f\xae\x27"), -1, LEAF1_ECX_XSAVE },
	{ "xrstor", CODE_BYTES("\xb8\x03\x00\x00\x00\x0f\xae\x2f"), -1, LEAF1_ECX_XSAVE },
	{ "fxsave", CODE_BYTES("\x0f\xae\x07"), -1, 0 },
	/* movl $0x1f80,(%rdi); ldmxcsr (%rdi) */
	{ "ldmxcsr", CODE_BYTES("\xc7\x07\x80\x1f\x00\x00\x0f\xae\x17"), -1, 0 },
	{ "swapgs", CODE_BYTES("\x0f\x01\xf8"), -1, 0 },
	{ "fninit", CODE_BYTES("\xdb\xe3"), -1, 0 },
};

static struct kvm_segment flat(uint16_t selector, bool code)
{
	return (struct kvm_segment){ .limit = 0xffffffff,
				     .selector = selector,
				     .type = code ? 11 : 3,
				     .present = 1,
				     .s = 1,
				     .l = code,
				     .db = !code,
				     .g = 1 };
}

static void fill_memory(uint8_t *ram)
{
	uint64_t *pml4 = (uint64_t *)(ram + PML4), *pdpt = (uint64_t *)(ram + PDPT);
	uint64_t *pd = (uint64_t *)(ram + PD), *idt = (uint64_t *)(ram + IDT);
	uint64_t *gdt = (uint64_t *)(ram + GDT);

	pml4[0] = PDPT | 3;
	pdpt[0] = PD | 3;
	pd[0] = 0x83; /* one 2 MiB page */
	gdt[2] = 0x00af9a000000ffffull;
	gdt[3] = 0x00cf92000000ffffull;
	for (unsigned v = 0; v < 32; v++) {
		/* mov $v, %al; out %al, $PORT_TRAP; hlt */
		const uint8_t stub[] = { 0xb0, (uint8_t)v, 0xe6, PORT_TRAP, 0xf4 };
		uint64_t at = STUBS + v * STUB_BYTES;

		memcpy(ram + at, stub, sizeof(stub));
		idt[2 * v] = at | 0x10ull << 16 | 0x8e00ull << 32;
	}
}

static int set_cpuid(struct guest *g, struct err *err)
{
	int rc;

	g->cpuid = calloc(1, sizeof(*g->cpuid) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
	if (!g->cpuid)
		return err_sys(err, ENOMEM, "CPUID table");
	g->cpuid->nent = CPUID_MAX;
	rc = kvm_ioctl(g->kvm.dev_fd, KVM_GET_SUPPORTED_CPUID, g->cpuid);
	if (!rc)
		rc = kvm_ioctl(g->vcpu, KVM_SET_CPUID2, g->cpuid);
	for (unsigned i = 0; i < g->cpuid->nent; i++)
		if (g->cpuid->entries[i].function == 1)
			g->leaf1_ecx = g->cpuid->entries[i].ecx;
	return rc < 0 ? err_sys(err, -rc, "KVM: cannot set CPUID") : 0;
}

static int set_registers(struct guest *g)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = CODE, .rsp = STACK, .rflags = 2, .rdi = DATA };
	int rc = kvm_ioctl(g->vcpu, KVM_GET_SREGS, &s);

	if (rc)
		return rc;
	s.cs = flat(0x10, true);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(0x18, false);
	s.idt = (struct kvm_dtable){ .base = IDT, .limit = 32 * 16 - 1 };
	s.gdt = (struct kvm_dtable){ .base = GDT, .limit = 0x1f };
	s.cr3 = PML4;
	s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT |
		(g->leaf1_ecx & LEAF1_ECX_XSAVE ? CR4_OSXSAVE : 0);
	s.cr0 = 0x80010033; /* PG, WP, NE, ET, MP, PE */
	s.efer = 0x500;	    /* LMA, LME */
	rc = kvm_ioctl(g->vcpu, KVM_SET_SREGS, &s);
	return rc ? rc : kvm_ioctl(g->vcpu, KVM_SET_REGS, &r);
}

/*
 * Runs a snippet. Returns true if the guest reached its end or, with trap, caused that exception;
 * false means that KVM refuses the code.
 */
static bool run(struct guest *g, const char *code, unsigned len_bytes, int trap)
{
	static const uint8_t end[] = { 0xe6, PORT_DONE, 0xf4 };
	const uint8_t *data = (const uint8_t *)g->run;

	memcpy(g->ram + CODE, code, len_bytes);
	memcpy(g->ram + CODE + len_bytes, end, sizeof(end));
	memset(g->ram + DATA, 0, 0x1000);
	if (set_registers(g) || kvm_ioctl(g->vcpu, KVM_RUN, NULL) < 0 ||
	    g->run->exit_reason != KVM_EXIT_IO)
		return false;
	if (trap < 0)
		return g->run->io.port == PORT_DONE;
	return g->run->io.port == PORT_TRAP && data[g->run->io.data_offset] == trap;
}

/* Measures a counting loop: the best of three runs, less the best of three without it. */
static double measure_mips(struct guest *g, uint32_t loops)
{
	/* mov $n, %ecx; 1: dec %ecx; jnz 1b */
	char loop[] = "\xb9\x00\x00\x00\x00\xff\xc9\x75\xfc";
	const uint32_t counts[2] = { 1, loops };
	double best[2] = { 1e9, 1e9 };

	for (unsigned round = 0; round < 6; round++) {
		double begin, took;

		memcpy(loop + 1, &counts[round & 1], 4);
		begin = clock_now_s();
		if (!run(g, loop, sizeof(loop) - 1, -1))
			return 0;
		took = clock_now_s() - begin;
		if (took < best[round & 1])
			best[round & 1] = took;
	}
	if (best[1] - best[0] < 1e-7) /* too short to measure: far faster than any interpreter */
		return 2.0 * loops / 1e-7 / 1e6;
	return 2.0 * loops / (best[1] - best[0]) / 1e6;
}

static void guest_destroy(struct guest *g)
{
	if (g->run)
		munmap(g->run, (size_t)g->run_bytes);
	if (g->vcpu >= 0)
		close(g->vcpu);
	if (g->kvm.vm_fd >= 0)
		close(g->kvm.vm_fd);
	if (g->ram)
		munmap(g->ram, MEM_BYTES);
	free(g->cpuid);
}

static int guest_create(struct guest *g, const struct kvm *kvm, struct err *err)
{
	double begin;
	int rc;

	*g = (struct guest){ .kvm = { kvm->dev_fd, -1 }, .vcpu = -1 };
	g->ram = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->ram == MAP_FAILED) {
		g->ram = NULL;
		return err_sys(err, ENOMEM, "memory for the probe's guest");
	}
	fill_memory(g->ram);
	begin = clock_now_s();
	rc = kvm_create_vm(&g->kvm, err);
	if (!rc)
		rc = arch_create_irqchip(&g->kvm, false, err);
	g->create_us = (uint64_t)((clock_now_s() - begin) * 1e6);
	if (!rc)
		rc = kvm_set_memory(&g->kvm, 0, 0, MEM_BYTES, g->ram, err);
	if (!rc)
		rc = g->run_bytes = kvm_create_vcpu(&g->kvm, 0, &g->vcpu, &g->run, err);
	return rc < 0 ? rc : set_cpuid(g, err);
}

int probe_run(const struct kvm *kvm, struct probe *out, struct err *err)
{
	struct guest g;
	size_t n = 0;
	int rc = guest_create(&g, kvm, err);

	*out = (struct probe){ 0 };
	if (rc < 0)
		goto done;
	for (unsigned i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++) {
		const struct snippet *s = &snippets[i];

		if ((g.leaf1_ecx & s->needs) != s->needs ||
		    run(&g, s->code, s->len_bytes, s->trap) || n >= sizeof(out->refused))
			continue;
		n += (size_t)snprintf(out->refused + n, sizeof(out->refused) - n, "%s%s",
				      n ? ", " : "", s->name);
	}
	out->create_us = g.create_us;
	out->mips = measure_mips(&g, SPEED_LOOPS);
	if (!n && out->mips < MIN_MIPS)
		out->mips = measure_mips(&g, MORE_LOOPS);
	out->interpreted = out->mips < MIN_MIPS;
	out->stock_kernels = n == 0 && !out->interpreted;
done:
	guest_destroy(&g);
	return rc < 0 ? rc : 0;
}
