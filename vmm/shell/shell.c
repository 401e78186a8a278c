/*
 * shell: see shell.h. This file completes the configuration; initrd.c packs the initrd.
 *
 * Theory of operation. The guest's init does not know what the options have given: the words bantam.* of the kernel's
 * command line tell it (guest/init.c). They come before those of --cmdline, so the user has the last word.
 *
 * The size of the user's terminal goes to the guest by the channel that it has: a virtio console tells it
 * itself, a serial port cannot, so a named port does (guest/terminal.h). A word of the command line has the size at
 * the start, for kernels without virtio consoles too.
 */
#include "vmm/shell/shell.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "guest/terminal.h"
#include "vmm/cachedir.h"
#include "vmm/core/log.h"
#include "vmm/core/printable.h"
#include "vmm/kernels/kernels.h"
#include "vmm/shell/shell_impl.h"

/*
 * Only what ends a kernel is told on the terminal; a panic raises the level itself. The user reads the rest by
 * dmesg. A kernel that panics ends the VM: what it has printed stays on the terminal.
 */
#define QUIET_WORDS "quiet loglevel=3 panic=-1"

int shell_check(const struct config *config, struct err *err)
{
	if (!keys_num(&config->vm, CONFIG_SHELL))
		return keys_has(&config->vm, CONFIG_MODULES) ?
			       err_set(err, EINVAL,
				       "--modules: goes with --shell only; without it the initrd has "
				       "the modules") :
			       0;
	if (keys_has(&config->vm, CONFIG_INITRD))
		return err_set(err, EINVAL,
			       "--shell and --initrd: leave one of them out; --shell packs an "
			       "initrd of its own");
	return 0;
}

/* --- the terminal ------------------------------------------------------------------------ */

static bool is_stdio(const struct config_device *d)
{
	const char *sink = keys_text_of(&d->kv, "sink");

	return (shell_is(d, "serial") || shell_is(d, "console")) && sink && !strcmp(sink, "stdio");
}

/* The port that a machine has by default, so that it can be told more than a default has. */
static int add_default_serial(struct config *config, struct err *err)
{
	struct config_device *serial;
	int rc;

	for (unsigned i = 0; i < config->ndevices; i++)
		if (shell_is(&config->device[i], "serial") || is_stdio(&config->device[i]))
			return 0;
	rc = config_add_device(config, "serial", &serial, err);
	if (!rc)
		rc = keys_set(&serial->kv, "sink", "stdio", err);
	return rc ? rc : config_finish_device(serial, err);
}

/*
 * The device that is the guest's terminal, or NULL, and its name there. Linux numbers the ports as the options do,
 * those that are off too, and the consoles that there are.
 */
static struct config_device *find_terminal(struct config *config, char name[SHELL_TTY_BYTES])
{
	struct config_device *found = NULL;
	unsigned nserial = 0, nconsole = 0;

	for (unsigned i = 0; i < config->ndevices; i++) {
		struct config_device *d = &config->device[i];
		bool serial = shell_is(d, "serial");
		unsigned n;

		if (!serial && !shell_is(d, "console"))
			continue;
		n = serial ? nserial++ : nconsole;
		if (chardev_off(&d->kv))
			continue;
		nconsole += !serial;
		if (found && (is_stdio(found) || !is_stdio(d)))
			continue;
		found = d;
		snprintf(name, SHELL_TTY_BYTES, "%s%u", serial ? "ttyS" : "hvc", n);
	}
	return found;
}

static bool terminal_size(struct winsize *size)
{
	return (!ioctl(STDOUT_FILENO, TIOCGWINSZ, size) ||
		!ioctl(STDIN_FILENO, TIOCGWINSZ, size)) &&
	       size->ws_row && size->ws_col;
}

/* A person's terminal has a size that the guest follows; without a person the end of the input ends the shell. */
static int set_terminal(struct config *config, struct config_device *terminal, struct err *err)
{
	bool serial = shell_is(terminal, "serial");
	struct config_device *port;
	struct winsize size;
	int rc;

	if (!is_stdio(terminal))
		return 0;
	if (!isatty(STDIN_FILENO))
		return keys_set_hidden(&terminal->kv, "eof", "on", err);
	if (!serial || !terminal_size(&size))
		return 0;
	rc = config_add_device(config, "port", &port, err);
	if (!rc)
		rc = keys_set(&port->kv, "name", TERMINAL_PORT, err);
	if (!rc)
		rc = keys_set_hidden(&port->kv, "winsize", "on", err);
	return rc ? rc : config_finish_device(port, err);
}

/* --- the command line ---------------------------------------------------------------------- */

/* The name of a terminal's type goes into the guest as a word. */
static bool is_term(const char *term)
{
	size_t len = term ? strlen(term) : 0;

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)term[i]) && !strchr("+-._", term[i]))
			return false;
	return len && len < 64;
}

