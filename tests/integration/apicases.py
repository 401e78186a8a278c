"""Scenarios of tests/integration/api: the process, the life of a VM, consoles, clients that do harm."""

import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import tempfile
import time

from apivm import PROGRAM, GUEST, Connection, Vm, can_make_taps, read, until_true

PROMPT_S = 0.1
MACHINE = re.compile(r"vcpu|loop|_")  # names of a machine's threads
LEVEL = re.compile(r"\b(INFO|WARN|ERRO|DEBG): ")


# --- the process (the contract, section 1) -------------------------------------------------

def command(*words, **more):
    """Runs the compatible program to its end."""
    return subprocess.run(["cloud-hypervisor", *words], executable=PROGRAM, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10, check=False, **more)


def options(r):
    for word in ("--version", "-V"):
        ran = command(word)
        r.ok(ran.returncode == 0 and re.fullmatch(r"cloud-hypervisor v53\.0\.0-bantam-[^/\n]+\n", ran.stdout) and
             not ran.stderr, f"{word}: one line that libvirt understands", ran)
    ran = command("--help")
    r.ok(ran.returncode == 0 and "--api-socket" in ran.stdout and not ran.stderr, "--help: on stdout, status 0", ran)
    ran = command()
    r.ok(ran.returncode == 2 and "--api-socket" in ran.stderr and not ran.stdout, "nothing: usage, status 2", ran)
    for words in (["--api-sockets", "x"], ["--api-socket"], ["--api-socket", "fd=x"], ["--api-socket", "fd=99"],
                  ["--api-socket", "/tmp/" + "x" * 120], ["--seccomp", "maybe", "--api-socket", "/tmp/x"], ["word"]):
        ran = command(*words)
        r.ok(ran.returncode in (1, 2) and ran.stderr.count("\n") == 1 and not ran.stdout,
             f"{' '.join(words)[:40]}: one line, status {ran.returncode}", ran)
        if words[0] in ("--api-sockets", "word") or words[-1] == "fd=x":
            r.ok(ran.returncode == 2, f"{' '.join(words)}: status 2", ran)


def endings(r):
    """Signals, with and without a VM; what is left."""
    why = can_make_taps()
    tap = f"tap-be-{os.getpid() % 100000}"
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for running in (False, True):
            what = f"{sig.name}, {'Running' if running else 'no VM'}"
            with Vm() as vm:
                vm.connect().close()
                if running:
                    more = {} if why else {"net": [{"tap": tap, "ip": "10.213.9.1"}]}
                    answer = vm.boot(vsock={"cid": 9, "socket": vm.path("vsock")}, **more)
                    r.ok(answer.status == 204 and vm.shows("ready"), f"{what}: the guest runs", answer)
                vm.process.send_signal(sig)
                status = vm.ends()
                r.ok(status == 0, f"{what}: status 0", status, read(vm.err))
                r.ok(not vm.files(), f"{what}: no socket and no lock file is left", vm.files())
                r.ok(why or not os.path.exists("/sys/class/net/" + tap), f"{what}: no tap is left")
    with Vm() as vm:
        vm.connect().close()
        os.kill(vm.pid, signal.SIGPIPE)
        r.ok(vm.get("vmm.ping").status == 200, "SIGPIPE is ignored")


def sockets(r):
    for mask in (0o000, 0o022, 0o077):
        with Vm(umask=mask) as vm:
            vm.connect().close()
            mode = stat.S_IMODE(os.stat(vm.socket).st_mode)
            r.ok(mode == 0o700, f"umask {mask:03o}: the socket's mode is 0700", f"{mode:o}")
            r.ok(vm.files() == ["api.sock"], f"umask {mask:03o}: no lock file beside it", vm.files())
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as d:
        path = os.path.join(d, "s")
        words = ["--api-socket", "path=" + path]
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
        with Vm(socket_words=words) as vm:
            vm.socket = path
            r.ok(until_true(lambda: connects(path)), "a dead process's socket is replaced")
            ran = command(*words)
            r.ok(ran.returncode == 1 and "in use" in ran.stderr and ran.stderr.count("\n") == 1,
                 "a socket with a listener is refused: in use, status 1", ran)
            r.ok(vm.get("vmm.ping").status == 200, "its process goes on")
            r.ok(vm.stop() == 0 and not os.path.exists(path), "and removes it at its end")
        for kind, make in (("file", lambda: open(path, "w").close()), ("folder", lambda: os.mkdir(path)),
                           ("fifo", lambda: os.mkfifo(path))):
            make()
            before = os.stat(path)
            ran = command(*words)
            after = os.stat(path)
            r.ok(ran.returncode == 1 and ran.stderr.count("\n") == 1 and before.st_ino == after.st_ino,
                 f"a {kind} is refused and left alone", ran)
            os.rmdir(path) if kind == "folder" else os.unlink(path)
        race(r, d)
        inherited(r, path)


