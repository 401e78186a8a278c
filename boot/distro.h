/*
 * distro: reads what a distribution installs in /boot.
 *
 * Names of kernels and initrds and their order by version; options from GRUB's grub.cfg,
 * Boot Loader Specification entries (UAPI.1), extlinux.conf and /etc/kernel/cmdline; fstab.
 * For tools/bantam-fs; boot itself does not use it. Pure: text in, text out. The text comes from
 * a disk that a guest can write, so every byte is hostile. Results are printable words that fit
 * into the caller's buffer. Texts are NUL-terminated. Any thread.
 */
#ifndef BANTAM_BOOT_DISTRO_H
#define BANTAM_BOOT_DISTRO_H

#include <stdbool.h>
#include <stddef.h>

/* Linux takes 2047 bytes of command line (COMMAND_LINE_SIZE of x86 and arm64). */
#define DISTRO_OPTIONS_MAX 2048

/*
 * Returns the version in the name of a kernel file: the part after the dash in
 * "vmlinuz-6.1.0-27-amd64", "" for "vmlinuz". Returns NULL if the name is not a kernel's, or is a
 * backup copy's (.old, .dpkg-new …).
 */
const char *distro_kernel_version(const char *name);
/* Returns true for a rescue kernel, which is the last choice. */
bool distro_is_rescue(const char *version);
/*
 * Returns < 0 if a is older, > 0 if b is older, 0 if they are equal. Numbers compare as numbers
 * and "~" sorts before the end, as in dpkg and rpm; -rc1 and -pre1 sort before the release.
 */
int distro_compare_versions(const char *a, const char *b);
/*
 * Writes the i-th name that the initrd of version may have. Returns false if there is no such
 * name or it does not fit.
 */
bool distro_initrd_name(unsigned i, const char *version, char *name, size_t len);

/*
 * Copies the options of the kernel file named kernel, root= included. Returns false if the text
 * has no entry for it (recovery entries do not count). Both leave out words with variables.
 * Exception: distro_bls_options replaces the variables that grubenv defines, such as $kernelopts.
 * grubenv is NULL if the disk has none.
 */
bool distro_grub_options(const char *cfg, const char *kernel, char options[DISTRO_OPTIONS_MAX]);
bool distro_bls_options(const char *entry, const char *kernel, const char *grubenv,
			char options[DISTRO_OPTIONS_MAX]);
bool distro_extlinux_options(const char *conf, const char *kernel,
			     char options[DISTRO_OPTIONS_MAX]);

/* Options, split. Dropped: console=, BOOT_IMAGE= and initrd=, which bantam sets itself. */
struct distro_options {
	char rest[DISTRO_OPTIONS_MAX];
	char root[256]; /* "UUID=…", "/dev/sda1"; "": no root= */
	int rw;		/* 1: rw, 0: ro, -1: neither */
};
void distro_split_options(const char *options, struct distro_options *out);

/* Writes to spec what fstab mounts at dir: "UUID=…", "/dev/sda1". Returns false if nothing. */
bool distro_fstab(const char *fstab, const char *dir, char *spec, size_t len);

#endif
