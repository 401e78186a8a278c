/* shell: what --shell makes of the options: the kernel, its command line, the devices, what the initrd holds. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/pack/executable.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"
#include "vmm/shell/shell.h"

static struct config config;
static struct err err;
static char *archive;
static size_t archive_len;
static int initrd = -1;
static unsigned fds;

/* A kernel as tools/fetch-kernels leaves it, with a module for each device. */
static void fetched(const char *dir)
{
	static const char *const names[] = { "virtio_ring", "virtio_pci",     "virtio_mmio",
					     "virtio_blk",  "virtio_net",     "virtiofs",
					     "virtio_rng",  "virtio_console", "ext4",
					     "vfat",	    "nls_cp437",      "af_packet" };
	char path[300], info[100], dep[2048] = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/modules/kernel/%s.ko", dir, names[i]);
		snprintf(info, sizeof(info), "|name=%s|vermagic=7.0 SMP|", names[i]);
		pack_files_write_module(path, info);
		sprintf(dep + strlen(dep), "kernel/%s.ko:%s\n", names[i],
			i ? " kernel/virtio_ring.ko" : "");
	}
	snprintf(path, sizeof(path), "%s/modules/modules.dep", dir);
	pack_files_text(path, dep);
	snprintf(path, sizeof(path), "%s/vmlinuz", dir);
	pack_files_image(path, "7.0");
}

static void setup(void)
{
	pack_files_setup();
	/* Criterion closes standard input. */
	while (open("/dev/null", O_RDWR) < 2)
		;
	fetched("k");
	pack_files_text("empty", "");
	fds = proc_fds(0);
}

static void forget(void)
{
	config_clear(&config);
	free(archive);
	archive = NULL;
	if (initrd >= 0)
		close(initrd);
	initrd = -1;
}

static void teardown(void)
{
	forget();
	cr_expect_eq(proc_fds(0), fds, "a descriptor is open");
	pack_files_teardown();
}

TestSuite(shell, .init = setup, .fini = teardown, .timeout = 60);

static int parse(const char *words)
{
	static char text[4096], *argv[32];
	char *rest = text;
	int argc = 0;

	forget();
	err = (struct err){ "" };
	snprintf(text, sizeof(text), "%s", words);
	while ((argv[argc] = strtok_r(NULL, "|", &rest)))
		argc++;
	return config_parse(&config, argc, argv, &err);
}

/* The words are apart by '|'. */
static int prepare(const char *words)
{
	struct stat st;
	int rc;

	cr_assert_eq(parse(words), 0, "%s: %s", words, err.text);
	rc = shell_check(&config, &err);
	if (!rc)
		rc = shell_prepare(&config, "host", &initrd, &err);
	if (rc) {
		cr_expect_eq(initrd, -1);
		cr_expect(*err.text, "%s", words);
		return rc;
	}
	cr_assert(!fstat(initrd, &st));
	archive_len = (size_t)st.st_size;
	archive = calloc(1, archive_len + 1);
	cr_assert_eq(pread(initrd, archive, archive_len, 0), (ssize_t)archive_len);
	return 0;
}

/* The modules in the order in which they are loaded. */
static const char *modules(void)
{
	static char text[1024];
	struct pack_files_entry e;
	size_t n = 0;

	*text = 0;
	if (!pack_files_find(archive, archive_len, "modules.list", &e))
		return text;
	for (size_t i = 0; i < e.len; i++)
		if (!strncmp(e.data + i, "/modules/", 9))
			i += 8;
		else if (!strncmp(e.data + i, ".ko\n", 4))
			i += 3, text[n++] = ' ';
		else
			text[n++] = e.data[i];
	text[n] = 0;
	return text;
}

static bool has(const char *name)
{
	struct pack_files_entry e;

	return pack_files_find(archive, archive_len, name, &e);
}

static const char *cmdline(void)
{
	return keys_text(&config.vm, CONFIG_CMDLINE);
}