def connects(path):
    try:
        Connection(path).close()
        return True
    except OSError:
        return False


def race(r, folder):
    path = os.path.join(folder, "race")
    all_ = [subprocess.Popen(["cloud-hypervisor", "--api-socket", path], executable=PROGRAM, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(12)]
    until_true(lambda: sum(p.poll() is not None for p in all_) >= 11)
    serve = [p for p in all_ if p.poll() is None]
    r.ok(len(serve) == 1 and all(p.returncode == 1 for p in all_ if p not in serve),
         "12 processes, one path: one serves, the others end with status 1",
         [p.poll() for p in all_])
    r.ok(connects(path), "12 processes, one path: it answers")
    for p in serve:
        p.terminate()
    for p in all_:
        p.wait()
    r.ok(not os.path.exists(path), "12 processes, one path: it is gone at the end")


def inherited(r, path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o664)
    listener.listen(1)
    fd = listener.fileno()
    with Vm(socket_words=["--api-socket", f"fd={fd}"], pass_fds=[fd]) as vm:
        vm.socket = path
        listener.close()
        r.ok(vm.get("vmm.ping").status == 200, "an inherited socket: it answers")
        r.ok(stat.S_IMODE(os.stat(path).st_mode) == 0o664, "an inherited socket keeps its mode")
        r.ok(vm.stop() == 0 and os.path.exists(path), "an inherited socket's file stays")
    os.unlink(path)


def surroundings(r):
    """stdin, stdout, stderr, SIGCHLD, threads and the log."""
    with Vm(stdin=None, preexec_fn=lambda: os.close(0)) as vm:
        r.ok(vm.boot(console={"mode": "Null"}).status == 204 and vm.shows("ready"), "a closed stdin")
    with Vm(preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) as vm:
        r.ok(vm.boot().status == 204 and vm.shows("ready") and vm.put("vmm.shutdown").status == 200 and
             vm.ends() == 0, "SIGCHLD ignored by the parent")
    with Vm(stderr=subprocess.STDOUT) as vm:
        answer = vm.put("vm.create", vm.config(unknown_field=1, cpus={"boot_vcpus": 1, "max_vcpus": 1, "stray": 2}))
        lines = read(vm.out).splitlines()
        r.ok(answer.status == 204 and len(lines) == 2 and all(LEVEL.search(line) for line in lines) and
             all("WARN: " in line for line in lines), "level 0: one WARN: line for each unknown field", answer, lines)
        r.ok(sum("unknown_field" in line for line in lines) == 1 and sum("cpus.stray" in line for line in lines) == 1,
             "with the field's path", lines)
    with tempfile.NamedTemporaryFile(prefix="bantam-api.", mode="r") as log:
        for words, what in ((["-v"], "-v"), (["-v", "--log-file", log.name], "--log-file")):
            with Vm(*words) as vm:
                vm.boot()
                vm.shows("ready")
                vm.put("vmm.shutdown")
                vm.ends()
                lines = (log.read() if what == "--log-file" else read(vm.err)).splitlines()
                r.ok(any("INFO: " in line for line in lines) and all(LEVEL.search(line) for line in lines),
                     f"{what}: INFO: lines, and each line has its level", lines)
                r.ok(not read(vm.out), f"{what}: nothing on stdout", read(vm.out))
                if what == "--log-file":
                    r.ok(not read(vm.err), "--log-file: nothing on stderr", read(vm.err))
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as d:
        fifo = os.path.join(d, "log")
        os.mkfifo(fifo)
        with Vm("-v", "--log-file", fifo) as vm:
            answer = vm.put("vm.delete")
            fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            lines = read_some(fd, b"\n")
            os.close(fd)
            r.ok(answer.status == 204 and b"INFO: " in lines, "--log-file: a fifo that is read later", answer, lines)
    with Vm() as vm:
        vm.boot(cpus={"boot_vcpus": 2, "max_vcpus": 2})
        vm.shows("ready")
        names = vm.threads()
        r.ok([n for n in names if re.fullmatch(r"vcpu\d+", n)] == ["vcpu0", "vcpu1"],
             "threads: vcpu0 and vcpu1, and no other vcpu", names)
        holders = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != vm.pid and
                   read(f"/proc/{pid}/stat").split(")")[-1].split()[1:2] == [str(vm.pid)]]
        r.ok(not holders, "no helper process of such a VM", holders)


