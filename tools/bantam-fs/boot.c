/*
 * boot: bantam-fs boot STATUS_FD KERNEL_FD INITRD_FD SUM_FD BYTES_MAX FORMAT IMAGE, for
 * bantam run.
 *
 * Finds what the distribution in the image would boot, copies its kernel and initrd to the two
 * descriptors and writes the rest to STATUS_FD, one line each: "kernel PATH", "initrd PATH",
 * "options TEXT", "root TEXT" ("@N": partition N of this disk, whose name the guest chooses),
 * "rw 0|1", "where TEXT", "note TEXT", and "done"; or "error TEXT". SUM_FD gets the kernel's
 * SHA-256. The process that opened the image computes this sum, because other VMs rely on it and
 * the confined process, which parses the image, is not trusted.
 *
 * The newest kernel that has an initrd wins; then the newest of all; rescue kernels come last.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/distro.h"
#include "tools/bantam-fs/fs.h"
#include "vmm/core/helper.h"
#include "vmm/core/printable.h"

#define CPU_MAX_S 60u
#define PATH_BYTES 600u

struct finder {
	struct volumes all;
	struct volume *root; /* NULL: none that we can read */
	struct volume *v;    /* the volume with the kernel */
	const char *dir;     /* the kernel's folder in v: "/boot" or "/" */
	char kernel[EXT2_NAME_LEN + 1], initrd[EXT2_NAME_LEN + 1]; /* names in dir */
	struct distro_options options;
	char root_spec[280];
	bool rw;
	struct err *err;
};

/* Returns true if v looks like a root file system. */
static bool is_root(struct volume *v)
{
	return v->fs && volume_has(v, "/etc") && (volume_has(v, "/usr") || volume_has(v, "/sbin"));
}

/* --- the kernel ------------------------------------------------------------------------------- */

static const char *join(char path[PATH_BYTES], const char *dir, const char *name)
{
	snprintf(path, PATH_BYTES, "%s%s%s", dir, dir[1] ? "/" : "", name);
	return path;
}

static bool is_file(struct volume *v, const char *dir, const char *name)
{
	char path[PATH_BYTES];
	struct node node;

	return !volume_find(v, join(path, dir, name), true, &node, NULL) &&
	       LINUX_S_ISREG(node.inode.i_mode) && EXT2_I_SIZE(&node.inode);
}

static bool has_name(const struct entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->n; i++)
		if (!strcmp(entries->e[i].name, name))
			return true;
	return false;
}

static void find_initrd(struct volume *v, const char *dir, const struct entries *entries,
			const char *version, char initrd[EXT2_NAME_LEN + 1])
{
	for (unsigned i = 0; distro_initrd_name(i, version, initrd, EXT2_NAME_LEN + 1); i++)
		if (has_name(entries, initrd) && is_file(v, dir, initrd))
			return;
	*initrd = 0;
}

/* Returns true if the candidate is a better choice than the kernel in f. */
static bool is_better(const struct finder *f, const char *kernel, const char *initrd)
{
	const char *version = distro_kernel_version(kernel), *best;

	if (!*f->kernel)
		return true;
	best = distro_kernel_version(f->kernel);
	if (distro_is_rescue(version) != distro_is_rescue(best))
		return distro_is_rescue(best);
	if (!*initrd != !*f->initrd)
		return *initrd;
	return distro_compare_versions(version, best) > 0;
}

static void look_in(struct finder *f, struct volume *v, const char *dir)
{
	char initrd[EXT2_NAME_LEN + 1];
	struct entries entries;
	struct node node;

	if (volume_find(v, dir, true, &node, NULL) || volume_list(v, &node, dir, &entries, NULL))
		return;
	for (size_t i = 0; i < entries.n; i++) {
		const char *name = entries.e[i].name, *version = distro_kernel_version(name);

		if (!version || !is_file(v, dir, name))
			continue;
		find_initrd(v, dir, &entries, version, initrd);
		if (!is_better(f, name, initrd))
			continue;
		f->v = v;
		f->dir = dir;
		strcpy(f->kernel, name);
		strcpy(f->initrd, initrd);
	}
	volume_free_entries(&entries);
}

/* The volume that spec names ("UUID=…", "LABEL=…", "PARTUUID=…", "/dev/vda1"), or NULL. */
static struct volume *volume_of_spec(struct finder *f, const char *spec)
{
	static const char *const disks[] = { "/dev/vda", "/dev/sda", "/dev/xvda", "/dev/nvme0n1p" };
	char text[256];

