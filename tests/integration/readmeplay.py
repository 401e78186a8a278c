"""Types commands of the README in a terminal, as its reader does, and reads what the terminal shows."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

# Names of sockets in a command: a person waits until the server is there, a script must be told to.
SOCKET = re.compile(r"(?:socket|path)[= ]([\w.]+\.(?:sock|serial|vsock|agent))\b")


def script(todo, allowed):
    """A script that types the commands [(Command, TEXT)] and stops at the first whose status allowed(command) lacks."""
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for command, text in todo:
        good = "|".join(str(n) for n in allowed(command))
        lines += [f"echo '@@ {command.line}'", text,
                  f"s=$?; case $s in {good}) ;; *) echo \"@@ exit status $s\"; exit 1 ;; esac"]
        if command.background():
            lines += [f"for i in $(seq 500); do [ -S {name} ] && break; sleep 0.02; done" for name in SOCKET.findall(text)]
    return "\n".join(lines) + "\n"


class Terminal:
    """A terminal in which bash runs a script. `typed` is [(LINE, PATTERN, KEYS)], in order: when the command of
    that line has shown the pattern, the reader types the keys."""

    def __init__(self, folder, text, typed=()):
        path = os.path.join(folder, f".script{os.getpid()}-{id(self):x}")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.execvp("bash", ["bash", "--norc", path])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.raw, self.typed, self.status, self.path = "", list(typed), None, path
        self.read = 0           # what the keys before have been typed for
        self.told = 0           # what fresh() has returned

    def shown(self, begin=0, end=None):
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r+(?=\n)", "", self.raw[begin:end])
        return re.sub(r"[^\n]*\r", "", text)       # a line that was written anew

    def fresh(self):
        """The lines that are new since the last call."""
        end = len(self.raw) if self.status is not None else self.raw.rfind("\n") + 1
        text, self.told = self.shown(self.told, max(end, self.told)), max(end, self.told)
        return text

    def step(self, wait_s=0.2):
        """Reads and types for a moment. Returns whether the terminal is still open."""
        if self.status is not None:
            return False
        if select.select([self.fd], [], [], wait_s)[0]:
            try:
                self.raw += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:     # the last process has closed the terminal
                self.close()
                return False
        if self.typed:
            line, pattern, keys = self.typed[0]
            begin = self.raw.find(f"@@ {line}\r\n")
            found = re.compile(pattern).search(self.raw, max(begin, self.read)) if begin >= 0 else None
            if found:
                time.sleep(0.3)
                os.write(self.fd, keys)
                self.read = max(found.end(), begin)
                self.typed.pop(0)
        return True

    def close(self, kill=False):
        if self.status is None:
            if kill:
                os.killpg(self.pid, signal.SIGKILL)
            os.close(self.fd)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.unlink(self.path)
        return self.status


def play(folder, text, typed, limit_s):
    """Runs a script in a terminal. Returns its exit status and what the terminal shows."""
    terminal, until = Terminal(folder, text, typed), time.monotonic() + limit_s
    while terminal.step():
        if time.monotonic() > until:
            terminal.close(kill=True)
            return -1, terminal.shown() + f"\n@@ no end after {limit_s} s"
    return terminal.status, terminal.shown()
