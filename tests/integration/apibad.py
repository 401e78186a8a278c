"""Scenarios of tests/integration/api: bad input. One precise message, the state unchanged, the VM untouched."""

import json
import os
import random
import re
import socket
import time

from apivm import GUEST, Vm, lasting, read, until_true

HUGE = 10**30
NOT_THERE = "/nowhere/at/all"

# (what to change in the VmConfig, the value, the text that the error must contain). A path of names and
# numbers leads to the place; the error must name that place and, by default, nothing else.
WRONG = [
    # wrong types
    (["payload"], 1, None), (["payload"], [], None), (["payload", "kernel"], 7, None),
    (["payload", "kernel"], {"path": GUEST}, None), (["payload", "cmdline"], True, None),
    (["cpus"], 2, None), (["cpus", "boot_vcpus"], "2", None), (["cpus", "boot_vcpus"], 1.5, None),
    (["cpus", "max_vcpus"], True, None), (["cpus", "topology"], [1, 1, 1, 1], None),
    (["cpus", "affinity"], {}, None), (["cpus", "affinity"], [{"vcpu": "0"}], None),
    (["memory"], "512M", None), (["memory", "size"], "512M", None), (["memory", "shared"], 1, None),
    (["memory", "hotplug_method"], 1, None), (["memory", "zones"], {}, None),
    (["disks"], {}, None), (["disks"], "disk", None), (["disks", 0], "disk", None), (["disks", 0, "path"], 1, None),
    (["disks", 0, "readonly"], "on", None), (["disks", 0, "num_queues"], "1", None),
    (["disks", 0, "serial"], 12, None), (["disks", 0, "rate_limiter_config"], 100, None),
    (["disks", 0, "rate_limiter_config"], {"bandwidth": {"size": "1M", "refill_time": 100}}, None),
    (["net"], {}, None), (["net", 0], [], None), (["net", 0, "tap"], 3, None), (["net", 0, "mac"], 12, None),
    (["net", 0, "ip"], 3232235777, None), (["net", 0, "mtu"], "1500", None),
    (["rng"], "/dev/urandom", None), (["rng", "src"], 1, None), (["balloon"], 1, None),
    (["balloon", "size"], "1M", None), (["fs"], {}, None), (["vsock"], [], None), (["vsock", "cid"], "3", None),
    (["vsock", "socket"], 1, None), (["serial"], "Pty", None), (["serial", "mode"], 1, None),
    (["console", "mode"], [], None), (["platform"], 1, None), (["platform", "num_pci_segments"], "1", None),
    (["platform", "oem_strings"], "a", None), (["rate_limit_groups"], {}, None), (["pvpanic"], "yes", None),
    # absurd values
    (["cpus", "boot_vcpus"], 0, None), (["cpus", "boot_vcpus"], -1, None), (["cpus", "boot_vcpus"], 100000, None),
    (["cpus", "boot_vcpus"], HUGE, None), (["memory", "size"], 0, None), (["memory", "size"], 1000, None),
    (["memory", "size"], -4096, None), (["memory", "size"], 2**63, None), (["memory", "size"], 2**64 - 1, None),
    (["memory", "size"], HUGE, None), (["memory", "hotplug_method"], "Magic", None),
    (["disks", 0, "num_queues"], 0, None), (["disks", 0, "num_queues"], 100000, None),
    (["disks", 0, "queue_size"], 3, None), (["disks", 0, "queue_size"], 65536, None),
    (["disks", 0, "serial"], "x" * 21, None), (["disks", 0, "image_type"], "Vmdk", None),
    (["disks", 0, "path"], "", None), (["disks", 0, "id"], "__mine", None),
    (["disks", 0, "id"], "x" * 300, None),
    (["net", 0, "mac"], "02:00:00:00:00", None), (["net", 0, "mac"], "03:00:00:00:00:01", None),
    (["net", 0, "ip"], "10.0.0.300", None), (["net", 0, "ip"], "ten", None), (["net", 0, "tap"], "x" * 16, None),
    (["net", 0, "tap"], "a/b", None), (["net", 0, "mtu"], 10, None), (["net", 0, "mtu"], 70000, None),
    (["net", 0, "num_queues"], 3, None), (["net", 0, "num_queues"], 0, None), (["net", 0, "queue_size"], 7, None),
    (["net", 0], {"tap": "t", "mask": "255.255.255.0"}, "mask"),
    (["vsock", "cid"], 2, None), (["vsock", "cid"], 0, None), (["vsock", "cid"], 2**32 - 1, None),
    (["vsock", "cid"], 2**40, None), (["vsock", "socket"], "/tmp/" + "x" * 120, None),
    (["serial", "mode"], "Tcp", None), (["serial"], {"mode": "File"}, "file"),
    (["serial"], {"mode": "Socket"}, "socket"), (["balloon", "size"], 1 << 50, None),
    (["cpus", "topology"], {"threads_per_core": 2, "cores_per_die": 2, "dies_per_package": 2, "packages": 2}, None),
    (["payload", "cmdline"], "x" * 70000, None),
    # ids
    (["disks"], [{"path": GUEST, "id": "a", "readonly": True}, {"path": GUEST, "id": "a", "readonly": True}], "a"),
    # what the process cannot open as asked
    (["serial", "file"], NOT_THERE, None), (["disks", 0, "path"], "/", None),
    (["payload", "kernel"], "/", None), (["payload", "initramfs"], "/", None),
    # what we do not have
    (["payload", "firmware"], "/tmp/fw", None), (["pmem"], [{"file": "/tmp/x"}], "pmem"),
    (["devices"], [{"path": "/sys/bus/pci/devices/0000:00:01.0"}], "devices"), (["tpm"], {"socket": "/tmp/t"}, "tpm"),
]
CONFLICTS = {"disks"}   # of these paths, two equal ids: 409
NOT_OURS = {"firmware", "pmem", "devices", "tpm"}     # 501 or 400
OF_THE_HOST = {NOT_THERE, "/"}  # 400 or 500: files that cannot be opened as asked

