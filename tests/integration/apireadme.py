"""Scenarios of tests/integration/api: what the documentation says to type.

The README's chapter "Drive it by HTTP" runs word by word in a terminal, from start to power-off, and so do the
examples of bantam-api(1) and bantam-ctl(1). Only the names of what a reader has are others: the kernel is the bare-metal guest.
"""

import os
import pty
import re
import select
import signal
import tempfile
import time

from apivm import GUEST, PROGRAM, ROOT

CHAPTER = "### Drive it by HTTP\n"
LIMIT_S = 60
# What a person has, and the tests have not.
OTHERS = (('"kernel": "K"', f'"kernel": "{GUEST}"'), ("tcp::2222-22", "tcp::0-22"))
# A whole system needs a moment to power off, the bare-metal guest a second press.
SLOW_GUEST = (("root=/dev/vda1", "root=/dev/vda1 presses=2"),)
AGAIN = "{ sleep 1; bantam ctl vm.sock power-button; } &"
# A person is slower than a script.
SOCKET = "until [ -S vm.sock ]; do sleep 0.01; done"
SERIAL = "$(bantam ctl vm.sock info --json | jq -r .config.serial.file)"
GUEST_RUNS = f'grep -q -m 1 ready <"{SERIAL}"; until bantam ctl vm.sock info | grep -q ^digest; do sleep 0.01; done'


def blocks():
    """The chapter's blocks of code, each a list of lines."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        chapter = f.read().split(CHAPTER)[1].split("\n### ")[0]
    return [re.sub("^    ", "", text, flags=re.M).splitlines()
            for text in re.findall(r"(?:^    .*\n)+", chapter, re.M)]


def examples(page):
    """A man page's example, as lines."""
    with open(os.path.join(ROOT, page), encoding="utf-8") as f:
        return f.read().split(".Sh EXAMPLES")[1].split(".Bd -literal -offset indent\n")[1].split("\n.Ed")[0].splitlines()


def paced(lines, wait_for_guest=True):
    """The lines with the waits of a person between them."""
    for line in lines:
        if "ctl vm.sock wait" in line:
            yield AGAIN
        yield line
        if line.startswith("bantam api "):
            yield SOCKET
        elif wait_for_guest and re.search(r"\b(boot|vm\.boot)\b", line):
            yield GUEST_RUNS


def play(folder, lines):
    """Runs the lines in bash, in a terminal. Returns its exit status and what the terminal shows."""
    script = os.path.join(folder, "script")
    with open(script, "w") as f:
        f.write("set -e\n" + "\n".join(lines) + "\n")
    pid, fd = pty.fork()
    if not pid:
        os.chdir(folder)
        os.environ["PATH"] = os.path.join(folder, "bin") + ":" + os.environ["PATH"]
        os.execvp("bash", ["bash", "--norc", script])
    shown, typed, until = b"", False, time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            shown += os.read(fd, 65536)
        except OSError:     # the last process has closed the terminal
            break
        if b"button: ready" in shown and not typed:
            os.write(fd, b"\x01d")
            typed = True
    else:
        os.killpg(pid, signal.SIGKILL)
    os.close(fd)
    text = re.sub(r"\x1b\[[0-9;]*m|\r", "", shown.decode(errors="replace"))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def place(folder):
    """What a reader has in a folder."""
    os.mkdir(os.path.join(folder, "bin"))
    os.symlink(PROGRAM, os.path.join(folder, "bin/bantam"))
    for name in ("root.img", "web1.img"):
        with open(os.path.join(folder, name), "wb") as f:
            f.truncate(1 << 20)


def words(lines, more=()):
    text = "\n".join(lines)
    for ours, others in OTHERS + tuple(more):
        text = text.replace(ours, others)
    return text.splitlines()


def readme(r):
    describe, curl, ctl, link = blocks()
    for name, lines, more in (("curl", curl, ()), ("ctl", ctl, SLOW_GUEST)):
        with tempfile.TemporaryDirectory(prefix="bantam-api.") as folder:
            place(folder)
            status, shown = play(folder, words(describe, more) + list(paced(lines, not more)) + ["wait"])
            r.ok(status == 0, f"{name}: every line succeeds", status, shown)
            r.ok('["' not in shown, f"{name}: no request fails", shown)
            r.ok(not os.path.exists(os.path.join(folder, "vm.sock")), f"{name}: the process is gone", shown)
            want = (r'^"Running"$', r'^"/dev/pts/\d+"$', r'^"[0-9a-f]{64}"$', '"event":"paused"', '"event":"resumed"',
                    '"why":"acpi"', '"source":"vmm","event":"shutdown"') if name == "curl" else \
                   (r"^state +Running$", r"^cpus +2$", r"^serial +Pty /dev/pts/\d+$", "button: ready", r"^0$")
            for pattern in want:
                r.ok(re.search(pattern, shown, re.M), f"{name}: shows {pattern}", shown)
    r.ok(len(link) == 1 and link[0].endswith("/cloud-hypervisor"), "the last block makes a link")
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as folder:
        place(folder)
        status, shown = play(folder, [link[0].removeprefix("sudo ").replace("/usr/local/bin", "bin"), "cloud-hypervisor --version"])
        r.ok(status == 0 and re.fullmatch(r"cloud-hypervisor v[0-9.]+-bantam-\S+\n", shown), "the link works", shown)


def manual(r):
    # The one example leaves it to the guest to power off, the other has a console and presses the button.
    for page, more in (("vmm/bantam-api.1", ()), ("tools/bantam-ctl/bantam-ctl.1", SLOW_GUEST)):
        with tempfile.TemporaryDirectory(prefix="bantam-api.") as folder:
            place(folder)
            lines = words(blocks()[0], more) + list(paced(examples(page), not more)) + ["wait"]
            status, shown = play(folder, lines)
            r.ok(status == 0 and '["' not in shown, f"the example of {page}", status, shown)


SCENARIOS = {"readme": readme, "manual": manual}
