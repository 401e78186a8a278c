/*
 * chardev: where the characters of a serial port or console go to and come from.
 *
 * Sinks: stdio (raw mode, restored on every way out), file, pty, Unix socket (one client at a time;
 * a ring replays the last output to a new client), null; and the process itself (program.h). One more has no
 * use for users: winsize gives the guest the size of stdio's terminal (guest/terminal.h). Output never blocks a vCPU: what
 * the sink takes at once goes out at the end of a line or after a pause (output.c), and the rest is
 * buffered, bounded, and flushed by the loop's thread. If the buffer of stdio or a file is full, the device learns it and holds the guest back, as real hardware would. A pty or socket, whose
 * reader may be slow or absent, drops its oldest output instead and counts it, unless the user is exact.
 *
 * A chardev lives as long as its device, in the device's loop, or longer, in a pool (pool.h): then
 * one device after the other attaches to it.
 */
#ifndef BANTAM_CHARDEV_H
#define BANTAM_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/keys.h"
#include "vmm/core/loop.h"

struct chardev;
struct chardev_pool;

/*
 * The loop's thread (the chardev's own loop) calls these, without a lock of the chardev: they may call chardev_write and
 * take the device's lock, which may be held around chardev_write and chardev_resume.
 */
struct chardev_user {
	/*
	 * Bytes from the host: take up to len, return how many. After less than len, no more come
	 * until chardev_resume.
	 */
	size_t (*input)(void *opaque, const uint8_t *buf, size_t len);
	/*
	 * There is room for output again: called once after a chardev_write that took less than
	 * len.
	 */
	void (*drained)(void *opaque);
	/* The terminal's size, first after chardev_attach; may be NULL. */
	void (*resized)(void *opaque, uint16_t cols, uint16_t rows);
	/* The user requested a break (Ctrl-A b); may be NULL. */
	void (*send_break)(void *opaque);
	/*
	 * The sink has failed (disk full): output is lost from now on. chardev has logged it. The
	 * user's own chardev_close may call this, too.
	 */
	void (*failed)(void *opaque);
	void *opaque;
	/*
	 * A reader of the output has come or gone; first after chardev_attach. Only a pty and a socket
	 * have readers that come and go: any other sink always has one. May be NULL.
	 */
	void (*connected)(void *opaque, bool connected);
	/*
	 * The bytes are for a program, which must get each or none: a slow reader holds the guest back
	 * instead of missing output, and a new one gets nothing from before it came. What is written while
	 * there is no reader is gone.
	 */
	bool exact;
};

/*
 * The keys that all options with a sink share (stdio, file=, pty, socket=, null …). An option that has others,
 * too, begins its table with CHARDEV_KEYS; its own begin at CHARDEV_NKEYS.
 */
extern const struct key chardev_keys[];

#define CHARDEV_NKEYS 9
/* In the order of the CHARDEV_KEY_ of chardev_impl.h. */
#define CHARDEV_KEYS                                                                                  \
	{ "sink",                                                                                     \
	  KEY_CHOICE,                                                                                 \
	  KEY_BARE,                                                                                   \
	  "stdio|pty|null|off",                                                                       \
	  NULL,                                                                                       \
	  0,                                                                                          \
	  0,                                                                                          \
	  "stdio|pty|null|off",                                                                       \
	  "where characters go to and come from" },                                                   \
		{ "file", KEY_PATH, KEY_WRITES | KEY_MAKES | KEY_READS, NULL, NULL, 0,                \
		  0,	  "FILE",   "write output to FILE (no input)" },                              \
		{ "socket",                                                                           \
		  KEY_PATH,                                                                           \
		  KEY_NAME,                                                                           \
		  NULL,                                                                               \
		  NULL,                                                                               \
		  0,                                                                                  \
		  0,                                                                                  \
		  "PATH",                                                                             \
		  "listen on a Unix socket; a console gives a new client its last 64 KiB" },          \
		{ "append", KEY_BOOL, 0, NULL, NULL, 0, 0, NULL, "with file: keep what FILE holds" }, \
		{ "limit",                                                                            \
		  KEY_SIZE,                                                                           \
		  0,                                                                                  \
		  NULL,                                                                               \
		  NULL,                                                                               \
		  0,                                                                                  \
		  0,                                                                                  \
		  "SIZE",                                                                             \
		  "with file: FILE's most bytes, 1G by default; the oldest go; 0: no limit" },        \
		{ "link", KEY_PATH, KEY_NAME,                                                         \
		  NULL,	  NULL,	    0,                                                                \
		  0,	  "PATH",   "with pty: a symbolic link to the terminal" },                    \
		{ "tty", KEY_BOOL, KEY_HIDDEN,                                                        \
		  NULL,	 NULL,	   0,                                                                 \
		  0,	 NULL,	   "with stdio: no input, unless stdin is a terminal" },              \
		{ "eof", KEY_BOOL, KEY_HIDDEN,                                                        \
		  NULL,	 NULL,	   0,                                                                 \
		  0,	 NULL,	   "with stdio: the end of input is Ctrl-D" },                        \
	{                                                                                             \
		"winsize", KEY_BOOL, KEY_HIDDEN, NULL, NULL, 0, 0, NULL,                              \
			"the sink gives the size of stdio's terminal"                                 \
	}