NO_JSON = [b"", b" ", b"{", b"}", b"nul", b"[", b'{"a":1,}', b"{'a':1}", b'{"a":01}', b'{"a":"\x01"}', b'{"a":"\xff"}',
           b'{"a":"\xc0\x80"}', b'{"a":1}{"b":2}', b'{"payload":{},"payload":{}}', b"[" * 33 + b"]" * 33,
           b'{"a":' * 100000, b'{"a":1e999}', b'\xef\xbb\xbf{}', b"\x00", b'"text"', b"12", b"true", b"null", b"[]"]


def change(config, path, value):
    for step, following in zip(path, path[1:] + [None]):
        if following is None:
            config[step] = value
        elif isinstance(step, int):
            config = config[step]
        else:
            fresh = [{}] if isinstance(following, int) else {}
            config = config.setdefault(step, fresh)


def base(vm, path):
    """A good configuration that has the object which the path leads to."""
    config = vm.config()
    if path[:1] == ["disks"]:
        config["disks"] = [{"path": GUEST, "readonly": True}]
    elif path[:1] == ["net"]:
        config["net"] = [{"tap": "bt-bad"}]
    elif path[:1] == ["vsock"]:
        config["vsock"] = {"cid": 3, "socket": vm.path("vsock")}
    elif path[:1] == ["balloon"]:
        config["balloon"] = {"size": 0}
    return config


def dotted(path):
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, path)))


def configs(r):
    """Each wrong value: one precise message, and a second vm.create works."""
    with Vm() as vm:
        conn = vm.connect()
        good = bad = 0
        for path, value, text in WRONG:
            config = base(vm, path)
            change(config, path, value)
            answer = conn.call("PUT", "vm.create", config)
            name = str(path[-1])
            allowed = ((409, 400) if name in CONFLICTS and text == "a" else
                       (501, 400) if name in NOT_OURS else
                       (400, 500) if isinstance(value, str) and value in OF_THE_HOST else (400,))
            said = " / ".join(answer.json or [])
            # A number that has no place in 63 bits ends the JSON's reading: its place is named instead.
            names_it = (text or dotted(path)) in said or (
                isinstance(value, int) and value >= 2**63 and re.search(r"line 1, column \d+", said))
            state = conn.call("GET", "vm.info").status
            what = f"{dotted(path)} = {json.dumps(value)[:60]}"
            if answer.status in allowed and names_it and state == 404:
                good += 1
            else:
                bad += 1
                r.ok(False, f"{what}: {'/'.join(map(str, allowed))}, names {text or dotted(path)}, no VM",
                     answer, f"then vm.info: {state}")
                if state != 404:
                    conn.call("PUT", "vm.delete")
        r.ok(not bad, f"{good} of {good + bad} wrong values are refused precisely")
        wrong = [(text, answer) for text in NO_JSON
                 if (answer := conn.call("PUT", "vm.create", text)).status != 400]
        r.ok(not wrong, f"{len(NO_JSON)} bodies that are no VmConfig: 400", wrong[:5])
        r.ok(vm.files() == ["api.sock"], "nothing was made", vm.files())
        answer = conn.call("PUT", "vm.create", vm.config())
        r.ok(answer.status == 204 and conn.call("PUT", "vm.boot").status == 204 and vm.shows("ready"),
             "then a good one is created and boots", answer)


