"""The README as what its reader types: chapters, blocks of code, commands.

A block is indented by four, or fenced. A fence "```json NAME" is the text of the file NAME, "```text" shows
what a program prints; all others hold commands. A command goes on in the next line after a backslash and in
quotes. "# not run by the tests: REASON" at a command's end keeps the tests from running it, and as a line
of its own at a block's start, the whole block.
"""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
NOT_RUN = re.compile(r"(?:^|\s)#\s*not run by the tests:(.*)$", re.M)


class Command:
    """What a reader types, in one or more lines, with its comments."""

    def __init__(self, line, text, reason=None):
        self.line = line        # number of its first line
        self.text = text
        found = NOT_RUN.search(text)
        self.reason = found.group(1).strip() if found else reason   # why no test runs it, or None

    def bare(self):
        """Its first line without a comment, to name it by."""
        return re.sub(r"\s+#.*", "", self.text.split("\n")[0])

    def background(self):
        """Whether the shell goes on while it runs."""
        return re.search(r"(?<!&)&\s*(#.*)?$", self.text) or self.text.startswith("sudo -b ")


class Block:
    def __init__(self, chapter, line, lines, fence=None):
        self.chapter, self.line, self.lines = chapter, line, lines
        self.fence = fence.split() if fence is not None else None    # the words behind ```

    def name(self):
        return f"{self.line}: {self.chapter}: {Command(0, self.lines[0]).bare()[:60]}"

    def file(self):
        """The name of the file whose text this is, or None."""
        return self.fence[1] if self.fence and len(self.fence) == 2 and self.fence[0] == "json" else None

    def commands(self):
        """The commands; none if the block is not to be typed."""
        if self.fence and (self.fence == ["text"] or self.file()):
            return []
        found, text, start, whole = [], "", 0, None
        for at, line in enumerate(self.lines):
            if not text:
                start = at
                if line.lstrip().startswith("#") or not line.strip():
                    reason = NOT_RUN.search(line)
                    if reason and not found:
                        whole = reason.group(1).strip()
                    continue
            text += line + "\n"
            code = re.sub(r"\s#.*", "", text)
            if line.endswith("\\") or re.match(r"case\b(?!.*\besac\b)", code, re.S) or code.count("'") % 2 or code.count('"') % 2:
                continue
            found.append(Command(self.line + start, text.rstrip("\n"), whole))
            text = ""
        if text:
            found.append(Command(self.line + start, text.rstrip("\n"), whole))
        return found


def blocks(path=os.path.join(ROOT, "README.md")):
    """All blocks of a document, in order."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    found, chapter, fence, held, start, before = [], "", None, [], 0, ""
    for at, line in enumerate(lines + [""], 1):
        if fence is not None:
            if line.startswith("```"):
                found.append(Block(chapter, start, held, fence))
                fence, held = None, []
            else:
                held.append(line)
        elif line.startswith("    ") and (held or not before.strip()):
            if not held:
                start = at
            held.append(line[4:])
            continue
        else:
            if held:
                found.append(Block(chapter, start, held))
                held = []
            if line.startswith("```"):
                fence, start = line[3:], at + 1
            elif line.startswith("#"):
                chapter = line.lstrip("# ")
        before = line
    return found


def examples(path):
    """The blocks of a manual page's examples. One that begins with { is the file vm1.json."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    found, held, inside = [], None, False
    for at, line in enumerate(lines, 1):
        if line.startswith(".Sh "):
            inside = line == ".Sh EXAMPLES"
        elif inside and line.startswith(".Bd -literal"):
            held, start = [], at + 1
        elif inside and line.startswith(".Ed"):
            found.append(Block(os.path.basename(path), start, held, "json vm1.json" if held[0] == "{" else None))
            held = None
        elif held is not None:
            held.append(line.replace("\\e", "\\"))
    return found


def chapter(name):
    """The commands of one chapter."""
    found = [command for block in blocks() if block.chapter == name for command in block.commands()]
    if not found:
        raise SystemExit(f"README.md: no commands in a chapter \"{name}\"")
    return found
