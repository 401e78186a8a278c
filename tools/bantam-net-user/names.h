/*
 * names: the host's resolv.conf, for a process that can open no file.
 *
 * A process of its own reads the file, notices its changes, and sends its text. It starts before the helper is
 * confined, never sees a byte from the guest, and ends with the helper. One thread.
 */
#ifndef BANTAM_NET_USER_NAMES_H
#define BANTAM_NET_USER_NAMES_H

#define NAMES_BYTES 4096u /* what is behind is ignored */

extern const char *names_conf; /* /etc/resolv.conf; set it before names_begin */

/* Starts the process that reads the file. Call it before any descriptor is opened. Returns 0 or -errno. */
int names_begin(void);
/*
 * The file's text, as it is now, or as it was when it could last be read; "": never yet. *version changes with the
 * text. Waits for the other process, at most 100 ms. Links have numbers: "fe80::1%2".
 */
const char *names_text(unsigned *version);
/* Ends that process. */
void names_end(void);

#endif
