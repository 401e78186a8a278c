/*
 * terminal: how the host tells the guest of `bantam run --shell` the size of the user's terminal, where the guest's
 * terminal is a serial port, which cannot tell it: a named port carries lines "ROWS COLUMNS\n", the first one as soon
 * as the guest has opened it, then one for each change.
 */
#ifndef GUEST_TERMINAL_H
#define GUEST_TERMINAL_H

#define TERMINAL_PORT "org.bantam.terminal"

#endif
