/*
 * builtin: init's built-in commands, so that a test needs no other program in its
 * initrd. Part of init.c. Each command returns an exit status and prints one line per
 * result, which begins with the command's name.
 */
#ifndef GUEST_BUILTIN_H
#define GUEST_BUILTIN_H

#include <linux/fs.h>
#include <linux/stat.h>

static __attribute__((aligned(4096))) uint8_t io_buf[256 * 1024];

static int fail(const char *what, const char *path, long err)
{
	say("%s %s: error %ld", what, path, -err);
	return 1;
}

/* --- inspecting ---------------------------------------------------------- */

static int cmd_disks(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	scan_disks();
	for (unsigned i = 0; i < init.ndisks; i++) {
		struct disk *d = &init.disk[i];

		say("%s %s size=%lu serial=%s type=%s label=%s%s", d->partition ? "part" : "disk",
		    d->name, (unsigned long)d->size_bytes, d->serial[0] ? d->serial : "-",
		    d->fstype[0] ? d->fstype : "-", d->label[0] ? d->label : "-",
		    d->read_only ? " ro" : "");
	}
	return 0;
}

static int cmd_cat(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc; i++) {
		int fd = sys_open(argv[i], O_RDONLY, 0);
		long n;

		if (fd < 0) {
			status = fail("cat", argv[i], fd);
			continue;
		}
		while ((n = sys_read(fd, io_buf, sizeof(io_buf))) > 0)
			out_write((char *)io_buf, (size_t)n);
		sys_close(fd);
		if (n < 0)
			status = fail("cat", argv[i], n);
	}
	return status;
}

static int cmd_echo(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		out("%s%s", argv[i], i + 1 < argc ? " " : "");
	out("\n");
	return 0;
}

static int cmd_ls(int argc, char **argv)
{
	static struct names names;
	const char *path = argc > 1 ? argv[1] : "/";
	long err;

	names.count = 0;
	err = dir_each(path, names_add, &names);
	if (err < 0)
		return fail("ls", path, err);
	for (unsigned i = 0; i < names.count; i++)
		out("%s%s", i ? " " : "", names.name[i]);
	out("\n");
	return 0;
}

static int cmd_cpus(int argc, char **argv)
{
	char online[64], possible[64];

	(void)argc;
	(void)argv;
	file_read("/sys/devices/system/cpu/online", online, sizeof(online));
	file_read("/sys/devices/system/cpu/possible", possible, sizeof(possible));
	say("cpus online=%s possible=%s", online, possible);
	return 0;
}

static int cmd_mem(int argc, char **argv)
{
	char text[256], *at = text;

	(void)argc;
	(void)argv;
	file_read("/proc/meminfo", text, sizeof(text));
	while (*at && (*at < '0' || *at > '9'))
		at++;
	say("mem total=%luK", (unsigned long)str_number(at));
	return 0;
}

static int cmd_uname(int argc, char **argv)
{
	char release[128];

	(void)argc;
	(void)argv;
	file_read("/proc/sys/kernel/osrelease", release, sizeof(release));
	say("uname %s", release);
	return 0;
}

static int cmd_time(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	say("time real=%lu boot=%lu ms", (unsigned long)sys_clock_ms(CLOCK_REALTIME),
	    (unsigned long)sys_clock_ms(CLOCK_MONOTONIC));
	return 0;
}

/* dmesg [LEVEL]: the kernel's messages up to that level (7), one per line, "kmsg: <L>text". */
static int cmd_dmesg(int argc, char **argv)
{
	unsigned max = argc > 1 ? (unsigned)str_number(argv[1]) : 7;
	int fd = sys_open("/dev/kmsg", O_RDONLY | O_NONBLOCK, 0);
	static char record[8192];
	long n;

	if (fd < 0)
		return fail("dmesg", "/dev/kmsg", fd);
	while ((n = sys_read(fd, record, sizeof(record) - 1)) > 0 || n == -EPIPE) {
		char *text = record, *end;

		if (n < 0)
			continue; /* the kernel overwrote the record: read the next one */
		record[n] = 0;
		while (*text && *text != ';')
			text++;
		text += *text == ';';
		for (end = text; *end && *end != '\n';)
			end++;
		*end = 0;
		if ((str_number(record) & 7) <= max)
			out("kmsg: <%lu>%s\n", (unsigned long)(str_number(record) & 7), text);
	}
	sys_close(fd);
	return 0;
}

