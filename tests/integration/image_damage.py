#!/usr/bin/env python3
"""Damages qcow2 images at random and compares bantam image check with qemu-img check.

usage: image_damage.py BANTAM COUNT [SEED]     in a folder to write in

The exit statuses must be equal (ours may be 2 if qemu-img cannot open the image at all), and
an image that --repair calls clean must be clean for qemu-img. Prints each disagreement.
"""
import os
import random
import shutil
import struct
import subprocess
import sys

bantam, count = sys.argv[1], int(sys.argv[2])
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
write = 'qemu-io -c "write -P 1 1M 3M" '
BASES = [
    ("compat=1.1", [write + '-c "write -z 8M 1M" F']),
    ("compat=1.1,cluster_size=4k,refcount_bits=1", [write + '-c "discard 2M 1M" F']),
    ("compat=0.10,cluster_size=512", ['qemu-io -c "write -P 1 1M 300k" F', "qemu-img snapshot -c s F",
                                      'qemu-io -c "write -P 2 1M 100k" F']),
    ("compat=1.1,refcount_bits=64", [write + "F", "qemu-img snapshot -c s F",
                                     'qemu-io -c "write -P 2 1M 100k" F', "qemu-img snapshot -c t F"]),
    ("compat=1.1", ["qemu-img convert -c -O qcow2 d0.qcow2 F"]),
]


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def damage(path):
    """Changes one entry of a table; returns which table."""
    with open(path, "r+b") as f:
        def read(at):
            f.seek(at)
            return struct.unpack(">Q", f.read(8))[0]

        head = f.read(72)
        bits = struct.unpack(">I", head[20:24])[0]
        l1_size = struct.unpack(">I", head[36:40])[0]
        l1, reftable = struct.unpack(">QQ", head[40:56])
        l2 = [read(l1 + 8 * i) & 0xfffffffffffe00 for i in range(l1_size)]
        where = random.choice(["l1", "l2", "l2", "reftable", "refblock", "refblock"])
        if where == "refblock":
            f.seek(read(reftable) + random.randrange(200))
            f.write(bytes([random.choice([0, 1, 2, 255])]))
            return where
        at = {"l1": l1 + 8 * random.randrange(l1_size), "reftable": reftable + 8 * random.randrange(2),
              "l2": random.choice([x for x in l2 if x]) + 8 * random.randrange(1 << (bits - 3))}[where]
        old = read(at)
        new = random.choice([0, old ^ 1 << 63, old ^ 1 << random.randrange(64), old + (1 << bits),
                             old & 1 << 63 | random.randrange(120) << bits, random.getrandbits(64)])
        f.seek(at)
        f.write(struct.pack(">Q", new & (1 << 64) - 1))
        return where


bases = []
for i, (options, commands) in enumerate(BASES):
    name = "d%d.qcow2" % i
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, name, "24M"], check=True)
    for command in commands:
        subprocess.run(command.replace("F", name), shell=True, check=True, stdout=subprocess.DEVNULL)
    bases.append(name)
bad = damaged = repaired = 0
for n in range(count):
    base = random.choice(bases)
    shutil.copy(base, "damaged.qcow2")
    where = damage("damaged.qcow2")
    theirs = run("qemu-img", "check", "-q", "damaged.qcow2").returncode
    ours = run(bantam, "image", "check", "damaged.qcow2")
    damaged += theirs != 0
    if ours.returncode != theirs and (theirs, ours.returncode) != (1, 2):
        bad += 1
        print("%d: %s of %s: exit status %d, qemu-img's %d\n%s" % (
            n, where, base, ours.returncode, theirs, ours.stdout.decode()))
    fixed = run(bantam, "image", "check", "--repair", "all", "damaged.qcow2")
    after = run("qemu-img", "check", "-q", "damaged.qcow2").returncode
    repaired += theirs != 0 and fixed.returncode == 0
    if fixed.returncode == 0 and after != 0 or fixed.returncode not in (0, 1, 2, 3):
        bad += 1
        print("%d: %s of %s: repair says %d, then qemu-img %d" % (n, where, base, fixed.returncode, after))
for name in bases + ["damaged.qcow2"]:
    os.unlink(name)
print("%d damaged, %d of them repaired" % (damaged, repaired))
sys.exit(bad != 0 or not damaged or not repaired)