# --- the life of a VM (section 3) ---------------------------------------------------------------

def states(r):
    def is_(vm, answer, status, state, what):
        r.ok(answer.status == status and vm.state() == state, f"{what}: {status}, then {state}", answer, vm.state())

    with Vm() as vm:
        is_(vm, vm.put("vm.delete"), 204, 404, "delete, no VM")
        is_(vm, vm.put("vm.create", vm.config()), 204, "Created", "create")
        answer = vm.put("vm.create", vm.config())
        is_(vm, answer, 409, "Created", "create again")
        r.ok("VM is already created" in answer.json, "create again: its inner text", answer)
        answer = vm.put("vm.pause")
        is_(vm, answer, 409, "Created", "pause, Created")
        r.ok("VM is not running" in answer.json, "pause, Created: its inner text", answer)
        is_(vm, vm.put("vm.boot"), 204, "Running", "boot")
        r.ok(vm.shows("ready"), "the guest runs")
        is_(vm, vm.put("vm.boot"), 409, "Running", "boot again")
        is_(vm, vm.put("vm.pause"), 204, "Paused", "pause")
        is_(vm, vm.put("vm.pause"), 409, "Paused", "pause again")
        is_(vm, vm.put("vm.reboot"), 204, "Running", "reboot, Paused")
        r.ok(vm.shows("ready", 2), "the new machine runs; its console is appended to the file", vm.text("console"))
        is_(vm, vm.put("vm.nmi"), 204, "Running", "nmi")
        r.ok(vm.shows("nmi"), "the guest sees the NMI", vm.text("console"))
        is_(vm, vm.put("vm.shutdown"), 204, "Created", "shutdown")
        is_(vm, vm.put("vm.shutdown"), 409, "Created", "shutdown again")
        is_(vm, vm.put("vm.boot"), 204, "Running", "boot after the shutdown")
        r.ok(vm.shows("ready", 3), "it runs again", vm.text("console"))
        is_(vm, vm.put("vm.delete"), 204, 404, "delete, Running")
        answer = vm.put("vm.boot")
        is_(vm, answer, 404, 404, "boot, no VM")
        r.ok("VM is not created" in answer.json, "boot, no VM: its inner text", answer)
        is_(vm, vm.put("vm.create", vm.config()), 204, "Created", "create after the delete")
        r.ok(vm.put("vmm.shutdown").status == 200 and vm.ends() == 0, "vmm.shutdown, Created: 200, status 0")
    with Vm() as vm:
        vm.boot(cmdline="presses=2")
        vm.shows("ready")
        r.ok(vm.put("vm.pause").status == 204 and vm.put("vm.power-button").status == 204, "a button while Paused")
        time.sleep(0.1)
        r.ok("press" not in vm.text("console"), "it is not seen yet", vm.text("console"))
        vm.put("vm.resume")
        r.ok(vm.shows("press 1"), "it is seen on resume", vm.text("console"))
        is_(vm, vm.get("vmm.ping"), 200, "Running", "a guest that ignores the button goes on")
        vm.put("vm.power-button")
        r.ok(vm.shows("off") and vm.ends() == 0, "the next press: off, the process ends with status 0")
    with Vm() as vm:
        vm.boot(cmdline="press=reset")
        vm.shows("ready")
        until_true(lambda: not any(path == GUEST for path in vm.fds().values()), 2)
        fds = vm.fds()
        vm.put("vm.power-button")
        r.ok(vm.shows("ready", 2) and vm.state() == "Running", "a guest's reset: a new machine", vm.text("console"))
        # For a moment the connection that has just asked is still there, and the digest reads a file.
        r.ok(until_true(lambda: len(vm.fds()) == len(fds), 2), "a guest's reset: as many descriptors as before",
             fds, vm.fds())
    with Vm("--no-shutdown") as vm:
        vm.boot()
        vm.shows("ready")
        vm.put("vm.power-button")
        r.ok(until_true(lambda: vm.state() == "Created"), "--no-shutdown: Created after the power-off", vm.state())
        r.ok(vm.put("vm.boot").status == 204 and vm.shows("ready", 2), "--no-shutdown: it boots anew")


