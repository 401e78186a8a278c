"""Scenarios of tests/integration/api: what outlives a machine (contract, sections 3.6 and 5.1): consoles, taps, sockets."""

import json
import os
import select
import socket
import stat
import subprocess
import tempfile
import termios
import time

from apicases import read_some
from apivm import Vm, can_make_taps, read, until_true

MARK = b"ready"


def pty(r):
    """A terminal, from vm.create until the process ends, and readers that misbehave."""
    with Vm() as vm:
        vm.put("vm.create", vm.config(serial={"mode": "Pty"}, console={"mode": "Pty"}))
        config = vm.get("vm.info").json["config"]
        path, other = config["serial"]["file"], config["console"]["file"]
        r.ok(path != other and all(p.startswith("/dev/pts/") for p in (path, other)), "two terminals from vm.create on",
             path, other)
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        local = termios.tcgetattr(fd)[3]
        r.ok(not local & (termios.ECHO | termios.ICANON | termios.ISIG), "raw")
        vm.put("vm.boot")
        r.ok(MARK in read_some(fd, MARK), "a reader that came before the machine")
        os.close(fd)
        r.ok("console" in vm.threads(), "the consoles' thread", vm.threads())
        # A reader that opens it and reads nothing: the machines go on, and the calls.
        stuck = os.open(path, os.O_RDWR | os.O_NOCTTY)
        for _ in range(3):
            began = time.monotonic()
            r.ok(vm.put("vm.reboot").status == 204 and vm.state() == "Running", "a reboot before a reader that is stuck")
            r.ok(time.monotonic() - began < 2, "time: it does not wait for the reader")
        time.sleep(0.3)
        os.close(stuck)
        time.sleep(0.1)
        texts = []
        for _ in range(2):
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            texts.append(read_some(fd, b"never", 0.5))
            os.close(fd)
        r.ok(texts[0].count(MARK) >= 2 and texts[0] == texts[1], "each next reader gets all that was kept, once", *texts)
        r.ok(vm.get("vm.info").json["config"]["serial"]["file"] == path, "the same path over three reboots")
        answer = vm.put("vm.shutdown")
        cpu = cpu_ticks(vm.pid)
        time.sleep(0.5)
        r.ok(answer.status == 204 and cpu_ticks(vm.pid) - cpu < 10, "no machine, no reader: the process sleeps", cpu)
        stuck = os.open(path, os.O_RDWR | os.O_NOCTTY)
        vm.put("vm.boot")
        began = time.monotonic()
        r.ok(vm.put("vmm.shutdown").status == 200 and vm.ends() == 0, "vmm.shutdown before a stuck reader")
        r.ok(time.monotonic() - began < 0.5, "time: it does not wait for the reader", time.monotonic() - began)
        os.close(stuck)


def cpu_ticks(pid):
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def files(r):
    """A file is made if it is not there, appended to, and never truncated."""
    with Vm() as vm:
        path = vm.path("console")
        vm.put("vm.create", vm.config())
        r.ok(os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) == 0o600, "made by vm.create, mode 0600")
        vm.put("vm.delete")
        r.ok(not os.path.exists(path), "a VM that never ran leaves no empty file")
        with open(path, "w", encoding="ascii") as f:
            f.write("the last run's\n")
        vm.boot(cmdline="press=reset")
        vm.shows("ready")
        r.ok(vm.text("console").startswith("the last run's\n"), "appended to what is there", vm.text("console"))
        vm.put("vm.power-button")
        r.ok(vm.shows("ready", 2), "the guest's reset", vm.text("console"))
        vm.put("vm.reboot")
        r.ok(vm.shows("ready", 3), "vm.reboot", vm.text("console"))
        vm.put("vm.shutdown")
        vm.put("vm.boot")
        r.ok(vm.shows("ready", 4), "vm.shutdown and vm.boot", vm.text("console"))
        text = vm.text("console")
        r.ok(text.startswith("the last run's\n") and text.index("press") < text.rindex("ready"), "in its order", text)
        vm.put("vm.delete")
        r.ok(vm.text("console") == text, "vm.delete leaves it")


def sockets(r):
    """Clients before and between machines; a configuration that fails removes what it made."""
    with Vm() as vm:
        path = vm.path("serial")
        answer = vm.put("vm.create", vm.config(console={"mode": "Socket", "socket": path},
                                               serial={"mode": "File", "file": vm.path("no/such/file")}))
        r.ok(answer.status in (400, 500) and "no/such/file" in answer.json[-1], "a console that cannot be opened", answer)
        r.ok(not os.path.exists(path), "the other console's socket is gone again")
        vm.put("vm.create", vm.config(serial={"mode": "Socket", "socket": path}))
        r.ok(stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, "only for its owner", oct(os.stat(path).st_mode))
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        vm.put("vm.boot")
        r.ok(MARK in read_some(client.fileno(), MARK), "a client that came before the machine")
        inode = os.stat(path).st_ino
        vm.put("vm.reboot")
        r.ok(MARK in read_some(client.fileno(), MARK) and os.stat(path).st_ino == inode,
             "it stays connected over a reboot")
        vm.put("vm.shutdown")
        r.ok(not select.select([client], [], [], 0.1)[0] and not os.path.exists(path),
             "and over vm.shutdown, which leaves the path to others")
        vm.put("vm.boot")
        r.ok(MARK in read_some(client.fileno(), MARK), "and over vm.boot")
        r.ok(os.path.exists(path), "which listens again")
        client.close()
        for turn in range(3):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.send(b"x" * 2000)
            text = read_some(client.fileno(), b"never", 0.2)
            r.ok(text.count(MARK) == 3, f"client {turn} gets what was kept", text)
            client.close()
        r.ok(vm.stop() == 0 and not os.path.exists(path), "gone at the end")


