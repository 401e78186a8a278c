/*
 * bootfind: see bootfind.h.
 *
 * Order: a partition that a root's fstab mounts on /boot hides that root's own /boot. Without
 * such a line, GPT's extended boot partition, then /boot of each root and the top folder
 * of each other file system, also of a FAT (systemd-boot, syslinux). In each such folder: kernels
 * by name, then the boot loader's files, which add kernels with other names and say with what each
 * boots, then unified images.
 * The newest kernel that has an initrd wins; then the newest of all; rescue kernels come last.
 */
#include "tools/bantam-fs/bootfind.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/spec.h"
#include "tools/bantam-fs/bootlist.h"

/* --- volumes ---------------------------------------------------------------------------------- */

/* Returns true if v looks like a root file system. */
static bool is_root(struct volume *v)
{
	return v->fs && volume_has(v, "/etc") && (volume_has(v, "/usr") || volume_has(v, "/sbin"));
}

static bool is_readable(const struct volume *v)
{
	return v->fs || v->fat;
}

/* A file system that we cannot read, which may hold a root or /boot. */
static bool is_closed(const struct volume *v)
{
	static const char *const kinds[] = { "ext4", "xfs",  "btrfs", "f2fs",	  "LUKS",
					     "LVM",  "RAID", "erofs", "bcachefs", "squashfs" };

	for (size_t i = 0; !v->fs && v->content && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(v->content, kinds[i]))
			return true;
	return false;
}

/* As spec_find. */
static int find_spec(const struct bootfind *f, const char *spec)
{
	struct spec_volume v[PARTITIONS_MAX];

	for (unsigned i = 0; i < f->all.n; i++)
		v[i] = (struct spec_volume){ f->all.v[i].part.number, f->all.v[i].uuid,
					     f->all.v[i].label, f->all.v[i].part.partuuid,
					     f->all.v[i].part.partlabel };
	return spec_find(v, f->all.n, spec);
}

static bool fstab_spec(struct volume *root, const char *dir, char *spec, size_t len)
{
	char *fstab = root ? volume_read_text(root, "/etc/fstab") : NULL;
	bool found = fstab && distro_fstab(fstab, dir, spec, len);

	free(fstab);
	return found;
}

/* Lists the volumes that may be the root: "partition 1 (ext4), partition 3 (xfs)". */
static const char *roots_text(struct bootfind *f, char *text, size_t len)
{
	size_t at = 0;

	*text = 0;
	for (unsigned i = 0; i < f->all.n && at < len; i++) {
		struct volume *v = &f->all.v[i];

		if (!is_root(v) && !is_closed(v))
			continue;
		at += (size_t)snprintf(text + at, len - at, "%spartition %u (%s)", at ? ", " : "",
				       v->part.number, v->content);
	}
	return text;
}

/* --- the kernel ------------------------------------------------------------------------------- */

/*
 * The volume that root's fstab mounts on /boot, if we can tell and read it. A spec that nothing
 * has is that of the only volume it can be, a FAT if there is no other; if there is none, root's own
 * /boot is not hidden. NULL: f->why says why not.
 */
static struct volume *boot_volume(struct bootfind *f, struct volume *root, const char *spec)
{
	struct volume *only = NULL, *fat = NULL;
	unsigned n = 0, nfats = 0, closed = 0;
	char text[200];
	int i = find_spec(f, spec);

	if (i >= 0 && is_readable(&f->all.v[i]))
		return &f->all.v[i];
	for (unsigned k = 0; k < f->all.n; k++) {
		struct volume *v = &f->all.v[k];

		if (v->fat) {
			fat = v;
			nfats++;
		}
		closed += !is_readable(v) && v->content && strcmp(v->content, "swap");
		if (!v->fs || is_root(v))
			continue;
		only = v;
		n++;
	}
	if (n)
		closed += nfats;
	else if (nfats == 1)
		only = fat;
	n += only && !n;
	if (i == SPEC_NONE && n == 1 && !(closed && spec_is_lasting(spec)))
		return only;
	if (i == SPEC_NONE && !n && !nfats && !closed)
		return root;
	snprintf(f->why, sizeof(f->why), "fstab mounts %.60s on /boot, which is %s (%s)", spec,
		 i >= 0		   ? "no file system that can be read" :
		 i == SPEC_SEVERAL ? "more than one of its partitions" :
				     "none of its partitions",
		 volumes_text(&f->all, text, sizeof(text)));
	return NULL;
}