	/* fstab quotes labels with spaces. */
	snprintf(text, sizeof(text), "%s", spec);
	for (char *c = text; (c = strchr(c, '"'));)
		memmove(c, c + 1, strlen(c));
	for (unsigned i = 0; i < f->all.n; i++) {
		struct volume *v = &f->all.v[i];

		if ((!strncmp(text, "UUID=", 5) && *v->uuid && !strcasecmp(text + 5, v->uuid)) ||
		    (!strncmp(text, "LABEL=", 6) && *v->label && !strcmp(text + 6, v->label)) ||
		    (!strncmp(text, "PARTUUID=", 9) && *v->part.partuuid &&
		     !strcasecmp(text + 9, v->part.partuuid)))
			return v;
		for (size_t k = 0; k < sizeof(disks) / sizeof(disks[0]); k++) {
			char name[32];

			snprintf(name, sizeof(name), v->part.number ? "%s%u" : "%s", disks[k],
				 v->part.number);
			if (!strcmp(text, name))
				return v;
		}
	}
	return NULL;
}

static bool fstab_spec(struct volume *root, const char *dir, char *spec, size_t len)
{
	char *fstab = root ? volume_read_text(root, "/etc/fstab") : NULL;
	bool found = fstab && distro_fstab(fstab, dir, spec, len);

	free(fstab);
	return found;
}

static int find_kernel(struct finder *f)
{
	char spec[256], text[300];
	struct volume *boot = NULL;

	/* A file system mounted on /boot hides the root's own /boot. */
	if (fstab_spec(f->root, "/boot", spec, sizeof(spec)))
		boot = volume_of_spec(f, spec);
	if (boot && boot->fs)
		look_in(f, boot, "/");
	for (unsigned i = 0; !*f->kernel && i < f->all.n; i++)
		if (f->all.v[i].fs && f->all.v[i].part.role == PART_ROLE_BOOT)
			look_in(f, &f->all.v[i], "/");
	if (*f->kernel)
		return 0;
	for (unsigned i = 0; i < f->all.n; i++)
		if (f->all.v[i].fs)
			look_in(f, &f->all.v[i], is_root(&f->all.v[i]) ? "/boot" : "/");
	if (*f->kernel)
		return 0;
	return err_set(f->err, ENOENT,
		       "no kernel (vmlinuz-…) in /boot of an ext2, ext3 or ext4 file "
		       "system to boot from (%s); give --kernel",
		       volumes_text(&f->all, text, sizeof(text)));
}

/* --- its options ------------------------------------------------------------------------------ */

static bool from_entries(struct finder *f, char options[DISTRO_OPTIONS_MAX])
{
	static const char *const envs[] = { "grub2/grubenv", "grub/grubenv" };
	char dir[PATH_BYTES], path[2 * PATH_BYTES], *grubenv = NULL;
	struct entries entries = { 0 };
	bool found = false;
	struct node node;

	if (volume_find(f->v, join(dir, f->dir, "loader/entries"), true, &node, NULL) ||
	    volume_list(f->v, &node, dir, &entries, NULL))
		return false;
	for (size_t i = 0; !grubenv && i < sizeof(envs) / sizeof(envs[0]); i++)
		grubenv = volume_read_text(f->v, join(path, f->dir, envs[i]));
	for (size_t i = 0; !found && i < entries.n; i++) {
		char *text;

		snprintf(path, sizeof(path), "%s/%s", dir, entries.e[i].name);
		text = volume_read_text(f->v, path);
		found = text && distro_bls_options(text, f->kernel, grubenv, options);
		free(text);
	}
	free(grubenv);
	volume_free_entries(&entries);
	return found;
}

static bool from_config(struct finder *f, const char *name,
			bool (*parse)(const char *text, const char *kernel, char *options),
			char options[DISTRO_OPTIONS_MAX])
{
	char path[PATH_BYTES];
	char *text = volume_read_text(f->v, join(path, f->dir, name));
	bool found = text && parse(text, f->kernel, options);

	free(text);
	return found;
}

