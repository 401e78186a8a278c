"""Building blocks of the integration tests: cases, their disks, initrds and results."""

import dataclasses
import hashlib
import os
import shlex
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
WORK = os.path.join(ROOT, "build/integration")
MEMORY = "256M"

# Programs on the disk with label TOOLS; a guest runs them with "in DIR PROGRAM".
TOOLS = ["fio", "mkfs.ext4", "fsck.ext4"]


class Skip(Exception):
    """The reason why a test cannot run here."""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while data := f.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def call(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Skip(f"{command[0]}: {done.stdout.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()


@dataclasses.dataclass
class Disk:
    """
    A disk that a test needs: random, zero, ext4 (with a file `hello`), or tools.
    """
    kind: str
    size_mib: int = 0
    serial: str = ""
    label: str = ""
    read_only: bool = False
    summed: bool = False    # the guest prints its sha256
    layout: object = None   # function: makes the disk at a path, returns its image
    path: str = ""
    content: str = ""       # its sha256, if the guest must not change it

    @property
    def fstype(self):
        return "ext4" if self.kind in ("ext4", "tools") else ""

    @property
    def size_bytes(self):
        return os.path.getsize(self.path)

    def make(self, path):
        self.path = path
        if self.layout:
            self.path = self.layout(path)
            return
        if self.kind == "tools":
            self.path = tools_disk()
            return
        with open(path, "wb") as f:
            if self.kind == "random":
                f.write(os.urandom(self.size_mib << 20))
            else:
                f.truncate(self.size_mib << 20)
        if self.kind == "ext4":
            files = path + ".d"
            os.makedirs(files, exist_ok=True)
            with open(os.path.join(files, "hello"), "w") as f:
                f.write("hello from the host\n")
            call("mkfs.ext4", "-q", "-F", "-L", self.label, "-d", files, path)
            shutil.rmtree(files)
        if self.kind == "random":
            self.content = sha256(path)


@dataclasses.dataclass
class Case:
    """One guest."""
    name: str
    kernel: str
    modules: str
    image: str = "vmlinuz"
    transport: str = "pci"
    cpus: int = 1
    disks: list = dataclasses.field(default_factory=list)
    run: str = ""
    end: str = "poweroff"
    options: list = dataclasses.field(default_factory=list)
    kill_after: str = ""
    words: str = ""         # more of the kernel's command line
    checks: list = dataclasses.field(default_factory=list)
    boots_disk: bool = False    # no --kernel: boots the first disk
    in_qemu: bool = False   # runs in QEMU's q35 instead, to compare with

    @property
    def dir(self):
        return os.path.join(WORK, self.name)

    @property
    def cmdline(self):
        words = ["console=ttyS0 quiet panic=1", f"bantam.disks={len(self.disks)}",
                 f"bantam.end={self.end}"]
        if self.words:
            words.append(self.words)
        if self.run:
            words.append(f'bantam.run="{self.run}"')
        return " ".join(words)

    def prepare(self):
        """Makes all that the guest needs; writes its `cmd` last."""
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        kernel = kernel_dir(self.kernel)
        initrd = make_initrd(self.kernel, self.modules)
        for index, disk in enumerate(self.disks):
            disk.make(os.path.join(self.dir, f"disk{index}.img"))
        command = self.q35_command if self.in_qemu else self.command
        words = command(os.path.join(kernel, self.image), initrd)
        text = " ".join(shlex.quote(w) for w in words)
        if self.kill_after:
            # Wait for a line on its console, which is our own output, then end the guest.
            console = shlex.quote(os.path.join(self.dir, "console"))
            text = (f"{text} & pid=$!\n"
                    f"until grep -q {shlex.quote(self.kill_after)} {console}; do sleep 0.3; done\n"
                    f"kill -TERM $pid; wait $pid; exit $?")
        else:
            text = "exec " + text
        with open(os.path.join(self.dir, "cmd"), "w") as f:
            f.write(text + "\n")

    def command(self, kernel, initrd):
        words = [os.path.join(ROOT, "build/bantam"), "run"]
        if not self.boots_disk:
            words += ["--kernel", kernel, "--initrd", initrd, "--cmdline", self.cmdline]
        words += ["--memory", MEMORY, "--cpus", str(self.cpus), "--transport", self.transport]
        for disk in self.disks:
            words += ["--disk", f"path={disk.path},serial={disk.serial}"
                      + (",ro" if disk.read_only else "")]
        return words + self.options

    def q35_command(self, kernel, initrd):
        words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                 "-M", "q35,accel=kvm", "-cpu", "host", "-m", MEMORY, "-smp", str(self.cpus),
                 "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd]
        for index, disk in enumerate(self.disks):
            words += ["-drive", f"if=none,id=d{index},format=raw,file={disk.path}"
                      + (",readonly=on" if disk.read_only else ""),
                      "-device", f"virtio-blk-pci,drive=d{index},serial={disk.serial}"]
        return words + ["-append", self.cmdline]


@dataclasses.dataclass
class ShellCase(Case):
    """A guest of bantam run --shell on this terminal, which shellguest.py uses as a person does."""
    modules: str = ""
    tty: str = "ttyS0"

    def prepare(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        words = [os.path.join(ROOT, "tests/integration/shellguest.py"), self.tty, kernel_dir(self.kernel), self.dir,
                 "--transcript", os.path.join(self.dir, "transcript")]
        with open(os.path.join(self.dir, "cmd"), "w") as f:
            f.write("exec " + " ".join(shlex.quote(w) for w in words) + "\n")


@dataclasses.dataclass
class DockerCase(Case):
    """A guest of tests/guests/docker."""
    modules: str = "virtio_pci,virtio_blk,virtio_net,af_packet?,virtio_console?,vmw_vsock_virtio_transport"

    def prepare(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        kernel, initrd = kernel_dir(self.kernel), os.path.join(self.dir, "initrd")
        call(os.path.join(ROOT, "build/bantam"), "initrd", "--force", "-o", initrd, "-M", os.path.join(kernel, "modules"),
             "-m", self.modules, "-f", "/usr/bin/busybox:/bin/busybox", "-f", os.path.join(ROOT, "build/guest/vsockcat") + ":/bin/vsockcat",
             "-f", os.path.join(ROOT, "tests/integration/dockerguest.sh") + ":/docker.sh")
        os.chmod(initrd, 0o644)     # the user in the container reads it
        words = [os.path.join(ROOT, "tests/guests/docker"), "--stock", os.path.join(kernel, self.image), initrd]
        with open(os.path.join(self.dir, "cmd"), "w") as f:
            f.write("exec " + " ".join(shlex.quote(w) for w in words) + "\n")


@dataclasses.dataclass
class Run:
    """The results of a guest."""
    case: Case
    reference: object       # function: kernel's name -> q35's console text or None
    notes: list = dataclasses.field(default_factory=list)

    def note(self, text):
        self.notes.append(text)

    def text(self, name):
        try:
            with open(os.path.join(self.case.dir, name), errors="replace") as f:
                return f.read().replace("\r\n", "\n")
        except FileNotFoundError:
            return ""

    @property
    def console(self):
        return self.text("console")

    @property
    def stderr(self):
        return self.text("stderr")

    @property
    def status(self):
        return int(self.text("status") or -1)

    @property
    def seconds(self):
        return int(self.text("milliseconds") or 0) / 1000

    def failures(self):
        return [why for check in self.case.checks if (why := check(self))]


_kernels, _initrds = {}, {}


def kernel_dir(name):
    if name not in _kernels:
        tool = os.path.join(ROOT, "tools/fetch-kernels")
        done = subprocess.run([tool, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _kernels[name] = (done.stdout.decode().strip() if done.returncode == 0 else
                          Skip(f"no kernel {name}: {done.stderr.decode().strip()[-200:]}"))
    if isinstance(_kernels[name], Skip):
        raise _kernels[name]
    return _kernels[name]


def make_initrd(kernel, modules):
    key = (kernel, modules)
    if key not in _initrds:
        digest = hashlib.sha256(modules.encode()).hexdigest()[:8]
        path = os.path.join(WORK, f"initrd-{kernel}-{digest}")
        call(os.path.join(ROOT, "build/bantam"), "initrd", "--force", "-o", path, "-M",
             os.path.join(kernel_dir(kernel), "modules"), "-m", modules)
        _initrds[key] = path
    return _initrds[key]


def tools_disk():
    """Makes an ext4 image with TOOLS and their libraries; all tests share it, read-only."""
    path = os.path.join(WORK, "tools.img")
    programs = []
    for tool in TOOLS:
        where = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not where:
            raise Skip(f"{tool} is missing; run make deps")
        programs.append(os.path.realpath(where))
    newest = max(os.path.getmtime(p) for p in programs)
    if os.path.exists(path) and os.path.getmtime(path) > newest:
        return path
    tree = path + ".d"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        os.makedirs(os.path.join(tree, name))
    for tool, program in zip(TOOLS, programs):
        shutil.copy(program, os.path.join(tree, "bin", tool))
        for word in call("ldd", program).split():
            if word.startswith("/") and os.path.exists(word):
                target = tree + word
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy(os.path.realpath(word), target)
    size = int(call("du", "-sm", tree).split()[0]) * 5 // 4 + 8
    with open(path + ".new", "wb") as f:
        f.truncate(size << 20)
    call("mkfs.ext4", "-q", "-F", "-L", "TOOLS", "-d", tree, path + ".new")
    shutil.rmtree(tree)
    os.rename(path + ".new", path)
    return path
