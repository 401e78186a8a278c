"""Disks as distributions lay them out, which boot without --kernel.

Each has a stock kernel with the smallest initrd that finds its root as a distribution's does,
the boot loader's files in the form that the distribution writes, and next to the right root what
could be taken for it: another root, an older kernel, a rescue entry, a kernel without an initrd.
The partitions are ours (small); the files' text follows the real ones (Fedora Cloud 40, Ubuntu
24.04 cloud image, Alpine 3.20 by setup-disk, openSUSE Leap 15.6 with a /boot of its own).
"""

import os
import shutil
import struct
import uuid
import zlib

from harness import ROOT, Skip, call, kernel_dir

KERNEL = "cloud-amd64"
MODULES = "virtio_pci,virtio_blk,ext4"
ESP, XBOOTLDR, LINUX, BIOS = ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "BC13C2FF-59E6-4262-A352-B275FD6F7172",
                              "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "21686148-6449-6E6F-744E-656564454649")
ID = "01234567-89ab-cdef-0123-0000000000"     # and two digits

# The shortest script that does what a distribution's initrd does.
INIT = """#!/bin/busybox sh
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
SYSTEM = """#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
echo "system: $($bb cat /etc/hostname) with $($bb uname -r)"
echo "system: $($bb cat /proc/cmdline)"
$bb mount -o remount,rw / && echo written >/written && $bb sync && $bb mount -o remount,ro / &&
    echo "system: root is writable"
