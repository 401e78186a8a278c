/*
 * test/config: the machine of a test: the user's options, the consoles that the test needs, the kernel and its
 * command line. See test_impl.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/wire.h"
#include "vmm/test/test_impl.h"

/* The kernel's log, and an end of the machine when it panics. */
#define DEFAULT_CMDLINE "console=ttyS0 panic=-1"

/* The kernel's console, and the two ways to the agent (guest/wire.h). Their sinks are in the pool. */
static const char *const consoles[] = { "--serial", "null",   "--serial",
					"null",	    "--port", "name=" WIRE_PORT ",null" };
#define NCONSOLES (sizeof(consoles) / sizeof(consoles[0]))

/* Joins the words that are not NULL. The caller frees it; NULL: no memory. */
static char *join(const char *const *word, size_t n)
{
	size_t bytes = 1;
	char *text;

	for (size_t i = 0; i < n; i++)
		bytes += word[i] ? strlen(word[i]) + 1 : 0;
	text = calloc(1, bytes);
	for (size_t i = 0; text && i < n; i++)
		if (word[i] && *word[i])
			strcat(strcat(text, *text ? " " : ""), word[i]);
	return text;
}

static char *make_cmdline(const struct test_options *o, bool no_kvmclock)
{
	const char *word[4] = { NULL }, *init = test_initrd_init(o);
	char rdinit[64];

	if (!o->no_default_cmdline) {
		word[0] = DEFAULT_CMDLINE;
		snprintf(rdinit, sizeof(rdinit), "rdinit=%s", init ? init : "");
		word[1] = init ? rdinit : NULL;
		word[2] = no_kvmclock ? KERNELS_NO_KVMCLOCK : NULL;
	}
	word[3] = o->cmdline;
	return join(word, 4);
}

/* stdin and stdout are the command's, and the terminal with them. */
static int check_sinks(const struct config *config, struct err *err)
{
	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct config_device *d = &config->device[i];
		const char *sink = keys_text_of(&d->kv, "sink");

		if (sink && !strcmp(sink, "stdio"))
			return err_set(
				err, EINVAL,
				"%s: stdio is the command's in a test; give file=FILE, pty or "
				"socket=PATH",
				d->type->option);
	}
	return 0;
}

static int parse(const struct test_options *o, struct config *config, char **argv, struct err *err)
{
	int argc = 0;
	int rc;

	/* First, so that test_config_id finds the agent's port before the user's ports. */
	for (size_t i = 0; i < NCONSOLES; i++)
		argv[argc++] = (char *)consoles[i];
	for (int i = 0; i < o->vm_argc; i++)
		argv[argc++] = o->vm_argv[i];
	rc = config_parse(config, argc, argv, err);
	if (!rc)
		rc = check_sinks(config, err);
	if (!rc && o->dry_run)
		rc = keys_set(&config->vm, config_keys[CONFIG_DRY_RUN].name, "on", err);
	return rc;
}

static int set_cmdline(const struct test_options *o, bool no_kvmclock, struct config *config,
		       struct err *err)
{
	const char *key = config_keys[CONFIG_CMDLINE].name;
	char *cmdline = make_cmdline(o, no_kvmclock);
	int rc;

	keys_unset(&config->vm, key);
	rc = cmdline ? keys_set(&config->vm, key, cmdline, err) : err_sys(err, ENOMEM, "options");
	free(cmdline);
	return rc;
}

int test_config_make(const struct test_options *o, struct config *config, struct err *err)
{
	char **argv = calloc((size_t)o->vm_argc + NCONSOLES, sizeof(*argv));
	int rc;

	config_start(config);
	rc = argv ? parse(o, config, argv, err) : err_sys(err, ENOMEM, "options");
	if (!rc)
		rc = set_cmdline(o, false, config, err);
	free(argv);
	return rc;
}

int test_config_boot(const struct test_options *o, const struct kernels_choice *kernel,
		     const char *initrd, struct config *config, struct err *err)
{
	int rc = keys_set(&config->vm, config_keys[CONFIG_KERNEL].name, kernel->image, err);

	if (!rc && kernel->no_kvmclock)
		rc = set_cmdline(o, true, config, err);
	if (!rc && initrd)
		rc = keys_set(&config->vm, config_keys[CONFIG_INITRD].name, initrd, err);
	return rc;
}

bool test_config_id(const struct config *config, const char *option, unsigned n,
		    char id[DEVICE_ID_BYTES])
{
	for (unsigned i = 0; i < config->ndevices; i++) {
		const char *its = config->device[i].type->option;

		if (!its || strcmp(its, option) != 0 || n--)
			continue;
		config_device_id(config, i, id);
		return true;
	}
	return false;
}
