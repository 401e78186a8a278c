/*
 * release: which kernel a tree of modules is for, and which one a kernel image is ("6.1.0-18-amd64",
 * what `uname -r` prints).
 *
 * Both are hostile. Errors: 0 or -errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_PACK_RELEASE_H
#define BANTAM_PACK_RELEASE_H

#include "boot/pack/modules.h"

#define PACK_RELEASE_MAX 65 /* with its NUL, as in struct utsname */

/* From the first module's vermagic, or from a build's kernel.release; "" if neither tells. */
int pack_release_of_modules(struct pack_tree *tree, char release[PACK_RELEASE_MAX],
			    struct err *err);
/*
 * From a bzImage's header (kernel_version in Documentation/arch/x86/boot.rst of Linux); "" if the
 * file is something else, such as a vmlinux.
 */
int pack_release_of_kernel(const char *path, char release[PACK_RELEASE_MAX], struct err *err);
/* -EINVAL if both are known and differ: the kernel would refuse each of these modules. */
int pack_check_release(struct pack_tree *tree, const char *kernel, struct err *err);

#endif
