"""Counts in the kernel which system calls confined threads of bantam make, by a BPF program.

Theory of operation. The program runs at the entry of each system call of this host (the tracepoint
raw_syscalls:sys_enter, which comes behind seccomp: a call that a filter refuses does not get there). It knows three
calls of its own:
  - set_tid_address, which a C library makes once when a program starts: a process of the family whose name is then
    exactly "bantam" is watched. Tests that make a process do what it never does (tests/attack) start it under another
    name. The family is what comes from one process: a second program follows it from fork to fork, and a third one
    forgets who has ended.
  - seccomp(SECCOMP_SET_MODE_FILTER): the thread of such a process is watched from here on. The number of the filter's
    instructions says which kind of thread it is; where two kinds have as many, the thread's name does.
  - any other call of a watched thread counts: {instructions, call, arguments 0 to 4, name} -> how often. Of an argument
    only the bits count that a line of the lists looks at, so that there are few keys.
It uses no library: bpf(2) and perf_event_open(2) by ctypes. The program leaves the kernel with the process.
"""

import collections
import contextlib
import ctypes
import os
import platform
import re
import resource
import struct
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CALLS = 512     # numbers of calls are below
ARGS = 5
KEYS = 1 << 15
KEY = struct.Struct(f"=II{ARGS}Q16s")
WHOLE = (1 << 64) - 1   # a mask of all bits: a pointer, of which only NULL or not counts
EXIT_REFUSED = 128 + 31

# The numbers of: bpf, perf_event_open, seccomp, set_tid_address, exit_group, mount, umount2.
NUMBERS = {"x86_64": (321, 298, 317, 218, 231), "aarch64": (280, 241, 277, 96, 94)}

Line = collections.namedtuple("Line", "kind call text file number conditions")


class Refused(Exception):
    """This host does not let us count; says why."""


def lines(parts=None):
    """The lines of the lists, in a VM with these parts (CALLS_…) or all. conditions: [(argument, mask, value)]."""
    argv = [f"{ROOT}/build/gen/mkfilters", platform.machine(), "--list", *([str(parts)] if parts is not None else [])]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        *words, number, conditions = line.split("\t")
        yield Line(*words, int(number), [tuple(int(n, 0) for n in c.split(":")) for c in conditions.split(",") if c])


def lengths():
    """{number of instructions of a filter: the kinds that have such a one}."""
    found = collections.defaultdict(set)
    with open(f"{ROOT}/build/gen/filters.inc", encoding="utf-8") as f:
        for row, kind in re.findall(r"^\t\[\d+\] = \{(.*)\}, /\* (\w+) \*/$", f.read(), re.M):
            for length in re.findall(r"\{ \d+, (\d+) \}", row):
                found[int(length)].add(kind)
    return found


def kind_of(length, name, kinds):
    """kinds: lengths(). None: no filter of a VM's thread."""
    able = kinds.get(length, set())
    if len(able) > 1:
        named = ({"vcpu"} if name.startswith("vcpu") else {"io"} if re.fullmatch(r"(_.*_)?qp?0", name) else
                 {"worker"} if name.endswith(("worker", "aio")) else {"machine"} if name in ("machine", "daemons") else
                 {"loop"} if name in ("loop", "console") else {"executor"} if name == "vm" else {name})
        able = able & named or able & {"vcpu", "test", "api"}
    if len(able) > 1:
        raise Refused(f"a filter of {length} instructions of a thread {name} could be of the kinds {sorted(able)}")
    return next(iter(able), None)