def refusals(r):
    """A boot that fails leaves Created and nothing else; a configuration that fails changes nothing."""
    why = can_make_taps()
    with Vm() as vm:
        vm.connect().close()
        fds = len(vm.fds())
        kernel, disk = vm.path("kernel"), vm.path("disk")
        tap = f"tap-br-{os.getpid() % 100000}"
        config = vm.config(payload={"kernel": kernel}, disks=[{"path": disk}],
                           **({} if why else {"net": [{"tap": tap, "ip": "10.213.8.1"}]}))
        answer = vm.put("vm.create", config)
        r.ok(answer.status == 204 and "WARN: " in read(vm.err) and kernel in read(vm.err) and disk in read(vm.err),
             "a kernel and a disk that are missing at create: a warning", answer, read(vm.err))
        for missing, make in ((disk, lambda: truncate(disk, 1 << 20)), (kernel, lambda: os.symlink(GUEST, kernel))):
            answer = vm.put("vm.boot")
            r.ok(answer.status == 500 and missing in answer.json[-1] and "No such file" in answer.json[-1],
                 f"boot without the {os.path.basename(missing)}: 500 that names it", answer)
            r.ok(vm.state() == "Created", "and still Created", vm.state())
            r.ok(not os.path.exists("/sys/class/net/" + tap), "no tap is left")
            r.ok(until_true(lambda: not [n for n in vm.threads() if MACHINE.match(n)], 1),
                 "no thread of a machine is left", vm.threads())
            make()
        before = len(vm.fds())
        r.ok(vm.put("vm.boot").status == 204 and vm.shows("ready"), "with both, vm.boot works")
        r.ok(why or os.path.exists("/sys/class/net/" + tap), "its tap is there")
        vm.put("vm.delete")
        r.ok(not os.path.exists("/sys/class/net/" + tap), "its tap is gone after the delete")
        r.ok(until_true(lambda: len(vm.fds()) <= before and len(vm.fds()) - fds <= 4, 1),
             "its descriptors are gone after the delete", fds, before, vm.fds())
        with open(disk, "rb+") as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                r.ok(True, "no file is locked after the delete")
            except OSError as error:
                r.ok(False, "no file is locked after the delete", error)


def truncate(path, size):
    with open(path, "wb") as f:
        f.truncate(size)


def info(r):
    """vm.info's shapes (section 4), and that its config makes the same machine."""
    with Vm() as vm:
        disks = [vm.path(f"d{i}") for i in range(4)]
        for disk in disks:
            truncate(disk, 1 << 20)
        config = vm.config(disks=[{"path": d} for d in disks], vsock={"cid": 5, "socket": vm.path("vsock")},
                           balloon={"size": 0}, serial={"mode": "Pty"}, metadata={"any": ["thing", 1]})
        answer = vm.put("vm.create", config)
        r.ok(answer.status == 204, "create", answer)
        created = vm.get("vm.info").json
        r.ok("device_tree" not in created, "no device_tree while there is no machine", created.keys())
        c = created["config"]
        r.ok({"cpus", "memory", "payload", "rng", "serial", "console"} <= set(c), "config has all its parts", c.keys())
        r.ok((c["cpus"]["boot_vcpus"], c["cpus"]["max_vcpus"], c["memory"]["size"], c["memory"]["shared"]) ==
             (1, 1, 64 << 20, False), "the defaults are plain values", c["cpus"], c["memory"])
        r.ok([d["id"] for d in c["disks"]] == [f"_disk{i}" for i in range(4)] and c["vsock"]["id"] == "_vsock4" and
             c["rng"]["src"] == "/dev/urandom", "names: one counter over all devices", c["disks"], c["vsock"])
        r.ok(c["metadata"] == config["metadata"], "metadata comes back", c.get("metadata"))
        pty = c["serial"]["file"]
        r.ok(re.fullmatch(r"/dev/pts/\d+", pty), "the pty is there from vm.create on", pty)
        vm.put("vm.boot")
        booted = vm.get("vm.info").json
        r.ok(booted["config"] == c, "boot changes nothing in config", c, booted["config"])
        tree = booted["device_tree"]
        node, bus = tree["_disk0"], tree["_virtio-pci-_disk0"]
        r.ok(node == {"id": "_disk0", "resources": [], "parent": "_virtio-pci-_disk0", "children": []},
             "device_tree: the disk's node", node)
        r.ok(bus["pci_bdf"] == "0000:00:01.0" and bus["children"] == ["_disk0"] and
             set(bus["resources"][0]["PciBar"]) == {"index", "base", "size", "type_", "prefetchable"},
             "device_tree: its PCI node", bus)
        slots = {n["children"][0]: n["pci_bdf"] for n in tree.values() if "pci_bdf" in n}
        r.ok(slots == {"_disk0": "0000:00:01.0", "_disk1": "0000:00:02.0", "_disk2": "0000:00:03.0",
                       "_disk3": "0000:00:04.0", "__rng": "0000:00:05.0", "_vsock4": "0000:00:06.0",
                       "__balloon": "0000:00:07.0"}, "the order of the slots", slots)
        r.ok(booted["memory_actual_size"] == 64 << 20, "memory_actual_size", booted["memory_actual_size"])
        counters = vm.get("vm.counters").json
        r.ok({f"{d}_{n}" for d in ("read", "write") for n in ("bytes", "ops", "latency_min", "latency_max", "latency_avg")}
             <= set(counters["_disk0"]), "counters of a disk", counters)
        vm.put("vm.delete")
        r.ok(vm.put("vm.create", c).status == 204, "config makes a VM again")
        again = vm.get("vm.info").json["config"]
        again["serial"]["file"] = c["serial"]["file"]
        r.ok(again == c, "and the same one", c, again)