def tty(r):
    """Standard input is the guest's only if it is a terminal."""
    inp, outp = os.pipe()
    os.write(outp, b"not for the guest\n")
    for what, stdin in (("a pipe", inp), ("/dev/null", subprocess.DEVNULL), ("closed", None)):
        more = {"preexec_fn": lambda: os.close(0)} if stdin is None else {"stdin": stdin}
        with Vm(**more) as vm:
            vm.boot(serial={"mode": "Tty"})
            r.ok(vm.shows("ready", name="stdout"), f"stdin {what}: output on stdout", vm.text("stdout"))
            vm.put("vm.reboot")
            r.ok(vm.shows("ready", 2, name="stdout") and vm.state() == "Running", f"stdin {what}: and after a reboot",
                 vm.text("stdout"))
            r.ok(vm.put("vmm.shutdown").status == 200 and vm.ends() == 0, f"stdin {what}: an orderly end")
    r.ok(os.read(inp, 100) == b"not for the guest\n", "the pipe was left alone")
    os.close(outp)
    os.close(inp)
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with Vm(stdin=slave, stdout=slave) as vm:
        def local():
            return termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ISIG)
        vm.put("vm.create", vm.config(serial={"mode": "Tty"}))
        r.ok(local(), "a terminal: as the user had it while there is no machine")
        vm.put("vm.boot")
        r.ok(MARK in read_some(master, MARK) and until_true(lambda: not local()), "raw while a machine runs")
        vm.put("vm.shutdown")
        r.ok(termios.tcgetattr(slave) == before, "as before after vm.shutdown")
        vm.put("vm.boot")
        r.ok(MARK in read_some(master, MARK) and until_true(lambda: not local()), "raw again")
        os.write(master, b"\x01x")
        r.ok(vm.ends() == 0 and termios.tcgetattr(slave) == before, "Ctrl-A x ends the process, the terminal is as before")
    os.close(master)
    os.close(slave)


def kept(r):
    """What the host has of a VM stays over a reboot, and goes with the machine."""
    why = can_make_taps()
    tap = f"tap-bk-{os.getpid() % 100000}"
    index = f"/sys/class/net/{tap}/ifindex"
    with Vm() as vm:
        path = vm.path("vsock")
        more = {} if why else {"net": [{"tap": tap, "ip": "10.213.9.1", "num_queues": 4}]}
        vm.boot(vsock={"cid": 9, "socket": path}, cmdline="press=reset", **more)
        vm.shows("ready")
        inode, number = os.stat(path).st_ino, read(index)
        fds = sorted(vm.fds().values())
        for n, what in enumerate(("vm.reboot", "vm.power-button", "vm.reboot")):
            vm.put(what)
            r.ok(vm.shows("ready", n + 2) and vm.state() == "Running", f"{what}: a new machine", vm.text("console"))
            r.ok(os.stat(path).st_ino == inode, f"{what}: the same vsock socket")
            if not why:
                r.ok(number and read(index) == number, f"{what}: the same interface", number, read(index))
        r.ok(until_true(lambda: len(vm.fds()) == len(fds)), "as many descriptors as before", fds, sorted(vm.fds().values()))
        vm.put("vm.shutdown")
        r.ok(not os.path.exists(path) and not os.path.exists(index), "vm.shutdown: both are gone")
        r.ok(vm.put("vm.boot").status == 204 and os.path.exists(path) and (why or os.path.exists(index)),
             "vm.boot makes them again")
        r.ok(vm.stop() == 0 and not os.path.exists(path) and not os.path.exists(index), "gone at the end")
    if why:
        r.skip("a tap over reboots", why)


def forwards(r):
    """A port that the host chose is told, and is the same after a reboot."""
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as d:
        log = os.path.join(d, "events")
        with Vm("--event-monitor", "path=" + log) as vm:
            answer = vm.boot(cmdline="press=reset", net=[{"user": {"hostfwd": ["tcp::0-22", "udp:127.0.0.1:0-53"]}}])
            vm.shows("ready")
            vm.put("vm.power-button")
            vm.shows("ready", 2)
            vm.put("vm.reboot")
            told = [e["properties"] for e in events(log) if e["event"] == "forwarded"]
            want = [("_net0", "tcp", ":22"), ("_net0", "udp", ":53")] * 3
            r.ok([(p["id"], p["proto"], p["guest"]) for p in told] == want, "forwarded: of each machine", answer, told)
            hosts = [p["host"] for p in told]
            r.ok(all(h.startswith("127.0.0.1:") and h != "127.0.0.1:0" for h in hosts) and
                 hosts[0:2] == hosts[2:4] == hosts[4:6], "forwarded: the same ports over two reboots", hosts)
            with socket.socket() as s:
                r.ok(s.connect_ex(("127.0.0.1", int(hosts[4].rpartition(":")[2]))) == 0, "the port takes connections")


def events(path):
    with open(path, encoding="ascii") as f:
        return [json.loads(e) for e in f.read().split("\n\n") if e]


SCENARIOS = {"forwards": forwards, "pty": pty, "files": files, "sockets-of-consoles": sockets, "tty": tty, "kept": kept}