class Program:
    """Instructions of BPF, with labels."""

    def __init__(self):
        self.code, self.labels, self.jumps = [], {}, []

    def add(self, code, dst=0, src=0, off=0, imm=0):
        self.code.append([code, dst, src, off, imm])

    def mov(self, dst, imm):
        self.add(0xb7, dst, imm=imm)

    def copy(self, dst, src, plus=0):
        self.add(0xbf, dst, src)
        if plus:
            self.add(0x07, dst, imm=plus)

    def load(self, dst, src, off):
        self.add(0x79, dst, src, off)

    def store(self, off, src, code=0x7b):
        """To the stack; 0x7b: 8 bytes, 0x63: 4."""
        self.add(code, 10, src, off)

    def wide(self, dst, value, src=0):
        """A number of 64 bits; src 1: a map's descriptor."""
        self.add(0x18, dst, src, imm=value & 0xffffffff)
        self.add(0, imm=value >> 32)

    def call(self, helper):
        self.add(0x85, imm=helper)

    def jump(self, label, code=0x05, dst=0, src=0, imm=0):
        """0x05: always; 0x15: ==, 0x55: !=, 0x35: >=, of a number; 0x1d: == of two registers."""
        self.jumps.append((len(self.code), label))
        self.add(code, dst, src, imm=imm)

    def label(self, name):
        self.labels[name] = len(self.code)

    def on_map(self, helper, fd, key):
        """1: look up, 2: update (r3, r4), 3: delete. key: its place in the stack."""
        self.wide(1, fd, src=1)
        self.copy(2, 10, key)
        self.call(helper)

    def name_to(self, place):
        """The thread's name, to the stack. Linux 6.1 leaves there what is behind the name's end."""
        self.mov(1, 0)
        self.store(place, 1)
        self.store(place + 8, 1)
        self.copy(1, 10, place)
        self.mov(2, 16)
        self.call(16)   # bpf_get_current_comm

    def text(self):
        for at, label in self.jumps:
            self.code[at][3] = self.labels[label] - at - 1
        return b"".join(struct.pack("<BBhI", code, dst | src << 4, off, imm & 0xffffffff)
                        for code, dst, src, off, imm in self.code)


def follow(family, parent, child):
    """At sched:sched_process_fork, whose record has the two numbers there: a child of the family is of it."""
    p = Program()
    p.copy(6, 1)
    for at, place in ((parent, -8), (child, -16)):
        p.mov(1, 0)
        p.store(place, 1)
        p.add(0x61, 1, 6, at)   # 4 bytes
        p.store(place, 1)
    p.on_map(1, family, -8)
    p.jump("stranger", 0x15, 0)
    p.copy(3, 10, -8)
    p.mov(4, 0)
    p.on_map(2, family, -16)
    p.jump("out")
    p.label("stranger")
    p.on_map(3, family, -16)
    p.label("out")
    p.mov(0, 0)
    p.add(0x95)
    return p.text()


def forget(maps, pid):
    """At sched:sched_process_exit: the number may be another's the next time."""
    p = Program()
    p.copy(6, 1)
    p.mov(1, 0)
    p.store(-8, 1)
    p.add(0x61, 1, 6, pid)
    p.store(-8, 1)
    for fd in maps:
        p.on_map(3, fd, -8)
    p.mov(0, 0)
    p.add(0x95)
    return p.text()


