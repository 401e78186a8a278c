/*
 * test/kernel: finds the kernel that --kernel names, and its modules.
 *
 *	FILE		a bzImage or vmlinux. Its modules: those of the tree in which it was built, if it
 *			lies there, else /lib/modules/RELEASE of the release in the bzImage's header, if
 *			that is there.
 *	BUILD-DIR	a kernel's tree in which it was built, or its O= folder: the image by architecture,
 *			else vmlinux. The modules are taken from where they lie.
 *	RELEASE		an installed kernel: /boot/vmlinuz-RELEASE or /lib/modules/RELEASE/vmlinuz.
 *
 * What is a file or a folder is never taken as a RELEASE. --modules DIR replaces the modules; DIR is a
 * tree of modules, or what INSTALL_MOD_PATH named. Modules of another release are refused.
 *
 * Trees are as hostile as images are (boot/pack). Errors: 0/-errno and one line in err; to the test they mean that
 * it could not run. Thread: one at a time.
 */
#ifndef BANTAM_TEST_KERNEL_H
#define BANTAM_TEST_KERNEL_H

#include <stdbool.h>

#include "vmm/core/err.h"

struct test_kernel {
	char *image;	  /* the file to boot */
	char *modules;	  /* for pack_tree_open; NULL: none are known */
	char *vmlinux;	  /* with symbols; NULL: none is known */
	char release[65]; /* "": unknown */
	bool no_kvmclock; /* its configuration (of the build, or /boot/config-RELEASE) leaves out KVM's clock */
	bool modules_found; /* neither --modules nor --kernel names their place: found for a FILE */
};

/*
 * name: of --kernel; modules: of --modules, or NULL. root goes before /boot and /lib/modules: "", or a
 * folder for tests. The caller calls test_kernel_clear also after an error.
 */
int test_kernel_find(struct test_kernel *k, const char *name, const char *modules, const char *root,
		     struct err *err);
void test_kernel_clear(struct test_kernel *k);

#endif
