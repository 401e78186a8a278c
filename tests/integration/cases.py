"""The integration tests: what each guest gets, does, and must show."""

import re
import subprocess

import bootdisks
from harness import Case, Disk, DockerCase, ShellCase, sha256

# Names for tools/fetch-kernels. QUICK boots quickly, for tests to which the kernel does not matter.
KERNELS = ["amd64", "cloud-amd64", "6.12-amd64"]
QUICK = "cloud-amd64"

MODULES = "virtio_pci,virtio_mmio?,virtio_blk,virtio_console?,virtio_rng?,ext4,vfat,nls_cp437,nls_ascii"
PVPANIC = MODULES + ",pvpanic?,pvpanic_mmio?"

# Warnings that a busy emulated host causes: time passes while the guest does not run.
BUSY = re.compile(r"Long readout interval|hrtimer: interrupt took|read-back delay|"
                  r"rcu.*(stall|detected)|soft lockup|hung_task")

# True messages on a board without PCI.
NO_PCI = re.compile(r"^PCI: (Fatal: No config space access function found|System does not support PCI)")

# Kernel warnings that a virtual machine may cause.
OURS = re.compile(r"acpi|\bpci|virtio|mtrr|irq|apic|tsc|clocksource|rtc|i8042|hpet|x86/cpu", re.I)


def say(line):
    return "bantam-init: " + line


# --- checks --------------------------------------------------------------------

def exit_status(want, line):
    def check(run):
        if run.status == 124:
            return "does not end: " + (run.console.splitlines() or ["nothing on the console"])[-1]
        if run.status != want:
            return f"exit status {run.status}, not {want}: {run.stderr.strip()[-200:]}"
        if run.case.in_qemu:
            return None
        last = (run.stderr.strip().splitlines() or [""])[-1]
        if not re.search(line, last):
            return f"final line '{last}' does not match '{line}'"
        return None
    return check


def shows(*lines):
    """Checks that each line is on the console, in this order."""
    def check(run):
        at = 0
        have = run.console.splitlines()
        for line in lines:
            while at < len(have) and have[at] != line:
                at += 1
            if at == len(have):
                return f"no line '{line}' on the console" + (
                    ", or not in order" if line in have else "")
        return None
    return check


def never(pattern):
    def check(run):
        for line in run.console.splitlines():
            if re.search(pattern, line):
                return f"console: {line}"
        return None
    return check


def disks_in_order(run):
    """Checks that vda, vdb ... are the disks of the command line, with their sizes and serials."""
    have = [line for line in run.console.splitlines() if line.startswith(say("disk "))]
    want = []
    for index, disk in enumerate(run.case.disks):
        want.append(say(f"disk vd{chr(97 + index)} size={disk.size_bytes} serial={disk.serial} "
                        f"type={disk.fstype or '-'} label={disk.label or '-'}"
                        + (" ro" if disk.read_only else "")))
    if have[:len(want)] != want:
        return f"disks are {have}, not {want}"
    return None


def sums_agree(run):
    """Checks that the guest's checksum of a disk is that of its file now."""
    said = dict(re.findall(r"bantam-init: sha256 /dev/vd(\w) (\w+)", run.console))
    for index, disk in enumerate(run.case.disks):
        name = chr(97 + index)
        if disk.summed:
            if name not in said:
                return f"no checksum of vd{name}"
            if said[name] != sha256(disk.path):
                return f"vd{name}: the guest's checksum is not the file's"
        if disk.summed and disk.content and sha256(disk.path) != disk.content:
            return f"vd{name}: was changed"
    return None


def warnings_of(console):
    """Returns the warnings and errors of a `dmesg`, without parts that differ from boot to boot."""
    out = {}
    for line in console.splitlines():
        match = re.match(r"kmsg: <[0-4]>(.*)", line)
        if match:
            text = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+", "N", match.group(1), flags=re.I)
            out.setdefault(text, match.group(1))
    return out


def no_warning_that_q35_lacks(run):
    reference = run.reference(run.case.kernel)
    if reference is None:
        return "no boot of QEMU's q35 to compare with"
    known = warnings_of(reference)
    ours = []
    for text, line in warnings_of(run.console).items():
        if text in known or BUSY.search(line):
            continue
        if run.case.transport == "mmio" and NO_PCI.search(line):
            continue
        if OURS.search(line):
            ours.append(line)
        else:
            run.note(f"warning that q35 does not have: {line}")
    return "warnings that q35 does not have: " + " | ".join(ours) if ours else None


