/*
 * bootfind: finds the kernel, its initrds, its options and the root file system of the
 * distribution in an image.
 *
 * Kernels are the files with a kernel's name in /boot, and those that a boot loader's file there
 * names. Where more than one answer fits and the disk does not say which, the answer is an error
 * that lists them. All input is hostile. One thread, in the confined process.
 */
#ifndef BANTAM_FS_BOOTFIND_H
#define BANTAM_FS_BOOTFIND_H

#include "boot/distro/distro.h"
#include "tools/bantam-fs/volume.h"
#include "vmm/core/err.h"

#define BOOT_PATH_MAX 1200u

/* A kernel on the disk, and what boots with it. Paths are in v. */
struct boot_choice {
	struct volume *v;
	ext2_ino_t ino;
	char kernel[BOOT_PATH_MAX];
	char initrd[DISTRO_INITRDS_MAX][BOOT_PATH_MAX]; /* one after the other */
	unsigned ninitrds;
	char version[EXT2_NAME_LEN + 1];
	char options[DISTRO_OPTIONS_MAX];
	bool has_options;
	bool unknown_words; /* its entry has more that we cannot read */
	bool unified;	    /* has initrd and options within itself, which we do not read */
};

struct bootfind {
	struct volumes all;
	struct boot_choice *choice; /* owned */
	size_t nchoices;
	bool elsewhere[PARTITIONS_MAX]; /* a root whose /boot is a mount point */
	char why[300];			/* why such a /boot cannot be read; "": it can */
	bool lost_entry;		/* an entry was left out, whose kernel we cannot tell */
	/* The result. */
	struct boot_choice *best;
	struct volume *root; /* NULL: none that we can read */
	struct distro_options options;
	char root_spec[280]; /* root='s value; "@N": partition N of this disk */
	bool rw;
};

/* Fills *f, which is zeroed. Returns 0 or -errno; the caller calls bootfind_free in both cases. */
int bootfind_run(struct bootfind *f, struct store *s, struct err *err);
void bootfind_free(struct bootfind *f);

#endif
