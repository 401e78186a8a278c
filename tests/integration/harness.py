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
    A disk that a test needs: random, zero, ext4 (with a file `hello`), tools, or distro: a
    qcow2 overlay over a compressed image with a GPT and a system that boots without --kernel.
    """
    kind: str
    size_mib: int = 0
    serial: str = ""
    label: str = ""
    read_only: bool = False
    summed: bool = False    # the guest prints its sha256
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
        if self.kind == "tools":
            self.path = tools_disk()
            return
        if self.kind == "distro":
            self.path = distro_disk(path, self.label)
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
        call(os.path.join(ROOT, "build/mkinitrd"), "-o", path, "-i",
             os.path.join(ROOT, "build/guest/init"), "-M",
             os.path.join(kernel_dir(kernel), "modules"), "-m", modules)
        _initrds[key] = path
    return _initrds[key]


# The shortest script that does what a distribution's initrd does.
DISTRO_INIT = """#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /proc /sys /root
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r m; do set -- $m; $bb insmod "/modules/${1##*/}" 2>/dev/null; done </modules.list
for w in $($bb cat /proc/cmdline); do case $w in root=*) root=${w#root=} ;; esac; done
n=0
until dev=$($bb findfs "$root") || [ $n = 50 ]; do $bb usleep 200000; n=$((n + 1)); done
$bb mount -o ro "$dev" /root && echo "initrd: $root is $dev"
exec $bb switch_root /root /sbin/init
"""
DISTRO_SYSTEM = """#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
echo "system: $($bb cat /etc/hostname) with $($bb uname -r)"
echo "system: $($bb cat /proc/cmdline)"
$bb mount -o remount,rw / && echo written >/written && $bb sync && $bb mount -o remount,ro / &&
    echo "system: root is writable"
$bb poweroff -f
"""


def distro_disk(path, kernel):
    """Makes a stock kernel with its initrd in /boot, a newer kernel without one, and a grub.cfg."""
    tree = path + ".d"
    for name in ("boot/grub", "etc", "usr", "sbin", "bin", "proc", "sys", "dev", "root"):
        os.makedirs(os.path.join(tree, name))

    def write(name, text, mode=0o644):
        with open(os.path.join(tree, name), "w") as f:
            f.write(text)
        os.chmod(os.path.join(tree, name), mode)

    source = kernel_dir(kernel)
    with open(os.path.join(source, "release")) as f:
        release = f.read().strip()
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, os.path.join(tree, "bin/busybox"))
    shutil.copy(os.path.join(source, "vmlinuz"), os.path.join(tree, "boot/vmlinuz-" + release))
    write("boot/vmlinuz-99.0", "not a kernel, and has no initrd")
    write("boot/grub/grub.cfg", f"linux /boot/vmlinuz-{release} root=UUID=x ro quiet from=grub\n")
    write("etc/hostname", "distro\n")
    write("etc/fstab", "UUID=01234567-89ab-cdef-0123-456789abcdef / ext4 defaults 0 1\n")
    write("sbin/init", DISTRO_SYSTEM, 0o755)
    with open(path + ".init", "w") as f:
        f.write(DISTRO_INIT)
    os.chmod(path + ".init", 0o755)
    call(os.path.join(ROOT, "build/mkinitrd"), "-z", "-o",
         os.path.join(tree, "boot/initrd.img-" + release), "-i", path + ".init",
         "-f", busybox + ":/bin/busybox", "-M", os.path.join(source, "modules"),
         "-m", "virtio_pci,virtio_blk,ext4")
    with open(path + ".raw", "wb") as f:
        f.truncate(80 << 20)
    call("sgdisk", "-n", "1:2048:6143", "-t", "1:ef00", "-n", "2:6144:0", path + ".raw")
    call("mkfs.ext4", "-q", "-F", "-d", tree, "-U", "01234567-89ab-cdef-0123-456789abcdef",
         "-E", f"offset={6144 * 512}", path + ".raw", "70M")
    call("qemu-img", "convert", "-c", "-O", "qcow2", path + ".raw", path + ".base")
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", os.path.basename(path) + ".base",
         "-F", "qcow2", path + ".qcow2")
    os.unlink(path + ".raw")
    shutil.rmtree(tree)
    return path + ".qcow2"


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
