/*
 * chroot: the root of --chroot. See jail_impl.h, pivot_root(2), mount_namespaces(7), proc(5).
 *
 * Theory of operation. Every path that the process opens from then on leads below the folder, as in Firecracker's jail: the
 * paths of the command line and of the API, the targets of links, the names in images. The process takes a mount namespace
 * of its own, binds the folder to itself there, and makes it the root by pivot_root, which leaves nothing of the host's
 * root behind: a right to call chroot does not lead back.
 *
 * Three things of the host it needs all the same, so they are mounted over the folder, in that namespace only: devices, in
 * a small read-only /dev, unless the folder has a /dev with kvm in it, made for the purpose; /proc, read-only and
 * without the processes of others, by which open files are opened again; and terminals, if the VM makes one. Only the two
 * folders for these, if they are not there, are made on the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/confine/jail_impl.h"

#define FLAGS (MS_NOSUID | MS_NOEXEC)
#define PTMX makedev(5, 2)

/* What stands in a message: the step that the host refuses. */
static int refused(const char *dir, const char *step, struct err *err)
{
	int why = errno;

	if (why == EPERM)
		return err_set(
			err, why,
			"--chroot %s: permission denied (%s); only root can change its root (CAP_SYS_ADMIN)",
			dir, step);
	return err_sys(err, why, "--chroot %s: %s", dir, step);
}

/* Makes the folder of a mount, or the empty file. The path is below one that root has named. */
static int make_place(const char *path, bool is_folder)
{
	int fd;

	if (is_folder)
		return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/*
 * The same name of a device of the host in the new /dev, if the host has it: with owned, a node that belongs to the jail's
 * user, who may be none of those that the host lets use it. In a container that may make none, and for the others, the host's.
 */
static int bring_device(const char *dev, const char *name, const struct confine_ids *owned)
{
	char host[64], at[PATH_MAX];
	struct stat st;
	int rc;

	snprintf(host, sizeof(host), "/dev/%s", name);
	if (snprintf(at, sizeof(at), "%s/%s", dev, name) >= (int)sizeof(at))
		return -ENAMETOOLONG;
	if (stat(host, &st))
		return 0;
	if (owned && S_ISCHR(st.st_mode) && !mknod(at, S_IFCHR | 0600, st.st_rdev))
		return chown(at, owned->uid, owned->gid) ? -errno : 0;
	rc = make_place(at, S_ISDIR(st.st_mode));
	return rc ? rc : mount(host, at, NULL, MS_BIND, NULL) ? -errno : 0;
}

static int mount_dev(const char *dev, const struct confine_ids *user, bool ptys)
{
	static const char owned[][12] = { "kvm", "net/tun", "vhost-net", "vhost-vsock" };
	char at[PATH_MAX];
	int rc = 0;

	if (mount("jail", dev, "tmpfs", FLAGS, "mode=755"))
		return -errno;
	if (snprintf(at, sizeof(at), "%s/net", dev) >= (int)sizeof(at))
		return -ENAMETOOLONG;
	/* With the API the process's umask leaves others nothing. */
	if (mkdir(at, 0755) || chmod(at, 0755))
		return -errno;
	for (size_t i = 0; !rc && i < sizeof(owned) / sizeof(owned[0]); i++)
		rc = bring_device(dev, owned[i], user);
	if (!rc)
		rc = bring_device(dev, "null", NULL);
	if (!rc)
		rc = bring_device(dev, "urandom", NULL);
	if (!rc && ptys)
		rc = bring_device(dev, "pts", NULL);
	/* A node of its own, since the kernel looks for "pts" beside it. */
	if (!rc && ptys && snprintf(at, sizeof(at), "%s/ptmx", dev) < (int)sizeof(at) &&
	    (mknod(at, S_IFCHR, PTMX) || chmod(at, 0666)))
		rc = -errno;
	if (!rc && mount(NULL, dev, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | FLAGS, NULL))
		rc = -errno;
	return rc;
}

/* Linux before 5.8 hides no processes by mount. */
static int mount_proc(const char *proc)
{
	unsigned long flags = MS_RDONLY | MS_NODEV | FLAGS;

	return mount("proc", proc, "proc", flags, "hidepid=ptraceable") &&
			       mount("proc", proc, "proc", flags, NULL) ?
		       -errno :
		       0;
}

/* The place of a mount below dir: 1 if it is there, or was made; 0 if something is in it already, or in a dry run. */
static int place(const struct confine_jail *jail, const char *name, const char *sign,
		 char path[PATH_MAX])
{
	char inside[PATH_MAX + 16];
	struct stat st;
	int rc;

	if (snprintf(path, PATH_MAX, "%s/%s", jail->chroot, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(inside, sizeof(inside), "%s/%s", path, sign);
	if (!lstat(inside, &st))
		return 0;
	if (lstat(path, &st)) {
		rc = jail->dry_run ? -ENOENT : make_place(path, true);
		return rc ? (jail->dry_run ? 0 : rc) : 1;
	}
	return S_ISDIR(st.st_mode) ? 1 : -ENOTDIR;
}

static int fill(const struct confine_jail *jail, const struct confine_ids *user, bool ptys,
		struct err *err)
{
	char path[PATH_MAX];
	int rc = place(jail, "dev", "kvm", path);

	if (rc > 0)
		rc = mount_dev(path, user, ptys);
	errno = -rc;
	if (rc < 0)
		return refused(jail->chroot, "its folder dev", err);
	rc = place(jail, "proc", "self", path);
	if (rc > 0)
		rc = mount_proc(path);
	errno = -rc;
	return rc < 0 ? refused(jail->chroot, "its folder proc", err) : 0;
}

int confine_chroot(const struct confine_jail *jail, const struct confine_ids *user, bool ptys,
		   struct err *err)
{
	const char *dir = jail->chroot;
	struct confine_jail real = *jail;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	/* "." would go on meaning the folder below its mount. */
	if (!realpath(dir, path) || stat(path, &st) || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR)))
		return refused(dir, "the folder", err);
	if (!path[1])
		return err_set(err, EINVAL, "--chroot %s: must be a folder below the root", dir);
	real.chroot = path;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return refused(dir, "a mount namespace", err);
	/* With all that is mounted below: a disk may be. */
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL))
		return refused(dir, "the folder", err);
	rc = fill(&real, user, ptys, err);
	if (rc)
		return rc;
	/* The old root comes to lie over the new one, where it is taken away. */
	if (chdir(path) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
	    chdir("/"))
		return refused(dir, "the new root", err);
	return 0;
}