def program(family, processes, threads, masks, counts, lost):
    """r6: the call's record (its number at 8, its arguments from 16), r7: the number."""
    p = Program()
    _, _, seccomp, set_tid_address, _ = NUMBERS[platform.machine()]
    p.copy(6, 1)
    p.load(7, 6, 8)
    p.call(14)  # bpf_get_current_pid_tgid
    p.copy(8, 0)
    p.add(0x67, 8, imm=32)
    p.add(0x77, 8, imm=32)
    p.store(-8, 8)      # the thread
    p.add(0x77, 0, imm=32)
    p.store(-16, 0)     # the process
    p.jump("filter", 0x15, 7, imm=seccomp)
    p.jump("start", 0x15, 7, imm=set_tid_address)
    p.jump("out", 0x35, 7, imm=CALLS)

    p.on_map(1, threads, -8)
    p.jump("out", 0x15, 0)
    p.load(9, 0, 0)
    p.store(-24, 7, 0x63)
    p.on_map(1, masks, -24)
    p.jump("out", 0x15, 0)
    key = -24 - KEY.size
    p.store(key, 9, 0x63)
    p.store(key + 4, 7, 0x63)
    for i in range(ARGS):
        p.load(1, 6, 16 + 8 * i)
        p.load(2, 0, 8 * i)
        p.jump(f"bits{i}", 0x55, 2, imm=-1)
        p.jump(f"kept{i}", 0x15, 1)
        p.mov(1, 1)
        p.jump(f"kept{i}")
        p.label(f"bits{i}")
        p.add(0x5f, 1, 2)   # and
        p.label(f"kept{i}")
        p.store(key + 8 + 8 * i, 1)
    p.name_to(key + 8 + 8 * ARGS)
    p.on_map(1, counts, key)
    p.jump("first", 0x15, 0)
    p.label("one more")
    p.mov(1, 1)
    p.add(0xdb, 0, 1)   # atomic add
    p.label("out")
    p.mov(0, 0)
    p.add(0x95)
    p.label("first")
    p.mov(1, 1)
    p.store(-16, 1)
    p.copy(3, 10, -16)
    p.mov(4, 0)
    p.on_map(2, counts, key)
    p.jump("out", 0x15, 0)
    p.mov(1, 0)
    p.store(-24, 1, 0x63)
    p.on_map(1, lost, -24)
    p.jump("one more", 0x55, 0)
    p.jump("out")

    p.label("filter")
    p.load(1, 6, 16)
    p.jump("out", 0x55, 1, imm=1)
    p.on_map(1, processes, -16)
    p.jump("out", 0x15, 0)
    p.mov(1, 0)
    p.store(-24, 1)
    p.copy(1, 10, -24)
    p.mov(2, 2)
    p.load(3, 6, 16 + 8 * 2)
    p.call(112)     # bpf_probe_read_user: struct sock_fprog's len
    p.copy(3, 10, -24)
    p.mov(4, 0)
    p.on_map(2, threads, -8)
    p.jump("out")

    p.label("start")
    p.on_map(3, threads, -8)
    p.name_to(-40)
    p.load(1, 10, -40)
    p.wide(2, int.from_bytes(b"bantam\0\0", "little"))
    p.jump("bantam", 0x1d, 1, 2)
    p.on_map(3, processes, -16)
    p.jump("out")
    p.label("bantam")
    p.on_map(1, family, -16)
    p.jump("out", 0x15, 0)
    p.copy(3, 10, -8)
    p.mov(4, 0)
    p.on_map(2, processes, -16)
    p.jump("out")
    return p.text()


@contextlib.contextmanager
def tracefs():
    """The folder of events; mounts it where the host has not."""
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.path.exists(f"{path}/events"):
            yield path
            return
    with tempfile.TemporaryDirectory(prefix="bantam-tracefs.") as path:
        if subprocess.run(["mount", "-t", "tracefs", "tracefs", path], stderr=subprocess.DEVNULL, check=False).returncode:
            raise Refused("it has no tracefs")
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=False)