def endpoints(r):
    """Wrong endpoints, methods and bodies change nothing of a running VM."""
    with Vm() as vm:
        vm.boot()
        vm.shows("ready")
        conn = vm.connect()
        before = lasting(conn.call("GET", "vm.info").json)
        for method, endpoint, want in (
                ("GET", "", 404), ("GET", "vm.create.more", 404), ("GET", "../v1/vm.info", 404),
                ("GET", "vm.boot", 400), ("GET", "vm.create", 400), ("PUT", "vm.info", 400), ("PUT", "vmm.ping", 400),
                ("POST", "vm.boot", 400), ("DELETE", "vm.delete", 400), ("PATCH", "vm.info", 400),
                ("PUT", "vm.nothing", 404), ("PUT", "VM.BOOT", 404)):
            answer = conn.call(method, endpoint)
            r.ok(answer.status == want, f"{method} {endpoint}: {want}", answer)
        for endpoint, body, want in (
                ("vm.resize", {"desired_vcpus": "1"}, (400,)), ("vm.resize", {"desired_vcpus": 0}, (400,)),
                ("vm.resize", {"desired_ram": -1}, (400,)), ("vm.resize", {"desired_balloon": HUGE}, (400,)),
                ("vm.resize", [], (400,)), ("vm.resize-disk", {"id": "nothing", "desired_size": 1 << 20}, (404,)),
                ("vm.resize-disk", {"id": "_disk0"}, (400,)), ("vm.resize-disk", {}, (400,)),
                ("vm.resize-zone", {"id": "z", "desired_ram": 1 << 20}, (404, 501)),
                ("vm.remove-device", {"id": "nothing"}, (404,)), ("vm.remove-device", {"id": 5}, (400,)),
                ("vm.remove-device", {}, (400,)), ("vm.add-pmem", {"file": "/tmp/x"}, (501,)),
                ("vm.add-vdpa", {"path": "/dev/vdpa"}, (501,)), ("vm.snapshot", {"destination_url": "file:///tmp"}, (501,)),
                ("vm.restore", {"source_url": "file:///tmp"}, (409,)), ("vm.coredump", {"destination_url": "x"}, (501,)),
                ("vm.send-migration", {"destination_url": "x"}, (501,)),
                ("vm.pause", {"why": 1}, (400,)), ("vm.shutdown", [], (400,)), ("vm.delete", "x", (400,)),
                ("vm.create", {}, (400, 409))):
            answer = conn.call("PUT", endpoint, body)
            r.ok(answer.status in want, f"{endpoint} {json.dumps(body)[:50]}: {'/'.join(map(str, want))}", answer)
        after = lasting(conn.call("GET", "vm.info").json)
        r.ok(after == before, "vm.info is as it was", before, after)
        vm.put("vm.power-button")
        r.ok(vm.shows("off") and vm.ends() == 0, "the VM is untouched: it sees its button")


def created(r):
    """Bad devices before the boot: the configuration stays as it was."""
    with Vm() as vm:
        vm.put("vm.create", vm.config(disks=[{"path": GUEST, "readonly": True, "id": "first"}]))
        conn = vm.connect()
        before = lasting(conn.call("GET", "vm.info").json)
        for endpoint, body, want in (
                ("vm.add-disk", {"path": GUEST, "readonly": True, "id": "first"}, (409,)),
                ("vm.add-disk", {"id": "second"}, (400,)), ("vm.add-disk", {"path": 1}, (400,)),
                ("vm.add-disk", {"path": GUEST, "readonly": True, "id": "__x"}, (400,)), ("vm.add-disk", [], (400,)),
                ("vm.add-net", {"mac": "zz"}, (400,)), ("vm.add-net", {"id": "first", "tap": "bt-bad"}, (409,)),
                ("vm.add-net", {"mask": "255.0.0.0", "tap": "bt-bad"}, (400,)),
                ("vm.add-fs", {"tag": "t"}, (400,)), ("vm.add-vsock", {"cid": 1, "socket": "/tmp/v"}, (400,)),
                ("vm.add-device", {"path": "/sys/x"}, (501,)), ("vm.remove-device", {"id": "second"}, (404,)),
                ("vm.counters", None, (400,)), ("vm.resize-disk", {"id": "first", "desired_size": 1 << 30}, (409,))):
            answer = conn.call("PUT", endpoint, body)
            r.ok(answer.status in want, f"{endpoint} {json.dumps(body)[:60]}: {'/'.join(map(str, want))}", answer)
        r.ok(lasting(conn.call("GET", "vm.info").json) == before, "vm.info is as it was")


# --- random requests -----------------------------------------------------------------------------

