#!/usr/bin/python3
"""Makes broken kernels from a test guest's ELF.

    bad_kernels.py GUEST.elf DIR

Files in DIR: good-* must boot; bad-* must be refused; odd-* may do either, but must do the
monitor no harm. spin.elf boots and halts forever.
"""

import gzip
import os
import struct
import sys

SETUP_SECTORS = 1
BODY = (SETUP_SECTORS + 1) * 512
PAYLOAD = 0x400                 # within the body, after the 64-bit entry


def bzimage(payload, **fields):
    """Makes a bzImage whose payload only the host can unpack. Fields: offset -> (format, value)."""
    body = bytearray(b"\xf4" * PAYLOAD + payload)
    body += bytes(-len(body) % 16)
    image = bytearray(BODY) + body
    header = {
        0x1f1: ("B", SETUP_SECTORS), 0x1f4: ("I", len(body) // 16), 0x1fe: ("H", 0xaa55),
        0x200: ("H", 0x66eb), 0x202: ("4s", b"HdrS"), 0x206: ("H", 0x20f), 0x211: ("B", 1),
        0x22c: ("I", 0x7fffffff), 0x230: ("I", 0x200000), 0x234: ("B", 1), 0x235: ("B", 21),
        0x236: ("H", 3), 0x238: ("I", 2047), 0x248: ("I", PAYLOAD), 0x24c: ("I", len(payload)),
        0x258: ("Q", 0x1000000), 0x260: ("I", 0x400000),
    }
    header.update(fields.get("fields", {}))
    for offset, (kind, value) in header.items():
        struct.pack_into("<" + kind, image, offset, value)
    return bytes(image)


def unified(sections):
    """Makes a unified kernel image of [(section's name, content)]."""
    image = bytearray(0x1000)
    struct.pack_into("<2s58xI", image, 0, b"MZ", 0x80)
    struct.pack_into("<4sHH12xH", image, 0x80, b"PE\0\0", 0x8664, len(sections), 0)
    for index, (name, content) in enumerate(sections):
        struct.pack_into("<8sIIII", image, 0x80 + 24 + 40 * index, name, len(content), 0, -(-len(content) // 512) * 512,
                         len(image))
        image += content + bytes(-len(content) % 512)
    return bytes(image)


def elf(code, paddr=0x100000, note=False):
    """Returns the smallest ELF vmlinux, with a PVH entry or a plain one."""
    head = 64 + 56 * 2
    notes = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", paddr) if note else b""
    phs = struct.pack("<IIQQQQQQ", 1, 5, head + len(notes), paddr, paddr, len(code), len(code), 1)
    phs += struct.pack("<IIQQQQQQ", 4, 4, head, 0, 0, len(notes), len(notes), 4)
    return struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, paddr, 64, 0, 0, 64, 56, 2,
                       0, 0, 0) + phs + notes + code


def loaded_bytes(image):
    """Returns where an ELF's last loaded segment ends in the file, and the program headers."""
    phoff, = struct.unpack_from("<Q", image, 32)
    count, = struct.unpack_from("<H", image, 56)
    end = phoff + 56 * count
    load = None
    for at in range(phoff, phoff + 56 * count, 56):
        kind, _, offset, _, _, filesz = struct.unpack_from("<IIQQQQ", image, at)
        if kind == 1 and filesz:
            end = max(end, offset + filesz)
            load = load or at
    return end, load


def patched(image, kind, offset, value):
    out = bytearray(image)
    struct.pack_into("<" + kind, out, offset, value)
    return bytes(out)


def elf_cases(image):
    end, load = loaded_bytes(image)
    for size in [1, 4, 15, 16, 17] + list(range(18, 64, 6)) + [63, 64, 65, load, load + 1,
                                                              load + 55, end // 2, end - 1]:
        yield f"bad-elf-cut-{size}", image[:size]
    yield "bad-elf-32-bit", patched(image, "B", 4, 1)
    yield "bad-elf-big-endian", patched(image, "B", 5, 2)
    yield "bad-elf-of-arm64", patched(image, "H", 18, 183)
    yield "bad-elf-relocatable", patched(image, "H", 16, 1)
    yield "bad-elf-phentsize-0", patched(image, "H", 54, 0)
    yield "bad-elf-no-headers", patched(image, "H", 56, 0)
    yield "bad-elf-many-headers", patched(image, "H", 56, 0xffff)
    for name, value in ("end", len(image)), ("huge", 1 << 63), ("wraps", (1 << 64) - 56):
        yield f"bad-elf-phoff-{name}", patched(image, "Q", 32, value)
        yield f"bad-elf-offset-{name}", patched(image, "Q", load + 8, value)
    for name, value in ("4T", 1 << 42), ("huge", 1 << 63), ("ones", (1 << 64) - 1):
        yield f"bad-elf-paddr-{name}", patched(image, "Q", load + 24, value)
        yield f"bad-elf-filesz-{name}", patched(image, "Q", load + 32, value)
        yield f"bad-elf-memsz-{name}", patched(image, "Q", load + 40, value)
    yield "bad-elf-paddr-0", patched(image, "Q", load + 24, 0)
    yield "bad-elf-memsz-below-filesz", patched(image, "Q", load + 40, 1)


def bzimage_cases(payload, unpacked_bytes):
    good = bzimage(payload)
    yield "good-bzimage", good
    for size in list(range(0x1f0, 0x270, 2)) + [1, 16, 512, 1023, 1024, 1025, BODY + 0x200,
                                               BODY + PAYLOAD, len(good) - 16]:
        yield f"bad-bzimage-cut-{size}", good[:size]
    for name, offset, value in (
            ("setup-sects-255", 0x1f1, ("B", 255)), ("syssize-ones", 0x1f4, ("I", 0xffffffff)),
            ("syssize-more", 0x1f4, ("I", len(good) // 16)), ("boot-flag", 0x1fe, ("H", 0)),
            ("magic", 0x202, ("4s", b"HdrX")), ("version-2.04", 0x206, ("H", 0x204)),
            ("low", 0x211, ("B", 0)), ("32-bit", 0x236, ("H", 0)),
            ("header-short", 0x201, ("B", 0x20)), ("alignment-0", 0x230, ("I", 0)),
            ("alignment-3", 0x230, ("I", 3)), ("payload-offset", 0x248, ("I", 0x7fffffff)),
            ("payload-offset-ones", 0x248, ("I", 0xffffffff)),
            ("payload-length", 0x24c, ("I", 0xfffffff0)),
            ("pref-address", 0x258, ("Q", 1 << 40)), ("pref-ones", 0x258, ("Q", (1 << 64) - 1)),
            ("init-size-ones", 0x260, ("I", 0xffffffff))):
        yield f"bad-bzimage-{name}", bzimage(payload, fields={offset: value})
    for name, offset, value in (
            ("cmdline-0", 0x238, ("I", 0)), ("initrd-max-0", 0x22c, ("I", 0)),
            ("payload-none", 0x24c, ("I", 0)), ("payload-1", 0x24c, ("I", 1)),
            ("payload-elsewhere", 0x248, ("I", 0x200)), ("version-99", 0x206, ("H", 0x6363)),
            ("alignment-2G", 0x230, ("I", 1 << 31)), ("header-long", 0x201, ("B", 0xff))):
        yield f"odd-bzimage-{name}", bzimage(payload, fields={offset: value})
    broken = bytearray(payload)
    broken[len(broken) // 2] ^= 0xff
    yield "odd-bzimage-payload-corrupt", bzimage(bytes(broken))
    for name, size in ("0", 0), ("1", 1), ("ones", 0xffffffff), ("less", unpacked_bytes - 1):
        yield f"odd-bzimage-unpacked-{name}", bzimage(payload[:-4] + struct.pack("<I", size))


def main():
    with open(sys.argv[1], "rb") as f:
        guest = f.read()
    guest = guest[:loaded_bytes(guest)[0]]
    packed = gzip.compress(guest)
    files = dict(elf_cases(guest))
    files.update(bzimage_cases(packed + struct.pack("<I", len(guest)), len(guest)))
    files.update({
        "good-elf": guest,
        "good-gzip": packed,
        "good-unified": unified([(b".cmdline", b"from=image \xc2\x9b2J\n"), (b".linux", guest)]),
        "bad-empty": b"",
        "bad-text": b"#!/bin/sh\nexec true\n" * 100,
        "bad-zeroes": bytes(1 << 16),
        "bad-gzip-of-text": gzip.compress(b"hello\n" * 1000),
        "bad-gzip-of-zeroes": gzip.compress(bytes(1 << 28), 6),
        "bad-gzip-cut": packed[:len(packed) // 2],
        "bad-gzip-head": packed[:3],
        "bad-xz-head": b"\xfd7zXZ\0" + bytes(100),
        "bad-zstd-head": b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
        "spin.elf": elf(b"\xfa\xf4\xeb\xfd", note=True),
    })
    for name, data in files.items():
        with open(os.path.join(sys.argv[2], name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