/* hex PATH COUNT [OFFSET] */
static int cmd_hex(int argc, char **argv)
{
	uint64_t count = argc > 2 ? str_number(argv[2]) : 16;
	int fd = argc > 1 ? sys_open(argv[1], O_RDONLY, 0) : -EINVAL;
	long n;

	if (fd < 0)
		return fail("hex", argc > 1 ? argv[1] : "", fd);
	if (count > 256)
		count = 256;
	n = argc > 3 ? SYS(pread64, fd, io_buf, count, str_number(argv[3])) :
		       sys_read(fd, io_buf, count);
	sys_close(fd);
	if (n < 0)
		return fail("hex", argv[1], n);
	out(NAME "hex %s ", argv[1]);
	for (long i = 0; i < n; i++)
		out("%02x", io_buf[i]);
	out("\n");
	return 0;
}

/* --- disks --------------------------------------------------------------- */

/* sha256 PATH [BYTES [OFFSET]] */
static int cmd_sha256(int argc, char **argv)
{
	uint64_t left = argc > 2 ? str_number(argv[2]) : UINT64_MAX;
	int fd = argc > 1 ? sys_open(argv[1], O_RDONLY, 0) : -EINVAL;
	struct sha256 sum;
	uint64_t total = 0;
	char hex[65];
	long n = 0;

	if (fd < 0)
		return fail("sha256", argc > 1 ? argv[1] : "", fd);
	if (argc > 3)
		SYS(lseek, fd, str_number(argv[3]), 0);
	sha256_init(&sum);
	while (left) {
		n = sys_read(fd, io_buf, left < sizeof(io_buf) ? left : sizeof(io_buf));
		if (n <= 0)
			break;
		sha256_add(&sum, io_buf, (size_t)n);
		total += (uint64_t)n;
		left -= (uint64_t)n;
	}
	sys_close(fd);
	if (n < 0)
		return fail("sha256", argv[1], n);
	sha256_hex(&sum, hex);
	say("sha256 %s %s %lu", argv[1], hex, (unsigned long)total);
	return 0;
}

/* A stream of bytes derived from a seed: xorshift64*, little-endian words. */
static void fill_pattern(uint64_t *state, uint64_t *words, size_t nwords)
{
	uint64_t x = *state;

	for (size_t i = 0; i < nwords; i++) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		words[i] = x * 0x2545f4914f6cdd1dull;
	}
	*state = x;
}

/*
 * pattern write|check PATH SEED [BYTES [OFFSET [direct]]]: the whole device by default.
 * write ends with fsync; check reads and compares, bypassing the cache with `direct`.
 */
