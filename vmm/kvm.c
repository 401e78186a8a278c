/*
 * kvm: see kvm.h.
 *
 * Theory of operation. What is made ahead belongs to the thread that makes it until that has ended. On a busy host the
 * thread may not have begun when its work is needed: then the builder does that, and the thread finds nothing to do. It
 * has all rights of the process, so the builder goes on to read files only when it has ended.
 */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch/arch.h"
#include "vmm/core/thread.h"

_Static_assert(KVM_VERSION == KVM_API_VERSION, "kvm.h has the API version of <linux/kvm.h>");

const struct kvm_need kvm_needs[] = {
	KVM_NEED(KVM_CAP_USER_MEMORY, true, "guest memory"),
	KVM_NEED(KVM_CAP_IRQFD, true, "interrupts without an exit"),
	KVM_NEED(KVM_CAP_IOEVENTFD, true, "kicks without an exit"),
	KVM_NEED(KVM_CAP_IOEVENTFD_ANY_LENGTH, true, "kicks of any width"),
	KVM_NEED(KVM_CAP_SIGNAL_MSI, true, "interrupt lines"),
	KVM_NEED(KVM_CAP_IMMEDIATE_EXIT, true, "stopping vCPUs"),
	{ 0 },
};

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;

	do {
		rc = ioctl(fd, request, arg);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

/* Who may use /dev/kvm depends on its owner: often the group kvm, without udev root alone. */
static int denied(int why, struct err *err)
{
	const struct group *group = NULL;
	struct stat st;

	if (why == EPERM || stat("/dev/kvm", &st))
		return err_set(
			err, why,
			"/dev/kvm: %s; a container needs the device itself (--device /dev/kvm)",
			strerror(why));
	if (!st.st_gid || (st.st_mode & 060) != 060)
		return err_set(
			err, why,
			"/dev/kvm: permission denied; only its owner may use it: as root, chgrp "
			"kvm /dev/kvm && chmod 660 /dev/kvm, and add your user to group kvm "
			"(usermod -aG kvm USER), then log in again");
	group = getgrgid(st.st_gid);
	if (!group)
		return err_set(err, why,
			       "/dev/kvm: permission denied; it belongs to group %u, which has no "
			       "name here: give the container's user that group (--group-add %u)",
			       st.st_gid, st.st_gid);
	return err_set(
		err, why,
		"/dev/kvm: permission denied; as root, add your user to group %.32s (usermod "
		"-aG %.32s USER), then log in again",
		group->gr_name, group->gr_name);
}

/* --- ahead ------------------------------------------------------------------------------------ */

#define AHEAD_STACK_BYTES (64u << 10)

static struct {
	struct kvm kvm;
	void (*ask)(const struct kvm *kvm);
	pthread_t thread;
	bool runs;	   /* and is not yet joined */
	atomic_bool taken; /* the work: by the thread, or by the builder */
} ahead = { .kvm = { -1, -1 } };

static void *work_ahead(void *opaque)
{
	struct kvm *kvm = &ahead.kvm;

	if (atomic_exchange(&ahead.taken, true))
		return NULL;
	kvm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd < 0 || kvm_ioctl(kvm->dev_fd, KVM_GET_API_VERSION, NULL) != KVM_VERSION)
		return NULL;
	kvm->vm_fd = kvm_ioctl(kvm->dev_fd, KVM_CREATE_VM, NULL);
	ahead.ask(kvm);
	return NULL;
}

void kvm_begin_ahead(void (*ask)(const struct kvm *kvm))
{
	ahead.ask = ask;
	atomic_store(&ahead.taken, false);
	/* It makes no more than its caller would, who is not yet confined either. */
	ahead.runs = !thread_start(&ahead.thread, THREAD_WORKER, "kvm", AHEAD_STACK_BYTES,
				   work_ahead, NULL);
}

static void wait_ahead(void)
{
	if (ahead.runs)
		pthread_join(ahead.thread, NULL);
	ahead.runs = false;
}

void kvm_end_ahead(void)
{
	wait_ahead();
	kvm_close(&ahead.kvm);
}

