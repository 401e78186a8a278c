/*
 * confine: what bantam seed gives up before it reads a folder or a document.
 *
 * A folder may be another user's, and its files are copied as they are: what they say decides nothing here. So the process
 * may read every file that its user may read, which --follow needs anyway; Landlock only keeps it from writing to any
 * folder but the new image's. What this host refuses is left out.
 */
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-seed/seed.h"
#include "tools/giveup/giveup.h"

void seed_confine(const char *output)
{
#ifndef __SANITIZE_ADDRESS__ /* its reports open files and start a program */
	unsigned out = GIVEUP_READ | GIVEUP_WRITE | GIVEUP_LIST | GIVEUP_NAME | GIVEUP_REMOVE;
	char *text = strdup(output), *real = realpath(output, NULL);
	struct giveup_path paths[] = {
		{ "/", GIVEUP_READ | GIVEUP_LIST },
		{ text ? dirname(text) : NULL, out },
		{ real ? dirname(real) : NULL, out },
	};

	(void)giveup_privileges(giveup_file_caps);
	(void)giveup_files(paths, 3);
	(void)giveup_calls(&giveup_seed, "seed");
	free(text);
	free(real);
#endif
}
