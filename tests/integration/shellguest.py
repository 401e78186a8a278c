#!/usr/bin/python3
"""bantam run --shell as a person has it, on a terminal: runs one guest and prints what was not as it should be.

    tests/integration/shellguest.py TTY KERNEL DIR [--transcript FILE]

TTY: ttyS0, hvc0, or pipe (standard input is no terminal). DIR: for the disk and the shared folder. Exit status 0:
all was as it should be.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time

LIMIT_S = 160      # of a guest, which batch ends after 180
PROMPT = "~ # "
BANTAM = os.environ.get("BANTAM", "build/bantam")
VIRTIOFSD = next((p for p in ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd") if os.path.exists(p)), None)

wrong = []


def check(good, what, seen=""):
    if not good:
        wrong.append(what)
        print(f"wrong: {what}: {seen!r}", flush=True)


class Screen:
    """A guest's terminal, which is a pseudo-terminal of the host."""

    def __init__(self, words, rows, columns):
        self.raw = b""
        self.text = ""      # all of it, without escape sequences (ash asks where the cursor is)
        self.read_to = 0    # where the answer to the next command begins
        self.count = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.environ["TERM"] = "xterm-256color"
            os.execv(words[0], words)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def more(self, until):
        """Reads once. Returns False at the end, or when the time is over."""
        if not select.select([self.fd], [], [], max(0, until - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:     # EIO: the terminal's last process is gone
            return False
        self.raw += data
        self.text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace").replace("\r\n", "\n"))
        return bool(data)

    def wait(self, pattern, limit_s=LIMIT_S):
        """Waits for the pattern behind what was read before. Returns the text up to it, or None."""
        until = time.monotonic() + limit_s
        while not (found := re.search(pattern, self.text[self.read_to:])):
            if not self.more(until):
                return None
        begin, self.read_to = self.read_to, self.read_to + found.end()
        return self.text[begin:self.read_to]

    def send(self, keys):
        os.write(self.fd, keys.encode())

    def run(self, command):
        """Returns what a command prints; None if it does not end. The shell draws its line again when it likes."""
        self.count += 1
        self.send(f"{command}; echo '<'{self.count}'>'\r")
        text = self.wait(f"<{self.count}>\n")
        check(text is not None, f"the end of {command}", self.text[-300:])
        return text and text.rpartition("'>'\n")[2].rpartition("<")[0].strip()

    def until(self, command, answer):
        """Runs the command until it prints that, which takes a moment."""
        for _ in range(50):
            if (seen := self.run(command)) == answer or wrong:
                break
            time.sleep(0.1)
        check(seen == answer, f"{command} prints {answer}", seen)

    def status(self):
        """What is left, then the exit status."""
        until = time.monotonic() + LIMIT_S
        while self.more(until):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def make_disk(path):
    os.makedirs(path + ".d", exist_ok=True)
    with open(path + ".d/hello", "w") as f:
        f.write("hello from the disk\n")
    with open(path, "wb") as f:
        f.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", path + ".d", path], check=True,
                   env={**os.environ, "PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"})


def share():
    """Starts virtiofsd on a folder in /tmp, which is the emulated host's own; returns it and its socket, or None."""
    if not VIRTIOFSD or os.geteuid():
        return None, None
    folder = tempfile.mkdtemp(prefix="shellguest")
    socket = folder + "/fs.sock"
    os.mkdir(folder + "/shared")
    with open(folder + "/shared/hello", "w") as f:
        f.write("hello from the folder\n")
    daemon = subprocess.Popen([VIRTIOFSD, "--socket-path=" + socket, "-o", f"source={folder}/shared",
                               "-o", "sandbox=chroot"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        if os.path.exists(socket):
            break
        time.sleep(0.05)
    return daemon, socket


def press(screen, key, shows):
    """Presses the key while a command runs, and waits for what it does."""
    screen.send("echo run''s; sleep 1000\r")
    check(screen.wait("runs\n"), "a command runs", screen.text[-300:])
    time.sleep(0.3)     # sleep is the terminal's foreground job now
    screen.send(key)
    check(screen.wait(shows, 30), f"{key!r} while a command runs", screen.text[-300:])


def keys(screen):
    """Job control: what needs a controlling terminal."""
    press(screen, "\x03", r"\^C\n")
    check(screen.run("echo $?") == "130", "ctrl-C ends a command with 130", screen.text[-300:])
    press(screen, "\x1a", "Stopped")
    check("Stopped" in (screen.run("jobs") or ""), "jobs lists it", screen.text[-300:])
    screen.run("kill %1; fg")


def person(tty, words):
    screen = Screen(words, 31, 101)
    text = screen.wait(re.escape(PROMPT) + "$")
    check(text, "a prompt", screen.text)
    if not text:
        return screen
    check(re.search(r"runs .*; Ctrl-A x ends", text), "the line at the start", text)
    check(not re.search(r"^\[ *\d+\.\d+\]", text, re.M), "no message of the kernel", text)
    check("job control" not in text and "access tty" not in text, "job control", text)
    check(screen.run("tty") == "/dev/" + tty, "the terminal's name", screen.text[-300:])
    check(screen.run("stty size") == "31 101", "the size at the start", screen.text[-300:])
    check(screen.run("echo $TERM $HOME") == "xterm-256color /root", "TERM and HOME", screen.text[-300:])
    screen.resize(24, 80)
    screen.until("stty size", "24 80")
    keys(screen)
    return screen


def with_devices(screen, has_folder):
    check(screen.run("cat /mnt/vda/hello") == "hello from the disk", "the disk is mounted", screen.text[-300:])
    screen.run("echo written >/mnt/vda/answer")
    if has_folder:
        check(screen.run("cat /mnt/work/hello") == "hello from the folder", "the folder", screen.text[-500:])
    screen.until("ip -4 -o addr show eth0 | sed 's/.*inet //; s/ .*//'", "10.0.2.15/24")
    screen.until("ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'", "10.0.2.2")


def piped(words):
    """The end of the input ends the shell, also behind a line without its end."""
    done = subprocess.run(words, input=b"uname -r\ncat /proc/sys/kernel/hostname; echo $((6 * 7))",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
    text = done.stdout.decode(errors="replace").replace("\r", "")
    check(done.returncode == 0, "the exit status", (done.returncode, done.stderr))
    check(re.search(r"^\d+\.\d+\.\d.*\nbantam\n42$", text, re.M), "what the commands print", text)
    return text


def main():
    tty, kernel, folder = sys.argv[1:4]
    words = [BANTAM, "run", "--shell", "--kernel", kernel, "--memory", "256M"]
    if tty == "pipe":
        text = piped(words)
    else:
        daemon = None
        disk = os.path.join(folder, "disk.img")
        if tty == "ttyS0":
            make_disk(disk)
            daemon, socket = share()
            words += ["--disk", disk, "--net", "user"] + (["--fs", f"tag=work,socket={socket}"] if daemon else [])
        else:
            words += ["--serial", "off", "--console", "stdio"]
        screen = person(tty, words)
        if tty == "ttyS0" and not wrong:
            with_devices(screen, daemon)
        screen.send("\x01x" if wrong else "exit\r")
        status = screen.status()
        text = screen.text
        check(status == 0, "the exit status", status)
        check(text.rstrip().endswith("bantam: the guest powered off"), "the last line", text[-300:])
        if tty == "ttyS0" and not wrong:
            done = subprocess.run(["/sbin/debugfs", "-R", "cat /answer", disk], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
            check(done.stdout == b"written\n", "what the guest wrote is on the disk", done.stdout)
        if daemon:
            daemon.kill()
            shutil.rmtree(os.path.dirname(socket))
    if "--transcript" in sys.argv:
        with open(sys.argv[sys.argv.index("--transcript") + 1], "w") as f:
            f.write(text)
    print(f"shell on {tty}: {len(wrong)} wrong")
    return 1 if wrong else 0


sys.exit(main())
