/*
 * limits: the keys of --limit. See jail_impl.h, cgroups(7), Documentation/admin-guide/cgroup-v2.rst of Linux (5-3 IO, 5-1
 * CPU, 5-2 Memory, 5-6 PID), setrlimit(2).
 *
 * Theory of operation. A table says for each key which file of the group takes it, and of which controller that is. A
 * group has the files of those controllers only that the group above hands down, so a file that is not there means a
 * missing controller. The limits of disks concern a device of the host: the whole disk on which a disk of the VM lies.
 * Disks that come later get them, too (confine_limits_more): by a descriptor, because the group's folder is out of reach
 * then.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/confine/jail_impl.h"
#include "vmm/core/parse.h"

/* The kernel's own default, and its least quota. */
#define CPU_PERIOD_US 100000u
#define CPU_QUOTA_MIN_US 1000u
#define CPUS_MAX 100000u

enum { L_MEMORY, L_SWAP, L_CPUS, L_PIDS, L_RBPS, L_WBPS, L_RIOPS, L_WIOPS, L_FILES, L_FILE_SIZE };

const struct key confine_limit_keys[] = {
	[L_MEMORY] = { "memory", KEY_SIZE, .min = 1 << 20, .max = 1ull << 50, .meta = "SIZE",
		       .help = "memory of the group: the guest's, and the process's own" },
	[L_SWAP] = { "swap", KEY_SIZE, .meta = "SIZE", .help = "what of it may be swapped out" },
	[L_CPUS] = { "cpus", KEY_TEXT, .meta = "N",
		     .help = "processors of the group, such as 1.5" },
	[L_PIDS] = { "pids", KEY_NUM, .min = 1, .max = 1 << 22, .meta = "N",
		     .help = "processes and threads of the group" },
	[L_RBPS] = { "rbps", KEY_SIZE, .min = 1, .max = 1ull << 50, .meta = "SIZE",
		     .help = "bytes a second read from each host device with a disk" },
	[L_WBPS] = { "wbps", KEY_SIZE, .min = 1, .max = 1ull << 50, .meta = "SIZE",
		     .help = "bytes a second written to it" },
	[L_RIOPS] = { "riops", KEY_NUM, .min = 1, .max = UINT32_MAX - 1, .meta = "N",
		      .help = "reads a second" },
	[L_WIOPS] = { "wiops", KEY_NUM, .min = 1, .max = UINT32_MAX - 1, .meta = "N",
		      .help = "writes a second" },
	[L_FILES] = { "files", KEY_NUM, .min = 32, .max = 1 << 20, .meta = "N",
		      .help = "open descriptors of the process" },
	[L_FILE_SIZE] = { "file-size", KEY_SIZE, .min = 1 << 12, .max = 1ull << 60, .meta = "SIZE",
			  .help = "the largest file that the process makes or extends" },
	{ 0 },
};

/* Of the keys before L_RBPS. Those of disks have one file. */
static const struct {
	char file[20], controller[8];
} files[] = {
	[L_MEMORY] = { "memory.max", "memory" }, [L_SWAP] = { "memory.swap.max", "memory" },
	[L_CPUS] = { "cpu.max", "cpu" },	 [L_PIDS] = { "pids.max", "pids" },
	[L_RBPS] = { "io.max", "io" },
};

/* "1.5": microseconds of each period; 0 if text is no such number. */
static uint64_t quota_of(const char *text)
{
	uint64_t whole = 0, part = 0, unit = CPU_PERIOD_US;
	size_t digits = strspn(text, "0123456789"), more = 0;

	for (size_t i = 0; i < digits && whole < CPUS_MAX; i++)
		whole = whole * 10 + (uint64_t)(text[i] - '0');
	if (text[digits] == '.') {
		more = strspn(text + digits + 1, "0123456789");
		for (size_t i = 1; i <= more && unit > 1; i++) {
			unit /= 10;
			part += unit * (uint64_t)(text[digits + i] - '0');
		}
		digits++;
	}
	if (text[digits + more] || !(digits + more) || (digits + more == 1 && *text == '.') ||
	    whole >= CPUS_MAX)
		return 0;
	return whole * CPU_PERIOD_US + part;
}