/* Returns true if cfg says "off": there is no device at all. */
bool chardev_off(const struct keyvals *cfg);

/* Returns true if an open sink is stdio: there can be only one. */
bool chardev_stdio_taken(void);
/* Returns true if it reads a terminal, so that Ctrl-A x is the way out. Any thread. */
bool chardev_stdio_keys(void);
/* The user has pressed Ctrl-A x: that is why this process got a SIGTERM. Any thread. */
bool chardev_stdio_left(void);

/*
 * cfg is parsed with chardev_keys and is not "off". With dry_run, open only looks at the host: the
 * result can be described and closed, and swallows output. The caller owns *out. chardev_close
 * flushes for at most a second (less, if the reader of a pty or socket takes nothing), restores the terminal and removes what open created; it accepts
 * NULL. Both belong to the loop's thread, or to the builder while no loop runs.
 */
int chardev_open(const struct keyvals *cfg, struct loop *loop, bool dry_run, struct chardev **out,
		 struct err *err);
void chardev_close(struct chardev *chr);

/*
 * Has a guest written anything to any of this process's sinks since the last chardev_expect? For an owner that
 * wonders at its silence. Any thread.
 */
bool chardev_heard(void);
void chardev_expect(void);

/* From now on, open logs the name of each new pty and, with sockets, of each new socket. Before other threads run. */
void chardev_print_names(bool sockets);

/*
 * For a device: finds its chardev in the pool (NULL: none) by the device's id (may be NULL), or else
 * opens one by cfg as chardev_open does. -EBUSY: another device has the pool's chardev.
 * chardev_release undoes it: it detaches a chardev of the pool, and closes any other. Before a device
 * gives up what its functions use (its lock), it calls chardev_part: the pool's thread calls none of them any
 * more. A chardev of the device's own still tells what close loses. Both accept NULL. The threads are
 * those of attach and detach.
 */
int chardev_obtain(struct chardev_pool *pool, const char *id, const struct keyvals *cfg,
		   struct loop *loop, bool dry_run, struct chardev **out, struct err *err);
void chardev_part(struct chardev *chr);
void chardev_release(struct chardev *chr);

/*
 * Starts the calls to user, which is copied. Loop's thread or builder; for a chardev of a pool any
 * thread that holds no lock of the device: attach and detach then wait for the pool's thread.
 */
void chardev_attach(struct chardev *chr, const struct chardev_user *user);
/*
 * Ends the calls: none runs, or will run, after the return. Output that the device has written still
 * goes out; input that it has not taken waits for the next device.
 */
void chardev_detach(struct chardev *chr);

/*
 * Any thread. Takes what fits and returns how many bytes; after less than len, drained is called.
 */
size_t chardev_write(struct chardev *chr, const void *buf, size_t len);
/* The user can take input again. Any thread; cheap if no input waits. */
void chardev_resume(struct chardev *chr);
/*
 * The guest has opened or closed its end of a port; closed at first, and after detach. For a sink whose
 * owner wants to know (program.h). Any thread.
 */
void chardev_guest_open(struct chardev *chr, bool open);
/* "pty /dev/pts/3", for --dry-run and the start message. */
const char *chardev_describe(const struct chardev *chr);
/* "/dev/pts/3" of a pty, else NULL. */
const char *chardev_terminal(const struct chardev *chr);

/*
 * Restores the terminal for a process that is about to end: no console makes it raw afterwards. Any
 * thread, any number of times, but no signal handler. stdio calls it at exit, and restores the
 * terminal itself on the signals that kill by default. A module that ends the process by _exit must
 * call it.
 */
void chardev_restore_terminal(void);
/* The same in a signal's handler that ends the process. */
void chardev_restore_terminal_in_handler(void);

#endif