# --- the tests -------------------------------------------------------------------

BOOTED = [never(r"bantam-init: module .* error"), shows(say("up"), say("status 0"))]


def boots():
    """Every kernel and transport, one vCPU and two: init, disks, reads and writes, dmesg."""
    for kernel in KERNELS:
        for transport in ("pci", "mmio"):
            for cpus in (1, 2) if transport == "pci" else (2,):
                yield Case(
                    name=f"boot-{kernel}-{transport}-{cpus}cpu", kernel=kernel, cpus=cpus,
                    transport=transport, modules=MODULES,
                    disks=[Disk("random", size_mib=2, serial="first", summed=True, read_only=True),
                           Disk("zero", size_mib=2, serial="second", summed=True),
                           Disk("ext4", size_mib=8, serial="third", label="SERVICEDISK")],
                    run="cpus; sha256 /dev/vda; pattern write /dev/vdb 7; drop; "
                        "pattern check /dev/vdb 7 0 0 direct; sha256 /dev/vdb; "
                        "cat /mnt/SERVICEDISK/hello; dmesg 4",
                    checks=[exit_status(0, "powered off"), *BOOTED, disks_in_order,
                            shows(say("mount vdc ext4 /mnt/SERVICEDISK"),
                                  say(f"cpus online={'0' if cpus == 1 else '0-1'} "
                                      f"possible={'0' if cpus == 1 else '0-1'}"),
                                  say("pattern write /dev/vdb ok"),
                                  say("pattern check /dev/vdb ok"),
                                  "hello from the host"),
                            sums_agree, no_warning_that_q35_lacks])


def entries():
    """The extracted vmlinux through both entry points, and a bzImage that unpacks itself."""
    for kernel in KERNELS:
        for entry in ("pvh", "linux64"):
            yield Case(name=f"vmlinux-{kernel}-{entry}", kernel=kernel, image="vmlinux",
                       options=["--entry", entry], modules=MODULES,
                       disks=[Disk("random", size_mib=1, serial="only", summed=True)],
                       run="sha256 /dev/vda",
                       checks=[exit_status(0, "powered off"), *BOOTED, disks_in_order, sums_agree])
    yield Case(name="bzimage-unpacks-itself", kernel="amd64", options=["--unpack", "off"],
               modules=MODULES, checks=[exit_status(0, "powered off"), *BOOTED])


def ends():
    """Every way to end a machine has its own status and line."""
    for name, how, status, line, modules in (
            ("reboot", "reboot", 3, "reboot", MODULES),
            ("pvpanic", "panic", 4, "panic", PVPANIC),
            ("panic-1", "panic", 5, "emergency|restart", MODULES),
            ("sysrq-b", "sysrq-b", 5, "emergency|restart", MODULES),
            ("triple-fault", "triple", 6, "triple", MODULES)):
        yield Case(name=f"end-{name}", kernel=QUICK, modules=modules, end=how,
                   checks=[exit_status(status, line), *BOOTED, shows(say(f"end {how}"))])
    yield Case(name="end-killed", kernel=QUICK, modules=MODULES, end="hang",
               kill_after=say("end hang"), checks=[exit_status(143, "."), *BOOTED])


def legacy():
    """Options that take away what the board has, each alone; two vCPUs are configured."""
    def warned(run):
        if "kernel command line: acpi=off: the guest cannot power off" not in run.stderr:
            return f"no warning: {run.stderr.strip()[-200:]}"
        return None

    for words, cpus, transport in (
            ("noapic", 2, "pci"), ("nolapic", 1, "pci"), ("acpi=off", 2, "pci"), ("nosmp", 1, "pci"),
            ("maxcpus=0", 1, "mmio"), ("pci=nomsi", 2, "pci"), ("nox2apic", 2, "pci")):
        off = words == "acpi=off"
        yield Case(
            name="option-" + words, kernel="amd64", words=words, cpus=2, transport=transport,
            modules=MODULES, disks=[Disk("random", size_mib=1, serial="only", summed=True)],
            run="cpus; sha256 /dev/vda", end="reboot" if off else "poweroff",
            checks=[exit_status(3, "reboot") if off else exit_status(0, "powered off"), *BOOTED,
                    disks_in_order, sums_agree, *([warned] if off else []),
                    shows(say(f"cpus online={'0' if cpus == 1 else '0-1'} "
                              f"possible={'0' if cpus == 1 else '0-1'}")),
                    never(r"ACPI.*(Error|Exception)|nobody cared|timer doesn't work")])