static int cmd_pattern(int argc, char **argv)
{
	bool write = argc > 1 && str_eq(argv[1], "write");
	uint64_t state, size = 0, left, at;
	static uint64_t want[sizeof(io_buf) / 8];
	int fd, flags = write ? O_WRONLY : O_RDONLY;
	long n = 0;

	if (argc < 4)
		return fail("pattern", "", -EINVAL);
	if (argc > 6 && str_eq(argv[6], "direct"))
		flags |= O_DIRECT;
	if (write && !str_starts(argv[2], "/dev/"))
		flags |= O_CREAT; /* but create no file where a disk is expected */
	fd = sys_open(argv[2], flags, 0644);
	if (fd < 0)
		return fail("pattern", argv[2], fd);
	state = str_number(argv[3]) * 0x9e3779b97f4a7c15ull + 1;
	size = (uint64_t)SYS(lseek, fd, 0, 2);
	at = argc > 5 ? str_number(argv[5]) : 0;
	left = argc > 4 && str_number(argv[4]) ? str_number(argv[4]) : size - at;
	for (; left >= 8; left -= (uint64_t)n, at += (uint64_t)n) {
		size_t len = left < sizeof(io_buf) ? left & ~7ull : sizeof(io_buf);

		fill_pattern(&state, want, len / 8);
		n = write ? SYS(pwrite64, fd, want, len, at) : SYS(pread64, fd, io_buf, len, at);
		if (n != (long)len) {
			n = n < 0 ? n : -EIO;
			break;
		}
		for (size_t i = 0; !write && i < len / 8; i++) {
			if (((uint64_t *)io_buf)[i] != want[i]) {
				say("pattern check %s: differs at %lu", argv[2],
				    (unsigned long)(at + i * 8));
				sys_close(fd);
				return 1;
			}
		}
	}
	if (write && n >= 0)
		n = SYS(fsync, fd);
	sys_close(fd);
	if (n < 0)
		return fail("pattern", argv[2], n);
	say("pattern %s %s ok", argv[1], argv[2]);
	return 0;
}

/* discard|zeroout PATH OFFSET BYTES */
static int cmd_range(int argc, char **argv)
{
	uint64_t range[2];
	int fd;
	long err;

	if (argc < 4)
		return fail(argv[0], "", -EINVAL);
	fd = sys_open(argv[1], O_WRONLY, 0);
	if (fd < 0)
		return fail(argv[0], argv[1], fd);
	range[0] = str_number(argv[2]);
	range[1] = str_number(argv[3]);
	err = SYS(ioctl, fd, str_eq(argv[0], "discard") ? BLKDISCARD : BLKZEROOUT, range);
	if (!err)
		err = SYS(fsync, fd);
	sys_close(fd);
	if (err < 0)
		return fail(argv[0], argv[1], err);
	say("%s %s ok", argv[0], argv[1]);
	return 0;
}

/* drop: drops clean caches, so that the next read reaches the disk */
static int cmd_drop(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	SYS(sync, 0);
	return file_write("/proc/sys/vm/drop_caches", "3") < 0;
}

static int cmd_sync(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	SYS(sync, 0);
	return 0;
}

/* mount DEV DIR TYPE [OPTIONS] */
static int cmd_mount(int argc, char **argv)
{
	long err;

	if (argc < 4 || init.nmounted == MAX_DISKS)
		return fail("mount", "", -EINVAL);
	SYS(mkdirat, AT_FDCWD, argv[2], 0755);
	err = SYS(mount, argv[1], argv[2], argv[3], 0, argc > 4 ? argv[4] : NULL);
	if (err < 0)
		return fail("mount", argv[1], err);
	str_copy(init.mounted[init.nmounted++], sizeof(init.mounted[0]), argv[2]);
	return 0;
}

static int cmd_umount(int argc, char **argv)
{
	long err = argc > 1 ? SYS(umount2, argv[1], 0) : -EINVAL;

	return err < 0 ? fail("umount", argc > 1 ? argv[1] : "", err) : 0;
}

/* --- acting -------------------------------------------------------------- */

/* write PATH TEXT (sysfs, procfs) */
static int cmd_write(int argc, char **argv)
{
	long err = argc > 2 ? file_write(argv[1], argv[2]) : -EINVAL;

	return err < 0 ? fail("write", argc > 1 ? argv[1] : "", err) : 0;
}

static int cmd_sleep(int argc, char **argv)
{
	sys_sleep_ms(argc > 1 ? (unsigned)str_number(argv[1]) * 1000 : 1000);
	return 0;
}

