"""Finds out whether an emulated host of tools/testbed stands still.

Theory of operation. Two kinds of stall are known, and each has its own sign:

- The fault of the emulator's nested SVM: a nested guest gets the registers of the emulated host.
  It cannot fetch an instruction at the host's address, which is the one after VMRUN, and KVM
  serves the same page fault for ever. All the rest of the host goes on. QEMU's monitor shows it
  (`info registers -a`): some CPU is at an address in KVM's function with VMRUN, is not halted,
  and has this very address in CR2. A host that works never shows this: CR2 holds an address of the
  kernel's text only if the kernel failed to fetch an instruction there. SAMPLES such samples in
  sequence, all with the same address, are a stall. The CPU may differ: the host's scheduler
  moves the thread. The other CPUs mostly sleep, but not always: other guests may still run.
  Most samples may find the CPU elsewhere in KVM, which serves the fault: then LONG samples are a
  stall in which a CPU that works has an address of that function in CR2, each time the same.

- Everything else that stops the host as a whole. Its first process sends a line ("beat") every
  BEAT_S seconds. A host is silent if no line comes for a number of seconds that this
  machine really gave to it: time in which QEMU's threads waited for a CPU does not count, nor
  does time in which this process did not run.

A beat also says where KVM's function with VMRUN is (in hex, from /proc/kallsyms).

Nothing here blocks or knows QEMU's protocol: tools/testbed asks the monitor and passes on the answers.
"""

import collections
import os
import re
import time

BEAT_S = 2          # between two beats
SAMPLE_S = 3.0      # between two looks at the registers
SAMPLES = 4         # with the sign, in sequence, are a stall
LONG = 8            # with CR2 alone
SILENCE_S = 20.0    # without a beat
BOOT_S = 120.0      # before the first beat
VMRUN_BYTES = 512   # how far KVM's function with VMRUN goes at most

Cpu = collections.namedtuple("Cpu", "rip cr2 halted")


def parse_registers(text):
    """Returns [Cpu] from the answer to `info registers -a`; a CPU without all values is left out."""
    cpus = []
    for block in re.split(r"^\s*CPU#\d+", text, flags=re.M)[1:]:
        rip = re.search(r"\b[RE]IP=([0-9a-f]+)", block)
        cr2 = re.search(r"\bCR2=([0-9a-f]+)", block)
        halted = re.search(r"\bHLT=([01])", block)
        if rip and cr2 and halted:
            cpus.append(Cpu(int(rip[1], 16), int(cr2[1], 16), halted[1] == "1"))
    return cpus


def describe(cpus):
    return ", ".join(f"CPU {i} {'sleeps' if cpu.halted else 'runs'} at {cpu.rip:x}"
                     for i, cpu in enumerate(cpus)) or "its registers are not known"


class Signature:
    """Looks for the fault of nested SVM in a sequence of samples."""

    def __init__(self):
        self.vmrun = 0      # the address of KVM's function with VMRUN; 0: not known
        self.at, self.served = [0, 0], [0, 0]   # [the address, samples in sequence]: there, or anywhere in KVM

    def faulted(self, cpus):
        """Returns the CPUs of this sample that work, and have an address of KVM's function in CR2."""
        return [cpu for cpu in cpus if not cpu.halted and self.vmrun
                and self.vmrun <= cpu.cr2 < self.vmrun + VMRUN_BYTES]

    @staticmethod
    def counted(before, addresses):
        address = before[0] if before[0] in addresses else (addresses or [0])[0]
        return [address, before[1] + 1 if address == before[0] and address else int(address != 0)]

    def sample(self, cpus):
        """Returns the reason to end the host, or None."""
        cpus = self.faulted(cpus)
        self.at = self.counted(self.at, [cpu.cr2 for cpu in cpus if cpu.rip == cpu.cr2])
        self.served = self.counted(self.served, [cpu.cr2 for cpu in cpus])
        if self.at[1] < SAMPLES and self.served[1] < LONG:
            return None
        return f"the emulator's nested SVM faults for ever at {self.served[0]:x}, after VMRUN"


def run_delays(pid):
    """Returns, for each thread of the process, the seconds in which it waited for a CPU."""
    delays = {}
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                delays[task] = int(f.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        pass    # the thread has ended, or this kernel counts nothing
    return delays


class Silence:
    """Adds up the time without a beat."""

    def __init__(self, limit_s, boot_s=BOOT_S):
        self.limit_s, self.boot_s = limit_s, boot_s
        self.quiet_s, self.beats = 0.0, 0
        self.delays = {}

    def beat(self):
        self.quiet_s, self.beats = 0.0, self.beats + 1

    def passed(self, seconds, at_most, delays):
        """Counts time since the last call; returns the reason to end the host, or None."""
        waited = max([delays[t] - self.delays[t] for t in delays if t in self.delays], default=0.0)
        self.delays = delays
        self.quiet_s += max(0.0, min(seconds, at_most) - waited)
        limit_s = self.limit_s if self.beats else max(self.limit_s, self.boot_s)
        if not self.limit_s or self.quiet_s < limit_s:
            return None
        return f"silent for {self.quiet_s:.0f} s"


class Watch:
    """Both signs together, for one host. The caller calls look() when due() is 0, and ask() says
    whether to ask for the registers then."""

    def __init__(self, pid, sample_s=SAMPLE_S, silence_s=SILENCE_S):
        self.pid, self.sample_s = pid, sample_s
        self.signature, self.silence = Signature(), Silence(silence_s)
        self.last = time.monotonic()
        self.held = b""
        self.cpus = []
        self.reason = None      # why the host is to end

    def beat(self, data):
        """Takes what the host's first process sent."""
        lines = (self.held + data).split(b"\n")
        self.held = lines.pop()[-64:]
        for line in lines:
            self.silence.beat()
            if re.fullmatch(rb"[0-9a-f]{1,16}", line.strip()):
                self.signature.vmrun = int(line, 16)

    def due(self):
        return max(0.0, self.last + self.sample_s - time.monotonic())

    def look(self):
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        if why := self.silence.passed(seconds, 2 * self.sample_s, run_delays(self.pid)):
            self.reason = f"{why}; {describe(self.cpus)}"

    def registers(self, text):
        """Takes an answer to `info registers -a`."""
        self.cpus = parse_registers(text)
        self.reason = self.signature.sample(self.cpus) or self.reason