/* The top folder of a volume that is no root; of a FAT also /boot, where syslinux looks, too. */
static void look_at_top(struct bootfind *f, struct volume *v)
{
	bootlist_add(f, v, "/");
	if (v->fat && volume_has(v, "/boot"))
		bootlist_add(f, v, "/boot");
}

static void look_for_kernels(struct bootfind *f)
{
	char spec[256];

	for (unsigned i = 0; i < f->all.n; i++) {
		struct volume *v = &f->all.v[i], *boot;

		if (!is_root(v) || !fstab_spec(v, "/boot", spec, sizeof(spec)))
			continue;
		f->elsewhere[i] = true;
		boot = boot_volume(f, v, spec);
		if (boot)
			bootlist_add(f, boot, boot == v ? "/boot" : "/");
	}
	for (unsigned i = 0; !f->nchoices && i < f->all.n; i++)
		if (is_readable(&f->all.v[i]) && f->all.v[i].part.role == PART_ROLE_BOOT)
			bootlist_add(f, &f->all.v[i], "/");
	/* Another volume than the /boot that fstab names has at best an older kernel. */
	if (f->nchoices || *f->why)
		return;
	for (unsigned i = 0; i < f->all.n; i++) {
		if (!is_readable(&f->all.v[i]) || f->elsewhere[i])
			continue;
		if (is_root(&f->all.v[i]))
			bootlist_add(f, &f->all.v[i], "/boot");
		else
			look_at_top(f, &f->all.v[i]);
	}
}

static bool is_rescue(const struct boot_choice *c)
{
	return distro_is_rescue(c->version) || distro_is_rescue(basename(c->kernel));
}

static bool has_initrd(const struct boot_choice *c)
{
	return c->ninitrds || c->unified;
}

/* Returns true if c is a better choice than best. */
static bool is_better(const struct boot_choice *c, const struct boot_choice *best)
{
	if (is_rescue(c) != is_rescue(best))
		return is_rescue(best);
	if (has_initrd(c) != has_initrd(best))
		return has_initrd(c);
	return distro_compare_versions(c->version, best->version) > 0;
}

static int find_kernel(struct bootfind *f, struct err *err)
{
	char text[200];

	look_for_kernels(f);
	for (size_t i = 0; i < f->nchoices; i++)
		if (!f->best || is_better(&f->choice[i], f->best))
			f->best = &f->choice[i];
	if (f->best)
		return 0;
	if (*f->why)
		return err_set(err, ENOENT, "%s; give --kernel", f->why);
	return err_set(
		err, ENOENT,
		"no kernel (vmlinuz-…, or one that a boot loader's file names) in /boot of an "
		"ext2, ext3, ext4 or FAT file system to boot from (%s); give --kernel",
		volumes_text(&f->all, text, sizeof(text)));
}

/* --- the root file system ----------------------------------------------------------------------- */

/*
 * Returns the only root that there is, which may be one that we cannot read; NULL: none or several.
 * *n: how many we can read; *closed: how many more there may be.
 */
static struct volume *only_root(struct bootfind *f, unsigned *n, unsigned *closed)
{
	struct volume *found = NULL, *typed = NULL, *shut = NULL;
	unsigned ntyped = 0;

	*n = *closed = 0;
	for (unsigned i = 0; i < f->all.n; i++) {
		struct volume *v = &f->all.v[i];

		if (is_closed(v)) {
			shut = v;
			++*closed;
		}
		if (!is_root(v))
			continue;
		found = v;
		++*n;
		if (v->part.role == PART_ROLE_ROOT) {
			typed = v;
			ntyped++;
		}
	}
	if (!*n && *closed == 1 && shut->content[0] >= 'a') /* no LVM, LUKS, RAID */
		return shut;
	return *n == 1 ? found : ntyped == 1 ? typed : NULL;
}

