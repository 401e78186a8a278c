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
 *
 * The folder may belong to the jail's user, who can change it at any moment: a name in it may be a link to a folder of the
 * host's the next time it is looked at. So each folder is opened once, without following a link, and is the working folder
 * of what is done in it; the calls name "." and what the new file systems alone contain.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
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

/* Makes the folder of a mount in the working folder, or the empty file. */
static int make_place(const char *name, bool is_folder)
{
	int fd;

	if (is_folder)
		return mkdir(name, 0755) && errno != EEXIST ? -errno : 0;
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/*
 * The same name of a device of the host in the new /dev, the working folder, if the host has it: with owned, a node that
 * belongs to the jail's user, who may be none of those that the host lets use it. In a container that may make none, and
 * for the others, the host's.
 */
static int bring_device(const char *name, const struct confine_ids *owned)
{
	char host[64];
	struct stat st;
	int rc;

	snprintf(host, sizeof(host), "/dev/%s", name);
	if (stat(host, &st))
		return 0;
	if (owned && S_ISCHR(st.st_mode) && !mknod(name, S_IFCHR | 0600, st.st_rdev))
		return chown(name, owned->uid, owned->gid) ? -errno : 0;
	rc = make_place(name, S_ISDIR(st.st_mode));
	return rc ? rc : mount(host, name, NULL, MS_BIND, NULL) ? -errno : 0;
}

static int fill_dev(const struct confine_ids *user, bool ptys)
{
	static const char owned[][12] = { "kvm", "net/tun", "vhost-net", "vhost-vsock" };
	int rc = 0;

	/* With the API the process's umask leaves others nothing. */
	if (mkdir("net", 0755) || chmod("net", 0755))
		return -errno;
	for (size_t i = 0; !rc && i < sizeof(owned) / sizeof(owned[0]); i++)
		rc = bring_device(owned[i], user);
	if (!rc)
		rc = bring_device("null", NULL);
	if (!rc)
		rc = bring_device("urandom", NULL);
	if (!rc && ptys)
		rc = bring_device("pts", NULL);
	/* A node of its own, since the kernel looks for "pts" beside it. */
	if (!rc && ptys && (mknod("ptmx", S_IFCHR, PTMX) || chmod("ptmx", 0666)))
		rc = -errno;
	if (!rc && mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | FLAGS, NULL))
		rc = -errno;
	return rc;
}

static int open_folder(int above, const char *name)
{
	int fd = openat(above, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/*
 * Mounts the new file system over the working folder, which is top's "dev", and makes what is in it. A file system has no
 * name but its place's, and another folder may stand there by now: it is none that was mounted this moment.
 */
static int mount_dev(int top, const struct confine_ids *user, bool ptys)
{
	struct stat below, st;
	struct statfs fs;
	int dev, rc;

	if (stat(".", &below) || mount("jail", ".", "tmpfs", FLAGS, "mode=755"))
		return -errno;
	dev = open_folder(top, "dev");
	if (dev < 0)
		return dev;
	if (fstat(dev, &st) || fstatfs(dev, &fs) || fchdir(dev))
		rc = -errno;
	else if (fs.f_type != TMPFS_MAGIC || st.st_dev == below.st_dev)
		rc = -EBUSY;
	else
		rc = fill_dev(user, ptys);
	close(dev);
	return rc;
}

/* Linux before 5.8 hides no processes by mount. */
static int mount_proc(void)
{
	unsigned long flags = MS_RDONLY | MS_NODEV | FLAGS;

	return mount("proc", ".", "proc", flags, "hidepid=ptraceable") &&
			       mount("proc", ".", "proc", flags, NULL) ?
		       -errno :
		       0;
}

/*
 * Makes the place of a mount, in top, the working folder: 1 if it was there, or has been made; 0 if something is in it
 * already, or in a dry run.
 */
static int enter_place(int top, const char *name, const char *sign, bool dry_run)
{
	int fd = open_folder(top, name), rc = 1;
	struct stat st;

	if (fd == -ENOENT && dry_run)
		return 0;
	if (fd == -ENOENT) {
		if (mkdirat(top, name, 0755))
			return -errno;
		fd = open_folder(top, name);
	}
	if (fd < 0)
		return fd;
	if (!fstatat(fd, sign, &st, AT_SYMLINK_NOFOLLOW))
		rc = 0;
	else if (fchdir(fd))
		rc = -errno;
	close(fd);
	return rc;
}

static int fill(const struct confine_jail *jail, int top, const struct confine_ids *user, bool ptys,
		struct err *err)
{
	int rc = enter_place(top, "dev", "kvm", jail->dry_run);

	if (rc > 0)
		rc = mount_dev(top, user, ptys);
	errno = -rc;
	if (rc < 0)
		return refused(jail->chroot, "its folder dev", err);
	rc = enter_place(top, "proc", "self", jail->dry_run);
	if (rc > 0)
		rc = mount_proc();
	errno = -rc;
	return rc < 0 ? refused(jail->chroot, "its folder proc", err) : 0;
}

/*
 * Binds the folder to itself, with all that is mounted below: a disk may be. Returns a descriptor of the bound one. "." as
 * the path would go on meaning the folder below its mount.
 */
static int bind_folder(const char *path)
{
	struct stat before, after;
	int below = open_folder(AT_FDCWD, path), top;

	if (below < 0)
		return below;
	if (fstat(below, &before) || fchdir(below) || mount(".", ".", NULL, MS_BIND | MS_REC, NULL))
		top = -errno;
	else
		top = open_folder(AT_FDCWD, path);
	close(below);
	if (top >= 0 && (fstat(top, &after) || before.st_dev != after.st_dev ||
			 before.st_ino != after.st_ino)) {
		close(top);
		return -EBUSY;
	}
	return top;
}

int confine_chroot(const struct confine_jail *jail, const struct confine_ids *user, bool ptys,
		   struct err *err)
{
	const char *dir = jail->chroot;
	char path[PATH_MAX];
	struct stat st;
	int top, rc;

	if (!realpath(dir, path) || stat(path, &st) || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR)))
		return refused(dir, "the folder", err);
	if (!path[1])
		return err_set(err, EINVAL, "--chroot %s: must be a folder below the root", dir);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return refused(dir, "a mount namespace", err);
	top = bind_folder(path);
	errno = -top;
	if (top < 0)
		return refused(dir, "the folder", err);
	rc = fill(jail, top, user, ptys, err);
	/* The old root comes to lie over the new one, where it is taken away. */
	if (!rc && (fchdir(top) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
		    chdir("/")))
		rc = refused(dir, "the new root", err);
	close(top);
	return rc;
}
