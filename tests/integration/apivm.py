"""A VM's process behind the HTTP API, as tests see it: start it, call it, look at what it leaves.

Every answer is held against what the contract says of all answers: the status line, the headers, errors as
a list of texts, integers of 63 bits. problems() has what was wrong with them.
"""

import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROGRAM = os.environ.get("BANTAM") or os.path.join(ROOT, "build/bantam")
CLIENT = os.path.join(ROOT, "build/tests/api-client")
GUEST = os.path.join(ROOT, "build/guest/button.elf")
STATUSES = (200, 204, 400, 404, 409, 413, 500, 501, 503)
CALL_S = 30
# A test may run in the background, or under nohup; what it starts must hear these all the same.
for ignored in (signal.SIGINT, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_DFL)

_problems = []
_answers = 0
_seen = set()


def problems():
    """Returns how many answers came, and what was wrong with any of them."""
    return _answers, list(_problems)


def seen():
    """Returns each different answer that came: method, endpoint, status, body."""
    return set(_seen)


def lasting(info):
    """What vm.info says, without what it only knows a moment after a change: the digest."""
    return {key: value for key, value in info.items() if key != "bantam"} if isinstance(info, dict) else info


class Answer:
    """One answer: status, head (text), body (bytes), json (or None)."""

    def __init__(self, request, head, body):
        global _answers
        _answers += 1
        self.request, self.head, self.body = request, head, body
        self.status = int(m[1]) if (m := re.match(r"HTTP/1\.1 (\d{3}) \r\n", head)) else 0
        self.json = None
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.complain("no JSON")
        if self.status not in STATUSES:
            self.complain("the status line")
        names = re.findall(r"^([^:\r\n]+): ", head[head.index("\n") + 1:], re.M)
        want = ["Server", "Connection"] + (["Content-Type", "Content-Length"] if self.status != 204 else [])
        if names != want or (self.status == 204 and body):
            self.complain("the headers are " + " ".join(names))
        if self.status >= 400 and not (isinstance(self.json, list) and self.json and
                                       all(isinstance(t, str) and t and "\n" not in t for t in self.json)):
            self.complain("an error is no list of texts")
        self.walk(self.json, "")
        if m := re.match(r"(GET|PUT) ([a-z.-]+)( |$)", request):
            _seen.add((m[1], m[2], self.status, self.body))

    def complain(self, what):
        _problems.append(f"{self.request}: {what}: {self.head.strip()} {self.body[:300]!r}")

    def walk(self, value, path):
        if isinstance(value, dict):
            for key, v in value.items():
                self.walk(v, f"{path}.{key}")
        elif isinstance(value, list):
            for i, v in enumerate(value):
                self.walk(v, f"{path}[{i}]")
        elif isinstance(value, int) and not -2**63 <= value < 2**63:
            self.complain(f"{path} has more than 63 bits")
        elif value is None and path:
            self.complain(f"{path} is null")

    def __repr__(self):
        return f"{self.status} {self.body[:600].decode(errors='replace')}"


class Connection:
    """A connection that stays open over several calls."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_S)
        self.sock.connect(path)
        self.rest = b""

    def send(self, data, fds=()):
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            data = data[self.sock.sendmsg([data], rights):]
        self.sock.sendall(data)

    def receive(self, request="?"):
        data = self.rest
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.decode() + "\r\n\r\n"
        length = int(m[1]) if (m := re.search(r"Content-Length: (\d+)", head)) else 0
        while len(body) < length:
            body += self.more()
        self.rest = body[length:]
        return Answer(request, head, body[:length])

    def more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("the connection ended")
        return data

    def call(self, method, endpoint, body=None, fds=()):
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} /api/v1/{endpoint} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self.send(head.encode() + data, fds)
        return self.receive(f"{method} {endpoint} {data[:200].decode(errors='replace')}")

    def close(self):
        self.sock.close()


class Vm:
    """A process under the name cloud-hypervisor, with a folder of its own for its sockets and files."""

    def __init__(self, *words, socket_words=None, **popen):
        self.dir = tempfile.mkdtemp(prefix="bantam-api.", dir=os.environ.get("TMPDIR", "/tmp"))
        self.socket = self.path("api.sock")
        self.err = self.path("stderr")
        self.out = self.path("stdout")
        words = (["--api-socket", self.socket] if socket_words is None else socket_words) + list(words)
        popen.setdefault("stdin", subprocess.DEVNULL)
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            popen.setdefault("stdout", out)
            popen.setdefault("stderr", err)
            self.process = subprocess.Popen(["cloud-hypervisor"] + words, executable=PROGRAM, **popen)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def text(self, name):
        try:
            with open(self.path(name), "rb") as f:
                return f.read().decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def connect(self, limit_s=5):
        """Connects, and tries again while the process is not there yet."""
        until = time.monotonic() + limit_s
        while True:
            try:
                return Connection(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.002)

    def call(self, method, endpoint, body=None, fds=()):
        conn = self.connect()
        try:
            return conn.call(method, endpoint, body, fds)
        finally:
            conn.close()

    def get(self, endpoint):
        return self.call("GET", endpoint)

    def put(self, endpoint, body=None, fds=()):
        return self.call("PUT", endpoint, body, fds)

    def state(self):
        """Created, Running, Paused, or the status of vm.info if it is not 200."""
        answer = self.get("vm.info")
        return answer.json["state"] if answer.status == 200 else answer.status

    def config(self, **more):
        """A VmConfig of the guest that waits for the button; its console is the file `console`."""
        vm = {"payload": {"kernel": GUEST, "cmdline": "console=ttyS0"}, "memory": {"size": 64 << 20},
              "serial": {"mode": "File", "file": self.path("console")}, "console": {"mode": "Off"}}
        for key, value in more.items():
            if key == "cmdline":
                vm["payload"]["cmdline"] = value
            else:
                vm[key] = value
        return vm

    def boot(self, **more):
        """Creates and boots; returns the answer that went wrong, or the last."""
        answer = self.put("vm.create", self.config(**more))
        return answer if answer.status != 204 else self.put("vm.boot")

    def shows(self, text, times=1, limit_s=5, name="console"):
        return until_true(lambda: self.text(name).count(text) >= times, limit_s)

    def ends(self, limit_s=5):
        """Returns the exit status, or None if the process goes on."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ends()

    def threads(self):
        return sorted(read(f"/proc/{self.pid}/task/{t}/comm").strip()
                      for t in os.listdir(f"/proc/{self.pid}/task"))

    def fds(self):
        found = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found[int(fd)] = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except FileNotFoundError:
                pass
        return found

    def rss_kib(self):
        return int(re.search(r"^VmRSS:\s+(\d+)", read(f"/proc/{self.pid}/status"), re.M)[1])

    def files(self):
        """The names in its folder, but for the files that the tests themselves make."""
        return sorted(set(os.listdir(self.dir)) - {"stdout", "stderr", "console"})


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until_true(fn, limit_s=5):
    until = time.monotonic() + limit_s
    while not (value := fn()) and time.monotonic() < until:
        time.sleep(0.005)
    return value


def can_make_taps():
    """Returns the reason why this process can make no tap, or None."""
    caps = int(re.search(r"^CapEff:\s+(\w+)", read("/proc/self/status"), re.M)[1], 16)
    if not caps >> 12 & 1:
        return "needs CAP_NET_ADMIN"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun"
    return None