/* Writes the root= value: an initrd finds file systems, the kernel alone only partitions. */
static void spec_of(struct bootfind *f, const struct volume *v)
{
	bool unique = *v->uuid;

	for (unsigned i = 0; i < f->all.n; i++)
		unique &= &f->all.v[i] == v || strcasecmp(f->all.v[i].uuid, v->uuid);
	if (has_initrd(f->best) && unique)
		snprintf(f->root_spec, sizeof(f->root_spec), "UUID=%s", v->uuid);
	else if (*v->part.partuuid)
		snprintf(f->root_spec, sizeof(f->root_spec), "PARTUUID=%s", v->part.partuuid);
	else
		snprintf(f->root_spec, sizeof(f->root_spec), "@%u", v->part.number);
}

static int settle_root(struct bootfind *f, struct err *err)
{
	const char *said = f->options.root;
	char spec[256], text[200];
	unsigned n, closed;
	struct volume *only = only_root(f, &n, &closed);
	/* root= may be in what we could not read. */
	bool unclear = f->best->unknown_words || (!f->best->has_options && f->lost_entry);
	int i = *said ? find_spec(f, said) : SPEC_NONE;

	f->root = NULL;
	if (i >= 0) {
		f->root = &f->all.v[i];
	} else if (!*said) {
		f->root = is_root(f->best->v) && !unclear ? f->best->v : only;
	} else if (i == SPEC_NONE && n == 1 && !closed) {
		f->root = only;
	} else if (i == SPEC_NONE && !strchr(said, '$') &&
		   (!n || (closed && spec_is_lasting(said)))) {
		/* It is one that we cannot read (btrfs, LVM …): pass the value on. */
		snprintf(f->root_spec, sizeof(f->root_spec), "%s", said);
	}
	if (f->root)
		spec_of(f, f->root);
	if (!*f->root_spec)
		return err_set(
			err, ENOENT,
			"%s has a kernel, but which file system is the root is not clear%s%.60s"
			"%s (%s); give --kernel, --initrd and --cmdline",
			"it", *said ? ": root=" : "", said,
			!*said		  ? "" :
			i == SPEC_SEVERAL ? " is more than one of its partitions" :
					    " is none of its partitions",
			n + closed ? roots_text(f, text, sizeof(text)) :
				     volumes_text(&f->all, text, sizeof(text)));
	if (f->root && !f->root->fs)
		f->root = NULL;
	/* Without a line in fstab nothing in the guest remounts the root writable later. */
	f->rw = f->options.rw >= 0 ? f->options.rw :
				     f->root && !fstab_spec(f->root, "/", spec, sizeof(spec));
	return 0;
}

/* The options of the best kernel: from its entry, else of /etc/kernel/cmdline. */
static void find_options(struct bootfind *f)
{
	unsigned n, closed;
	struct volume *root = is_root(f->best->v) ? f->best->v : only_root(f, &n, &closed);
	char *text = NULL;

	if (!f->best->has_options && root && root->fs)
		text = volume_read_text(root, "/etc/kernel/cmdline");
	distro_split_options(text ? text : f->best->options, &f->options);
	free(text);
}

int bootfind_run(struct bootfind *f, struct store *s, struct err *err)
{
	int rc = volumes_open(s, &f->all, err);

	/* Linux uses no such partition of a GPT, and shortens one of an MBR. */
	if (!rc && f->all.beyond)
		rc = err_set(
			err, EINVAL,
			"partition %u lies beyond the image's end, or ends there: the image was "
			"cut short; give --kernel to boot it all the same",
			f->all.beyond);
	if (!rc)
		rc = find_kernel(f, err);
	if (rc)
		return rc;
	find_options(f);
	return settle_root(f, err);
}

void bootfind_free(struct bootfind *f)
{
	free(f->choice);
}
