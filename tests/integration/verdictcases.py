"""What tests/integration/verdicts runs: a guest each, what it does, and the verdict that must come."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess

BUSYBOX = "/usr/bin/busybox"
# The kernels; defconfig and serial are of tools/build-kernels.
KERNELS = ["amd64", "cloud-amd64", "6.12-amd64", "defconfig", "serial"]

# Exit statuses of the verdicts that are not the command's own.
STATUS = {"passed": 0, "not-found": 127, "not-executable": 126, "panicked": 240, "splat": 241, "hung": 124,
          "boot-timeout": 124, "timeout": 124, "died-before-init": 242, "rebooted": 245, "powered-off": 245,
          "triple-fault": 243, "out-of-memory": 244, "agent-lost": 246}


@dataclasses.dataclass
class Want:
    """What a run must end with. Regular expressions match anywhere in the text; lists name alternatives."""
    verdict: str
    status: int = None          # the process's; default: the verdict's own
    phase: str = ""             # or several, apart by |
    reason: str = ""
    because: str = ""           # the heading of the kernel's first mistake; "-": there is none
    splats: str = ""            # a kind that must be among the reports
    evidence: str = ""          # a line of the evidence
    stdout: str = None          # all of the command's output
    check: object = None        # function: Result -> what is wrong, or None
    also: list = dataclasses.field(default_factory=list)    # other results that are right, too

    @property
    def exit_status(self):
        return STATUS[self.verdict] if self.status is None else self.status


@dataclasses.dataclass
class Test:
    name: str
    want: Want
    command: list = dataclasses.field(default_factory=list)
    options: list = dataclasses.field(default_factory=list)
    cmdline: str = ""
    cpus: int = 1
    quick: set = dataclasses.field(default_factory=set)     # kernels with which every run of the part has it
    kernels: set = dataclasses.field(default_factory=set)
    module: bool = False        # it needs trouble.ko
    loud: bool = False          # the kernel's log goes to the serial console, too, which is slow
    initrd: object = None       # function: path of the folder -> an initrd
    prepare: object = None      # function: path of the folder
    shell: str = "exec {}"      # what the host runs; {}: bantam test with its options


@dataclasses.dataclass
class Result:
    """What a run has left behind, for Want.check."""
    dir: str
    verdict: dict
    stderr: str

    def bytes_of(self, name):
        with open(os.path.join(self.dir, name), "rb") as f:
            return f.read()


def sh(script):
    return ["busybox", "sh", "-c", script]


def trouble(what, before=""):
    """The guest loads the module (tests/modules/trouble.c)."""
    return sh(f"{before}exec busybox insmod /trouble.ko what={what}")


ALL = set(KERNELS)
MODULAR = {"amd64", "cloud-amd64", "6.12-amd64", "defconfig"}
DEBIAN = {"amd64", "cloud-amd64", "6.12-amd64"}
FIRST = {"amd64"}
IDLE = ["--timeout-idle", "12s"]


# --- the command ---------------------------------------------------------------------

def commands():
    yield Test("boot", Want("passed", because="-"), loud=True, quick=FIRST, kernels=ALL)
    yield Test("passed", Want("passed", phase="command", because="-"), ["busybox", "true"], kernels=ALL)
    for status in (1, 240):
        yield Test(f"status-{status}", Want("failed", status, phase="command"), sh(f"exit {status}"),
                   quick=FIRST if status == 240 else ALL - FIRST, kernels=ALL)
    yield Test("signalled", Want("signalled", 128 + signal.SIGSEGV, reason="signal 11"), sh("kill -SEGV $$"), quick=FIRST,
               kernels=ALL)
    # Each run has these two by tests/guests/verdict, natively.
    yield Test("not-found", Want("not-found", phase="init"), ["/nonexistent"], kernels=ALL)

    def unexecutable(path):
        with open(os.path.join(path, "text"), "w") as f:
            f.write("no program\n")
        os.chmod(f.name, 0o644)

    yield Test("not-executable", Want("not-executable"), ["/text"], ["--copy", "{dir}/text:/text"], prepare=unexecutable,
               kernels=ALL)
    yield Test("surroundings", Want("passed", stdout="guest /tmp there 1000 in\n"),
               sh('read line; echo "$(hostname) $(pwd) $THERE $(id -u) $line"; exit 0'),
               ["--hostname", "guest", "--cwd", "/tmp", "--env", "THERE=there", "--user", "1000"], shell="echo in | {}",
               quick=FIRST, kernels=DEBIAN)
    yield Test("terminal", Want("passed", stdout="a terminal\r\n"),
               sh("test -t 0 && test -t 1 && test -t 2 && echo a terminal"), ["--tty"], quick=FIRST, kernels=ALL - {"serial"})
    # A processor of a guest has no virtualisation by default.
    yield Test("module-that-fails", Want("passed", check=lambda r: None if "kvm-intel.ko cannot be loaded: error" in
                                         r.stderr.replace("_", "-") else r.stderr),
               ["busybox", "true"], ["--module", "kvm_intel"], quick=FIRST, kernels=FIRST)
    yield Test("stdin-closed", Want("passed", stdout="0\n"), sh("busybox wc -c"), shell="exec {} <&-", kernels=FIRST)
    yield Test("reopened", Want("passed", stdout="one\ntwo\nthree\n"),
               sh("echo one > /dev/stdout; echo two | tee /dev/stderr; { echo three >&2; } 2>&1"), quick=FIRST, kernels=FIRST)
    for words in ("setsid", "nohup", "timeout 170"):
        yield Test("inside-" + words.split()[0], Want("failed", 5), sh("exit 5"), shell=f"exec {words} {{}}", kernels=FIRST)


def arguments():
    """1 MiB of arguments, none longer than the 128 KiB that the kernel allows."""
    words = ["x" * 65536] * 16
    yield Test("long-arguments", Want("passed", stdout=f"16 {16 * 65536}\n"),
               sh('n=$#; all=; for w; do all=$all$w; done; echo "$n ${#all}"') + ["sh"] + words, kernels=FIRST)


MIB = 20


def streams():
    """The same random bytes on both streams at once; NUL, escapes and broken UTF-8 are among them."""
    def prepare(path):
        with open(os.path.join(path, "data"), "wb") as f:
            f.write(os.urandom(MIB << 20))

    def same(*names):
        def check(result):
            data = result.bytes_of("data")
            for name in names:
                have = result.bytes_of(name)
                if have != data:
                    at = next((i for i, (a, b) in enumerate(zip(have, data)) if a != b), min(len(have), len(data)))
                    return f"{name}: {len(have)} bytes, not {len(data)}; the first {at} are right"
            return None
        return check

    both = sh("busybox cat /data & busybox cat /data >&2; wait")
    copy = ["--copy", "{dir}/data:/data", "--stderr", "{dir}/kept-errors"]
    yield Test("bytes", Want("passed", check=same("console", "kept-errors")), both, copy, prepare=prepare,
               quick={"cloud-amd64"}, kernels=DEBIAN)
    yield Test("bytes-kept", Want("passed", check=same("kept", "kept-errors")), both, copy + ["--stdout", "{dir}/kept"],
               prepare=prepare, kernels=DEBIAN)
    # The reader of the command's output takes nothing for ten seconds.
    yield Test("bytes-late", Want("passed", check=same("read", "kept-errors")), both, copy, prepare=prepare,
               shell="{ {}; echo $? > {dir}/ended; } | { sleep 10; cat > {dir}/read; }; exit $(cat {dir}/ended)", kernels=FIRST)


# --- what the guest has ------------------------------------------------------------------

# Prints what is missing. The agent makes all of it (guest/system.h).
ENVIRONMENT = r"""
is() { busybox test "$1" = "$2" || echo "$3: $1"; }
for m in proc:proc sys:sysfs dev:devtmpfs dev/pts:devpts dev/shm:tmpfs dev/mqueue:mqueue dev/hugepages:hugetlbfs run:tmpfs \
  tmp:tmpfs sys/fs/cgroup:cgroup2 sys/fs/bpf:bpf sys/kernel/tracing:tracefs sys/kernel/debug:debugfs \
  sys/kernel/security:securityfs sys/kernel/config:configfs proc/sys/fs/binfmt_misc:binfmt_misc; do
  busybox grep -q " /${m%:*} ${m#*:} rw" /proc/mounts || echo "no $m"
