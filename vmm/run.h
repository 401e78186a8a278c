/*
 * run: the process of `bantam run`: its signals, its terminal, its exit status, and the machine
 * that it runs.
 */
#ifndef BANTAM_RUN_H
#define BANTAM_RUN_H

/* argv[0] is the first argument after "run". Returns the exit status. Thread: the first. */
int run_command(int argc, char **argv);

#endif