static void find_options(struct finder *f)
{
	char options[DISTRO_OPTIONS_MAX] = "", *text;

	if (!from_entries(f, options) &&
	    !from_config(f, "grub/grub.cfg", distro_grub_options, options) &&
	    !from_config(f, "grub2/grub.cfg", distro_grub_options, options) &&
	    !from_config(f, "extlinux.conf", distro_extlinux_options, options) &&
	    !from_config(f, "extlinux/extlinux.conf", distro_extlinux_options, options)) {
		*options = 0;
		text = f->root ? volume_read_text(f->root, "/etc/kernel/cmdline") : NULL;
		if (text)
			snprintf(options, sizeof(options), "%s", text);
		free(text);
	}
	distro_split_options(options, &f->options);
}

/* --- the root file system ----------------------------------------------------------------------- */

static struct volume *find_root(struct finder *f)
{
	struct volume *found = NULL;

	for (unsigned i = 0; i < f->all.n; i++) {
		struct volume *v = &f->all.v[i];

		if (!is_root(v))
			continue;
		if (v->part.role == PART_ROLE_ROOT)
			return v;
		found = found ? found : v;
	}
	return found;
}

/* Writes the root= value: an initrd finds file systems, the kernel alone only partitions. */
static void spec_of(struct finder *f, const struct volume *v)
{
	if (*f->initrd && *v->uuid)
		snprintf(f->root_spec, sizeof(f->root_spec), "UUID=%s", v->uuid);
	else if (*v->part.partuuid)
		snprintf(f->root_spec, sizeof(f->root_spec), "PARTUUID=%s", v->part.partuuid);
	else
		snprintf(f->root_spec, sizeof(f->root_spec), "@%u", v->part.number);
}

static int settle_root(struct finder *f)
{
	struct volume *said = volume_of_spec(f, f->options.root);
	char spec[256], text[300];

	if (said && said->fs)
		f->root = said;
	else if (is_root(f->v))
		f->root = f->v;
	if (f->root && (said || !*f->options.root || is_root(f->root))) {
		spec_of(f, f->root);
	} else if (*f->options.root) {
		/* We cannot read this root (btrfs, LVM …): pass the distribution's value on. */
		snprintf(f->root_spec, sizeof(f->root_spec), "%s", f->options.root);
	} else {
		return err_set(f->err, ENOENT,
			       "it has a kernel, but which of its file systems is "
			       "the root is not clear (%s); give --kernel, --initrd and --cmdline",
			       volumes_text(&f->all, text, sizeof(text)));
	}
	/* Without a line in fstab nothing in the guest remounts the root writable later. */
	f->rw = f->options.rw >= 0 ? f->options.rw :
				     f->root && !fstab_spec(f->root, "/", spec, sizeof(spec));
	return 0;
}

/* --- results ---------------------------------------------------------------------------------- */

struct copy {
	int fd;
	int error;
};

static int put(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	struct copy *c = opaque;

	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(c->fd, (const char *)bytes + done, len - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			c->error = n ? errno : ENOSPC;
			return -ECANCELED;
		}
		done += (size_t)n;
	}
	return 0;
}

static int copy_out(struct finder *f, const char *name, int fd, uint64_t bytes_max)
{
	struct copy c = { fd, 0 };
	char path[PATH_BYTES];
	struct node node;
	int rc = volume_find(f->v, join(path, f->dir, name), true, &node, f->err);

	if (rc)
		return rc;
	if (EXT2_I_SIZE(&node.inode) > bytes_max)
		return err_set(f->err, E2BIG, "%s: %llu MiB are more than the guest's memory", path,
			       (unsigned long long)(EXT2_I_SIZE(&node.inode) >> 20));
	/* Set the full size first: the file may end in a hole. */
	if (EXT2_I_SIZE(&node.inode) && put(&c, EXT2_I_SIZE(&node.inode) - 1, "", 1))
		return err_sys(f->err, c.error, "%s", path);
	rc = volume_read(f->v, &node, path, put, &c, f->err);
	return c.error ? err_sys(f->err, c.error, "%s", path) : rc;
}

static void tell(struct finder *f, FILE *out)
{
	char path[PATH_BYTES];

	fprintf(out, "kernel %s\n", printable(strdupa(join(path, f->dir, f->kernel))));
	if (*f->initrd)
		fprintf(out, "initrd %s\n", printable(strdupa(join(path, f->dir, f->initrd))));
	fprintf(out, "options %s\nroot %s\nrw %d\n", f->options.rest, f->root_spec, f->rw);
	if (f->v->part.number)
		fprintf(out, "where partition %u\n", f->v->part.number);
	if (f->v->dirty)
		fprintf(out,
			"note %s was not unmounted cleanly: a kernel that was installed just "
			"before may be missed\n",
			"its file system with /boot");
	fprintf(out, "done\n");
}