static int take(int *fd)
{
	int mine = *fd;

	*fd = -1;
	return mine;
}

/* --- the VM ----------------------------------------------------------------------------------- */

int kvm_open(struct kvm *kvm, struct err *err)
{
	int version;

	*kvm = (struct kvm){ -1, -1 };
	if (ahead.runs && atomic_exchange(&ahead.taken, true))
		wait_ahead();
	kvm->dev_fd = take(&ahead.kvm.dev_fd);
	if (kvm->dev_fd < 0)
		kvm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd < 0) {
		switch (errno) {
		case ENOENT:
			return err_set(
				err, ENOENT,
				"/dev/kvm: not there; load %s, or give the container the device",
				arch_traits.modules_text);
		case EACCES:
		case EPERM:
			return denied(errno, err);
		default:
			return err_sys(err, errno, "/dev/kvm");
		}
	}
	version = kvm_ioctl(kvm->dev_fd, KVM_GET_API_VERSION, NULL);
	if (version != KVM_VERSION) {
		kvm_close(kvm);
		return err_set(err, ENOTSUP, "/dev/kvm: not a KVM device of API version %d",
			       KVM_VERSION);
	}
	return 0;
}

int kvm_create_vm(struct kvm *kvm, struct err *err)
{
	/* While it runs, it has nothing to do. */
	int rc = ahead.runs ? -1 : take(&ahead.kvm.vm_fd);

	if (rc < 0)
		rc = kvm_ioctl(kvm->dev_fd, KVM_CREATE_VM, NULL);
	wait_ahead();
	if (rc < 0)
		return err_sys(err, -rc, "/dev/kvm: cannot create a VM");
	kvm->vm_fd = rc;
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	if (kvm->vm_fd > 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd > 0)
		close(kvm->dev_fd);
	kvm->vm_fd = kvm->dev_fd = -1;
}

int kvm_check(const struct kvm *kvm, unsigned cap)
{
	return kvm_ioctl(kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->dev_fd, KVM_CHECK_EXTENSION,
			 (void *)(uintptr_t)cap);
}

void kvm_vcpu_limits(const struct kvm *kvm, int *max, int *recommended)
{
	*max = kvm_check(kvm, KVM_CAP_MAX_VCPUS);
	*recommended = kvm_check(kvm, KVM_CAP_NR_VCPUS);
}

int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint64_t gpa, uint64_t len_bytes,
		   void *host, struct err *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = len_bytes,
		.userspace_addr = (uintptr_t)host,
	};
	int rc = kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

	return rc < 0 ? err_sys(err, -rc, "KVM: guest memory of %llu MiB at 0x%llx",
				(unsigned long long)(len_bytes >> 20), (unsigned long long)gpa) :
			0;
}

int kvm_create_vcpu(const struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run,
		    struct err *err)
{
	int size, rc = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	void *map;

	if (rc < 0)
		return err_sys(err, -rc, "KVM: cannot create vCPU %u", id);
	*fd = rc;
	size = kvm_ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (size < (int)sizeof(struct kvm_run))
		return err_set(err, ENOTSUP, "KVM: a vCPU's shared page has %d bytes", size);
	map = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (map == MAP_FAILED)
		return err_sys(err, errno, "KVM: cannot map vCPU %u", id);
	*run = map;
	return size;
}

int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)addr,
			       .address_hi = (uint32_t)(addr >> 32),
			       .data = data };

	return kvm_ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);
}

int kvm_irqfd(const struct kvm *kvm, int fd, unsigned gsi, bool assign)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd,
				   .gsi = gsi,
				   .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);
}

int kvm_bind_kick(const struct kvm *kvm, const struct kvm_kick *kick, bool assign)
{
	struct kvm_ioeventfd arg = {
		.addr = kick->addr,
		.len = kick->len_bytes,
		.fd = kick->fd,
		.datamatch = kick->value,
		.flags = (kick->pio ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
			 (kick->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
			 (assign ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &arg);
}

int kvm_set_routes(const struct kvm *kvm, const struct kvm_irq_routing *table)
{
	return kvm_ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, (void *)table);
}
