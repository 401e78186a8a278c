/* bootlist: see bootlist.h. */
#include "tools/bantam-fs/bootlist.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-fs/includes.h"

#define CHOICES_MAX 512u
/* GRUB makes 1 KiB. */
#define GRUBENV_MAX 8192u

/* --- kernels ---------------------------------------------------------------------------------- */

static const char *join(char path[BOOT_PATH_MAX], const char *dir, const char *name)
{
	/* A path that is too long names no file. */
	if (snprintf(path, BOOT_PATH_MAX, "%s%s%s", dir, dir[1] ? "/" : "", name) >=
	    (int)BOOT_PATH_MAX)
		*path = 0;
	return path;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Returns the inode's number if path is a file that is not empty, else 0. */
static ext2_ino_t file_at(struct volume *v, const char *path)
{
	struct node node;

	return !volume_find(v, path, true, &node, NULL) && LINUX_S_ISREG(node.inode.i_mode) &&
			       EXT2_I_SIZE(&node.inode) ?
		       node.ino :
		       0;
}

/* Looks in dir for an initrd whose name fits the version. Returns true if there is one. */
static bool guess_initrd(struct volume *v, const char *dir, const char *version,
			 char path[BOOT_PATH_MAX])
{
	char name[EXT2_NAME_LEN + 1];

	for (unsigned i = 0; distro_initrd_name(i, version, name, sizeof(name)); i++)
		if (file_at(v, join(path, dir, name)))
			return true;
	return false;
}

static struct boot_choice *add_choice(struct bootfind *f, struct volume *v, ext2_ino_t ino)
{
	struct boot_choice *grown;

	if (f->nchoices == CHOICES_MAX)
		return NULL;
	grown = reallocarray(f->choice, f->nchoices + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	f->choice = grown;
	grown = &f->choice[f->nchoices++];
	memset(grown, 0, sizeof(*grown));
	grown->v = v;
	grown->ino = ino;
	return grown;
}

static struct boot_choice *find_choice(struct bootfind *f, const struct volume *v, ext2_ino_t ino)
{
	for (size_t i = 0; i < f->nchoices; i++)
		if (f->choice[i].v == v && f->choice[i].ino == ino)
			return &f->choice[i];
	return NULL;
}

/*
 * A kernel with several names (Ubuntu and openSUSE have a link vmlinuz to the newest) is one choice, of
 * the latest version that they say, and by a name that has an initrd.
 */
static void look_for_names(struct bootfind *f, struct volume *v, const char *dir)
{
	struct entries entries;
	struct node node;

	if (volume_find(v, dir, true, &node, NULL) || volume_list(v, &node, dir, &entries, NULL))
		return;
	for (size_t i = 0; i < entries.n; i++) {
		const char *version = distro_kernel_version(entries.e[i].name);
		char path[BOOT_PATH_MAX], initrd[BOOT_PATH_MAX];
		unsigned ninitrds;
		struct boot_choice *c;
		ext2_ino_t ino;
		bool later;

		ino = version ? file_at(v, join(path, dir, entries.e[i].name)) : 0;
		if (!ino)
			continue;
		ninitrds = guess_initrd(v, dir, version, initrd);
		c = find_choice(f, v, ino);
		later = !c || distro_compare_versions(c->version, version) < 0;
		if (!c)
			c = add_choice(f, v, ino);
		if (!c)
			continue;
		if (later)
			snprintf(c->version, sizeof(c->version), "%s", version);
		if (ninitrds < c->ninitrds || (ninitrds == c->ninitrds && !later))
			continue;
		memcpy(c->kernel, path, sizeof(path));
		memcpy(c->initrd[0], initrd, sizeof(initrd));
		c->ninitrds = ninitrds;
	}
	volume_free_entries(&entries);
}

/* --- boot loader files -------------------------------------------------------------------------- */

/* Where entries come from: conf is the folder of the boot loader's file. */
struct origin {
	struct bootfind *f;
	struct volume *v;
	const char *dir, *conf;
};

/*
 * Finds the file that a boot loader's path means, which is relative to the file's own folder, the
 * volume, the folder with the kernels, or the mount point /boot; or below a subvolume. Returns its
 * inode's number or 0, and writes its path in the volume.
 */
static ext2_ino_t find_path(const struct origin *o, const char *said, char path[BOOT_PATH_MAX])
{
	const char *in_boot = !strncmp(said, "/boot/", 6) ? said + 6 : said;
	const char *const dir[] = { o->conf, "/", o->dir, o->dir, o->dir };
	const char *const name[] = { said, said, said, in_boot, base_name(said) };

	for (unsigned i = *said == '/'; i < 5; i++) {
		ext2_ino_t ino;

		ino = file_at(o->v, join(path, dir[i], name[i] + strspn(name[i], "/")));
		if (ino)
			return ino;
	}
	return 0;
}

/* The version of a kernel that a boot loader names: its name's, the entry's, or its folder's. */
static void name_version(struct boot_choice *c, const struct distro_entry *e)
{
	const char *version = distro_kernel_version(base_name(c->kernel));
	char folder[BOOT_PATH_MAX];

	snprintf(folder, sizeof(folder), "%s", c->kernel);
	folder[base_name(c->kernel) - c->kernel] = 0;
	if (strlen(folder) > 1)
		folder[strlen(folder) - 1] = 0;
	if (!version || !*version)
		version = *e->version ? e->version : base_name(folder);
	snprintf(c->version, sizeof(c->version), "%.*s", (int)sizeof(c->version) - 1, version);
	c->ninitrds = guess_initrd(c->v, folder, version, c->initrd[0]);
}

static void take_entry(void *opaque, const struct distro_entry *e)
{
	const struct origin *o = opaque;
	char path[BOOT_PATH_MAX], initrd[DISTRO_INITRDS_MAX][BOOT_PATH_MAX];
	ext2_ino_t ino = *e->kernel ? find_path(o, e->kernel, path) : 0;
	struct boot_choice *c = ino ? find_choice(o->f, o->v, ino) : NULL;
	unsigned n = 0;

	o->f->lost_entry |= !*e->kernel;
	if (ino && !c) {
		c = add_choice(o->f, o->v, ino);
		if (c) {
			memcpy(c->kernel, path, sizeof(path));
			name_version(c, e);
		}
	}
	/* The first entry counts. */
	if (!c || c->has_options)
		return;
	c->unknown_words |= e->unknown_words;
	if (!e->has_options)
		return;
	c->unknown_words = e->unknown_words;
	c->has_options = true;
	memcpy(c->options, e->options, sizeof(c->options));
	while (n < e->ninitrds && find_path(o, e->initrd[n], initrd[n]))
		n++;
	if (n && n == e->ninitrds && !e->too_many_initrds) {
		memcpy(c->initrd, initrd, sizeof(initrd));
		c->ninitrds = n;
	}
}

/* The newest first, as the specification orders them. */
static int by_version(const void *a, const void *b)
{
	return distro_compare_versions(((const struct entry *)b)->name,
				       ((const struct entry *)a)->name);
}

/* Reads a file of GRUB in the folder with the kernels. The caller frees it; NULL: there is none. */
static char *read_of_grub(const struct origin *o, const char *name)
{
	static const char *const folders[] = { "grub2", "grub" };
	char folder[BOOT_PATH_MAX], path[BOOT_PATH_MAX], *text = NULL;

	for (size_t i = 0; !text && i < sizeof(folders) / sizeof(folders[0]); i++)
		text = volume_read_text(o->v, join(path, join(folder, o->dir, folders[i]), name));
	return text;
}

static char *read_grubenv(const struct origin *o)
{
	char *env = read_of_grub(o, "grubenv");

	if (env && strlen(env) > GRUBENV_MAX)
		env[GRUBENV_MAX] = 0;
	return env;
}

/* What grubenv says, else what grub.cfg sets: Fedora's $kernelopts, $tuned_params. */
static char *read_settings(const struct origin *o)
{
	char *env = read_grubenv(o), *cfg = read_of_grub(o, "grub.cfg");
	char *set = cfg ? distro_grub_settings(cfg) : NULL, *all = NULL;

	if (asprintf(&all, "%s\n%s", env ? env : "", set ? set : "") < 0)
		all = NULL;
	free(env);
	free(cfg);
	free(set);
	return all;
}

static void read_bls(struct origin *o)
{
	char dir[BOOT_PATH_MAX], path[BOOT_PATH_MAX], *grubenv = NULL;
	struct distro_entry *e = malloc(sizeof(*e));
	struct entries entries = { 0 };
	struct node node;

	if (e && !volume_find(o->v, join(dir, o->dir, "loader/entries"), true, &node, NULL) &&
	    !volume_list(o->v, &node, dir, &entries, NULL) && entries.n)
		qsort(entries.e, entries.n, sizeof(*entries.e), by_version);
	if (entries.n)
		grubenv = read_settings(o);
	o->conf = dir;
	for (size_t i = 0; i < entries.n; i++) {
		size_t len = strlen(entries.e[i].name);
		char *text = NULL;

		if (len > 5 && !strcmp(entries.e[i].name + len - 5, ".conf"))
			text = volume_read_text(o->v, join(path, dir, entries.e[i].name));
		if (text && distro_bls_entry(text, grubenv, e))
			take_entry(o, e);
		free(text);
	}
	free(e);
	free(grubenv);
	volume_free_entries(&entries);
}

/* An includes_find. */
static uint64_t find_include(void *opaque, const char *said, char **text)
{
	const struct origin *o = opaque;
	char path[BOOT_PATH_MAX];
	ext2_ino_t ino = find_path(o, said, path);

	if (ino && text)
		*text = volume_read_text(o->v, path);
	return ino;
}

static void read_loader(struct origin *o, const char *name, const char *grubenv)
{
	char path[BOOT_PATH_MAX];
	char *text = volume_read_text(o->v, join(path, o->conf, name));

	if (text && !strcmp(name, "grub.cfg")) {
		distro_grub_entries(text, grubenv, take_entry, o);
	} else if (text) {
		text = includes_expand(text, find_include, o);
		if (text)
			distro_syslinux_entries(text, take_entry, o);
	}
	free(text);
}

static void read_loaders(struct bootfind *f, struct volume *v, const char *dir)
{
	static const struct {
		const char *folder, *name;
	} files[] = {
		{ "grub", "grub.cfg" },		{ "grub2", "grub.cfg" },
		{ "", "extlinux.conf" },	{ "extlinux", "extlinux.conf" },
		{ "extlinux", "linux.cfg" },	{ "", "syslinux.cfg" },
		{ "syslinux", "syslinux.cfg" }, { "syslinux", "extlinux.conf" },
	};
	struct origin o = { f, v, dir, dir };
	char *grubenv = read_grubenv(&o);

	read_bls(&o);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char conf[BOOT_PATH_MAX];

		join(conf, dir, files[i].folder);
		o.conf = *files[i].folder ? conf : dir;
		read_loader(&o, files[i].name, grubenv);
	}
	free(grubenv);
}

/* --- unified kernel images ------------------------------------------------------------------------ */

/*
 * The version in a name like MACHINE-6.12.9-200.fc41.x86_64+3-0.efi, whose end counts attempts to boot:
 * from the first number with a dot on; else the name.
 */
static void unified_version(const char *name, char version[EXT2_NAME_LEN + 1])
{
	size_t from = 0, len = strlen(name) - 4, plus = strcspn(name, "+");

	for (size_t i = 0; i < len; i++) {
		size_t digits = strspn(name + i, "0123456789");

		if (digits && name[i + digits] == '.' && (!i || strchr("-_", name[i - 1]))) {
			from = i;
			break;
		}
		i += digits ? digits - 1 : 0;
	}
	if (plus > from && plus < len && isdigit((unsigned char)name[plus + 1]))
		len = plus;
	snprintf(version, EXT2_NAME_LEN + 1, "%.*s", (int)(len - from), name + from);
}

/* Boot Loader Specification, "Type #2": each file EFI/Linux/NAME.efi. */
static void look_for_unified(struct bootfind *f, struct volume *v, const char *top)
{
	char dir[BOOT_PATH_MAX], path[BOOT_PATH_MAX];
	struct entries entries;
	struct node node;

	if (volume_find(v, join(dir, top, "EFI/Linux"), true, &node, NULL) ||
	    volume_list(v, &node, dir, &entries, NULL))
		return;
	for (size_t i = 0; i < entries.n; i++) {
		const char *name = entries.e[i].name;
		size_t len = strlen(name);
		struct boot_choice *c;
		ext2_ino_t ino = 0;

		if (len > 4 && len <= EXT2_NAME_LEN && !strcasecmp(name + len - 4, ".efi"))
			ino = file_at(v, join(path, dir, name));
		c = ino && !find_choice(f, v, ino) ? add_choice(f, v, ino) : NULL;
		if (!c)
			continue;
		memcpy(c->kernel, path, sizeof(path));
		unified_version(name, c->version);
		c->unified = c->has_options = c->unknown_words = true;
	}
	volume_free_entries(&entries);
}

void bootlist_add(struct bootfind *f, struct volume *v, const char *dir)
{
	look_for_names(f, v, dir);
	read_loaders(f, v, dir);
	look_for_unified(f, v, dir);
}