static int find(struct finder *f, struct store *s, int kernel_fd, int initrd_fd, int ready_fd,
		uint64_t bytes_max)
{
	int rc = volumes_open(s, &f->all, f->err);

	if (rc)
		return rc;
	f->root = find_root(f);
	rc = find_kernel(f);
	if (rc)
		return rc;
	find_options(f);
	rc = settle_root(f);
	if (!rc)
		rc = copy_out(f, f->kernel, kernel_fd, bytes_max);
	/* Tell the other process that the kernel is complete. */
	if (!rc && write(ready_fd, "", 1) != 1)
		rc = err_sys(f->err, errno, "pipe");
	if (!rc && *f->initrd)
		rc = copy_out(f, f->initrd, initrd_fd, bytes_max);
	return rc;
}

/* The confined process. It shares only the store with its parent. */
static int work(struct store *store, char **argv, int status_fd, int ready_fd)
{
	struct finder *f = calloc(1, sizeof(*f));
	struct err err = { "" }, why = { "" };
	uint64_t bytes_max = strtoull(argv[6], NULL, 10);
	FILE *out = fdopen(status_fd, "w");
	int rc = 0;

	if (!f || !out)
		return 1;
	f->err = &why;
	if (!confine(bytes_max, CPU_MAX_S))
		rc = err_sys(&why, errno, "cannot give up privileges");
	if (!rc)
		rc = find(f, store, atoi(argv[3]), atoi(argv[4]), ready_fd, bytes_max);
	if (rc) {
		err_set(&err, -rc, "disk %s: %s", argv[8], why.text);
		fprintf(out, "error %s\n", err.text);
	} else {
		tell(f, out);
	}
	return fflush(out) ? 1 : rc != 0;
}

static void hash(int kernel_fd, int sum_fd)
{
	uint8_t buf[65536], digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	uint64_t at = 0;
	ssize_t n;

	sha256_init(&ctx);
	while ((n = pread(kernel_fd, buf, sizeof(buf), (off_t)at)) > 0) {
		sha256_update(&ctx, (size_t)n, buf);
		at += (uint64_t)n;
	}
	sha256_digest(&ctx, sizeof(digest), digest);
	if (!n && write(sum_fd, digest, sizeof(digest)) < 0)
		return;
}

/* Seals the kernel, so that its content is final, and hashes it for the kernel cache. */
static void tell_sum(int kernel_fd, int sum_fd, int ready_fd)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	char go;

	/* The confined process copies the initrd meanwhile. */
	if (read(ready_fd, &go, 1) != 1 || fcntl(kernel_fd, F_ADD_SEALS, seals))
		return;
	hash(kernel_fd, sum_fd);
}

static int watch(pid_t pid, char **argv, int ready_fd)
{
	int status, status_fd = atoi(argv[2]);

	tell_sum(atoi(argv[3]), atoi(argv[5]), ready_fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (WIFSIGNALED(status))
		dprintf(status_fd,
			"\nerror disk %s: its file system is damaged: the reader was ended by "
			"signal %d (%s)\n",
			argv[8], WTERMSIG(status), strsignal(WTERMSIG(status)));
	return status != 0;
}

int boot_main(int argc, char **argv)
{
	struct store_options options = { .readonly = true };
	struct store *store = NULL;
	struct err err = { "" };
	int ready[2];
	pid_t pid;

	if (argc != 9 || store_format_parse(argv[7], &options.format)) {
		fprintf(stderr, "bantam-fs boot: started by bantam run, not by hand\n");
		return 2;
	}
	helper_keep_only((int[]){ atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]) }, 4);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	options.path = argv[8];
	if (store_open(&options, &store, &err)) {
		dprintf(atoi(argv[2]), "error %s\n", err.text);
		return 1;
	}
	if (pipe2(ready, O_CLOEXEC))
		return 1;
	pid = fork();
	if (pid) {
		close(ready[1]);
		return pid < 0 ? 1 : watch(pid, argv, ready[0]);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Only the parent may write the sum. */
	close(atoi(argv[5]));
	_exit(work(store, argv, atoi(argv[2]), ready[1]));
}
