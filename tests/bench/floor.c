/*
 * floor: makes only the KVM calls that bantam's board needs for one vCPU.
 *
 * Start-up times are compared with this program: no monitor with a split
 * irqchip, one memslot and one vCPU in long mode can start a guest faster than
 * these calls. The guest's first instructions write '!' to port 0x3f8.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(x)                                                                                   \
	({                                                                                         \
		long r_ = (long)(x);                                                               \
		if (r_ < 0)                                                                        \
			_exit(__LINE__ & 0x7f);                                                    \
		r_;                                                                                \
	})
#define GUEST_CODE 0x100000u
#define PAGE_TABLES 0x9000u

static const uint8_t code[] = { 0x66, 0xba, 0xf8, 0x03, 0xb0, '!', 0xee, 0xf4 };
static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[256];
} cpuid;

int main(int argc, char **argv)
{
	uint64_t mem_bytes = (argc > 1 ? strtoull(argv[1], NULL, 0) : 128) << 20;
	int kvm = CHECK(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return 1;
	int vm = CHECK(ioctl(kvm, KVM_CREATE_VM, 0));
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	CHECK(ioctl(vm, KVM_ENABLE_CAP, &split));
	uint8_t *ram = mmap(NULL, mem_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED)
		return 1;
	struct kvm_userspace_memory_region slot = { .memory_size = mem_bytes,
						    .userspace_addr = (uintptr_t)ram };
	CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));

	/* The guest: its code, and 1 GiB mapped one to one by 2 MiB pages. */
	memcpy(ram + GUEST_CODE, code, sizeof(code));
	uint64_t *table = (uint64_t *)(ram + PAGE_TABLES);
	table[0] = (PAGE_TABLES + 0x1000) | 3;
	table[512] = (PAGE_TABLES + 0x2000) | 3;
	for (uint64_t i = 0; i < 512; i++)
		table[1024 + i] = i << 21 | 0x83;

	int vcpu = CHECK(ioctl(vm, KVM_CREATE_VCPU, 0));
	size_t run_bytes = CHECK(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	struct kvm_run *run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	cpuid.head.nent = 256;
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
	CHECK(ioctl(vcpu, KVM_SET_CPUID2, &cpuid));

	struct kvm_sregs s;
	CHECK(ioctl(vcpu, KVM_GET_SREGS, &s));
	s.cs = (struct kvm_segment){
		.limit = ~0u, .selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	s.ds = s.es = s.ss = (struct kvm_segment){
		.limit = ~0u, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	s.cr3 = PAGE_TABLES;
	s.cr4 |= 0x20;	    /* PAE */
	s.cr0 = 0x80000011; /* PG, ET, PE */
	s.efer = 0x500;	    /* LME, LMA */
	CHECK(ioctl(vcpu, KVM_SET_SREGS, &s));
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
	CHECK(ioctl(vcpu, KVM_SET_REGS, &regs));

	CHECK(ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x3f8)
		return 1;
	CHECK(write(1, (uint8_t *)run + run->io.data_offset, 1));
	_exit(0);
}
