/*
 * kernels: finds the kernel that --kernel of bantam test and of bantam run --shell names, and its modules.
 *
 *	FILE		a bzImage or vmlinux. Its modules: those of the tree in which it was built, if it
 *			lies there, else modules/ beside it, else /lib/modules/RELEASE of the release in
 *			the bzImage's header, if that is there. A symbolic link has what its file has.
 *	BUILD-DIR	a kernel's tree in which it was built, or its O= folder: the image by architecture,
 *			else vmlinux. The modules are taken from where they lie.
 *	FETCHED-DIR	a folder with vmlinuz and modules/, as tools/fetch-kernels prints it.
 *	RELEASE		an installed kernel: /boot/vmlinuz-RELEASE or /lib/modules/RELEASE/vmlinuz.
 *
 * What is a file or a folder is never taken as a RELEASE. --modules DIR replaces the modules; DIR is a
 * tree of modules, or what INSTALL_MOD_PATH named. Modules of another release are refused.
 *
 * Trees are as hostile as images are (boot/pack). Errors: 0/-errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_KERNELS_H
#define BANTAM_KERNELS_H

#include <stdbool.h>

#include "vmm/core/err.h"

/*
 * For a kernel with no_kvmclock: a word that it does not know, and that makes the board one on which it has time; and
 * one for kernels that know of no hypervisor, so that a busy host is not taken for an 8254 that does not work.
 */
#define KERNELS_NO_KVMCLOCK "no-kvmclock no_timer_check"

struct kernels_choice {
	char *image;	  /* the file to boot */
	char *modules;	  /* for pack_tree_open; NULL: none are known */
	char *vmlinux;	  /* with symbols; NULL: none is known */
	char release[65]; /* "": unknown */
	bool no_kvmclock; /* its configuration (of the build, or /boot/config-RELEASE) leaves out KVM's clock */
	bool modules_found; /* neither --modules nor --kernel names their place: found for a FILE */
};

/*
 * name: of --kernel; modules: of --modules, or NULL. root goes before /boot and /lib/modules: "", or a
 * folder for tests. The caller calls kernels_clear also after an error.
 */
int kernels_find(struct kernels_choice *k, const char *name, const char *modules, const char *root,
		 struct err *err);
/* An installed kernel, whatever files and folders of that name there are. */
int kernels_find_installed(struct kernels_choice *k, const char *release, const char *modules,
			   const char *root, struct err *err);
/*
 * The kernel for a user who names none: the one that this host runs, or else one of those that tools/fetch-kernels
 * has put into the folder cache (cachedir.h; NULL: there is none). -ENOENT: neither can be read; err names the command
 * that gets one. The rest is as in kernels_find.
 */
int kernels_find_default(struct kernels_choice *k, const char *modules, const char *root,
			 const char *cache, struct err *err);
void kernels_clear(struct kernels_choice *k);

#endif
