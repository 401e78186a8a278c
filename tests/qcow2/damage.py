#!/usr/bin/env python3
"""Damaged qcow2 images: each case is a good image with one error.

    damage.py TORTURE [STEP [PATTERN]]     each STEPth case; only those whose name contains PATTERN

For each case a child (torture probe) opens the image, reads all, writes to some places, flushes and
closes, within 10 s and 1 GiB. It must end by itself. If it refuses an image, it must name the file
in one line and leave the image unchanged. It must never write guest data over the good image's
tables, nor into backing files. If QEMU refuses the image, it must refuse too, or report I/O errors.
Prints one line for each failure and a summary. Exit status: 0 if nothing failed.
"""
import concurrent.futures, hashlib, os, random, re, resource, shutil, struct, subprocess, sys, tempfile

PATTERN = b"\xa5" * 512
OFFSET = 0x00FFFFFFFFFFFE00
HEADER = {  # name: (offset, width)
    "magic": (0, 4), "version": (4, 4), "backing_file_offset": (8, 8), "backing_file_size": (16, 4),
    "cluster_bits": (20, 4), "size": (24, 8), "crypt_method": (32, 4), "l1_size": (36, 4),
    "l1_table_offset": (40, 8), "refcount_table_offset": (48, 8), "refcount_table_clusters": (56, 4),
    "nb_snapshots": (60, 4), "snapshots_offset": (64, 8), "incompatible_features": (72, 8),
    "compatible_features": (80, 8), "autoclear_features": (88, 8), "refcount_order": (96, 4),
    "header_length": (100, 4), "compression_type": (104, 1),
}
# QEMU refuses these. We do not read these values, or they mean nothing without a flag that is off.
HARMLESS = ("extension encryption", "extension bitmaps", "extension data file", "v2.qcow2: header snapshots_offset",
            "header autoclear_features")
# Cases that failed once.
ALWAYS = ("wide.qcow2: L2 entry at 0x4080 -> l", "zlib.qcow2: L2 entry at 0x10020 -> ref")
# Fields that the engine may change.
MAY_CHANGE = {"refcount_table_offset", "refcount_table_clusters", "incompatible_features", "autoclear_features"}


def run(*cmd, **kw):
    return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def must(*cmd):
    p = run(*cmd)
    if p.returncode:
        sys.exit("%s: %s" % (" ".join(cmd), p.stdout))


class Image:
    """A good image, and the places of its structures."""

    def __init__(self, name):
        self.name = name
        self.data = open(name, "rb").read()
        self.version = self.u(4, 4)
        self.cluster = 1 << self.u(20, 4)
        self.size = len(self.data)
        self.l1 = self.u(40, 8)
        self.l1_size = self.u(36, 4)
        self.reftable = self.u(48, 8)
        self.reftable_bytes = self.u(56, 4) * self.cluster
        self.l1_entries = [self.u(self.l1 + 8 * i, 8) for i in range(self.l1_size)]
        self.l2 = [e & OFFSET for e in self.l1_entries if e & OFFSET]
        self.blocks = [b for b in (self.u(self.reftable + i, 8) for i in range(0, self.reftable_bytes, 8)) if b]
        self.meta = {0, self.reftable, *self.l2, *self.blocks}
        self.meta |= set(range(self.l1, self.l1 + 8 * self.l1_size, self.cluster))
        self.snapshots = self.u(64, 8) if self.u(60, 4) else 0
        if self.snapshots:
            self.meta |= {self.snapshots, self.u(self.snapshots, 8)}
        self.refbits = 1 << (self.u(96, 4) if self.version == 3 else 4)

    def u(self, at, width):
        return int.from_bytes(self.data[at:at + width], "big")

    def l2_entries(self, kind):
        """Returns places of L2 entries: data, packed, empty."""
        out = []
        for table in self.l2:
            for at in range(table, table + self.cluster, 8):
                e = self.u(at, 8)
                k = "packed" if e >> 62 & 1 else "data" if e & OFFSET else "empty"
                if k == kind:
                    out.append(at)
        return out

    def addresses(self):
        """Returns wrong targets for an offset."""
        c, end = self.cluster, (self.size + self.cluster - 1) // self.cluster * self.cluster
        places = {"header": 0, "l1": self.l1, "reftable": self.reftable, "refblock": self.blocks[0],
                  "l2": self.l2[0], "unaligned by 512": self.l1 + 512, "end of file": end,
                  "behind the end": end + c, "far behind": 1 << 40, "highest": OFFSET & -c}
        data = self.l2_entries("data")
        if data:
            places["data"] = self.u(data[0], 8) & OFFSET
        if self.snapshots:
            places["snapshots"] = self.snapshots
        return places


