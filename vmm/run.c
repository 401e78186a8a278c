/* run: see run.h. */
#include "vmm/run.h"

#include <stdio.h>

#include "vmm/config.h"
#include "vmm/machine/bootdisk.h"
#include "vmm/machine/machine.h"

static int fail(const char *text, int status)
{
	fprintf(stderr, "bantam: %s\n", text);
	return status;
}

static int run_machine(const struct config *config)
{
	struct machine *m;
	struct err err = { "" }, why = { "" };
	int rc = machine_create(config, &m, &err);

	if (rc)
		return fail(err.text, OUTCOME_ERROR);
	if (keys_num(&config->vm, CONFIG_DRY_RUN)) {
		machine_describe(m, stdout);
		machine_destroy(m);
		return 0;
	}
	rc = machine_run(m, &why, &err);
	if (rc >= 0 && keys_num(&config->vm, CONFIG_STATS))
		machine_print_stats(m, stderr);
	/* Devices first: the terminal is itself again when the last line comes. */
	machine_destroy(m);
	if (rc < 0)
		return fail(err.text, OUTCOME_ERROR);
	if (!keys_num(&config->vm, CONFIG_QUIET))
		fprintf(stderr, "bantam: %s\n", why.text);
	return rc;
}

int run_command(int argc, char **argv)
{
	struct config config;
	struct err err = { "" };
	int rc = config_parse(&config, argc, argv, &err);

	if (!rc && !keys_num(&config.vm, CONFIG_HELP))
		rc = bootdisk_check(&config, &err);
	if (rc) {
		rc = fail(err.text, OUTCOME_USAGE);
	} else if (keys_num(&config.vm, CONFIG_HELP)) {
		config_help(stdout);
	} else {
		rc = run_machine(&config);
	}
	config_clear(&config);
	return rc;
}