static int cmd_true(int argc, char **argv)
{
	(void)argc;
	return str_eq(argv[0], "false");
}

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
} builtins[] = {
	{ "disks", cmd_disks },	  { "cat", cmd_cat },	    { "echo", cmd_echo },
	{ "ls", cmd_ls },	  { "cpus", cmd_cpus },	    { "mem", cmd_mem },
	{ "uname", cmd_uname },	  { "time", cmd_time },	    { "dmesg", cmd_dmesg },
	{ "hex", cmd_hex },	  { "sha256", cmd_sha256 }, { "pattern", cmd_pattern },
	{ "discard", cmd_range }, { "zeroout", cmd_range }, { "drop", cmd_drop },
	{ "sync", cmd_sync },	  { "mount", cmd_mount },   { "umount", cmd_umount },
	{ "write", cmd_write },	  { "sleep", cmd_sleep },   { "true", cmd_true },
	{ "false", cmd_true },
};

static bool run_builtin(int argc, char **argv, int *status)
{
	for (unsigned i = 0; i < ARRAY_LEN(builtins); i++) {
		if (str_eq(argv[0], builtins[i].name)) {
			*status = builtins[i].fn(argc, argv);
			return true;
		}
	}
	return false;
}

/* --- showing what a disk holds --------------------------------------------- */

#define SHOW_BYTES 2048
#define SHOW_DEPTH 3

static void show_file(const char *path, const char *name, unsigned depth)
{
	int fd = sys_open(path, O_RDONLY, 0);
	bool text = true, line_start = true;
	uint64_t size;
	size_t n = 0;
	long got;

	if (fd < 0)
		return;
	size = (uint64_t)SYS(lseek, fd, 0, 2);
	SYS(lseek, fd, 0, 0);
	while (n < SHOW_BYTES && (got = sys_read(fd, io_buf + n, SHOW_BYTES - n)) > 0)
		n += (size_t)got;
	sys_close(fd);
	for (size_t i = 0; i < n; i++)
		text &= (io_buf[i] >= ' ' && io_buf[i] != 127) || io_buf[i] == '\n' ||
			io_buf[i] == '\t';
	out("│ %s%s  (%lu bytes%s)\n", &"      "[6 - 2 * depth], name, (unsigned long)size,
	    text ? "" : ", binary");
	for (size_t i = 0; text && i < n; i++) {
		if (line_start)
			out("│ %s    ", &"      "[6 - 2 * depth]);
		out("%c", io_buf[i]);
		line_start = io_buf[i] == '\n';
	}
	if (text && !line_start)
		out("\n");
	if (text && size > n)
		out("│     ...\n");
}

static void show_dir(const char *dir, unsigned depth)
{
	static struct names level[SHOW_DEPTH];
	struct names *names = &level[depth];

	names->count = 0;
	dir_each(dir, names_add, names);
	for (unsigned i = 0; i < names->count; i++) {
		char path[256], slashed[72], stat[256];

		if (str_eq(names->name[i], "lost+found"))
			continue;
		str_join(slashed, sizeof(slashed), "/", names->name[i], "");
		str_join(path, sizeof(path), dir, slashed, "");
		/* struct statx: stx_mode is 16 bits at 28 */
		if (SYS(statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MODE | STATX_TYPE, stat) <
		    0)
			continue;
		if ((*(uint16_t *)(stat + 28) & 0170000) == 0040000) {
			out("│ %s%s/\n", &"      "[6 - 2 * depth], names -> name[i]);
			if (depth + 1 < SHOW_DEPTH)
				show_dir(path, depth + 1);
		} else if ((*(uint16_t *)(stat + 28) & 0170000) == 0100000) {
			show_file(path, names->name[i], depth);
		}
	}
}

static void show_disk(const struct disk *disk, const char *dir)
{
	out("\n┌ %s  %s  %s, %lu KiB%s%s\n", disk->name, disk->label, disk->fstype,
	    (unsigned long)(disk->size_bytes >> 10), disk->serial[0] ? ", serial " : "",
	    disk->serial);
	show_dir(dir, 0);
	out("└\n");
}

#endif