$bb poweroff -f
"""


class Layout:
    """A disk in the making: trees of files become partitions."""

    def __init__(self, path, modules=MODULES, sector=512):
        self.path, self.modules, self.sector = path, modules, sector
        self.parts = []
        with open(os.path.join(kernel_dir(KERNEL), "release")) as f:
            self.release = f.read().strip()
        self.busybox = shutil.which("busybox") or "/bin/busybox"
        shutil.rmtree(path + ".d", ignore_errors=True)
        os.makedirs(path + ".d")

    def tree(self, name, files):
        """Makes a folder with these files; a text KERNEL or INITRD stands for ours, a tuple is a link."""
        top = os.path.join(self.path + ".d", name)
        for name, text in files.items():
            file = os.path.join(top, name)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            if text == "KERNEL":
                shutil.copy(os.path.join(kernel_dir(KERNEL), "vmlinuz"), file)
            elif text == "INITRD":
                self.initrd(file)
            elif isinstance(text, tuple):
                os.symlink(text[0], file)
            else:
                with open(file, "w") as f:
                    f.write(text)
        return top

    def root(self, hostname, fstab, files=()):
        top = self.tree(hostname, {"etc/hostname": hostname + "\n", "etc/fstab": fstab, "sbin/init": SYSTEM,
                                   "usr/lib/os-release": f"ID={hostname}\n", **dict(files)})
        os.chmod(os.path.join(top, "sbin/init"), 0o755)
        for name in ("bin", "boot", "dev", "proc", "sys"):
            os.makedirs(os.path.join(top, name), exist_ok=True)
        shutil.copy(self.busybox, os.path.join(top, "bin/busybox"))
        return top

    def initrd(self, path):
        init = self.path + ".init"
        with open(init, "w") as f:
            f.write(INIT)
        os.chmod(init, 0o755)
        call(os.path.join(ROOT, "build/bantam"), "initrd", "--force", "-z", "-o", path, "-i", init, "-f",
             self.busybox + ":/bin/busybox", "-M", os.path.join(kernel_dir(KERNEL), "modules"), "-m", self.modules)

    def part(self, mib, number, kind, make=None):
        """Adds a partition; make(file) makes its content from an empty file of that size."""
        self.parts.append((mib, number, kind, make))

    def ext4(self, tree, label="", uuid=""):
        block = ["-b", "4096"] if self.sector == 4096 else []
        return lambda file: call("mkfs.ext4", "-q", "-F", *block, "-d", tree, *(["-L", label] if label else []),
                                 *(["-U", uuid] if uuid else []), file)

    def btrfs(self, tree, label, uuid):
        if not shutil.which("mkfs.btrfs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise Skip("no mkfs.btrfs; run make deps")
        return lambda file: call("mkfs.btrfs", "-q", "-r", tree, "-L", label, "-U", uuid, file)

    @staticmethod
    def vfat(label):
        return lambda file: call("mkfs.vfat", "-n", label, file)

    def write(self, table="gpt"):
        """Puts the partitions one after the other, and makes the disk of them."""
        at, lines = 1, [f"label: {table}", f"label-id: {'0xa1b2c3d4' if table == 'dos' else ID + 'ff'}"]
        with open(self.path, "wb") as disk:
            for index, (mib, number, kind, make) in enumerate(self.parts):
                unique = f", uuid={ID}{0xa0 + number:x}" if table == "gpt" else ""
                lines.append(f"{self.path}{number}: start={at}MiB, size={mib}MiB, type={kind}{unique}")
                if make:
                    file = f"{self.path}.part{index}"
                    with open(file, "wb") as f:
                        f.truncate(mib << 20)
                    make(file)
                    copy_sparse(file, disk, at << 20)
                    os.unlink(file)
                at += mib
            disk.truncate((at + 1) << 20)
        if self.sector == 512:
            with open(self.path + ".sfdisk", "w") as f:
                f.write("\n".join(lines) + "\n")
            call("sh", "-c", 'exec sfdisk -q "$1" <"$1.sfdisk"', "sh", self.path)
        else:
            self.write_gpt()
        shutil.rmtree(self.path + ".d")
        return self.path

    def write_gpt(self):
        """As sfdisk, which cannot do it for other sectors than 512 bytes (UEFI 2.10, 5.3)."""
        last = os.path.getsize(self.path) // self.sector - 1
        entries = bytearray(128 * 128)
        at = 1
        for mib, number, kind, _ in self.parts:
            first = (at << 20) // self.sector
            entries[128 * (number - 1):128 * number] = struct.pack(
                "<16s16sQQQ72x", uuid.UUID(kind).bytes_le, uuid.UUID(f"{ID}{0xa0 + number:x}").bytes_le,
                first, first + (mib << 20) // self.sector - 1, 0)
            at += mib
        table = -(-len(entries) // self.sector)
        with open(self.path, "r+b") as f:
            f.seek(446)
            f.write(struct.pack("<4B4BII48x2s", 0, 0, 2, 0, 0xee, 255, 255, 255, 1, last, b"\x55\xaa"))
            for own, other, where in ((1, last, 2), (last, 1, last - table)):
                header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, own, other, 2 + table,
                                     last - table - 1, uuid.UUID(ID + "ff").bytes_le, where, 128, 128,
                                     zlib.crc32(entries))
                f.seek(where * self.sector)
                f.write(entries)
                f.seek(own * self.sector)
                f.write(header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:])


def copy_sparse(source, disk, offset):
    with open(source, "rb") as f:
        while data := f.read(1 << 16):
            if data.count(0) != len(data):
                disk.seek(offset)
                disk.write(data)
            offset += len(data)


# --- the layouts ---------------------------------------------------------------------------------

def fedora(path):
    """BLS entries and a grub.cfg that only says blscfg; /boot is XBOOTLDR; the root is PARTUUID=. The
    sectors have 4096 bytes."""
    disk = Layout(path, sector=4096)
    entry = ("title Fedora Linux ({0}) 40 (Cloud Edition)\nversion {0}\nlinux /vmlinuz-{0}\n"
             "initrd /initramfs-{0}.img $tuned_initrd\noptions root=PARTUUID=" + ID + "a3 ro "
             "no_timer_check net.ifnames=0 console=tty1 console=ttyS0,115200n8 rhgb quiet $tuned_params\n"
             "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n")
    machine = "8f2a3a6a0d4c4f6f9c5a2f3f7d1f0e11"
    boot = disk.tree("boot", {
        f"vmlinuz-{disk.release}": "KERNEL", f"initramfs-{disk.release}.img": "INITRD",
        "vmlinuz-4.0.1-300.fc40.x86_64": "older", "initramfs-4.0.1-300.fc40.x86_64.img": "older",
        f"vmlinuz-0-rescue-{machine}": "rescue", f"initramfs-0-rescue-{machine}.img": "rescue",
        f"loader/entries/{machine}-{disk.release}.conf": entry.format(disk.release),
        f"loader/entries/{machine}-4.0.1-300.fc40.x86_64.conf": entry.format("4.0.1-300.fc40.x86_64"),
        f"loader/entries/{machine}-0-rescue.conf": entry.format("0-rescue-" + machine),
        "grub2/grubenv": "# GRUB Environment Block\nsaved_entry=" + machine + "-0-rescue\n" + "#" * 900,
        "grub2/grub.cfg": "set timeout=1\nload_env\nset kernelopts=\"root=LABEL=wrong\"\ninsmod blscfg\nblscfg\n",
        "efi/.keep": ""})
    fstab = f"UUID={ID}13 / ext4 defaults 1 1\nUUID={ID}12 /boot ext4 defaults 1 2\nLABEL=EFI /boot/efi vfat umask=0077 0 2\n"
    disk.part(4, 1, ESP, disk.vfat("EFI"))
    disk.part(32, 2, XBOOTLDR, disk.ext4(boot, "boot", ID + "12"))
    disk.part(12, 4, LINUX, disk.ext4(disk.root("wrong", fstab), "fedora", ID + "14"))
    disk.part(12, 3, LINUX, disk.ext4(disk.root("fedora", fstab), "fedora", ID + "13"))
    return disk.write()


def ubuntu(path):
    """The first partition is the disk's last; /boot is a partition without a type; LABEL= everywhere. As
    an overlay on a compressed image."""
    disk = Layout(path)
    boot = disk.tree("boot", {
        f"vmlinuz-{disk.release}": "KERNEL", f"initrd.img-{disk.release}": "INITRD",
        "vmlinuz-99.0": "newer, and has no initrd",
        "vmlinuz": (f"vmlinuz-{disk.release}",), "initrd.img": (f"initrd.img-{disk.release}",),
        "grub/grub.cfg": """# DO NOT EDIT THIS FILE
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
function recordfail {{ set recordfail=1; if [ -n "${{have_grubenv}}" ]; then save_env recordfail; fi; }}
menuentry 'Ubuntu' --class ubuntu --class os $menuentry_id_option 'gnulinux-simple' {{
	recordfail
	gfxmode $linux_gfx_mode
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	search --no-floppy --fs-uuid --set=root {id}16
	if [ "${{initrdfail}}" = 1 ]; then
	  echo	'GRUB_FORCE_PARTUUID set, initrdless boot failed. Attempting with initrd.'
	  linux	/vmlinuz-{release} root=LABEL=cloudimg-rootfs ro  quiet console=tty1 console=ttyS0
	  initrd	/initrd.img-{release}
	else
	  linux	/vmlinuz-{release} root=LABEL=cloudimg-rootfs ro  quiet console=tty1 console=ttyS0 panic=-1
	fi
}}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced' {{
	menuentry 'Ubuntu (recovery mode)' {{
		linux	/vmlinuz-{release} root=LABEL=wrong ro recovery nomodeset dis_ucode_ldr
		initrd	/initrd.img-{release}
	}}
}}
""".format(id=ID, release=disk.release)})
    fstab = ("LABEL=cloudimg-rootfs\t/\text4\tdiscard,commit=30,errors=remount-ro\t0 1\n"
             "LABEL=BOOT\t/boot\text4\tdefaults\t0 2\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n")
    disk.part(1, 14, BIOS)
    disk.part(4, 15, ESP, disk.vfat("UEFI"))
    disk.part(32, 16, LINUX, disk.ext4(boot, "BOOT", ID + "16"))
    disk.part(12, 2, LINUX, disk.ext4(disk.root("wrong", fstab), "old", ID + "02"))
    disk.part(12, 1, LINUX, disk.ext4(disk.root("ubuntu", fstab), "cloudimg-rootfs", ID + "01"))
    disk.write()
    call("qemu-img", "convert", "-c", "-O", "qcow2", path, path + ".base")
    os.unlink(path)
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", os.path.basename(path) + ".base", "-F", "qcow2", path + ".qcow2")
    return path + ".qcow2"


def alpine(path):
    """An MBR with /boot, swap and root; extlinux.conf with names relative to itself."""
    disk = Layout(path)
    boot = disk.tree("boot", {
        "vmlinuz-virt": "KERNEL", "initramfs-virt": "INITRD",
        "boot": (".",), "ldlinux.sys": "x", "menu.c32": "x", "config-6.6.31-0-virt": "x",
        "extlinux.conf": "# Generated by update-extlinux 6.04_pre1\nDEFAULT menu.c32\nPROMPT 0\n"
                         "MENU TITLE Alpine/Linux Boot Menu\nMENU HIDDEN\nTIMEOUT 10\nLABEL virt\n  MENU DEFAULT\n"
                         "  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n  FDTDIR dtbs-virt\n"
                         f"  APPEND root=UUID={ID}13 modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4 \n\n"
                         "MENU SEPARATOR\n"})
    fstab = f"UUID={ID}13\t/\text4\trw,relatime 0 1\nUUID={ID}11\t/boot\text4\trw,relatime 0 2\n" \
            "/dev/cdrom\t/media/cdrom\tiso9660\tnoauto,ro 0 0\n"
    disk.part(32, 1, "83", disk.ext4(boot, "", ID + "11"))
    disk.part(12, 4, "83", disk.ext4(disk.root("wrong", fstab), "", ID + "14"))
    disk.part(1, 2, "82", lambda file: call("mkswap", "-q", file))
    disk.part(12, 3, "83", disk.ext4(disk.root("alpine", fstab), "", ID + "13"))
    return disk.write("dos")


def opensuse(path):
    """btrfs, which bantam cannot read, is the root; /boot is ext4; grub.cfg sets and searches."""
    disk = Layout(path, MODULES + ",btrfs")
    boot = disk.tree("boot", {
        f"vmlinuz-{disk.release}": "KERNEL", f"initrd-{disk.release}": "INITRD",
        f"vmlinux-{disk.release}.gz": "x", f".vmlinuz-{disk.release}.hmac": "x", "sysctl.conf-" + disk.release: "x",
        "vmlinuz": (f"vmlinuz-{disk.release}",), "initrd": (f"initrd-{disk.release}",),
        "grub2/grubenv": "# GRUB Environment Block\n" + "#" * 999,
        "grub2/grub.cfg": """set btrfs_relative_path="y"