int confine_limits_parse(const char *text, struct keyvals *kv, struct err *err)
{
	int rc = keys_parse(kv, "--limit", confine_limit_keys, text ? text : "", err);

	if (!rc && keys_has(kv, L_CPUS) && quota_of(keys_text(kv, L_CPUS)) < CPU_QUOTA_MIN_US)
		rc = err_set(
			err, EINVAL,
			"--limit: cpus=%s: must be a number of processors such as 1.5, at least 0.01",
			keys_text(kv, L_CPUS));
	return rc;
}

int confine_limits_set(const struct keyvals *kv, struct err *err)
{
	static const struct {
		unsigned key;
		__rlimit_resource_t what;
	} own[] = { { L_FILES, RLIMIT_NOFILE }, { L_FILE_SIZE, RLIMIT_FSIZE } };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		rlim_t most = (rlim_t)keys_num(kv, own[i].key);
		struct rlimit now;

		if (!keys_has(kv, own[i].key) || getrlimit(own[i].what, &now))
			continue;
		/* Only root raises a limit. */
		now.rlim_cur = now.rlim_max = now.rlim_max < most ? now.rlim_max : most;
		if (setrlimit(own[i].what, &now))
			return err_sys(err, errno, "--limit: %s=%s", kv->table[own[i].key].name,
				       keys_text(kv, own[i].key));
	}
	return 0;
}

static bool has_disk_limits(const struct keyvals *kv)
{
	return keys_has(kv, L_RBPS) || keys_has(kv, L_WBPS) || keys_has(kv, L_RIOPS) ||
	       keys_has(kv, L_WIOPS);
}

bool confine_limits_need_group(const struct keyvals *kv)
{
	return keys_has(kv, L_MEMORY) || keys_has(kv, L_SWAP) || keys_has(kv, L_CPUS) ||
	       keys_has(kv, L_PIDS) || has_disk_limits(kv);
}

void confine_limits_controllers(const struct keyvals *kv, char *words, size_t len)
{
	snprintf(words, len, "%s%s%s%s",
		 keys_has(kv, L_MEMORY) || keys_has(kv, L_SWAP) ? " +memory" : "",
		 keys_has(kv, L_CPUS) ? " +cpu" : "", keys_has(kv, L_PIDS) ? " +pids" : "",
		 has_disk_limits(kv) ? " +io" : "");
}

/* --- the group's files -------------------------------------------------------------------- */

static int write_file(int dir, unsigned at, const char *text, const char **missing, struct err *err)
{
	int fd = openat(dir, files[at].file, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 && errno == ENOENT && at == L_SWAP && !faccessat(dir, "memory.max", F_OK, 0))
		return err_set(
			err, ENOTSUP,
			"--limit: swap=…: this kernel does not count swap; boot it with swapaccount=1");
	if (fd < 0 && errno == ENOENT) {
		*missing = files[at].controller;
		return -ENODEV;
	}
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		rc = err_sys(err, errno, "--limit: \"%s\" to %s of the group", text,
			     files[at].file);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* The disk of which a partition is a part; any other device is itself. */
static dev_t whole_disk(dev_t dev)
{
	char path[80], text[32] = "";
	unsigned major, minor;
	int fd;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(dev), minor(dev));
	if (access(path, F_OK))
		return dev;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../dev", major(dev), minor(dev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
	    sscanf(text, "%u:%u", &major, &minor) == 2)
		dev = makedev(major, minor);
	if (fd >= 0)
		close(fd);
	return dev;
}

