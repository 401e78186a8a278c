/* test/describe: what --dry-run prints before the machine. See test_impl.h. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/core/fd_stat.h"
#include "vmm/core/printable.h"
#include "vmm/test/test_impl.h"

static void row(FILE *out, const char *name, const char *text)
{
	fprintf(out, "  %-12s ", name);
	printable_put(out, text);
}

/* "60s", "500ms", "none" */
static void put_time(FILE *out, const char *name, uint64_t usec)
{
	fprintf(out, "%s ", name);
	if (!usec)
		fputs("none", out);
	else if (usec % 1000000)
		fprintf(out, "%llums", (unsigned long long)usec / 1000);
	else
		fprintf(out, "%llus", (unsigned long long)usec / 1000000);
}

static void put_initrd(const struct test *t, FILE *out)
{
	struct stat st = { 0 };

	if (t->initrd_fd >= 0)
		fd_stat(t->initrd_fd, &st);
	row(out, "initrd", "");
	fprintf(out, "%llu KiB", (unsigned long long)(st.st_size + 1023) / 1024);
	if (t->options->initrd) {
		fputs(", which begins with ", out);
		printable_put(out, t->options->initrd);
	}
	fputc('\n', out);
}

static void put_command(const struct test_options *o, FILE *out)
{
	row(out, "command", o->command ? o->command[0] : "none: the boot is the test");
	for (int i = 1; i < o->ncommand; i++) {
		fputc(' ', out);
		printable_put(out, o->command[i]);
	}
	fputc('\n', out);
	if (!o->command)
		return;
	row(out, "as", o->user ? o->user : "root");
	fprintf(out, ", with %s\n", o->tty ? "a terminal" : "three pipes");
}

void test_describe(const struct test *t, FILE *out)
{
	const struct test_options *o = t->options;
	const struct kernels_choice *k = &t->kernel;

	fputs("test\n", out);
	row(out, "kernel", k->image);
	fputc('\n', out);
	row(out, "release", k->release[0] ? k->release : "unknown");
	fputc('\n', out);
	row(out, "modules", k->modules ? k->modules : "none");
	fputs(k->modules_found ? ", found for the kernel's release\n" : "\n", out);
	row(out, "symbols", k->vmlinux ? k->vmlinux : "none");
	fputc('\n', out);
	put_initrd(t, out);
	put_command(o, out);
	row(out, "limits", "");
	put_time(out, "boot", o->timeout_boot_usec);
	put_time(out, ", silence", o->timeout_idle_usec);
	put_time(out, ", all", o->timeout_usec);
	fputc('\n', out);
}
