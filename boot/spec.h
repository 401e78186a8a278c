/*
 * spec: which partition of a disk a text names, as in root= and the first field of fstab.
 *
 * The forms of util-linux (fstab(5), mount(8)), udev's links in /dev/disk, and the kernel (root= in
 * its early_lookup_bdev): UUID=, LABEL=, PARTUUID= also with /PARTNROFF=, PARTLABEL=, quoted or
 * with fstab's octal escapes; /dev/disk/by-*; names of partitions; MAJOR:MINOR and its hexadecimal
 * form. The name of a device other than a machine's first disk names no partition here.
 * For tools/bantam-fs. Pure; the text is hostile. Any thread.
 */
#ifndef BANTAM_BOOT_SPEC_H
#define BANTAM_BOOT_SPEC_H

#include <stdbool.h>

/* What is known of a partition; "": nothing. number 0: the whole disk. */
struct spec_volume {
	unsigned number;
	const char *uuid, *label, *partuuid, *partlabel;
};

#define SPEC_NONE (-1)	  /* none of the volumes */
#define SPEC_SEVERAL (-2) /* more than one has this identifier */
/* Returns the index of the volume that text names, or one of the above. */
int spec_find(const struct spec_volume *v, unsigned n, const char *text);
/*
 * Returns true if text identifies a file system or partition by what is written on it, not by a
 * name that changes with the machine: if no volume has it, it belongs to one that we cannot read.
 */
bool spec_is_lasting(const char *text);

#endif
