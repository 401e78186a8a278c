/*
 * distro: what a distribution leaves in /boot, and what it means.
 *
 * Names of kernels and initrds and their order by version; options from GRUB's grub.cfg,
 * Boot Loader Specification entries (UAPI.1), extlinux.conf and /etc/kernel/cmdline; fstab.
 * For tools/bantam-fs; boot itself does not use it. Pure: text in, text out. All of it comes from a disk that a guest can write: every byte is
 * hostile, and what is returned are printable words that fit. Texts are NUL-terminated. Any
 * thread.
 */
#ifndef BANTAM_BOOT_DISTRO_H
#define BANTAM_BOOT_DISTRO_H

#include <stdbool.h>
#include <stddef.h>

/* Linux takes 2047 bytes of command line (COMMAND_LINE_SIZE of x86 and arm64). */
#define DISTRO_OPTIONS_MAX 2048

/*
 * The version in the name of a kernel's file ("vmlinuz-6.1.0-27-amd64": after the dash;
 * "vmlinuz": ""), or NULL: no kernel, or a copy that someone put aside (.old, .dpkg-new …).
 */
const char *distro_kernel_version(const char *name);
/* A rescue kernel is the last choice. */
bool distro_is_rescue(const char *version);
/*
 * < 0: a is older. Numbers count as numbers and "~" sorts before the end, as dpkg and rpm have
 * it; -rc1 and -pre1 come before the release.
 */
int distro_compare_versions(const char *a, const char *b);
/* The i-th name that the initrd of version may have. False: there are no more (or no room). */
bool distro_initrd_name(unsigned i, const char *version, char *name, size_t len);

/*
 * The options of the kernel whose file is called kernel, as written there; root= and all. False:
 * nothing is said about it (recovery entries do not count). Words with variables are left out;
 * distro_bls_options takes $kernelopts from grubenv (NULL: there is none).
 */
bool distro_grub_options(const char *cfg, const char *kernel, char options[DISTRO_OPTIONS_MAX]);
bool distro_bls_options(const char *entry, const char *kernel, const char *grubenv,
			char options[DISTRO_OPTIONS_MAX]);
bool distro_extlinux_options(const char *conf, const char *kernel,
			     char options[DISTRO_OPTIONS_MAX]);

/* Options without what this boot decides: root=, ro, rw, console=, BOOT_IMAGE=, initrd=. */
struct distro_options {
	char rest[DISTRO_OPTIONS_MAX];
	char root[256]; /* "UUID=…", "/dev/sda1"; "": not said */
	int rw;		/* 1: rw, 0: ro, -1: not said */
};
void distro_split_options(const char *options, struct distro_options *out);

/* What fstab mounts at dir: "UUID=…", "/dev/sda1". False: nothing. */
bool distro_fstab(const char *fstab, const char *dir, char *spec, size_t len);

#endif
