"""Ends among requests: whatever asks and whatever ends the process, each answer is whole and the end orderly."""

import os
import random
import signal
import subprocess
import tempfile
import threading
import time

from apivm import GUEST, PROGRAM, Vm, read, until_true

REQUESTS = [("GET", "vm.info"), ("GET", "vmm.ping"), ("GET", "vm.counters"), ("PUT", "vm.boot"), ("PUT", "vm.pause"),
            ("PUT", "vm.resume"), ("PUT", "vm.reboot"), ("PUT", "vm.shutdown"), ("PUT", "vm.create"), ("PUT", "vm.delete")]
ENDS = ("vmm.shutdown", "SIGTERM", "two SIGTERMs", "vmm.shutdown, SIGTERM", "power-off")


class Client(threading.Thread):
    """Asks on one connection until it ends."""

    def __init__(self, vm, seed, asks):
        super().__init__()
        self.vm, self.rng, self.asks, self.polls = vm, random.Random(seed), asks, asks != REQUESTS
        self.conn = vm.connect()
        self.answers, self.torn = 0, None

    def run(self):
        try:
            while True:
                method, name = self.rng.choice(self.asks)
                body = self.vm.config() if name == "vm.create" else None
                answer = self.conn.call(method, name, body)
                self.answers += 1
                if self.polls and name == "vm.info" and answer.status == 404:
                    self.conn.call("PUT", "vmm.shutdown")
        except EOFError:
            self.torn = self.conn.rest or None
        except OSError:
            pass


def end(vm, how):
    if "vmm.shutdown" in how:
        vm.put("vmm.shutdown")
    if "SIGTERM" in how:
        vm.process.send_signal(signal.SIGTERM)
    if "two" in how:
        vm.process.send_signal(signal.SIGTERM)
    if how == "power-off":
        vm.put("vm.power-button")


def one(rng, how, wrong):
    words = ["--no-shutdown"] if how != "power-off" and rng.random() < 0.5 else []
    with Vm(*words) as vm:
        vm.connect().close()
        # A guest that powers itself off must not be rebooted by a client.
        asks = REQUESTS[:3] if how == "power-off" else REQUESTS
        vm.boot()
        if how == "power-off":
            vm.shows("ready")
        clients = [Client(vm, rng.random(), asks) for _ in range(5)]
        for c in clients:
            c.start()
        time.sleep(rng.random() * 0.06)
        began = time.monotonic()
        end(vm, how)
        status = vm.ends(8)
        took = time.monotonic() - began
        for c in clients:
            c.join(5)
        if status != 0:
            wrong.append(f"{how}: status {status} after {took:.1f} s: {read(vm.err)[-1500:]}")
        if took > 4:
            wrong.append(f"{how}: {took:.1f} s")
        if any(c.torn or c.is_alive() for c in clients):
            wrong.append(f"{how}: an answer is torn, or a client still waits")
        if os.path.exists(vm.socket):
            wrong.append(f"{how}: the socket is left")
        return sum(c.answers for c in clients)


def chaos(r, rounds=25):
    seed = int(os.environ.get("BANTAM_SEED", time.time()))
    rng = random.Random(seed)
    wrong, answers = [], 0
    for n in range(rounds):
        answers += one(rng, ENDS[n % len(ENDS)], wrong)
    r.note(f"BANTAM_SEED={seed}, {answers} answers")
    r.ok(not wrong, f"{rounds} processes end among requests of 5 clients: status 0, whole answers, nothing left", *wrong)


def run(guest, api, sig=None, *words):
    """Runs bantam run to its end, with a signal once the guest is ready; returns status, output, last words."""
    with tempfile.TemporaryDirectory(prefix="bantam-api.") as d:
        out, socket = os.path.join(d, "out"), os.path.join(d, "s")
        words = ["--memory", "64M", "--kernel", guest, *words, *(["--api-socket", socket] if api else [])]
        with open(out, "wb") as stdout:
            p = subprocess.Popen([PROGRAM, "run", *words], stdin=subprocess.DEVNULL, stdout=stdout,
                                 stderr=subprocess.PIPE)
        if sig:
            until_true(lambda: "ready" in read(out))
            p.send_signal(sig)
        err = p.communicate(timeout=20)[1].decode()
        return p.returncode, read(out), err, os.listdir(d)


def twins(r):
    """bantam run ends alike with an API and without."""
    folder = os.path.dirname(GUEST)
    for name, sig, words in (("hello", None, ()), ("reboot", None, ()), ("triple", None, ()), ("panic", None, ()),
                             ("button", signal.SIGTERM, ()), ("button", signal.SIGHUP, ()), ("button", signal.SIGUSR1, ()),
                             ("hello", None, ("--quiet",)), ("nothing", None, ()), ("hello", None, ("--serial", "off"))):
        guest = os.path.join(folder, name + ".elf")
        plain, api = (run(guest, api, sig, *words) for api in (False, True))
        what = " ".join([name, *words] + ([sig.name] if sig else []))
        r.ok(plain == api, f"bantam run {what}: status {plain[0]}, output and last line are the same with an API", plain, api)


SCENARIOS = {"chaos": chaos, "twins": twins}
