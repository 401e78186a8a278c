#!/usr/bin/env python3
"""
complete.py SCRIPT: types into an interactive bash that has read the completion SCRIPT, in a folder
with the file root.img and a directory keys. Prints TAP lines. tests/integration/package tests the
functions; this program tests the lines that bash makes from their results: no
backslash before "=", and a space only at the end of a word.
"""
import os
import pty
import select
import sys
import time

CASES = [  # the keys typed, the resulting line
    ("bantam im\t", "bantam image "),
    ("bantam run --ker\troo\t", "bantam run --kernel root.img "),
    ("bantam run --disk pat\troo\t", "bantam run --disk path=root.img "),
    ("bantam run --disk root.img,ro,fo\tq\t", "bantam run --disk root.img,ro,format=qcow2 "),
    ("bantam run --disk=see\tke\t", "bantam run --disk=seed=keys/"),
    ("bantam run --disk root.img,iot\t,dir\t", "bantam run --disk root.img,iothread,direct"),
    ("bantam run --net user,hostfwd=tcp::2222-22,que\t-\t8", "bantam run --net user,hostfwd=tcp::2222-22,queue-size=8"),
    ("bantam run --transport=m\t", "bantam run --transport=mmio "),
    ("bantam image convert -c zs\troot.\t", "bantam image convert -c zstd root.img "),
    ("bantam seed fat k\t", "bantam seed fat keys/"),
    ("bantam help ini\t", "bantam help initrd "),
    ("bantam initrd --lib\t--fi\troo\t", "bantam initrd --libraries --file root.img "),
    ("bantam test --kern\troo\t--shel\t", "bantam test --kernel root.img --shell "),
]
LIMIT_S = 20


def read_until(fd, text):
    """Returns all output up to text, or of LIMIT_S."""
    got = b""
    end = time.monotonic() + LIMIT_S
    while text not in got and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                got += os.read(fd, 65536)
            except OSError:
                break
    return got


def main():
    script = os.path.abspath(sys.argv[1])
    pid, fd = pty.fork()
    if not pid:
        os.environ.update(TERM="dumb", PS1="ready> ", INPUTRC="/dev/null")
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    os.write(fd, f". '{script}'; bind 'set bell-style none'; stty cols 200; echo loa''ded\n".encode())
    failed = 0
    if b"loaded" not in read_until(fd, b"loaded\r\nready> "):
        print("not ok - an interactive bash reads the completion")
        failed += 1
    for typed, line in CASES:
        # Alt-# makes bash's line a comment and runs it.
        os.write(fd, typed.encode() + b"\x1b#")
        got = read_until(fd, b"\nready> ").decode(errors="replace")
        # After the prompt bash draws the whole line, with # before it.
        drawn = got.replace("\r", "\n").split("\n")
        if any(text.removeprefix("ready> ") == "#" + line for text in drawn):
            print(f"ok - typed: {typed!r}")
        else:
            failed += 1
            print(f"not ok - typed: {typed!r}: not {line!r}: {got!r}")
    os.close(fd)
    os.waitpid(pid, 0)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