class Case:
    def __init__(self, image, name, *pokes, cut=None):
        self.image, self.name, self.pokes, self.cut = image, name, pokes, cut

    def content(self):
        data = bytearray(self.image.data)
        for at, new in self.pokes:
            if at + len(new) > len(data):
                data += bytes(at + len(new) - len(data))
            data[at:at + len(new)] = new
        return bytes(data if self.cut is None else data[:self.cut])


def be(value, width):
    return (value & (1 << 8 * width) - 1).to_bytes(width, "big")


def header_cases(im):
    for field, (at, width) in HEADER.items():
        if at >= 72 and im.version == 2:
            continue
        now, top = im.u(at, width), (1 << 8 * width) - 1
        values = {0, 1, 2, 3, now + 1, now - 1, now * 2, now + 512, top, top >> 1, (top >> 1) + 1, 1 << 8 * width - 8}
        if field.endswith("offset"):
            values |= set(im.addresses().values()) | {im.size - 8, im.cluster - 1}
        if field in ("cluster_bits", "refcount_order"):
            values |= set(range(0, 33, 3)) | {8, 22, 63, 64}
        if field.endswith("features"):
            values |= {1 << b for b in range(0, 64, 1 if field[0] == "i" else 7)}
        if field in ("l1_size", "refcount_table_clusters", "nb_snapshots", "backing_file_size", "header_length"):
            values |= {7, 64, 104, 105, 112, 1023, 1024, 65537, 1 << 20, (1 << 22) + 1, im.cluster, im.cluster + 8}
        if field == "size":
            values |= {511, 513, 1 << 30, 1 << 40, 1 << 62, (1 << 63) - 512, 1 << 63}
        for v in sorted({v & top for v in values} - {now}):
            yield Case(im, "%s: header %s = %#x" % (im.name, field, v), (at, be(v, width)))


