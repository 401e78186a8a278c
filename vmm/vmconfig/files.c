/*
 * vmconfig/files: looks at the files that a VmConfig names.
 *
 * Only files and block devices are opened, because others may react to it (a fifo, a terminal), and
 * never for longer than the look.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/store/store.h"
#include "vmm/vmconfig/vmconfig_impl.h"

#define DISKS_MAX 31

/* How a file is looked at. */
#define WRITES 1u
#define DEVICE 2u   /* it may be a block device */
#define MAY_COME 4u /* it may be made before the VM boots */

/* A file that a disk before has named. */
struct seen {
	dev_t dev;
	ino_t ino;
	bool writes;
	char where[40];
};

struct look {
	struct vmconfig_walk *w;
	const json_t *
		only; /* this device is new, and no other is of interest by itself; NULL: all are */
	unsigned n;
	struct seen disk[DISKS_MAX];
};

static int sys_fail(struct vmconfig_walk *w, int code, const char *where, const char *path)
{
	return err_sys(w->err, code, "%s: %s", where, path);
}

/* Returns 0 if the file is good or missing; a missing one leaves st->st_mode 0. */
static int look_at(struct vmconfig_walk *w, const char *where, const char *path, unsigned how,
		   struct stat *st)
{
	int fd;

	st->st_mode = 0;
	if (stat(path, st)) {
		if (errno != ENOENT || !(how & MAY_COME))
			return sys_fail(w, errno, where, path);
		vmconfig_warn(w, where, "%s: is missing; it must be there when the VM boots", path);
		st->st_mode = 0;
		return 0;
	}
	if (S_ISDIR(st->st_mode))
		return sys_fail(w, EISDIR, where, path);
	if (!S_ISREG(st->st_mode) && !(how & DEVICE && S_ISBLK(st->st_mode)))
		return vmconfig_fail(w, EINVAL, where, "%s: is not a file%s", path,
				     how & DEVICE ? " or block device" : "");
	fd = open(path, (how & WRITES ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return sys_fail(w, errno, where, path);
	close(fd);
	return 0;
}

/*
 * Boot refuses an image that is raw by its name and qcow2 by its content, because a guest can write
 * such a content, one that is not what it is said to be, and a backing file that is not allowed. An
 * empty file may still be written before that.
 */
static int look_at_type(struct vmconfig_walk *w, const char *where, const char *path,
			const json_t *disk, const struct stat *st)
{
	const char *type = vmconfig_text(disk, "image_type");
	enum store_format format;

	if (type && strcmp(type, "Unknown") != 0)
		format = !strcmp(type, "Raw") ? STORE_RAW : STORE_QCOW2;
	else if (store_format_guess(path, &format))
		return vmconfig_fail(
			w, EINVAL, where,
			"%s: begins like a qcow2 image but is not named .qcow2; set image_type "
			"to Qcow2, or to Raw if a guest wrote that there",
			path);
	if (format == STORE_QCOW2 && (!S_ISREG(st->st_mode) || st->st_size) &&
	    store_format_of_content(path) != STORE_QCOW2)
		return vmconfig_fail(w, EINVAL, where,
				     "%s: is not a qcow2 image; set image_type to Raw to open it "
				     "as it is",
				     path);
	if (format == STORE_QCOW2 && !vmconfig_bool(disk, "backing_files") &&
	    store_has_backing(path))
		return vmconfig_fail(
			w, EINVAL, where,
			"%s: has a backing file; set backing_files to true if it may be "
			"read",
			path);
	return 0;
}

/* A second writer would be refused at boot. */
static int look_at_disk(struct look *look, const char *where, const json_t *disk)
{
	struct seen *s = &look->disk[look->n];
	bool writes = !vmconfig_bool(disk, "readonly");
	const char *path = vmconfig_text(disk, "path");
	struct stat st;
	int rc;

	if (!path)
		return 0;
	snprintf(s->where, sizeof(s->where), "%.30s.path", where);
	if (look->only && look->only != disk) {
		if (stat(path, &st))
			return 0;
	} else {
		rc = look_at(look->w, s->where, path, MAY_COME | DEVICE | (writes ? WRITES : 0),
			     &st);
		if (!rc && st.st_mode)
			rc = look_at_type(look->w, s->where, path, disk, &st);
		if (rc || !st.st_mode)
			return rc;
	}
	if (look->n == DISKS_MAX - 1)
		return 0;
	s->dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	s->ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	s->writes = writes;
	for (unsigned i = 0; i < look->n; i++) {
		const struct seen *o = &look->disk[i];

		if (o->dev == s->dev && o->ino == s->ino && (o->writes || s->writes))
			return vmconfig_fail(look->w, EBUSY, s->where,
					     "%s: %s uses it, too, and one of them writes", path,
					     o->where);
	}
	look->n++;
	return 0;
}

/* A file or socket is made in a folder that must be there. */
static int look_at_new(struct vmconfig_walk *w, const char *where, const char *path)
{
	char buf[PATH_MAX];

	snprintf(buf, sizeof(buf), "%s", path);
	return access(dirname(buf), W_OK | X_OK) ? sys_fail(w, errno, where, path) : 0;
}

/* A file is appended to, or made; it may be anything that can be written. */
static int look_at_console(struct vmconfig_walk *w, const char *where, const json_t *console)
{
	const char *mode = vmconfig_text(console, "mode");
	const char *file = vmconfig_text(console, "file"), *path = vmconfig_text(console, "socket");
	char name[32];
	struct stat st;

	if (!strcmp(mode, "File")) {
		snprintf(name, sizeof(name), "%.20s.file", where);
		if (stat(file, &st))
			return look_at_new(w, name, file);
		if (S_ISDIR(st.st_mode))
			return sys_fail(w, EISDIR, name, file);
		return access(file, W_OK) ? sys_fail(w, errno, name, file) : 0;
	}
	snprintf(name, sizeof(name), "%.20s.socket", where);
	return strcmp(mode, "Socket") != 0 ? 0 : look_at_new(w, name, path);
}

/* It may be any kind of file that has bytes. */
static int look_at_source(struct vmconfig_walk *w, const char *path)
{
	struct stat st;

	if (stat(path, &st) || access(path, R_OK))
		return sys_fail(w, errno, "rng.src", path);
	return S_ISDIR(st.st_mode) ? sys_fail(w, EISDIR, "rng.src", path) : 0;
}

static int look_at_device(void *opaque, const struct vmconfig_place *place, json_t *device,
			  const char *where)
{
	struct look *look = opaque;

	if (look->only && look->only != device && place->object != VMCONFIG_DISK)
		return 0;
	switch (place->object) {
	case VMCONFIG_CONSOLE:
		return look_at_console(look->w, where, device);
	case VMCONFIG_DISK:
		return look_at_disk(look, where, device);
	case VMCONFIG_VSOCK:
		return look_at_new(look->w, "vsock.socket", vmconfig_text(device, "socket"));
	case VMCONFIG_RNG:
		return look_at_source(look->w, vmconfig_text(device, "src"));
	default:
		return 0;
	}
}

int vmconfig_check_device_files(const json_t *vm, const char *id,
				const struct vmconfig_notes *notes, struct err *err)
{
	struct vmconfig_walk w = { .notes = notes, .err = err };
	struct look look = { .w = &w, .only = vmconfig_find_device(vm, id, NULL) };

	return vmconfig_each_device(vm, look_at_device, &look);
}

int vmconfig_check_files(const json_t *vm, const struct vmconfig_notes *notes, struct err *err)
{
	static const char files[][12] = { "kernel", "initramfs" };
	const json_t *payload = json_object_get(vm, "payload");
	struct vmconfig_walk w = { .notes = notes, .err = err };
	struct look look = { .w = &w };
	int rc;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		const char *path = vmconfig_text(payload, files[i]);
		char where[32];
		struct stat st;

		snprintf(where, sizeof(where), "payload.%.11s", files[i]);
		rc = path ? look_at(&w, where, path, i ? 0 : MAY_COME, &st) : 0;
		if (rc)
			return rc;
	}
	rc = look_at_console(&w, "serial", json_object_get(vm, "serial"));
	return rc ? rc : vmconfig_each_device(vm, look_at_device, &look);
}
