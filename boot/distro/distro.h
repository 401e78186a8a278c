/*
 * distro: reads what a distribution installs in /boot.
 *
 * Names of kernels and initrds and their order by version; entries of GRUB's grub.cfg,
 * the Boot Loader Specification (UAPI.1) and extlinux.conf; their options; fstab.
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
 * What one entry of a boot loader's menu boots. Paths are as the file has them. GRUB's variables are
 * replaced if the file, or grubenv, gives them one value; a word with another variable is left out.
 */
#define DISTRO_PATH_MAX 512
#define DISTRO_INITRDS_MAX 4
struct distro_entry {
	char kernel[DISTRO_PATH_MAX];
	char initrd[DISTRO_INITRDS_MAX][DISTRO_PATH_MAX]; /* the guest gets one after the other */
	unsigned ninitrds;
	bool too_many_initrds;	       /* or one whose name has a variable: take none from here */
	char version[DISTRO_PATH_MAX]; /* "": the entry does not say */
	char options[DISTRO_OPTIONS_MAX]; /* root= included, which keeps such a variable */
	bool has_options;		  /* false: no word of options */
	bool unknown_words;		  /* words were left out: root= may have been one of them */
	bool unknown_kernel;		  /* its path has such a variable: kernel is "" */
	bool recovery;
};

/*
 * Calls sink for each entry that boots Linux, in the file's order, but not for recovery entries.
 * grub: a grub.cfg (GRUB manual); grubenv is NULL if the disk has none. syslinux: extlinux.conf, syslinux.cfg and their likes (Syslinux
 * wiki, "Config").
 */
typedef void (*distro_sink)(void *opaque, const struct distro_entry *e);
void distro_grub_entries(const char *cfg, const char *grubenv, distro_sink sink, void *opaque);
void distro_syslinux_entries(const char *conf, distro_sink sink, void *opaque);
/* Returns the variables to which a grub.cfg gives one value, as a grubenv; the caller frees it. NULL: no memory. */
char *distro_grub_settings(const char *cfg);
/* Returns true if a line of syslinux includes another file, and writes its path. */
bool distro_syslinux_include(const char *line, char path[DISTRO_PATH_MAX]);
/*
 * Reads an entry of the Boot Loader Specification. Its variables that grubenv defines, such as
 * $kernelopts, are replaced; grubenv is NULL if the disk has none. Returns false if the entry boots
 * no Linux or is for recovery.
 */
bool distro_bls_entry(const char *text, const char *grubenv, struct distro_entry *e);

/* Options, split. Dropped: console=, BOOT_IMAGE= and initrd=, which bantam sets itself. */
struct distro_options {
	char rest[DISTRO_OPTIONS_MAX]; /* last, from "--" on, the words of init */
	char root[256]; /* "UUID=…", "/dev/sda1"; with a $: not known; "": no root= */
	int rw;		/* 1: rw, 0: ro, -1: neither */
};
void distro_split_options(const char *options, struct distro_options *out);

/*
 * Writes to spec what fstab mounts at dir: "UUID=…", "/dev/sda1", with octal escapes for what is not printable.
 * Returns false if nothing.
 */
bool distro_fstab(const char *fstab, const char *dir, char *spec, size_t len);

#endif
