"""Scenarios of tests/integration/api: devices that come to a running VM and go. See tests/integration/api.

The guest hotplug.elf drives the registers of hot-plug by hand; tests/integration/apiguest has a stock kernel.
"""

import fcntl
import json
import os
import struct
import subprocess
import tempfile

from apivm import PROGRAM, ROOT, Connection, Vm, can_make_taps, read, until_true

PLUGGABLE = os.path.join(ROOT, "build/guest/hotplug.elf")
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454ca, 2, 0x1000, 0x4000


def disk(vm, name):
    with open(vm.path(name), "wb") as f:
        f.write(name.encode()[:4].ljust(4, b"!") + bytes((1 << 20) - 4))
    return {"path": vm.path(name), "id": name}


def boot(vm, **more):
    return vm.boot(payload={"kernel": PLUGGABLE, "cmdline": more.pop("cmdline", "x")}, **more)


def slots(vm):
    tree = vm.get("vm.info").json.get("device_tree", {})
    return {n["children"][0]: int(n["pci_bdf"][8:10], 16) for n in tree.values() if "pci_bdf" in n}


def digest_of(vm):
    return vm.get("vm.info").json.get("bantam", {}).get("digest", "")


def removed(vm):
    """The events of devices that have gone, by the monitor."""
    events = [json.loads(text) for text in vm.text("events").split("\n\n") if text.strip()]
    return [e["properties"] for e in events if (e["source"], e["event"]) == ("vm", "device-removed")]


