/*
 * chardev/terminal: the terminal on the process's stdin, raw while a guest has it.
 *
 * It is restored on every way out: by exit, by the signals that kill or stop the process, and by
 * chardev_restore_terminal (chardev.h) before _exit. A signal that is blocked, or has a handler of the program,
 * is the program's. One owner at a time.
 *
 * Thread: the loop's; other threads block the signals that are caught here (vmm/core/thread.h).
 */
#ifndef BANTAM_CHARDEV_TERMINAL_H
#define BANTAM_CHARDEV_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/chardev/chardev.h"

/*
 * Keeps the terminal's settings, and catches signals: after SIGWINCH and SIGCONT event_fd, an eventfd of the loop,
 * is written, and chardev_terminal_signalled returns true once. Ignores SIGTTIN: a read in the background fails
 * with EIO instead of stopping the process. Returns false if stdin is no terminal, or has an owner.
 */
bool chardev_terminal_open(int event_fd);
/* Restores all of it. Accepts a terminal that is not open. */
void chardev_terminal_close(void);

/* This process may change the terminal and read it. */
bool chardev_terminal_foreground(void);
/*
 * Every key, Ctrl-C too, is the guest's from now on. Returns false in the background, where nothing is changed: try
 * again later, and after each SIGCONT.
 */
bool chardev_terminal_take(void);
/* The terminal is as the user had it. */
void chardev_terminal_give_back(void);
bool chardev_terminal_signalled(void);

/*
 * Takes Ctrl-A and the key after it out of buf, calls key with that key, and returns the new length. Ctrl-A twice is one
 * Ctrl-A. escape: Ctrl-A came last.
 */
size_t chardev_terminal_filter(bool *escape, uint8_t *buf, size_t len,
			       void (*key)(void *opaque, uint8_t key), void *opaque);

#endif