def events(r):
    """A fifo that is opened late; the order at a power-off (section 5)."""
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as d:
        fifo = os.path.join(d, "fifo")
        os.mkfifo(fifo)
        with Vm("--event-monitor", "path=" + fifo) as vm:
            conn = vm.connect()
            began = time.monotonic()
            r.ok(conn.call("GET", "vmm.ping").status == 200 and time.monotonic() - began < PROMPT_S,
                 "a fifo without a reader: ping answers")
            fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            vm.boot()
            vm.shows("ready")
            vm.put("vm.pause")
            vm.put("vm.resume")
            vm.put("vm.resize", {"desired_vcpus": 1})
            r.ok(vm.put("vm.resize", {"desired_vcpus": 2}).status == 501, "a running VM gets no processor")
            vm.put("vm.reboot")
            vm.shows("ready", 2)
            vm.put("vm.power-button")
            r.ok(vm.ends() == 0, "the process ends")
            text = b""
            while select.select([fd], [], [], 0)[0] and (data := os.read(fd, 65536)):
                text += data
            os.close(fd)
        parts = text.decode().split("\n\n")
        r.ok(parts[-1] == "", "each event ends with an empty line", text[-200:])
        all_ = [json.loads(p) for p in parts[:-1]]
        r.ok(all(set(e) == {"timestamp", "source", "event", "properties"} and set(e["timestamp"]) == {"secs", "nanos"}
                 for e in all_) and all(len(p) <= 4000 for p in parts), "each event has its four members")
        r.ok(not any(re.search(r"[{}]", s) for e in all_ for s in [e["event"], *map(str, (e["properties"] or {}).values())]),
             "no brace inside a string")
        names = [f"{e['source']}:{e['event']}" for e in all_]
        r.note(" ".join(names))
        want = ["vmm:starting", "vm:booting", "vm:booted", "vm:pausing", "vm:paused", "vm:resuming", "vm:resumed",
                "vm:resizing", "vm:resized", "vm:resizing", "bantam:error", "vm:rebooting", "vm:rebooted", "bantam:shutdown-reason", "vm:shutdown", "vm:deleted", "vmm:shutdown"]
        left = iter(names)
        r.ok(all(n in left for n in want), "the events in their order", names)
        reason = [e for e in all_ if e["event"] == "shutdown-reason"]
        r.ok(reason and reason[0]["properties"] == {"why": "acpi"}, "shutdown-reason: acpi", reason)
        with Vm("--event-monitor", "path=" + fifo) as vm:
            vm.connect().close()
            began = time.monotonic()
            r.ok(vm.stop() == 0 and time.monotonic() - began < 1, "a fifo without a reader: SIGTERM ends the process")