export btrfs_relative_path
if [ -f ${{config_directory}}/grubenv ]; then
  load_env -f ${{config_directory}}/grubenv
fi
if [ "${{env_block}}" ]; then
  set env_block="(${{root}})${{env_block}}"
fi
menuentry 'openSUSE Leap 15.6'  --class opensuse --class gnu-linux $menuentry_id_option 'gnulinux-simple' {{
	load_video
	set gfxpayload=keep
	insmod gzio
	insmod part_gpt
	insmod ext2
	search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2  {id}12
	echo	'Loading Linux {release} ...'
	linux	/vmlinuz-{release} root=UUID={id}13  ${{extra_cmdline}} splash=silent quiet security=apparmor mitigations=auto
	echo	'Loading initial ramdisk ...'
	initrd	/initrd-{release}
}}
if [ "${{snapshot_found}}" = "true" ]; then submenu 'Start bootloader from a read-only snapshot' {{ true; }}; fi
""".format(id=ID, release=disk.release)})
    disk.part(1, 1, BIOS)
    disk.part(32, 2, LINUX, disk.ext4(boot, "BOOT", ID + "12"))
    disk.part(12, 4, LINUX, disk.ext4(disk.tree("home", {"srv/x": "x"}), "HOME", ID + "14"))
    disk.part(128, 3, LINUX, disk.btrfs(disk.root("opensuse", ""), "ROOT", ID + "13"))
    return disk.write()


LAYOUTS = {"fedora": fedora, "ubuntu": ubuntu, "alpine": alpine, "opensuse": opensuse}
