/*
 * confined: stands in the place of a program bantam, and runs the real one (REAL, a path) with --confine MODE behind the
 * command, where that is run, test or api and says nothing of --confine itself. tests/check puts it there for CONFINE=MODE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef REAL
#define REAL "bantam"
#endif
#ifndef MODE
#define MODE "require"
#endif

int main(int argc, char **argv)
{
	char **words = calloc((size_t)argc + 3, sizeof(*words));
	const char *command = argc > 1 ? argv[1] : "";
	int takes = !strcmp(command, "run") || !strcmp(command, "test") || !strcmp(command, "api"),
	    n = 0, i;

	if (!words)
		return 125;
	/* What follows "--" is a guest's command. */
	for (i = 2; i < argc && strcmp(argv[i], "--"); i++)
		takes = takes && strncmp(argv[i], "--confine", 9);
	for (i = 0; i < argc; i++) {
		words[n++] = argv[i];
		if (i == 1 && takes) {
			words[n++] = "--confine";
			words[n++] = MODE;
		}
	}
	execv(REAL, words);
	perror(REAL);
	return 125;
}