done
cd /sys/fs/cgroup
is "$(cat cgroup.subtree_control)" "$(cat cgroup.controllers)" controllers
mkdir t && echo 1000000 > t/memory.max
is "$(cat t/memory.max)" 999424 "a group's limit"
for l in fd stdin stdout stderr; do busybox test -e /dev/$l || echo "no /dev/$l"; done
is "$(busybox stat -c %a /tmp /dev/shm /run/lock /run | busybox tr '\n' ' ')" "1777 1777 1777 755 " modes
is "$(busybox ip -o link show lo | busybox grep -o LOOPBACK,UP)" LOOPBACK,UP lo
is "$(ulimit -n) $(ulimit -c) $(ulimit -l)" "1048576 unlimited unlimited" limits
is "$(umask)" 0022 umask
echo 0 > /sys/kernel/mm/ksm/run || echo "/sys is read-only"
echo checked
"""


def usrmerged(path):
    """A root file system as distributions have it: /bin and /lib are links."""
    root = os.path.join(path, "root")
    for name in ("usr/bin", "usr/lib", "usr/lib64"):
        os.makedirs(os.path.join(root, name))
        os.symlink(name, os.path.join(root, os.path.basename(name)))
    shutil.copy(BUSYBOX, os.path.join(root, "usr/bin/busybox"))
    subprocess.run("find . | cpio -o -H newc --quiet | lz4 -lq > ../initrd", shell=True, check=True, cwd=root)
    shutil.rmtree(root)


def environment():
    yield Test("environment", Want("passed", stdout="checked\n"), sh(ENVIRONMENT),
               ["--module", "configfs?", "--module", "binfmt_misc?"], quick=FIRST, kernels=DEBIAN)
    # The host's env comes with its libraries, and neither link is lost. None of the files in the root is replaced.
    yield Test("root-with-links", Want("passed", stdout="bin lib lib64\n"),
               ["env", "busybox", "sh", "-c", "cd / && for l in *; do test -L $l && echo $l; done | busybox xargs"],
               initrd=usrmerged, quick={"cloud-amd64"}, kernels=DEBIAN | {"serial"})


# --- panics and ends -------------------------------------------------------------------

def root_initrd(path):
    """A root file system of a user: busybox as /bin/false."""
    return ["-i", BUSYBOX, "-f", BUSYBOX + ":/bin/false"]


def ends():
    yield Test("sysrq-c", Want("panicked", phase="command", reason="sysrq triggered crash", evidence="Kernel panic"),
               sh("echo c > /proc/sysrq-trigger"), loud=True, quick={"amd64", "serial", "defconfig"},
               kernels=ALL)
    yield Test("panic-quiet", Want("panicked", phase="command", reason="trouble as asked"), trouble("panic"), module=True,
               quick=FIRST, kernels=MODULAR)
    yield Test("panic-after-warning", Want("panicked", phase="command", reason="sysrq triggered", because="trouble as asked|WARNING"),
               sh("busybox insmod /trouble.ko what=warn; echo c > /proc/sysrq-trigger"), module=True, quick=FIRST, kernels=MODULAR)
    yield Test("init-exits", Want("panicked", phase="init", reason="Attempted to kill init"), initrd=root_initrd,
               cmdline="rdinit=/bin/false", loud=True, quick=FIRST, kernels=ALL)
    yield Test("no-init", Want("panicked", phase="kernel|init", reason="Unable to mount root fs|No working init"),
               cmdline="rdinit=/nonexistent", initrd=root_initrd, loud=True, quick=FIRST, kernels=ALL)

    def damaged(path):
        with open(os.path.join(path, "initrd"), "wb") as f:
            f.write(b"\x1f\x8b\x08\0" + os.urandom(1 << 20))
        return None

    yield Test("damaged-initrd", Want("panicked", phase="kernel|init", reason="Unable to mount root fs|No working init"),
               initrd=damaged, loud=True, quick=FIRST, kernels=ALL)
    yield Test("power-off", Want("powered-off", reason="powered off|guest halted"), sh("busybox poweroff -f; exec busybox sleep 100"),
               quick=FIRST, kernels=ALL)
    yield Test("reboot", Want("rebooted", reason="reboot"), sh("busybox reboot -f; exec busybox sleep 100"),
               quick=FIRST, kernels=ALL)
    yield Test("sysrq-b", Want("rebooted"), sh("echo b > /proc/sysrq-trigger"), kernels=ALL)
    yield Test("triple-fault", Want("triple-fault", phase="command"), trouble("triple"), module=True, quick=FIRST, kernels=MODULAR)
    yield Test("agent-lost", Want("agent-lost"),
               sh("cd /sys/bus/virtio/drivers/virtio_console && for d in virtio*; do echo $d > unbind; done; exec busybox sleep 100"),
               quick=FIRST, kernels=MODULAR)
    yield Test("interrupted", Want("interrupted", 128 + signal.SIGTERM), sh("echo ready; exec busybox sleep 100"),
               shell="{} & pid=$!; until grep -q ready {dir}/console; do sleep 0.3; done; kill -TERM $pid; wait $pid",
               quick=FIRST, kernels=FIRST)


# --- the kernel's own mistakes -----------------------------------------------------------

def splats():
    for what, kind, heading, loud in (
            ("warn", "warn", "WARNING: ", False), ("bug", "bug", "kernel BUG at ", True),
            ("oops", "oops", "BUG: kernel NULL pointer dereference", False),
            ("gpf", "oops", "general protection fault", True),
            ("atomic", "atomic", "BUG: scheduling while atomic", False)):
        yield Test(what, Want("splat", phase="command", reason=heading, splats=kind, evidence=heading), trouble(what),
                   loud=loud, module=True, quick={"amd64", "6.12-amd64"} if what == "oops" else FIRST, kernels=MODULAR)
    yield Test("stack-overflow", Want("panicked", phase="command", because="stack guard page was hit"), trouble("stack"),
               module=True, kernels=MODULAR)
    yield Test("warn-allowed", Want("passed", because="-"), trouble("warn"), ["--rules", "{dir}/rules"], module=True, kernels=FIRST,
               prepare=lambda path: write(os.path.join(path, "rules"), "allow ^trouble as asked\n"))
    yield Test("warn-warns", Want("passed", because="WARNING|trouble as asked", splats="warn"), trouble("warn"),
               ["--on-splat", "warn"], module=True, kernels=FIRST)
    yield Test("warn-stops", Want("splat", reason="WARNING|trouble as asked"),
               sh("busybox insmod /trouble.ko what=warn; exec busybox sleep 100"), ["--on-splat", "stop"], module=True,
               quick=FIRST, kernels=MODULAR)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


# --- hangs -----------------------------------------------------------------------------

def states(*expected):
    """Checks what the vCPUs do, as a set of states."""
    def check(result):
        have = sorted(v["state"] for v in result.verdict.get("vcpus", []))
        return None if have in [sorted(e) for e in expected] else f"vCPUs: {have}"
    return check


def hangs():
    yield Test("silence", Want("hung", phase="command", reason="all 2 vCPUs are idle", because="-"), ["busybox", "sleep", "1000"], IDLE,
               cpus=2, quick=FIRST, kernels=ALL - {"serial"})
    yield Test("silence-1cpu", Want("hung", phase="command", reason="the vCPU is idle", because="-"), ["busybox", "sleep", "1000"], IDLE,
               quick={"serial"}, kernels=ALL)
    yield Test("kernel-talks", Want("hung", reason="vCPU"), sh("while :; do echo tick > /dev/kmsg; sleep 1; done"), IDLE,
               kernels=FIRST)
    yield Test("user-spins", Want("hung", reason="vCPU 0 (spins in user mode|is busy)"), sh("while :; do :; done"), IDLE, kernels=ALL)
    yield Test("hard-lockup", Want("hung", phase="command", reason="vCPU 0 spins with interrupts off", check=states(["spins-interrupts-off"])),
               trouble("hard"), IDLE, module=True, quick=FIRST, kernels=MODULAR)
    yield Test("hard-lockup-2cpus", Want("hung", reason="vCPU 0 spins with interrupts off.*vCPU 1 spins with interrupts off"),
               trouble("hard-all"), IDLE, cpus=2, module=True, kernels=MODULAR)
    yield Test("halted", Want("hung", reason="vCPU 0 is halted with interrupts off"), trouble("halt"), IDLE, module=True,
               kernels=MODULAR)
    yield Test("soft-lockup", Want("hung", reason="vCPU . (spins with interrupts on|is busy)", because="soft lockup", splats="lockup"),
               trouble("soft", "echo 1 > /proc/sys/kernel/watchdog_thresh; "), IDLE, cpus=2, module=True, quick=FIRST, kernels=DEBIAN)
    yield Test("soft-lockup-stops", Want("splat", reason="soft lockup"),
               trouble("soft", "echo 1 > /proc/sys/kernel/watchdog_thresh; "), ["--on-splat", "stop"], cpus=2, module=True,
               kernels=DEBIAN)
    yield Test("rcu-stall", Want("hung", reason="vCPU . (spins with interrupts on|is busy)", because="rcu", splats="rcu"), trouble("rcu"), IDLE,
               cmdline="rcupdate.rcu_cpu_stall_timeout=3", module=True, kernels=DEBIAN)
    yield Test("hung-task", Want("hung", because="blocked for more than", splats="hung_task"),
               trouble("hung", "echo 2 > /proc/sys/kernel/hung_task_timeout_secs; "), IDLE, cpus=2, module=True, quick=FIRST,
               kernels=DEBIAN)


def timeouts():
    yield Test("boot-timeout", Want("boot-timeout"), ["busybox", "true"], ["--timeout-boot", "500ms"], loud=True, quick=FIRST, kernels=ALL)
    yield Test("total-timeout", Want("timeout"), ["busybox", "sleep", "1000"], ["--timeout", "1s"], quick=FIRST, kernels=ALL)


def memory():
    yield Test("oom-command", Want("out-of-memory", phase="command", reason="OOM killer"), ["busybox", "tail", "/dev/zero"],
               quick=FIRST, kernels=ALL)
    yield Test("oom-panic", Want("out-of-memory", phase="command", reason="panic_on_oom"),
               sh("echo 1 > /proc/sys/vm/panic_on_oom; exec busybox tail /dev/zero"), quick=FIRST, kernels=ALL)


# --- many of the same --------------------------------------------------------------------

def many():
    for status in [0, 2, 3, 63, 100, 124, 125, 126, 127, 128, 129, 137, 143, 200, 239, 241, 242, 244, 246, 255]:
        yield Test(f"many-status-{status}", Want("failed" if status else "passed", status), sh(f"exit {status}"),
                   kernels={"cloud-amd64"})
    # Without those that busybox's shell ignores (3), and those that do not end a process.
    for number in [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 31, 34, 50, 64]:
        yield Test(f"many-signal-{number}", Want("signalled", 128 + number), sh(f"kill -{number} $$"), kernels={"cloud-amd64"})
    for n in range(20):
        yield Test(f"many-race-{n}", Want("failed", 9, also=[Want("powered-off")]), sh("busybox poweroff -f & exit 9"),
                   cpus=1 + n % 2, kernels={"cloud-amd64"})


def all_tests():
    tests = []
    for make in (commands, arguments, streams, environment, ends, splats, hangs, timeouts, memory, many):
        tests += make()
    return tests


def matches(pattern, text):
    return not pattern or re.search(pattern, text or "") is not None


def wrong(want, result, status):
    """Returns what differs from the wanted result; None: nothing."""
    v = result.verdict
    if v["verdict"] != want.verdict:
        return f"verdict {v['verdict']}, not {want.verdict}: {v['reason']}"
    if status != want.exit_status or v["exit_status"] != status:
        return f"exit status {status}, in the verdict {v['exit_status']}; it must be {want.exit_status}"
    if want.phase and v["phase"] not in want.phase.split("|"):
        return f"phase {v['phase']}, not {want.phase}"
    if not matches(want.reason, v["reason"]):
        return f"reason: {v['reason']}"
    if want.because == "-" and (v["because"] or any(not s["allowed"] for s in v["splats"])):
        return f"the kernel has made a mistake: {v['because'] or v['splats']}"
    if want.because not in ("", "-") and not matches(want.because, v["because"]):
        return f"because: {v['because']}"
    if want.splats and want.splats not in [s["kind"] for s in v["splats"]]:
        return f"reports: {[s['kind'] for s in v['splats']]}"
    if want.evidence and not any(matches(want.evidence, e["text"]) for e in v["evidence"]):
        return f"evidence: {[e['text'] for e in v['evidence']]}"
    if want.stdout is not None and result.bytes_of("console").decode(errors="replace") != want.stdout:
        return f"output {result.bytes_of('console')[-200:]}"
    return want.check and want.check(result)