/* The value of bantam.fs, between two quotes. */
static bool is_mountable(const char *tag)
{
	size_t len = tag ? strlen(tag) : 0;

	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)tag[i]) || strchr("\",", tag[i]))
			return false;
	return len;
}

static void put_folders(const struct config *config, FILE *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < config->ndevices; i++) {
		const char *tag = keys_text_of(&config->device[i].kv, "tag");

		if (!shell_is(&config->device[i], "fs"))
			continue;
		if (is_mountable(tag))
			fprintf(out, "%s%s", n++ ? "," : " bantam.fs=\"", tag);
		else
			log_put(LOG_WARN,
				"--shell: --fs tag=%s: a tag with a quote, a comma or a control "
				"character is not mounted",
				tag);
	}
	fputs(n ? "\"" : "", out);
}

static int set_cmdline(struct config *config, const struct kernels_choice *kernel, const char *tty,
		       bool person, struct err *err)
{
	const char *user = keys_text(&config->vm, CONFIG_CMDLINE), *term = getenv("TERM");
	char *text = NULL;
	struct winsize size;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return err_sys(err, ENOMEM, "--shell");
	fprintf(out, "console=%s " QUIET_WORDS "%s bantam.shell=%s", tty,
		kernel->no_kvmclock ? " " KERNELS_NO_KVMCLOCK : "", tty);
	if (person && is_term(term))
		fprintf(out, " bantam.term=%s", term);
	if (person && terminal_size(&size))
		fprintf(out, " bantam.size=%ux%u", size.ws_row, size.ws_col);
	if (!person)
		fputs(" bantam.batch", out);
	if (shell_count(config, "disk"))
		fprintf(out, " bantam.disks=%u", shell_count(config, "disk"));
	if (shell_count(config, "net"))
		fputs(" bantam.net", out);
	put_folders(config, out);
	if (user && *user)
		fprintf(out, " %s", user);
	if (fclose(out)) {
		free(text);
		return err_sys(err, ENOMEM, "--shell");
	}
	keys_unset(&config->vm, config_keys[CONFIG_CMDLINE].name);
	rc = keys_set(&config->vm, config_keys[CONFIG_CMDLINE].name, text, err);
	free(text);
	return rc;
}

/* --- the whole ----------------------------------------------------------------------------- */

static int find_kernel(const struct config *config, const char *root, struct kernels_choice *kernel,
		       struct err *err)
{
	const char *name = keys_text(&config->vm, CONFIG_KERNEL);
	const char *modules = keys_text(&config->vm, CONFIG_MODULES);
	char *cache;
	int rc;

	if (name)
		return kernels_find(kernel, name, modules, root, err);
	cache = cachedir_default();
	rc = kernels_find_default(kernel, modules, root, cache, err);
	free(cache);
	return rc;
}

/* For --dry-run: what was chosen. The machine's description follows. */
static void describe(const struct kernels_choice *kernel)
{
	fputs("shell\n  kernel       ", stdout);
	printable_put(stdout, kernel->image);
	printf("\n  release      ");
	printable_put(stdout, *kernel->release ? kernel->release : "unknown");
	printf("\n  modules      ");
	printable_put(stdout, kernel->modules ? kernel->modules : "none; --modules DIR gives some");
	putchar('\n');
}

static int set_files(struct config *config, const struct kernels_choice *kernel, int initrd_fd,
		     struct err *err)
{
	const char *key = config_keys[CONFIG_KERNEL].name;
	char path[32];
	int rc;

	keys_unset(&config->vm, key);
	rc = keys_set(&config->vm, key, kernel->image, err);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", initrd_fd);
	return rc ? rc : keys_set(&config->vm, config_keys[CONFIG_INITRD].name, path, err);
}

int shell_prepare(struct config *config, const char *root, int *initrd_fd, struct err *err)
{
	struct kernels_choice kernel = { 0 };
	struct config_device *terminal = NULL;
	char tty[SHELL_TTY_BYTES];
	bool person = true;
	int rc = add_default_serial(config, err);

	*initrd_fd = -1;
	if (!rc) {
		terminal = find_terminal(config, tty);
		if (!terminal)
			rc = err_set(err, EINVAL,
				     "--shell: all serial ports and consoles are off; the shell "
				     "needs one, such as --console stdio");
	}
	if (!rc) {
		person = !is_stdio(terminal) || isatty(STDIN_FILENO);
		rc = set_terminal(config, terminal, err);
	}
	if (!rc)
		rc = find_kernel(config, root, &kernel, err);
	if (!rc)
		rc = shell_initrd(config, &kernel, initrd_fd, err);
	if (!rc)
		rc = set_files(config, &kernel, *initrd_fd, err);
	if (!rc)
		rc = set_cmdline(config, &kernel, tty, person, err);
	if (!rc && keys_num(&config->vm, CONFIG_DRY_RUN))
		describe(&kernel);
	kernels_clear(&kernel);
	if (rc && *initrd_fd >= 0) {
		close(*initrd_fd);
		*initrd_fd = -1;
	}
	return rc;
}