# --- consoles (section 5, 1) -------------------------------------------------------------------

def read_some(fd, want, limit_s=5):
    """Reads from a descriptor until it has sent the text."""
    data = b""
    until = time.monotonic() + limit_s
    while want not in data and select.select([fd], [], [], max(0, until - time.monotonic()))[0]:
        try:
            more = os.read(fd, 65536)
        except OSError as error:
            return data + repr(error).encode()
        if not more:
            return data + b" (end)"
        data += more
    return data


def consoles(r):
    with Vm() as vm:
        vm.boot(serial={"mode": "Pty"})
        time.sleep(0.3)
        path = vm.get("vm.info").json["config"]["serial"]["file"]
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        text = read_some(fd, b"ready")
        r.ok(b"ready\n" in text.replace(b"\r", b""), "pty: what was printed before is kept for the first reader", text)
        vm.put("vm.shutdown")
        r.ok(not select.select([fd], [], [], 0.1)[0], "pty: vm.shutdown leaves it open")
        vm.put("vm.boot")
        text = read_some(fd, b"ready")
        r.ok(b"ready" in text, "pty: the next machine prints there", text)
        vm.put("vm.reboot")
        text = read_some(fd, b"ready")
        r.ok(b"ready" in text and vm.get("vm.info").json["config"]["serial"]["file"] == path,
             "pty: the same after a reboot", text)
        os.close(fd)
    with Vm() as vm:
        path = vm.path("serial")
        vm.put("vm.create", vm.config(serial={"mode": "Socket", "socket": path}))
        r.ok(connects(path), "socket: listens from vm.create on")
        vm.put("vm.boot")
        time.sleep(0.3)
        for turn in ("first", "second"):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            text = read_some(client.fileno(), b"ready")
            r.ok(b"ready" in text, f"socket: the {turn} client gets the kept bytes", text)
            client.close()
        vm.put("vm.shutdown")
        with Vm() as other:     # libvirt leaves the first process behind, and starts the domain in another one
            r.ok(other.put("vm.create", other.config(serial={"mode": "Socket", "socket": path})).status == 204,
                 "socket: vm.shutdown leaves its path to another VM")
            answer = vm.put("vm.boot")
            r.ok(answer.status in (409, 500) and "in use" in answer.json[-1] and vm.state() == "Created",
                 "socket: which then has it", answer)
        r.ok(vm.put("vm.boot").status == 204 and connects(path), "socket: listens again from vm.boot on")
        vm.put("vm.delete")
        r.ok(not os.path.exists(path), "socket: gone after vm.delete")


# --- clients that do harm (sections 2, 4 and 3, 3) ----------------------------------------------

def prompt(r, vm, what, n=20):
    """The slowest of n pings; each is a connection of its own."""
    slowest = 0
    for _ in range(n):
        began = time.monotonic()
        answer = vm.get("vmm.ping")
        slowest = max(slowest, time.monotonic() - began)
        if answer.status != 200:
            r.ok(False, f"{what}: ping answers", answer)
    r.ok(slowest < PROMPT_S, f"time: {what}: ping within 100 ms", f"{slowest * 1e3:.1f} ms")


