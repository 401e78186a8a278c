/* bantam: subcommands; the only place that prints an error and exits. */
#include <stdio.h>

int main(void)
{
	puts("bantam " BANTAM_VERSION);
	return 0;
}
