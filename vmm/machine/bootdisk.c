/* bootdisk: see bootdisk.h. tools/bantam-fs/boot.c is the helper's side. */
#include "vmm/machine/bootdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/cmdline.h"
#include "devices/backend/store/backing.h"
#include "devices/device.h"
#include "vmm/core/clock.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"
#include "vmm/core/printable.h"

#define HELPER "bantam-fs"
/* The helper may be slow, but must make progress every STALL_MS and end within TOTAL_MS. */
#define STALL_MS 20000u
#define TOTAL_MS 120000u
#define REPORT_MAX 16384u

static bool is_disk(const struct config_device *d)
{
	return !strcmp(d->type->option ? d->type->option : "", "--disk");
}

static const struct config_device *find_disk(const struct config *config, unsigned *before)
{
	*before = 0;
	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct config_device *d = &config->device[i];

		if (!is_disk(d))
			continue;
		if (keys_text_of(&d->kv, "path"))
			return d;
		++*before;
	}
	return NULL;
}

const char *bootdisk_image(const struct config *config)
{
	unsigned before;
	const struct config_device *disk = find_disk(config, &before);

	return disk ? keys_text_of(&disk->kv, "path") : NULL;
}

int bootdisk_check(const struct config *config, struct err *err)
{
	unsigned before;

	if (keys_has(&config->vm, CONFIG_KERNEL) || find_disk(config, &before))
		return 0;
	return err_set(err, EINVAL,
		       "--kernel FILE is missing, or a --disk with a kernel in its /boot; see "
		       "bantam run --help");
}

/* --- start ------------------------------------------------------------------------------------- */

static int spawn(struct bootdisk *b, uint64_t bytes_max, int status, int sum, struct err *err)
{
	char path[PATH_MAX + 64], fd[4][12], bytes[24];
	int fds[] = { status, b->kernel_fd, b->initrd_fd, sum };
	char *argv[9 + STORE_FOLDERS_MAX + 1] = { HELPER,	   "boot", fd[0], fd[1],
						  fd[2],	   fd[3],  bytes, (char *)b->format,
						  (char *)b->image };
	struct err why;
	int rc;

	rc = helper_find(HELPER, path, sizeof(path), &why);
	if (rc)
		return err_set(err, -rc, "--disk %s: cannot boot from it: %s", b->image, why.text);
	for (unsigned i = 0; i < 4; i++)
		snprintf(fd[i], sizeof(fd[i]), "%d", fds[i]);
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)bytes_max);
	for (unsigned i = 0; store_allowed_folder(i); i++)
		argv[9 + i] = (char *)store_allowed_folder(i);
	rc = helper_spawn(path, argv, fds, 4, &b->helper);
	return rc ? err_sys(err, -rc, "--disk %s: %s", b->image, path) : 0;
}

