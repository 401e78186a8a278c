"""The trees of which tests/integration/seed and seedguest make seeds, and how they read trees."""

import hashlib
import os

NAMES = ["README", "Readme.txt", "a", ".hidden", "...dots", "a.b.c.d.e", "no extension at all",
         "x.longextension", "exactly13char", "twenty six characters long", "+,;=[]", "~1", "%41", "-rf",
         "FOO~1.TXT", "foo with a long name.txt", "foo with a long name2.txt", "grüße.txt", "ÄÖÜ",
         "日本語のファイル.テキスト", "e\u0301 combined", "'quoted'", "$(touch x)", "{a,b}",
         "CON", "aux.txt", "NUL", "x" * 255, "y" * 251 + ".txt", "ж" * 120, " leading space", "tab-free", "#", "&!@^"]
BEYOND = ["😀 smile.😀", "𝔘𝔫𝔦"]     # mtools knows no character beyond U+FFFF


def write(path, data, mtime=1700000000):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    os.utime(path, (mtime, mtime))


def walk(top):
    """Returns {path: sha256} of every file and {path/: None} of every folder."""
    out = {}
    for base, dirs, files in os.walk(top):
        rel = os.path.relpath(base, top)
        for name in dirs:
            out[os.path.normpath(os.path.join(rel, name)) + "/"] = None
        for name in files:
            with open(os.path.join(base, name), "rb") as f:
                out[os.path.normpath(os.path.join(rel, name))] = hashlib.sha256(f.read()).hexdigest()
    return out