def stuck(r):
    with Vm() as vm:
        daemon = socket.socket(socket.AF_UNIX)
        daemon.bind(vm.path("vhost"))
        daemon.listen(8)    # accepts by itself and never answers
        vm.put("vm.create", vm.config(disks=[{"vhost_user": True, "vhost_socket": vm.path("vhost")}],
                                      memory={"size": 64 << 20, "shared": True}))
        boot = vm.connect()
        began = time.monotonic()
        boot.send(b"PUT /api/v1/vm.boot HTTP/1.1\r\n\r\n")
        prompt(r, vm, "a vhost-user daemon that never answers")
        answer = boot.receive("vm.boot")
        r.ok(answer.status == 500, "a vhost-user daemon that never answers: 500", answer)
        r.note(f"after {time.monotonic() - began:.1f} s")
        r.ok(vm.state() == "Created", "and Created", vm.state())
        vm.put("vm.delete")
        vm.put("vm.create", vm.config(disks=[{"vhost_user": True, "vhost_socket": vm.path("nobody")}],
                                      memory={"size": 64 << 20, "shared": True}))
        began = time.monotonic()
        answer = vm.put("vm.boot")
        r.ok(answer.status == 500 and vm.path("nobody") in answer.json[-1] and time.monotonic() - began < 2.5,
             "a vhost-user daemon that is not there: 500 within 2 s", answer, time.monotonic() - began)
        daemon.close()
    with Vm() as vm:
        vm.boot()
        vm.shows("ready")
        before = len(vm.fds())
        idle = [vm.connect() for _ in range(100)]
        prompt(r, vm, "100 idle connections")
        for c in idle:
            c.close()
        half = []
        for text in (b"PUT /api/v1/vm.cre", b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{\"pay",
                     b"GET"):
            half.append(vm.connect())
            half[-1].send(text)
        prompt(r, vm, "clients stuck in mid-request")
        deaf = vm.connect()
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sock.setblocking(False)
        sent = 0
        try:
            while sent < 1 << 20:
                sent += deaf.sock.send(b"GET /api/v1/vm.info HTTP/1.1\r\n\r\n" * 64)
        except BlockingIOError:
            pass
        prompt(r, vm, "a client that never reads")
        r.ok(vm.state() == "Running", "the VM is untouched")
        vm.put("vm.power-button")
        r.ok(vm.shows("off"), "the guest sees its button")
        began = time.monotonic()
        r.ok(vm.ends() == 0 and time.monotonic() - began < 2.5, "the process ends beside them", time.monotonic() - began)
        for c in half + [deaf]:
            c.close()
        r.note(f"{before} descriptors before")


def filling(r):
    """Guest memory that is allocated at the start keeps no other thread waiting for all of it."""
    with Vm() as vm:
        vm.put("vm.create", vm.config(memory={"size": 1 << 30, "prefault": True}))
        large = {"ignored": "x" * (1 << 20)}
        boot, conn, slowest, began = vm.connect(), vm.connect(), 0, time.monotonic()
        boot.send(b"PUT /api/v1/vm.boot HTTP/1.1\r\n\r\n")
        while not select.select([boot.sock], [], [], 0.002)[0]:
            asked = time.monotonic()
            conn.call("GET", "vm.info", large)    # a large body, which is ignored, makes the server map memory
            slowest = max(slowest, time.monotonic() - asked)
        took = time.monotonic() - began
        answer = boot.receive("vm.boot")
        r.note(f"vm.boot took {took * 1e3:.0f} ms, the slowest vm.info {slowest * 1e3:.0f} ms")
        r.ok(answer.status == 204 and slowest < max(0.25, took / 2), "prefault: vm.info during vm.boot", answer, slowest, took)


def busy(r):
    """A host without idle time: no thread of the VM keeps the API's waiting."""
    hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(3 * os.cpu_count())]
    try:
        with Vm() as vm:
            conn, slowest = vm.connect(), 0
            # The digest of a new VM reads its files.
            config = vm.config(disks=[{"path": GUEST, "readonly": True} for _ in range(8)])
            for _ in range(30):
                conn.call("PUT", "vm.create", config)
                for _ in range(5):
                    began = time.monotonic()
                    conn.call("GET", "vm.info")
                    slowest = max(slowest, time.monotonic() - began)
                conn.call("PUT", "vm.delete")
            r.note(f"the slowest vm.info took {slowest * 1e3:.0f} ms")
            # The host itself keeps each thread waiting for some 10 ms.
            r.ok(slowest < 0.5, "time: vm.info within 500 ms beside three busy processes for each CPU", slowest)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def conversation_at_the_end(r):
    """vmm.shutdown while others wait for their answers (section 3, 5)."""
    with Vm() as vm:
        vm.connect().close()
        others = [vm.connect() for _ in range(20)]
        for c in others:
            c.send(b"GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n")
        r.ok(vm.put("vmm.shutdown").status == 200, "vmm.shutdown beside 20 pings: 200")
        good = 0
        for c in others:
            try:
                good += c.receive("vmm.ping").status == 200
            except (EOFError, ConnectionResetError):
                pass
        r.ok(good == 20, f"{good} of 20 pings are answered")
        r.ok(vm.ends() == 0, "the process ends with status 0")


SCENARIOS = {"options": options, "endings": endings, "sockets": sockets, "surroundings": surroundings,
             "states": states, "refusals": refusals, "info": info, "events": events, "consoles": consoles,
             "stuck": stuck, "filling": filling, "busy": busy, "last-words": conversation_at_the_end}
