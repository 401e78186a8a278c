"""Runs a command on a pseudo-terminal: the emulated host's end of the user's terminal (tools/testbed).

    testbedtty.py PORT COMMAND [ARG...]

PORT brings what the user types and the terminal's size, as frames (below). What the command prints goes to
standard output. Exit status: the command's own, 128+N after signal N.
"""

import errno
import fcntl
import os
import select
import struct
import sys
import termios

# A frame: its kind, the bytes that follow, those bytes. A size has two numbers: rows and columns.
HEAD = struct.Struct(">cH")
KEYS, SIZE = b"k", b"s"
SIZE_BYTES = struct.Struct(">HH")
KEYS_MAX = 4096


def keys_frame(data):
    return HEAD.pack(KEYS, len(data)) + data


def size_frame(terminal):
    rows, columns = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))[:2]
    return HEAD.pack(SIZE, SIZE_BYTES.size) + SIZE_BYTES.pack(rows, columns)


class Frames:
    """Takes a stream apart."""

    def __init__(self):
        self.held = b""

    def feed(self, data):
        self.held += data
        while len(self.held) >= HEAD.size:
            kind, length = HEAD.unpack_from(self.held)
            end = HEAD.size + length
            if len(self.held) < end:
                return
            body, self.held = self.held[HEAD.size:end], self.held[end:]
            yield kind, body


def set_size(terminal, body):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE_BYTES.unpack(body), 0, 0))


def start(command, size):
    """Returns the process, and the terminal's master. size: the body of a frame."""
    master, slave = os.openpty()
    set_size(master, size)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.closerange(3, 256)
        try:
            os.execvp(command[0], command)
        except OSError as why:
            print(f"{command[0]}: {why.strerror}", file=sys.stderr, flush=True)
            os._exit(126 if why.errno == errno.EACCES else 127)
    os.close(slave)
    os.set_blocking(master, False)
    return pid, master


def write_all(data):
    while data:
        data = data[os.write(1, data):]


def main():
    port, frames = os.open(sys.argv[1], os.O_RDONLY), Frames()
    # The size comes first: a command asks for it when it starts.
    early = []
    while not early:
        early = list(frames.feed(os.read(port, KEYS_MAX)))
    pid, master = start(sys.argv[2:], early[0][1])
    typed, open_port = b"", True

    def take(found):
        nonlocal typed
        for kind, body in found:
            if kind == KEYS:
                typed += body
            elif kind == SIZE:
                set_size(master, body)

    take(early)
    while True:
        # A command that does not read holds the user's keys back, and nothing else.
        wait_in = [master] + ([port] if open_port and not typed else [])
        readable, writable, _ = select.select(wait_in, [master] if typed else [], [])
        if port in readable:
            data = os.read(port, KEYS_MAX)
            open_port = bool(data)
            take(frames.feed(data))
        if writable:
            typed = typed[os.write(master, typed):]
        if master in readable:
            try:
                write_all(os.read(master, 65536))
            except OSError:     # EIO: no process has the terminal any more
                break
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main())