/* As the VM will open it: below the jail's root if there is one. */
static int stat_disk(const struct confine_jail *jail, const char *path, struct stat *st)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	int root, fd, rc;

	if (!jail->chroot)
		return stat(path, st);
	root = open(jail->chroot, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	rc = fd < 0 ? -1 : fstat(fd, st);
	if (root >= 0)
		close(root);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* *dev: 0 if there is no such file, which the disk tells better. */
static int device_of(const struct confine_jail *jail, const char *path, dev_t *dev, struct err *err)
{
	struct stat st;

	*dev = 0;
	if (stat_disk(jail, path, &st))
		return 0;
	*dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	if (!major(*dev))
		return err_set(
			err, ENOTSUP,
			"--limit: %s lies on a file system without a block device of its own, so rbps, "
			"wbps, riops and wiops have no effect there; use the keys of --disk",
			path);
	*dev = whole_disk(*dev);
	return 0;
}

/* What each device of the host gets (" rbps=1048576"), and io.max of the group; -1: there are no disks later. */
static struct {
	int fd;
	char words[160];
} later = { .fd = -1 };

static void disk_words(const struct keyvals *kv, char *text, size_t len)
{
	size_t at = 0;

	*text = 0;
	for (unsigned key = L_RBPS; key <= L_WIOPS; key++)
		if (keys_has(kv, key))
			at += (size_t)snprintf(text + at, len - at, " %s=%llu", kv->table[key].name,
					       (unsigned long long)keys_num(kv, key));
}

static int keep_for_later(int dir, const char *words, const char **missing, struct err *err)
{
	snprintf(later.words, sizeof(later.words), "%s", words);
	if (later.fd >= 0)
		close(later.fd);
	later.fd = openat(dir, files[L_RBPS].file, O_WRONLY | O_CLOEXEC);
	if (later.fd >= 0)
		return 0;
	if (errno != ENOENT)
		return err_sys(err, errno, "--limit: io.max of the group");
	*missing = files[L_RBPS].controller;
	return -ENODEV;
}

int confine_limits_more(const struct confine_jail *jail, struct err *err)
{
	static const struct confine_jail here; /* the root is the jail's */

	for (unsigned i = 0; later.fd >= 0 && i < jail->ndisks; i++) {
		char text[200];
		dev_t dev;
		int rc = device_of(&here, jail->disk[i], &dev, err), n;

		if (rc)
			return rc;
		if (!dev)
			continue;
		n = snprintf(text, sizeof(text), "%u:%u%s", major(dev), minor(dev), later.words);
		if (pwrite(later.fd, text, (size_t)n, 0) < 0)
			return err_sys(err, errno, "--limit: \"%s\" to io.max of the group", text);
	}
	return 0;
}

static int write_disk_limits(const struct keyvals *kv, int dir, const struct confine_jail *jail,
			     const char **missing, struct err *err)
{
	char words[160];
	unsigned done = 0;

	disk_words(kv, words, sizeof(words));
	if (jail->disks_later) {
		int rc = keep_for_later(dir, words, missing, err);

		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < jail->ndisks; i++) {
		char text[200];
		dev_t dev;
		int rc = device_of(jail, jail->disk[i], &dev, err);

		if (!rc && !dev)
			continue;
		snprintf(text, sizeof(text), "%u:%u%s", major(dev), minor(dev), words);
		if (!rc)
			rc = write_file(dir, L_RBPS, text, missing, err);
		if (rc)
			return rc;
		done++;
	}
	return done || jail->disks_later ?
		       0 :
		       err_set(err, EINVAL,
			       "--limit: rbps, wbps, riops and wiops need a disk of the command line; give --disk FILE");
}

int confine_limits_write(const struct keyvals *kv, int dir, const struct confine_jail *jail,
			 const char **missing, struct err *err)
{
	int rc = 0;

	*missing = NULL;
	for (unsigned key = L_MEMORY; !rc && key <= L_PIDS; key++) {
		char text[64];

		if (!keys_has(kv, key))
			continue;
		if (key == L_CPUS)
			snprintf(text, sizeof(text), "%llu %u",
				 (unsigned long long)quota_of(keys_text(kv, key)), CPU_PERIOD_US);
		else
			snprintf(text, sizeof(text), "%llu", (unsigned long long)keys_num(kv, key));
		rc = write_file(dir, key, text, missing, err);
	}
	return rc || !has_disk_limits(kv) ? rc : write_disk_limits(kv, dir, jail, missing, err);
}