def layouts():
    """No --kernel: boots disks of distributions, each with its options and the right root."""
    def checked(run):
        image = run.case.disks[0].path
        done = subprocess.run(["qemu-img", "check", "-q", image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return f"qemu-img check: {done.stdout.decode()[-200:]}" if image.endswith("qcow2") and done.returncode else None

    for name, device, root, options in (
            ("fedora", "vda3", "13", "no_timer_check net.ifnames=0 rhgb quiet"),
            ("ubuntu", "vda1", "01", "quiet"),
            ("alpine", "vda3", "13", "modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4"),
            ("opensuse", "vda3", "13", "splash=silent quiet security=apparmor mitigations=auto")):
        root = f"root=UUID={bootdisks.ID}{root}"
        yield Case(name=f"layout-{name}", kernel=bootdisks.KERNEL, modules=MODULES, boots_disk=True,
                   disks=[Disk("layout", layout=bootdisks.LAYOUTS[name], serial=name)],
                   checks=[exit_status(0, "powered off"), never("^system: wrong"),
                           shows(f"initrd: {root[5:]} is /dev/{device}",
                                 f"system: {options} {root} ro console=ttyS0",
                                 "system: root is writable"), checked])


def filesystems():
    """The guest makes and checks an ext4; fio verifies, with flushes."""
    fio = ("fio --name=verify --filename=/dev/vdc --size=8M --rw=randwrite --bs=4k --iodepth=32 "
           "--ioengine=libaio --direct=1 --fsync=64 --verify=crc32c --verify_fatal=1 "
           "--do_verify=1 --thread --minimal")
    for transport in ("pci", "mmio"):
        yield Case(
            name=f"ext4-fio-{transport}", kernel="amd64", transport=transport, cpus=2,
            modules=MODULES,
            disks=[Disk("tools", label="TOOLS", read_only=True, serial="tools"),
                   Disk("zero", size_mib=64, serial="ext4"), Disk("zero", size_mib=16, serial="fio")],
            run="mount /dev/vda /mnt/t ext4 ro; mount dev /mnt/t/dev devtmpfs; "
                "in /mnt/t mkfs.ext4 -q -F /dev/vdb; in /mnt/t fsck.ext4 -f -n /dev/vdb; "
                "mount /dev/vdb /mnt/x ext4; pattern write /mnt/x/file 9 4M; umount /mnt/x; "
                "in /mnt/t fsck.ext4 -f -n /dev/vdb; mount /dev/vdb /mnt/x ext4; "
                "pattern check /mnt/x/file 9 4M; umount /mnt/x; in /mnt/t " + fio,
            checks=[exit_status(0, "powered off"), *BOOTED, disks_in_order,
                    shows(say("run mkfs.ext4: 0"), say("run fsck.ext4: 0"),
                          say("run fsck.ext4: 0"), say("pattern check /mnt/x/file ok"),
                          say("run fio: 0")),
                    never(r"verify: bad|I/O error|EXT4-fs error"), host_fsck(1)])


def shells():
    """bantam run --shell: job control, the terminal's size, disk, folder and network, and how it ends."""
    def good(run):
        return None if run.status == 0 else f"exit status {run.status}: {(run.console + run.stderr).strip()[-600:]}"

    for tty in ("ttyS0", "hvc0", "pipe"):
        yield ShellCase(name=f"shell-{tty}", kernel=QUICK, tty=tty, checks=[good, shows(f"shell on {tty}: 0 wrong")])


def containers():
    """A VM in Docker's container, as a user who has only /dev/kvm: user network, qcow2 disk, vsock, console."""
    def good(run):
        wrong = [line for line in run.console.splitlines() if line.startswith(("not ok", "#"))]
        return None if run.status == 0 and not wrong else f"exit status {run.status}: {wrong} {run.stderr.strip()[-300:]}"

    yield DockerCase(name="docker", kernel=QUICK, image="vmlinux", checks=[good, shows("ok - user 1000, a stock kernel: does all, exit status 0")])


def host_fsck(index):
    def check(run):
        done = subprocess.run(["e2fsck", "-f", "-n", run.case.disks[index].path],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return f"e2fsck on the host: {done.stdout.decode()[-200:]}" if done.returncode else None
    return check


def all_cases():
    cases = []
    for make in (layouts, filesystems, boots, entries, legacy, ends, shells, containers):
        cases += make()
    return cases
