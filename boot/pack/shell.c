/*
 * shell: see shell.h.
 *
 * Busybox tells its programs by --list, but nothing of the host is run here (executable.h). Their names lie
 * in it as its table applet_names: strings in alphabetical order, from "[" on. A busybox in which that is
 * not found is packed with its shell alone.
 */
#include "boot/pack/shell.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/pack/executable.h"
#include "boot/pack/object.h"
#include "boot/pack/source.h"

#define BUSYBOX_MAX (32u << 20)
#define APPLETS_MAX 1000u
#define NAME_MAX_BYTES 32u

/* An array of arrays: pointers would be relocated in every start of a VM. */
static const char tools[][9] = {
	"bash",	   "blockdev", "cat",	  "chmod",   "chown", "cp",	"cut",	  "date",
	"dd",	   "df",       "dmesg",	  "du",	     "echo",  "env",	"false",  "find",
	"free",	   "grep",     "head",	  "hexdump", "id",    "insmod", "ip",	  "kill",
	"less",	   "ln",       "ls",	  "lsblk",   "lsmod", "lspci",	"mkdir",  "mknod",
	"mktemp",  "modprobe", "more",	  "mount",   "mv",    "nproc",	"od",	  "ps",
	"pwd",	   "readlink", "rm",	  "rmdir",   "rmmod", "sed",	"seq",	  "sh",
	"sleep",   "sort",     "stat",	  "strace",  "stty",  "sync",	"sysctl", "tail",
	"taskset", "tee",      "timeout", "top",     "touch", "tr",	"true",	  "umount",
	"uname",   "vi",       "wc",	  "which",   "xargs",
};

/* One program of busybox as a link, unless the guest has one of that name. */
static int add_applet(struct pack *pack, const char *name, struct err *err)
{
	static const char *const dirs[] = { "/bin", "/sbin", "/usr/bin", "/usr/sbin" };
	char path[NAME_MAX_BYTES + 16];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (pack_has(pack, path))
			return 0;
	}
	snprintf(path, sizeof(path), "/bin/%s", name);
	return pack_add_link(pack, path, "/bin/busybox", err);
}

/* Is the string at `at` the name of a program that comes behind prev? */
static bool is_applet(const char *at, const char *prev)
{
	size_t len = strnlen(at, NAME_MAX_BYTES);

	return len && len < NAME_MAX_BYTES &&
	       strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_.+-[") == len &&
	       strcmp(prev, at) < 0;
}

/* data has a NUL behind it. */
static int add_applets(struct pack *pack, const char *data, size_t len, struct err *err)
{
	static const char begin[] = "\0[\0[[\0a";
	const char *at = memmem(data, len, begin, sizeof(begin) - 1), *prev = "";
	int ret = 0;

	if (at)
		at++;
	for (unsigned i = 0;
	     at && !ret && i < APPLETS_MAX && at < data + len && is_applet(at, prev); i++) {
		ret = add_applet(pack, at, err);
		prev = at;
		at += strlen(at) + 1;
	}
	return ret;
}

/* Returns 1 if the host's busybox is not there, or not static. */
static int add_busybox(struct pack *pack, const char *root, struct err *err)
{
	struct pack_source source;
	struct pack_object object;
	char path[PATH_MAX], *data;
	int ret;

	snprintf(path, sizeof(path), "%s/bin/busybox", root);
	if (pack_source_open(&source, path, false, NULL))
		return 1;
	ret = source.size_bytes > BUSYBOX_MAX || pack_object_read(&source, &object, NULL);
	if (!ret) {
		ret = object.interpreter != NULL;
		pack_object_free(&object);
	}
	data = ret ? NULL : calloc(1, (size_t)source.size_bytes + NAME_MAX_BYTES);
	if (!ret && !data)
		ret = err_sys(err, ENOMEM, "%s", path);
	if (!ret)
		ret = pack_source_read(&source, 0, data, (size_t)source.size_bytes, err);
	if (!ret && !pack_has(pack, "/bin/busybox"))
		ret = pack_add_file(pack, "/bin/busybox", path, err);
	if (!ret)
		ret = add_applet(pack, "sh", err);
	if (!ret)
		ret = add_applets(pack, data, (size_t)source.size_bytes, err);
	free(data);
	pack_source_close(&source);
	return ret;
}

int pack_add_shell(struct pack *pack, const char *root, struct err *err)
{
	char path[PATH_MAX];
	int ret = add_busybox(pack, root, err);

	if (ret <= 0)
		return ret;
	ret = pack_has(pack, "/bin/sh") ? 0 : pack_add_executable(pack, NULL, "/bin/sh", err);
	for (size_t i = 0; !ret && i < sizeof(tools) / sizeof(tools[0]); i++) {
		if (!pack_find_program(tools[i], path) || *path != '/' || pack_has(pack, path))
			continue;
		/* One that the host itself could not run is left out. */
		ret = pack_add_executable(pack, NULL, path, err);
		ret = ret == -ENOENT || ret == -ENOEXEC ? 0 : ret;
	}
	return ret;
}

int pack_add_users(struct pack *pack, struct err *err)
{
	static const struct {
		char name[12], text[96];
	} files[] = {
		{ "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
				 "nobody:x:65534:65534:nobody:/:/bin/false\n" },
		{ "/etc/group", "root:x:0:\nnogroup:x:65534:\n" },
		{ "/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n" },
	};
	int ret = 0;

	for (size_t i = 0; !ret && i < sizeof(files) / sizeof(files[0]); i++)
		if (!pack_has(pack, files[i].name))
			ret = pack_add_bytes(pack, files[i].name, 0644, files[i].text,
					     strlen(files[i].text), err);
	return ret;
}