def table_cases(im):
    def entries(what, places, flags, extra):
        for at in places:
            now = im.u(at, 8)
            values = {"%s%s" % (k, " copied" if f else ""): v | f for k, v in im.addresses().items() for f in flags}
            values.update(extra)
            values["unaligned by 1"] = now + 1 if what != "L2" else now | 2
            values["unaligned to clusters"] = now + 512
            for k, v in values.items():
                if v != now:
                    yield Case(im, "%s: %s entry at %#x -> %s" % (im.name, what, at, k), (at, be(v, 8)))

    reserved_l1 = {"reserved bit %d" % b: im.l1_entries[0] | 1 << b for b in (0, 1, 8, 56, 61, 62)}
    yield from entries("L1", [im.l1, im.l1 + 8 * (len(im.l2) - 1)], (0, 1 << 63), reserved_l1)
    data = im.l2_entries("data")
    if data:
        e = im.u(data[0], 8)
        extra = {"reserved bit %d" % b: e | 1 << b for b in (1, 4, 8, 56, 58, 61)}
        extra.update({"zero flag": e | 1, "zero flag, no cluster": 1, "without copied": e & ~(1 << 63),
                      "the same as another": im.u(data[-1], 8), "compressed": e | 1 << 62,
                      "all bits": (1 << 64) - 1, "compressed, all else 0": 1 << 62})
        yield from entries("L2", [data[0], data[len(data) // 2], data[-1]], (0, 1 << 63), extra)
    for at in im.l2_entries("packed")[:2]:
        e = im.u(at, 8)
        x = 62 - (im.cluster.bit_length() - 1 - 8)
        mask, off = (1 << x) - 1, e & (1 << x) - 1
        for k, v in {"most sectors": 1 << 62 | ((1 << 62 - x) - 1) << x | off, "one sector": 1 << 62 | off,
                     "in the header": e & ~mask | 16, "at 0": e & ~mask, "in the L1 table": e & ~mask | im.l1,
                     "in the refcounts": e & ~mask | im.blocks[0], "last byte of the file": e & ~mask | im.size - 1,
                     "end of the file": e & ~mask | im.size, "far behind": e | mask, "also copied": e | 1 << 63,
                     "a bit off": e + 1, "the sector before": e - 512}.items():
            yield Case(im, "%s: compressed entry at %#x: %s" % (im.name, at, k), (at, be(v, 8)))
    yield from entries("refcount table", [im.reftable], (0,), {"nothing": 0, "another": im.blocks[0] + im.cluster})
    yield Case(im, "%s: a second refcount block, the same" % im.name, (im.reftable + 8, be(im.blocks[0], 8)))
    yield Case(im, "%s: refcount table full of ones" % im.name, (im.reftable, b"\xff" * im.reftable_bytes))
    yield Case(im, "%s: L1 table full of ones" % im.name, (im.l1, b"\xff" * 8 * im.l1_size))


def refcount_cases(im):
    width = im.refbits // 8
    if not width:
        return
    owners = {"header": 0, "L1": im.l1, "refcount table": im.reftable, "refcount block": im.blocks[0], "L2": im.l2[0]}
    data = im.l2_entries("data")
    if data:
        owners["data"] = im.u(data[0], 8) & OFFSET
    for who, at in owners.items():
        place = im.blocks[0] + at // im.cluster * width
        for v in (0, 2, 3, (1 << im.refbits) - 1, 1 << im.refbits - 1):
            yield Case(im, "%s: refcount of %s = %d" % (im.name, who, v), (place, be(v, width)))
    for v, what in ((b"\0", "0"), (b"\xff", "highest")):
        yield Case(im, "%s: all refcounts are %s" % (im.name, what), (im.blocks[0], v * im.cluster))


def extension_cases(im):
    start = im.u(100, 4) if im.version == 3 else 72
    known = {"end": 0, "backing format": 0xE2792ACA, "feature names": 0x6803F857, "bitmaps": 0x23852875,
             "encryption": 0x0537BE77, "data file": 0x44415441, "unknown": 0x12345678}
    for name, kind in known.items():
        for length in (0, 1, 7, 8, 24, 48, 49, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF9, im.cluster - start, im.cluster):
            for fill in (b"\0", b"\xff"):
                body = be(kind, 4) + be(length, 4) + fill * min(length, 300)
                yield Case(im, "%s: extension %s of %d bytes of %02x" % (im.name, name, length, fill[0]), (start, body))
    for fmt in (b"qcow", b"vmdk", b"nbd", b"raw\n", b"\x1b[2Jraw", b"luks", b"x" * 200):
        yield Case(im, "%s: backing format %r" % (im.name, fmt[:12]),
                   (start, be(0xE2792ACA, 4) + be(len(fmt), 4) + fmt + bytes(-len(fmt) % 8) + bytes(8)))


def data_cases(im):
    rnd = random.Random(4)
    for at in im.l2_entries("packed")[:3]:
        x = 62 - (im.cluster.bit_length() - 1 - 8)
        off = im.u(at, 8) & (1 << x) - 1
        for what, new in (("zeroes", bytes(64)), ("ones", b"\xff" * 64)):
            yield Case(im, "%s: compressed data at %#x begins with %s" % (im.name, off, what), (off, new))
        for _ in range(8):
            where = off + rnd.randrange(200)
            yield Case(im, "%s: compressed data: byte %#x" % (im.name, where), (where, bytes([rnd.randrange(256)])))


def cut_cases(im):
    points = {0, 1, 4, 71, 72, 100, 103, 104, 105, 111, 112, 511, 512, im.cluster - 1, im.cluster}
    for at in im.meta | {im.size}:
        points |= {at, at + 8, at + 9, at + im.cluster // 2, at - 1}
    for n in sorted(p for p in points if 0 <= p < im.size):
        yield Case(im, "%s: cut to %d bytes" % (im.name, n), cut=n)


def name_cases(im):
    at = im.cluster // 2
    for what, name in {"itself": b"case.qcow2", "json:": b'json:{"driver":"null-co"}', "nbd:": b"nbd://localhost/x",
                       "a missing file": b"no-such.qcow2", "a folder": b".", "a device": b"/dev/zero",
                       "a fifo": b"fifo", "1023 bytes": b"a" * 1023, "1024 bytes": b"a" * 1024,
                       "a zero byte": b"base\0.raw", "control characters": b"\x1b]0;x\x07\n", "a loop of two": b"loop.qcow2",
                       "an odd raw file": b"odd.raw", "an empty file": b"empty.raw", "70 deep": b"deep70.qcow2",
                       "deep enough": b"deep20.qcow2", "a damaged image": b"bad.qcow2", "slashes": b"/" * 500}.items():
        for fmt in (b"raw", b"qcow2", None):
            start = im.u(100, 4)
            ext = be(0xE2792ACA, 4) + be(len(fmt), 4) + fmt + bytes(-len(fmt) % 8) if fmt else b""
            yield Case(im, "%s: backing file is %s, %s" % (im.name, what, fmt and fmt.decode()),
                       (8, be(at, 8) + be(len(name), 4)), (start, ext + bytes(8)), (at, name))


def make_files():
    """Makes the good images and the files that they need, in the current folder."""
    raw = random.Random(1)
    with open("src.raw", "wb") as f:
        for i in range(1024):
            kind = raw.randrange(4)
            f.write(bytes(4096) if kind == 0 else raw.randbytes(4096) if kind == 1 else bytes([i & 255 | 1]) * 4096)
    must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "base.qcow2", "3M")
    must("qemu-io", "-f", "qcow2", "-c", "write -P 17 1M 100k", "base.qcow2")
    must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", "base.qcow2", "-F", "qcow2", "v3.qcow2", "4M")
    for c in ("write -P 33 0 300k", "write -P 34 2100k 64k", "write -z 512k 64k", "write -P 35 3900k 100k"):
        must("qemu-io", "-f", "qcow2", "-c", c, "v3.qcow2")
    must("qemu-img", "snapshot", "-c", "one", "v3.qcow2")
    must("qemu-io", "-f", "qcow2", "-c", "write -P 36 100k 50k", "v3.qcow2")
    must("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", "src.raw", "v2.qcow2")
    must("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=16k", "src.raw", "zlib.qcow2")
    must("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", "src.raw", "zstd.qcow2")
    must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,refcount_bits=64", "wide.qcow2", "4M")
    must("qemu-io", "-f", "qcow2", "-c", "write -P 9 64k 200k", "wide.qcow2")
    open("odd.raw", "wb").write(b"odd" * 4321)
    open("empty.raw", "wb").close()
    os.mkfifo("fifo")
    # A chain with a loop, and deep chains.
    must("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "case.qcow2", "-F", "qcow2", "loop.qcow2", "4M")
    below = ["-b", "odd.raw", "-F", "raw"]
    for i in range(1, 71):
        must("qemu-img", "create", "-q", "-f", "qcow2", "-u", *below, "deep%d.qcow2" % i, "4M")
        below = ["-b", "deep%d.qcow2" % i, "-F", "qcow2"]
    bad = bytearray(open("v2.qcow2", "rb").read())
    bad[40:48] = be(1 << 50, 8)
    open("bad.qcow2", "wb").write(bad)


def sums(folder, skip):
    out = {}
    for n in sorted(os.listdir(folder)):
        p = os.path.join(folder, n)
        if n != skip and os.path.isfile(p):
            out[n] = hashlib.sha1(open(p, "rb").read()).hexdigest()
    return out


def limits():
    if "/san/" not in torture:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judge(case, folder):
    """Returns the error ("" if none), and the outcome."""
    path = os.path.join(folder, "case.qcow2")
    before = case.content()
    with open(path, "wb") as f:
        f.write(before)
    env = dict(os.environ, ASAN_OPTIONS="hard_rss_limit_mb=700:max_allocation_size_mb=300:detect_leaks=1")
    try:
        p = subprocess.run([torture, "probe", "case.qcow2"], cwd=folder, timeout=20, capture_output=True, text=True,
                           errors="replace", env=env, preexec_fn=limits)
    except subprocess.TimeoutExpired:
        return "it hangs", "hangs"
    if p.returncode:
        return "exit status %d: %s" % (p.returncode, p.stderr[-1500:]), "crashes"
    became = p.stdout.split(":")[0]
    after = open(path, "rb").read()
    for line in p.stderr.splitlines():
        if line.startswith("refused: "):
            # If a backing file is damaged, the message names that file.
            if not re.match("refused: disk [^ ]", line) or "backing" not in case.name and "case.qcow2" not in line:
                return "the message does not name the file: " + line, became
        elif not line.startswith("bantam: "):
            return "a second line: " + line, became
    if any(c < " " or "\x7f" <= c <= "\x9f" for c in p.stderr.replace("\n", "")):
        return "control characters in a message", became
    if became != "writable" and after != before:
        return "it was changed, though it was not opened for writing", became
    for field, (at, width) in HEADER.items():
        if field not in MAY_CHANGE and after[at:at + width] != before[at:at + width] and at < len(before):
            return "header field %s was changed" % field, became
    # Without the COPIED flag the engine copies a table; then the old place is no table any more.
    copied = "L1 entry" in case.name and case.name.endswith("-> l2")
    for at in () if copied else case.image.meta:
        if PATTERN in after[at:at + case.image.cluster] and PATTERN not in before[at:at + case.image.cluster]:
            return "guest data was written over the table at %#x" % at, became
    quiet = ": 0 of " in p.stdout and ", 0 of " in p.stdout
    if became == "writable" and quiet and not any(h in case.name for h in HARMLESS):
        with open(path, "wb") as f:
            f.write(before)
        qemu = run("timeout", "10", "qemu-io", "-r", "-f", "qcow2", "-c", "read 0 64k", "case.qcow2", cwd=folder)
        if qemu.returncode and "can't open" in qemu.stdout:
            return "QEMU refuses it, we see nothing wrong: " + qemu.stdout.strip()[-300:], became
    return "", became + (" with errors" if became != "refused" and not quiet else "")


def worker(cases, index, n, results):
    folder = "w%d" % index
    os.mkdir(folder)
    for name in os.listdir("."):
        if os.path.isfile(name):
            os.link(name, os.path.join(folder, name))
    os.mkfifo(os.path.join(folder, "fifo"))
    good = sums(folder, "case.qcow2")
    for case in cases[index::n]:
        wrong, became = judge(case, folder)
        results.append((case.name, wrong, became))
        if sums(folder, "case.qcow2") != good:
            results.append((case.name, "another file was changed", became))
            good = sums(folder, "case.qcow2")


def main():
    global torture
    torture = os.path.abspath(sys.argv[1])
    step = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    top = tempfile.mkdtemp(prefix="bantam-damage.", dir=os.environ.get("TMPDIR", "/dev/shm"))
    try:
        os.chdir(top)
        make_files()
        images = [Image(n + ".qcow2") for n in ("v3", "v2", "zlib", "zstd", "wide")]
        cases = []
        for im in images:
            cases += table_cases(im)
            cases += refcount_cases(im)
            cases += data_cases(im)
        for im in images[:2]:
            cases += header_cases(im)
            cases += cut_cases(im)
        cases += extension_cases(images[0])
        cases += name_cases(images[0])
        # Shuffle, because each STEPth case in order would always be the same field.
        random.Random(7).shuffle(cases)
        cases = [c for c in cases if only in c.name]
        cases = [c for i, c in enumerate(cases) if i % step == 0 or any(a in c.name for a in ALWAYS)]
        results, n = [], 3
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            for f in [pool.submit(worker, cases, i, n, results) for i in range(n)]:
                f.result()
        became = {}
        for name, wrong, what in results:
            became[what] = became.get(what, 0) + 1
            if wrong:
                print("%s: %s" % (name, wrong))
        failed = sum(1 for r in results if r[1])
        print("%d damaged images: %s; %d wrong" % (len(cases), ", ".join("%d %s" % (v, k) for k, v in sorted(became.items())),
                                                   failed))
        sys.exit(1 if failed or not cases else 0)
    finally:
        os.chdir("/")
        shutil.rmtree(top)


main()