Test(shell, refused)
{
	static const struct {
		const char *words, *says;
	} rows[] = {
		{ "--kernel|k|--modules|k/modules",
		  "--modules: goes with --shell only; without it the initrd has the modules" },
		{ "--shell|--initrd|x",
		  "--shell and --initrd: leave one of them out; --shell packs" },
		{ "--shell|--kernel|nosuch", "--kernel nosuch: there is no such file or folder" },
		{ "--shell|--kernel|k|--modules|empty", "--modules: empty" },
		{ "--shell|--kernel|k|--serial|off",
		  "--shell: all serial ports and consoles are off; the shell needs one, such as "
		  "--console stdio" },
		{ "--shell|--kernel|k|--serial|off|--console|off", "--shell: all serial ports" },
		{ "--shell", "--shell: this host's kernel, host/boot/vmlinuz-" },
	};

	setenv("BANTAM_CACHE", "nocache", 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_lt(prepare(rows[i].words), 0, "%s", rows[i].words);
		cr_expect(!strncmp(err.text, rows[i].says, strlen(rows[i].says)), "%s: %s",
			  rows[i].words, err.text);
	}
	cr_assert_eq(parse("--kernel|k"), 0);
	cr_expect_eq(shell_check(&config, &err), 0, "nothing is asked of a VM without a shell");
	/* one that was fetched */
	fetched("cache/kernels/cloud-amd64");
	setenv("BANTAM_CACHE", "cache", 1);
	cr_expect_eq(prepare("--shell"), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "cache/kernels/cloud-amd64/vmlinuz");
}

/* Without a person: the terminal, the words for init, and the modules of the devices that are given, no others. */
Test(shell, options)
{
	static const char quiet[] = " quiet loglevel=3 panic=-1";
	static const struct {
		const char *words, *tty, *rest, *modules;
	} rows[] = {
		{ "", "ttyS0", " bantam.batch", "virtio_ring virtio_pci " },
		{ "--transport|mmio", "ttyS0", " bantam.batch", "virtio_ring virtio_mmio " },
		{ "--serial|stdio|--rng", "ttyS0", " bantam.batch",
		  "virtio_ring virtio_pci virtio_rng " },
		{ "--console|stdio", "hvc0", " bantam.batch",
		  "virtio_ring virtio_pci virtio_console " },
		{ "--serial|off|--console|stdio", "hvc0", " bantam.batch",
		  "virtio_ring virtio_pci virtio_console " },
		{ "--serial|off|--serial|stdio", "ttyS1", " bantam.batch",
		  "virtio_ring virtio_pci " },
		{ "--serial|null|--console|off|--console|null|--console|stdio", "hvc1",
		  " bantam.batch", "virtio_ring virtio_pci virtio_console " },
		/* nothing is on stdio: a person comes to the first one */
		{ "--serial|null|--console|null", "ttyS0", "",
		  "virtio_ring virtio_pci virtio_console " },
		{ "--serial|off|--console|pty", "hvc0", "",
		  "virtio_ring virtio_pci virtio_console " },
		{ "--disk|a|--disk|b", "ttyS0", " bantam.batch bantam.disks=2",
		  "virtio_ring virtio_pci virtio_blk ext4 vfat nls_cp437 " },
		{ "--net|user", "ttyS0", " bantam.batch bantam.net",
		  "virtio_ring virtio_pci virtio_net af_packet " },
		{ "--fs|tag=a b,socket=s|--fs|tag=\"x,socket=s|--fs|tag=c,socket=s", "ttyS0",
		  " bantam.batch bantam.fs=\"a b,c\"", "virtio_ring virtio_pci virtiofs " },
		{ "--cmdline|loglevel=7 x=\"y z\"", "ttyS0", " bantam.batch loglevel=7 x=\"y z\"",
		  "virtio_ring virtio_pci " },
		{ "--cmdline=", "ttyS0", " bantam.batch", "virtio_ring virtio_pci " },
	};
	char words[300], want[300];

	setenv("TERM", "xterm", 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(words, sizeof(words), "--shell|--kernel|k|%s", rows[i].words);
		snprintf(want, sizeof(want), "console=%s%s bantam.shell=%s%s%s", rows[i].tty, quiet,
			 rows[i].tty,
			 strncmp(rows[i].rest, " bantam.batch", 13) ? " bantam.term=xterm" : "",
			 rows[i].rest);
		cr_assert_eq(prepare(words), 0, "%s: %s", words, err.text);
		cr_expect_str_eq(cmdline(), want, "%s: %s", words, cmdline());
		cr_expect_str_eq(modules(), rows[i].modules, "%s: %s", words, modules());
		cr_expect(has("init") && has("root") && has("etc/passwd"));
		cr_expect(has("bin/busybox") || has("bin/sh") || has("usr/bin/sh"));
		cr_expect_eq(has("etc/udhcpc.script"),
			     strstr(words, "--net") && has("bin/busybox"));
		cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "k/vmlinuz");
	}
	/* without modules, as of a kernel that has all built in */
	pack_files_image("alone", "");
	cr_assert_eq(prepare("--shell|--kernel|alone|--disk|a"), 0, "%s", err.text);
	cr_expect_str_eq(modules(), "");
}