class Collector:
    """Counts from its creation on, for the family of a process. Raises Refused."""

    def __init__(self, pid):
        if platform.machine() not in NUMBERS:
            raise Refused("the numbers of its system calls are not known here")
        self.kinds = lengths()
        self.libc = ctypes.CDLL(None, use_errno=True)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        HASH, ARRAY = 1, 2
        family, processes, threads = (self.map(HASH, 8, 8, 1 << 15) for _ in range(3))
        self.on_map(2, family, struct.pack("=Q", pid), struct.pack("=Q", pid))
        masks, self.lost_map = self.map(ARRAY, 4, 8 * ARGS, CALLS), self.map(ARRAY, 4, 8, 1)
        self.counts = self.map(HASH, KEY.size, 8, KEYS)
        for number, mask in self.masks().items():
            self.on_map(2, masks, struct.pack("=I", number), struct.pack(f"={ARGS}Q", *mask))
        with tracefs() as path:
            def offset(event, field):
                try:
                    with open(f"{path}/events/sched/{event}/format", encoding="ascii") as f:
                        return int(re.search(rf"field:pid_t {field};\s*offset:(\d+);", f.read())[1])
                except (OSError, TypeError) as e:
                    raise Refused(f"it does not describe the tracepoint {event}") from e

            ended = forget((family, processes, threads), offset("sched_process_exit", "pid"))
            self.attach(path, "sched/sched_process_exit", self.load(ended))
            forked = follow(family, offset("sched_process_fork", "parent_pid"), offset("sched_process_fork", "child_pid"))
            self.attach(path, "sched/sched_process_fork", self.load(forked))
            self.attach(path, "raw_syscalls/sys_enter",
                        self.load(program(family, processes, threads, masks, self.counts, self.lost_map)))

    @staticmethod
    def masks():
        """{call: the bits of its arguments that a line looks at}. The status of exit_group, too."""
        found = collections.defaultdict(lambda: [0] * ARGS)
        for line in lines():
            for argument, mask, _ in line.conditions:
                found[line.number][argument] |= mask
        found[NUMBERS[platform.machine()][4]][0] |= 0xff
        return found

    def call(self, number, *words):
        done = self.libc.syscall(number, *words)
        if done < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return done

    def bpf(self, command, attr):
        attr = attr.ljust(128, b"\0")
        return self.call(NUMBERS[platform.machine()][0], command, ctypes.c_char_p(attr), len(attr))

    def map(self, kind, key, value, entries):
        try:
            return self.bpf(0, struct.pack("=5I", kind, key, value, entries, 0))
        except OSError as e:
            raise Refused(f"it refuses BPF ({e.strerror})") from e

    def on_map(self, command, fd, key, value):
        """2: update, 1: look up, 4: the next key."""
        key = ctypes.create_string_buffer(key, len(key)) if key else None
        value = ctypes.create_string_buffer(value, len(value))
        self.bpf(command, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key) if key else 0, ctypes.addressof(value), 0))
        return value.raw

    def load(self, text):
        code, licence = ctypes.create_string_buffer(text, len(text)), ctypes.c_char_p(b"Dual MIT/GPL")
        log = ctypes.create_string_buffer(1 << 16)
        TRACEPOINT = 5
        try:
            return self.bpf(5, struct.pack("=IIQQIIQ", TRACEPOINT, len(text) // 8, ctypes.addressof(code),
                                           ctypes.cast(licence, ctypes.c_void_p).value, 1, len(log), ctypes.addressof(log)))
        except OSError as e:
            raise Refused(f"it refuses the program ({e.strerror}) {log.value.decode(errors='replace')[-400:]}") from e

    def attach(self, path, event, prog):
        try:
            with open(f"{path}/events/{event}/id", encoding="ascii") as f:
                number = int(f.read())
            TRACEPOINT, PERIOD = 2, 1
            attr = struct.pack("=IIQQ", TRACEPOINT, 112, number, PERIOD).ljust(112, b"\0")
            fd = self.call(NUMBERS[platform.machine()][1], ctypes.c_char_p(attr), -1, 0, -1, 8)  # PERF_FLAG_FD_CLOEXEC
            self.call_ioctl(fd, 0x40042408, prog)   # PERF_EVENT_IOC_SET_BPF: for all processors
            self.call_ioctl(fd, 0x2400, 0)          # PERF_EVENT_IOC_ENABLE
        except OSError as e:
            raise Refused(f"it refuses the tracepoint {event} ({e.strerror})") from e

    def call_ioctl(self, fd, request, value):
        if self.libc.ioctl(fd, ctypes.c_ulong(request), value) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def lost(self):
        """How many calls found no room."""
        return struct.unpack("=Q", self.on_map(1, self.lost_map, struct.pack("=I", 0), bytes(8)))[0]

    def seen(self):
        """{(kind, number of the call, arguments): how often}."""
        found, key = collections.Counter(), b""
        while True:
            try:
                key = self.on_map(4, self.counts, key, bytes(KEY.size))
            except FileNotFoundError:
                return found
            length, number, *args, name = KEY.unpack(key)
            kind = kind_of(length, name.split(b"\0")[0].decode(errors="replace"), self.kinds)
            if kind:
                found[kind, number, tuple(args)] += struct.unpack("=Q", self.on_map(1, self.counts, key, bytes(8)))[0]