def tap_descriptor(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd


def add(r, vm, kind, body, slot, fds=()):
    answer = vm.put(f"vm.add-{kind}", body, fds)
    r.ok(answer.status == 200 and answer.json == {"id": body["id"], "bdf": f"0000:00:{slot:02x}.0"},
         f"vm.add-{kind} {body['id']}: 200, slot {slot}", answer)


def remove(r, vm, name):
    answer = vm.put("vm.remove-device", {"id": name})
    r.ok(answer.status == 204, f"vm.remove-device {name}: 204", answer)


def goes(r, vm, name, slot):
    want = {"id": name, "bdf": f"0000:00:{slot:02x}.0"}
    r.ok(until_true(lambda: want in removed(vm)), f"{name} goes, with its event", removed(vm))


def plugging(r):
    """Devices of each kind come, are used, and go; vm.info, counters, descriptors and taps follow."""
    why = can_make_taps()
    with Vm("--event-monitor", "path=" + (events := tempfile.mktemp(prefix="bantam-events."))) as vm:
        os.symlink(events, vm.path("events"))
        groups = [{"id": "g", "rate_limiter_config": {"ops": {"size": 1000, "refill_time": 1000}}}]
        boot(vm, disks=[disk(vm, "one")], rate_limit_groups=groups)
        r.ok(vm.shows("hotplug: ready"), "the guest runs", vm.text("console"))
        config = vm.get("vm.info").json["config"]
        digest = until_true(lambda: digest_of(vm))
        until_true(lambda: PLUGGABLE not in vm.fds().values())
        fds = len(vm.fds())
        add(r, vm, "disk", dict(disk(vm, "two"), rate_limit_group="g"), 3)
        r.ok(vm.shows("slot 3 begins with two!"), "the guest reads it", vm.text("console"))
        add(r, vm, "vsock", {"cid": 7, "socket": vm.path("vsock"), "id": "socket"}, 4)
        add(r, vm, "net", {"user": {}, "id": "card"}, 5)
        r.ok(vm.shows("slot 4 came, virtio 19") and vm.shows("slot 5 came, virtio 1"), "it sees vsock and a card",
             vm.text("console"))
        info = vm.get("vm.info").json
        r.ok([d["id"] for d in info["config"]["disks"]] == ["one", "two"] and
             info["config"]["vsock"]["id"] == "socket" and info["config"]["net"][0]["id"] == "card",
             "vm.info: config has them", info["config"])
        r.ok(slots(vm) == {"one": 1, "__rng": 2, "two": 3, "socket": 4, "card": 5}, "vm.info: and the tree", slots(vm))
        r.ok(until_true(lambda: digest_of(vm) not in ("", digest)), "the digest is another", digest)
        r.ok(vm.put("vm.resize-disk", {"id": "two", "desired_size": 2 << 20}).status == 204, "the new disk can grow")
        counters = vm.get("vm.counters").json
        r.ok(counters["two"]["read_ops"] == 1 and "tx_frames" in counters["card"], "they have counters", counters)
        for kind, body, want in (("disk", {"path": vm.path("two")}, 409), ("disk", {"path": vm.path("none")}, 500),
                                 ("disk", {"path": vm.path("one"), "id": "two"}, 409),
                                 ("vsock", {"cid": 8, "socket": vm.path("v2")}, 409),
                                 ("fs", {"tag": "t", "socket": vm.path("none")}, 400)):
            answer = vm.put(f"vm.add-{kind}", body)
            r.ok(answer.status == want, f"vm.add-{kind} {body}: {want}", answer)
        r.ok(vm.get("vm.info").json["config"] == info["config"], "what was refused left nothing")
        for name, slot in ("two", 3), ("socket", 4), ("card", 5):
            remove(r, vm, name)
            goes(r, vm, name, slot)
        r.ok(not os.path.exists(vm.path("vsock")), "the socket is gone with its device")
        r.ok(until_true(lambda: digest_of(vm) == digest), "the digest is that of before", digest_of(vm), digest)
        after = vm.get("vm.info").json["config"]
        r.ok({k: v for k, v in after.items() if v != []} == {k: v for k, v in config.items() if v != []},
             "vm.info is as before", after)
        r.ok(until_true(lambda: len(vm.fds()) <= fds), "so are its descriptors", fds, vm.fds())
        r.ok(vm.put("vm.resize-disk", {"id": "two", "desired_size": 2 << 20}).status == 404, "it is unknown now")
        answer = vm.put("vm.remove-device", {"id": "__rng"})
        r.ok(answer.status == 400, "what every VM has cannot go: 400", answer)
        remove(r, vm, "one")
        goes(r, vm, "one", 1)
        vm.shows("slot 1 is empty")     # it looks for that
        add(r, vm, "disk", disk(vm, "two"), 1)
        r.ok(vm.shows("slot 1 begins with two!"), "a disk that was there from the start goes, and its slot is used again",
             vm.text("console"))
        layered(r, vm)
        if why:
            r.skip("a tap by descriptor", why)
        else:
            descriptors(r, vm)
        vm.put("vm.power-button")
        r.ok(vm.ends() == 0, "the process ends with status 0", read(vm.err))
        os.unlink(events)


def layered(r, vm):
    """An overlay is opened while the guest runs, and closed by a thread that opens nothing."""
    below, above = vm.path("below.qcow2"), vm.path("above.qcow2")
    for words in (["convert", vm.path("one"), below], ["create", "-b", below, above]):
        subprocess.run([PROGRAM, "image", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seen = vm.text("console").count("slot 3 is empty")
    add(r, vm, "disk", {"path": above, "id": "overlay", "backing_files": True}, 3)
    r.ok(vm.shows("slot 3 begins with one!"), "the guest reads an overlay", vm.text("console"))
    remove(r, vm, "overlay")
    goes(r, vm, "overlay", 3)
    vm.shows("slot 3 is empty", seen + 1)


def descriptors(r, vm):
    tap = f"tap-hp-{os.getpid() % 100000}"
    fd = tap_descriptor(tap)
    add(r, vm, "net", {"id": "given"}, 3, [fd])
    os.close(fd)
    r.ok(vm.shows("slot 3 came, virtio 1", 1) and vm.get("vm.info").json["config"]["net"][0]["fds"],
         "a card on a descriptor that came with the request", vm.get("vm.info"))
    vm.put("vm.reboot")
    r.ok(vm.shows("ready", 2) and os.path.exists("/sys/class/net/" + tap) and slots(vm)["given"] == 3,
         "it is there after a reboot, too", slots(vm))
    remove(r, vm, "given")
    goes(r, vm, "given", 3)
    r.ok(until_true(lambda: not os.path.exists("/sys/class/net/" + tap)), "with the card its descriptors are closed")


def restarts(r):
    """What has come and gone stays so over restarts, in the same slots, also of a VM that bantam run describes."""
    with Vm() as vm:
        boot(vm, disks=[disk(vm, "one"), disk(vm, "two")], net=[{"user": {}, "id": "card"}])
        vm.shows("ready")
        remove(r, vm, "one")
        r.ok(vm.shows("slot 1 is empty"), "the first disk goes", vm.text("console"))
        add(r, vm, "vsock", {"cid": 7, "socket": vm.path("vsock"), "id": "socket"}, 1)
        add(r, vm, "disk", disk(vm, "three"), 5)
        want = {"two": 2, "card": 3, "__rng": 4, "socket": 1, "three": 5}
        r.ok(slots(vm) == want, "the slots", slots(vm))
        vm.put("vm.reboot")
        r.ok(vm.shows("ready", 2) and slots(vm) == want, "the same after vm.reboot", slots(vm))
        r.ok(vm.shows("slot 5 has virtio 2"), "the guest finds them where they were", vm.text("console"))
        vm.put("vm.shutdown")
        r.ok(vm.put("vm.boot").status == 204 and slots(vm) == want, "and after vm.shutdown and vm.boot", slots(vm))
        vm.put("vm.shutdown")
        r.ok(vm.put("vm.remove-device", {"id": "two"}).status == 204 and vm.put("vm.boot").status == 204 and
             slots(vm)["three"] == 1, "a change before the boot orders them anew", slots(vm))
        vm.put("vmm.shutdown")
    folder = tempfile.mkdtemp(prefix="bantam-hp.")
    path = os.path.join(folder, "api")
    image = os.path.join(folder, "disk")
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    with subprocess.Popen([PROGRAM, "run", "--kernel", PLUGGABLE, "--memory", "32M", "--cmdline", "x", "--api-socket", path,
                           "--serial", "file=" + folder + "/console", "--rng", "--balloon", "1M", "--disk", image,
                           "--stats"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until_true(lambda: "ready" in read(folder + "/console"))
        conn = Connection(path)
        with open(folder + "/more", "wb") as f:
            f.truncate(1 << 20)
        answer = conn.call("PUT", "vm.add-disk", {"path": folder + "/more"})
        r.ok(answer.status == 200 and answer.json["bdf"] == "0000:00:04.0", "bantam run: a disk comes", answer)
        answer = conn.call("PUT", "vm.remove-device", {"id": "disk0"})
        r.ok(answer.status == 204 and until_true(lambda: "slot 3 is empty" in read(folder + "/console")),
             "bantam run: one goes", answer, read(folder + "/console"))
        r.ok(conn.call("PUT", "vm.reboot").status == 204, "bantam run: it restarts")
        tree = conn.call("GET", "vm.info").json["device_tree"]
        r.ok(sorted(n["pci_bdf"][8:10] for n in tree.values() if "pci_bdf" in n) == ["01", "02", "04"],
             "bantam run: with the same devices", tree)
        conn.call("PUT", "vmm.shutdown")
        err = process.stderr.read().decode(errors="replace")
        r.ok("exits:" in err, "bantam run: its own options stay", err)
    subprocess.run(["rm", "-rf", folder], check=True)


def silence(r):
    """A guest that does not answer keeps its device; with its machine it goes. A hostile one gains nothing."""
    with Vm("--event-monitor", "path=" + (events := tempfile.mktemp(prefix="bantam-events."))) as vm:
        os.symlink(events, vm.path("events"))
        boot(vm, cmdline="deaf", disks=[disk(vm, "one"), disk(vm, "two")])
        vm.shows("ready")
        for n in 1, 2:
            remove(r, vm, "one")
            r.ok(vm.shows("slot 1 is wanted", n), "the guest is asked, and asked again")
        r.ok("one" in slots(vm) and vm.put("vm.add-disk", {"path": vm.path("one"), "id": "one"}).status == 409 and
             not removed(vm), "the device stays")
        vm.put("vm.reboot")
        r.ok(vm.shows("ready", 2), "the guest restarts")
        goes(r, vm, "one", 1)
        r.ok(slots(vm) == {"two": 2, "__rng": 3}, "the next machine does not have it", slots(vm))
        vm.put("vm.pause")
        remove(r, vm, "two")
        add(r, vm, "disk", disk(vm, "four"), 1)
        r.ok("slot 1 came" not in vm.text("console"), "a paused guest learns nothing")
        vm.put("vm.resume")
        r.ok(vm.shows("slot 1 begins with four") and vm.shows("slot 2 is wanted"), "it does when it goes on",
             vm.text("console"))
        vm.put("vm.delete")
        boot(vm, cmdline="hostile", disks=[disk(vm, "one")])
        vm.shows("ready", 3)
        add(r, vm, "disk", disk(vm, "two"), 3)
        r.ok(vm.shows("slot 3 begins with two!"), "a hostile guest ejects what it was not asked for", vm.text("console"))
        r.ok(sorted(slots(vm)) == ["__rng", "one", "two"], "all of it stays", slots(vm))
        for n in range(2, 6):
            remove(r, vm, "two")
            r.ok(until_true(lambda: "two" not in slots(vm), 15), "it loses what it was asked for", slots(vm))
            add(r, vm, "disk", disk(vm, "two"), 3)
            r.ok(vm.shows("slot 3 begins with two!", n, 15), "it is given the next one", vm.text("console"))
        r.ok(vm.stop() == 0, "and the process ends as ever", read(vm.err))
        os.unlink(events)


def fenced(r):
    """landlock_enable: what the configuration and landlock_rules name can be opened, also later, and nothing else."""
    with Vm() as vm:
        for folder in "given", "read":
            os.mkdir(vm.path(folder))
        disks = {name: disk(vm, name) for name in ("one", "two", "given/three", "read/four")}
        for name, body in disks.items():
            body["id"] = os.path.basename(name)
        rules = [{"path": vm.path("given"), "access": "rw"}, {"path": vm.path("read"), "access": "r"}]
        answer = vm.put("vm.create", vm.config(landlock_enable=True, landlock_rules=[{"path": vm.path("none"), "access": "r"}]))
        r.ok(answer.status == 500 and "landlock_rules[0].path" in str(answer.json), "a rule for a file that is not there: 500", answer)
        answer = vm.put("vm.create", vm.config(landlock_enable=True, landlock_rules=[{"path": vm.path("read"), "access": "x"}]))
        r.ok(answer.status == 400, "an access that is none: 400", answer)
        boot(vm, disks=[disks["one"]], landlock_enable=True, landlock_rules=rules)
        r.ok(vm.shows("hotplug: ready"), "the guest runs", vm.text("console"))
        config = vm.get("vm.info").json["config"]
        r.ok(config["landlock_enable"] is True and config["landlock_rules"] == rules, "vm.info has it", config)
        add(r, vm, "disk", disks["given/three"], 3)
        r.ok(vm.shows("slot 3 begins with"), "the guest reads a disk of a folder of the rules", vm.text("console"))
        add(r, vm, "disk", dict(disks["read/four"], readonly=True), 4)
        add(r, vm, "vsock", {"cid": 7, "socket": vm.path("given/vsock"), "id": "socket"}, 5)
        for kind, body in (("disk", disks["two"]), ("disk", {"path": "/etc/passwd", "readonly": True}),
                           ("disk", dict(disks["read/four"], id="x")), ("vsock", {"cid": 8, "socket": vm.path("v2")})):
            answer = vm.put(f"vm.add-{kind}", body)
            r.ok(answer.status in (500, 409) and (kind == "vsock" or "landlock_enable permits" in str(answer.json)),
                 f"another one of the host is refused: {body}", answer)
        vm.put("vm.reboot")
        r.ok(vm.shows("ready", 2) and slots(vm) == {"one": 1, "__rng": 2, "three": 3, "four": 4, "socket": 5},
             "it starts again with what has come", slots(vm))
        threads = vm.threads()
        r.ok(threads.count("vm") == 2, "this VM has an executor of its own", threads)
        r.ok(vm.put("vm.delete").status == 204, "vm.delete")
        r.ok(not os.path.exists(vm.path("given/vsock")), "its socket goes with it")
        boot(vm, disks=[disks["two"]])
        r.ok(vm.shows("ready", 3), "the same process runs a VM of other files", vm.text("console"))
        add(r, vm, "disk", disks["one"], 3)
        vm.put("vm.delete")
        boot(vm, disks=[disks["one"]], landlock_enable=True)
        r.ok(vm.shows("ready", 4), "and again one with rules")
        vm.put("vm.power-button")
        r.ok(vm.ends() == 0, "which ends the process as ever", read(vm.err))


SCENARIOS = {"fenced": fenced, "plugging": plugging, "restarts": restarts, "silence": silence}
