/*
 * test: the command `bantam test`: boots a kernel, runs a command in the guest, and says exactly how that
 * ended.
 */
#ifndef BANTAM_TEST_H
#define BANTAM_TEST_H

/* argv[0] is the first argument after "test". Returns the exit status. Thread: the first. */
int test_command(int argc, char **argv);

#endif