def valid(rng, vm):
    """A request that may succeed and leaves the VM running."""
    return rng.choice([
        ("GET", "vmm.ping", b""), ("GET", "vm.info", b""), ("GET", "vm.counters", b""), ("PUT", "vm.boot", b""),
        ("PUT", "vm.nmi", b""), ("PUT", "vm.resume", b""), ("GET", "nothing", b""),
        ("PUT", "vm.create", json.dumps(vm.config(disks=[{"path": GUEST}])).encode()),
        ("PUT", "vm.resize", b'{"desired_vcpus":1}'), ("PUT", "vm.add-pmem", b'{"file":"/tmp/x"}'),
        ("PUT", "vm.remove-device", b'{"id":"nothing"}'),
        ("PUT", "vm.resize-disk", b'{"id":"nothing","desired_size":1048576}')])


def request(rng, vm):
    method, endpoint, body = valid(rng, vm)
    length = b"Content-Length: %d\r\n" % len(body) if body or rng.random() < 0.3 else b""
    extra = rng.choice([b"", b"Host: localhost\r\n", b"Accept: */*\r\nX-%d: y\r\n" % rng.randrange(100)])
    return b"%s /api/v1/%s HTTP/1.1\r\n%s%s\r\n%s" % (method.encode(), endpoint.encode(), extra, length, body)


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at:at + rng.randrange(1, 8)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8)))
        else:
            data[at:at] = data[at:at + rng.randrange(1, 40)]
        if not data:
            data = bytearray(b"\r\n")
    # It must not stop the VM by chance.
    return bytes(data) if not re.search(rb"shutdown|delete|pause|reboot|power", data) else b"GET / HTTP/1.1\r\n\r\n"


def drain(c):
    """Reads what has come, and forgets it. Returns False if the connection has ended."""
    try:
        while data := c.recv(1 << 16):
            pass
        return data is None
    except BlockingIOError:
        return True
    except OSError:
        return False


def random_requests(r, n=10000):
    """Valid, mutated, truncated, interleaved requests, and some one byte at a time, on up to 20 connections."""
    seed = int(os.environ.get("BANTAM_SEED") or time.time())
    rng = random.Random(seed)
    r.note(f"BANTAM_SEED={seed}")
    with Vm() as vm:
        vm.boot()
        vm.shows("ready")

        def look():
            until_true(lambda: len(vm.fds()) <= len(before[0]), 2) if before else None
            return vm.fds(), vm.threads(), vm.get("vm.info").json

        before = ()
        storm(rng, vm, 300)     # what the first requests allocate is there to stay
        time.sleep(0.2)
        before = look()
        rss = vm.rss_kib()
        slowest = storm(rng, vm, n)
        time.sleep(0.2)
        after = look()
        grown = vm.rss_kib() - rss
        r.ok(len(before[0]) == len(after[0]), f"{n} random requests: as many descriptors", before[0], after[0])
        r.ok(before[1] == after[1], f"{n} random requests: the same threads", before[1], after[1])
        r.ok(before[2] == after[2], f"{n} random requests: vm.info is as it was", before[2], after[2])
        r.ok(grown < 512, f"{n} random requests: no memory is lost", f"{grown} KiB more")
        r.note(f"the slowest ping took {slowest * 1e3:.1f} ms; {grown} KiB more")
        r.ok(slowest < 0.1, "time: ping within 100 ms beside random requests", f"{slowest * 1e3:.1f} ms")
        vm.put("vm.power-button")
        r.ok(vm.shows("off") and vm.ends() == 0, "the VM is untouched: it sees its button", read(vm.err)[-2000:])


def storm(rng, vm, n):
    """Sends n requests; returns the slowest of the pings in between."""
    conns, slowest = [], 0
    for i in range(n):
        if len(conns) < 20 and rng.random() < 0.3 or not conns:
            c = socket.socket(socket.AF_UNIX)
            c.connect(vm.socket)
            c.setblocking(False)
            conns.append(c)
        c = rng.choice(conns)
        data = request(rng, vm)
        kind = rng.random()
        if kind < 0.4:
            data = mutate(rng, data)
        elif kind < 0.5:
            data = data[:rng.randrange(len(data))]
        pieces = [data[j:j + 1] for j in range(len(data))] if kind > 0.98 else \
            [data[:len(data) // 2], data[len(data) // 2:]] if kind > 0.9 else [data]
        alive = True
        for piece in pieces:
            try:
                c.send(piece)
            except BlockingIOError:
                pass
            except OSError:
                alive = False
                break
        if not (alive and drain(c)) or rng.random() < 0.05:
            c.close()
            conns.remove(c)
        if i % 500 == 0:
            began = time.monotonic()
            vm.get("vmm.ping")
            slowest = max(slowest, time.monotonic() - began)
    for c in conns:
        c.close()
    return slowest


SCENARIOS = {"configs": configs, "endpoints": endpoints, "created": created, "random": random_requests}