static const struct config_device *device(const char *option)
{
	for (unsigned i = 0; i < config.ndevices; i++)
		if (!strcmp(config.device[i].type->option, option))
			return &config.device[i];
	return NULL;
}

/* With a person: the size of the terminal, its type, and a way for the size to follow where there is no other. */
Test(shell, terminal)
{
	static const struct {
		const char *term, *word;
	} terms[] = {
		{ "xterm-256color", " bantam.term=xterm-256color" },
		{ "", "" },
		{ "a b", "" },
		{ "x\"", "" },
		{ "0123456789012345678901234567890123456789012345678901234567890123", "" },
	};
	struct winsize size = { .ws_row = 40, .ws_col = 120 };
	char want[300];
	int master, slave;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
	cr_assert(dup2(slave, 0) == 0 && dup2(slave, 1) == 1);
	close(slave);
	for (size_t i = 0; i < sizeof(terms) / sizeof(terms[0]); i++) {
		setenv("TERM", terms[i].term, 1);
		cr_assert_eq(prepare("--shell|--kernel|k"), 0, "%s", err.text);
		snprintf(want, sizeof(want),
			 "console=ttyS0 quiet loglevel=3 panic=-1 bantam.shell=ttyS0%s "
			 "bantam.size=40x120",
			 terms[i].word);
		cr_expect_str_eq(cmdline(), want);
	}
	cr_assert_not_null(device("--port"));
	cr_expect_str_eq(keys_text_of(&device("--port")->kv, "name"), "org.bantam.terminal");
	cr_expect(keys_num_of(&device("--port")->kv, "winsize"));
	cr_expect_not(keys_num_of(&device("--serial")->kv, "eof"));
	cr_expect_str_eq(modules(), "virtio_ring virtio_pci virtio_console ");
	/* a virtio console has a size of its own */
	cr_assert_eq(prepare("--shell|--kernel|k|--console|stdio"), 0, "%s", err.text);
	cr_expect_null(device("--port"));
	cr_expect_null(device("--serial"));
	cr_expect(strstr(cmdline(), "bantam.size=40x120"));
	/* standard input is none */
	cr_assert_eq(dup2(2, 0), 0);
	cr_assert_eq(prepare("--shell|--kernel|k"), 0, "%s", err.text);
	cr_expect_null(device("--port"));
	cr_expect(keys_num_of(&device("--serial")->kv, "eof"));
	close(master);
}

/* A user who names no kernel sees which one it is. */
Test(shell, dry_run)
{
	static const char *const rows[][2] = {
		{ "--shell|--kernel|k|--dry-run",
		  "shell\n  kernel       k/vmlinuz\n  release      7.0\n  modules      k/modules\n" },
		{ "--shell|--kernel|alone|--dry-run",
		  "shell\n  kernel       alone\n  release      unknown\n"
		  "  modules      none; --modules DIR gives some\n" },
		{ "--shell|--kernel|k", "" },
	};
	int out = dup(1), to = open("said", O_CREAT | O_RDWR, 0600);
	char said[300];

	pack_files_image("alone", "");
	fflush(stdout);
	cr_assert_eq(dup2(to, 1), 1);
	for (size_t i = 0; i < 3; i++) {
		int rc = ftruncate(to, 0) ? -1 : prepare(rows[i][0]);
		ssize_t n;

		fflush(stdout);
		n = pread(to, said, sizeof(said) - 1, lseek(to, 0, SEEK_SET));
		said[n < 0 ? 0 : n] = 0;
		cr_expect(!rc && !strcmp(said, rows[i][1]), "%s: %s%s", rows[i][0], said, err.text);
	}
	dup2(out, 1);
	close(out);
	close(to);
}
