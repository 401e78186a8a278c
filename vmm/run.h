/* run: the process of `bantam run`. */
#ifndef BANTAM_RUN_H
#define BANTAM_RUN_H

/* argv[0] is the first argument after "run". The exit status. */
int run_command(int argc, char **argv);

#endif
