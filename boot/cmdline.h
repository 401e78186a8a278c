/*
 * cmdline: adds words to a Linux command line. Pure; any thread.
 *
 * What follows the word "--" goes to init (kernel/params.c of Linux), so words for the kernel belong
 * before it.
 */
#ifndef BANTAM_BOOT_CMDLINE_H
#define BANTAM_BOOT_CMDLINE_H

/*
 * Returns the kernel's words of first, then those of second, and after "--" init's words of both in
 * the same order. The caller frees the text. NULL: no memory.
 */
char *boot_cmdline_join(const char *first, const char *second);

#endif