static int start(struct bootdisk *b, uint64_t bytes_max, struct err *err)
{
	int status[2] = { -1, -1 }, sum[2] = { -1, -1 }, rc;

	b->kernel_fd = memfd_create("kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	b->initrd_fd = memfd_create("initrd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (b->kernel_fd < 0 || b->initrd_fd < 0 || pipe2(status, O_CLOEXEC) ||
	    pipe2(sum, O_CLOEXEC))
		rc = err_sys(err, errno, "--disk %s: cannot start %s", b->image, HELPER);
	else
		rc = spawn(b, bytes_max, status[1], sum[1], err);
	b->status_fd = status[0];
	b->sum_fd = sum[0];
	if (status[1] >= 0)
		close(status[1]);
	if (sum[1] >= 0)
		close(sum[1]);
	return rc;
}

int bootdisk_start(const struct config *config, uint64_t bytes_max, struct bootdisk **out,
		   struct err *err)
{
	const struct config_device *disk;
	struct bootdisk *b;
	unsigned before;
	int rc;

	*out = NULL;
	if (keys_has(&config->vm, CONFIG_KERNEL))
		return 0;
	rc = bootdisk_check(config, err);
	if (rc)
		return rc;
	disk = find_disk(config, &before);
	if (keys_has(&config->vm, CONFIG_INITRD))
		return err_set(err, EINVAL,
			       "--initrd: needs --kernel; without it, both come from the disk");
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_sys(err, ENOMEM, "--disk");
	b->device = (unsigned)(disk - config->device);
	b->image = keys_text_of(&disk->kv, "path");
	b->format = keys_text_of(&disk->kv, "format");
	if (!b->format)
		b->format = "auto";
	b->readonly = keys_num_of(&disk->kv, "ro") || keys_num_of(&disk->kv, "readonly");
	b->letter = (char)('a' + (before < 26 ? before : 25));
	b->status_fd = b->sum_fd = b->kernel_fd = b->initrd_fd = -1;
	rc = start(b, bytes_max, err);
	if (rc) {
		bootdisk_destroy(b);
		return rc;
	}
	*out = b;
	return 0;
}

/* --- the helper's report ------------------------------------------------------------------------ */

static bool copy(char *to, size_t len, const char *text)
{
	return snprintf(to, len, "%s", text) < (int)len;
}

static const char *after(const char *line, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(line, word, n) && line[n] == ' ' ? line + n + 1 : NULL;
}

static bool take_root(struct bootdisk *b, const char *text)
{
	char *end;
	unsigned long n;

	if (*text != '@')
		return *text && !strchr(text, ' ') && copy(b->root, sizeof(b->root), text);
	n = strtoul(text + 1, &end, 10);
	if (*end || n > 9999)
		return false;
	snprintf(b->root, sizeof(b->root), n ? "/dev/vd%c%lu" : "/dev/vd%c", b->letter, n);
	return true;
}

/* Takes one line of the report. Returns false if bantam-fs would not write such a line. */
static bool take_line(struct bootdisk *b, char *line, bool *done, struct err *err)
{
	const char *val;

	if (!printable_is(line))
		return false;
	*done = !strcmp(line, "done");
	if (!*line || *done)
		return true;
	if ((val = after(line, "error"))) {
		err_set(err, ENOENT, "%s", val);
		return true;
	}
	if ((val = after(line, "kernel")))
		return copy(b->kernel, sizeof(b->kernel), val);
	if ((val = after(line, "initrd")))
		return copy(b->initrd, sizeof(b->initrd), val);
	if ((val = after(line, "options")))
		return copy(b->options, sizeof(b->options), val);
	if ((val = after(line, "where")))
		return copy(b->where, sizeof(b->where), val);
	if ((val = after(line, "sector"))) {
		b->sector_bytes = !strcmp(val, "4096") ? 4096 : 512;
		return b->sector_bytes == 4096 || !strcmp(val, "512");
	}
	if ((val = after(line, "root")))
		return take_root(b, val);
	if ((val = after(line, "rw"))) {
		b->rw = *val == '1' && !b->readonly;
		return true;
	}
	val = after(line, "note");
	if (val)
		log_always(LOG_INFO, "--disk %s: %s", b->image, val);
	return val;
}

static uint64_t copied(const struct bootdisk *b)
{
	struct stat kernel = { 0 }, initrd = { 0 };

	fd_stat(b->kernel_fd, &kernel);
	fd_stat(b->initrd_fd, &initrd);
	return (uint64_t)kernel.st_blocks + (uint64_t)initrd.st_blocks;
}

/*
 * Reads the whole report, NUL-terminated. Returns 0, -ETIME if the helper makes no progress or takes
 * too long, -EPROTO if the report is too long, or another -errno.
 */
static int read_report(struct bootdisk *b, char *report)
{
	uint64_t began = clock_now_ms(), last = copied(b), before;
	size_t n = 0;

	for (;;) {
		struct pollfd p = { b->status_fd, POLLIN, 0 };
		int ready = poll(&p, 1, (int)STALL_MS);
		ssize_t got;

		if (ready < 0 && errno == EINTR)
			continue;
		before = last;
		last = copied(b);
		if ((!ready && last == before) || clock_now_ms() - began > TOTAL_MS)
			return -ETIME;
		if (!ready)
			continue;
		got = read(b->status_fd, report + n, REPORT_MAX - 1 - n);
		if (got < 0)
			return -errno;
		n += (size_t)got;
		report[n] = 0;
		if (!got)
			return 0;
		if (n == REPORT_MAX - 1)
			return -EPROTO;
	}
}

static int take_report(struct bootdisk *b, char *report, struct err *err)
{
	struct err said = { "" };
	bool ok = true, done = false;
	char *next;

	for (char *line = report; ok && line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		ok = take_line(b, line, &done, &said);
	}
	if (ok && *said.text)
		return err_set(err, ENOENT, "%s", said.text);
	if (!ok || !done || !*b->kernel || !*b->root)
		return err_set(err, EIO, "--disk %s: %s ended without a result; give --kernel",
			       b->image, HELPER);
	return 0;
}

/* Seals the files, so that no process can change them while boot reads them. */
static int seal(struct bootdisk *b, struct err *err)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

	if (!*b->initrd) {
		close(b->initrd_fd);
		b->initrd_fd = -1;
	}
	if (fcntl(b->kernel_fd, F_ADD_SEALS, seals) ||
	    (b->initrd_fd >= 0 && fcntl(b->initrd_fd, F_ADD_SEALS, seals)))
		return err_sys(err, errno, "--disk %s: cannot seal the kernel from %s", b->image,
			       HELPER);
	b->has_sum = read(b->sum_fd, b->sha256, sizeof(b->sha256)) == sizeof(b->sha256);
	return 0;
}

int bootdisk_finish(struct bootdisk *b, struct err *err)
{
	char *report = calloc(1, REPORT_MAX);
	int rc = report ? read_report(b, report) : -ENOMEM;

	/* The helper has closed its end of the pipe and only has to exit. */
	if (rc)
		rc = err_set(err, -rc, "--disk %s: %s makes no progress (%s); give --kernel",
			     b->image, HELPER, strerror(-rc));
	else
		rc = take_report(b, report, err);
	free(report);
	helper_reap(&b->helper, rc ? 0 : 1000);
	return rc ? rc : seal(b, err);
}

/* --- the command line ---------------------------------------------------------------------------- */

static bool names_console(const char *text)
{
	for (const char *at = text; (at = strstr(at, "console=")); at++)
		if (at == text || at[-1] == ' ')
			return true;
	return false;
}

char *bootdisk_cmdline(const struct bootdisk *b, const char *console, const char *user)
{
	bool own = !user || !names_console(user);
	char *words, *most, *text = NULL;

	if (asprintf(&words, "root=%s %s%s%s", b->root, b->rw ? "rw" : "ro", own ? " " : "",
		     own ? console : "") < 0)
		return NULL;
	most = boot_cmdline_join(b->options, words);
	if (most)
		text = boot_cmdline_join(most, user ? user : "");
	free(most);
	free(words);
	return text;
}

void bootdisk_destroy(struct bootdisk *b)
{
	int fds[4];

	if (!b)
		return;
	helper_reap(&b->helper, 0);
	memcpy(fds, (int[]){ b->status_fd, b->sum_fd, b->kernel_fd, b->initrd_fd }, sizeof(fds));
	for (unsigned i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(b);
}
