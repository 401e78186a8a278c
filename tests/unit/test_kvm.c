/*
 * kvm: what is made ahead is taken once, and all of it is closed, whether the thread or the builder did the work. Skipped
 * on a host without KVM.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/kvm.h"

static atomic_int asked; /* with a VM */
static struct err err;

static void ask(const struct kvm *kvm)
{
	asked += kvm->vm_fd >= 0;
}

static unsigned count(const char *folder)
{
	DIR *d = opendir(folder);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static unsigned fds_before, threads_before;

static void setup(void)
{
	asked = 0;
	fds_before = count("/proc/self/fd");
	threads_before = count("/proc/self/task");
}

/* ThreadSanitizer has a thread of its own, which may begin late. */
static void expect_nothing_left(void)
{
	cr_expect_eq(count("/proc/self/fd"), fds_before);
#ifndef __SANITIZE_THREAD__
	cr_expect_eq(count("/proc/self/task"), threads_before);
#endif
}

TestSuite(kvm, .init = setup, .timeout = 60);

#define NEED_KVM()                                                                                 \
	do {                                                                                       \
		if (access("/dev/kvm", R_OK | W_OK))                                               \
			cr_skip_test("no usable /dev/kvm");                                        \
	} while (0)

static void use(const struct kvm *kvm)
{
	cr_expect_eq(kvm_ioctl(kvm->dev_fd, KVM_GET_API_VERSION, NULL), KVM_VERSION);
	cr_expect_gt(kvm_check(kvm, KVM_CAP_USER_MEMORY), 0);
}

/* Again and again, so that now the thread and now the builder is first. */
Test(kvm, what_is_made_ahead_is_taken_once)
{
	unsigned by_thread = 0;
	struct kvm kvm[2];

	NEED_KVM();
	for (unsigned round = 0; round < 40; round++) {
		asked = 0;
		kvm_begin_ahead(ask);
		usleep(round % 4 * 500);
		for (unsigned i = 0; i < 2; i++) {
			cr_assert_eq(kvm_open(&kvm[i], &err), 0, "%s", err.text);
			cr_assert_eq(kvm_create_vm(&kvm[i], &err), 0, "%s", err.text);
			use(&kvm[i]);
		}
		cr_expect_leq(asked, 1);
		by_thread += asked;
		kvm_end_ahead();
		kvm_close(&kvm[0]);
		use(&kvm[1]);
		kvm_close(&kvm[1]);
		expect_nothing_left();
	}
	cr_expect_gt(by_thread, 0);
}

Test(kvm, what_is_not_taken_is_closed)
{
	struct kvm kvm;

	NEED_KVM();
	for (unsigned round = 0; round < 8; round++) {
		kvm_begin_ahead(ask);
		usleep(round % 4 * 500);
		/* In half of the rounds the machine ends between the two. */
		if (round % 2) {
			cr_assert_eq(kvm_open(&kvm, &err), 0, "%s", err.text);
			kvm_close(&kvm);
		}
		kvm_end_ahead();
		expect_nothing_left();
	}
	kvm_end_ahead();
	expect_nothing_left();
}
