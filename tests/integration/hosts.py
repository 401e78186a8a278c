"""Runs guests, natively or in an emulated host that is replaced when it hangs."""

import os
import queue
import signal
import subprocess
import sys
import threading

from harness import ROOT, WORK

GUEST_LIMIT_S = 180     # one guest
STALL_LIMIT_S = 220     # if no guest ends in this time, the emulated host hangs
HOST_ATTEMPTS = 3
JOBS = 2


def batch(todo, native, done, log="host"):
    """
    Runs the cases' guests (name, dir; see tests/integration/batch); calls done(case) as each ends. Starts again if
    the host hangs.
    """
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))    # the host ends, too
    for attempt in range(HOST_ATTEMPTS):
        waiting = {c.name: c for c in todo if not os.path.exists(os.path.join(c.dir, "status"))}
        if not waiting:
            return
        if attempt:
            print(f"# the emulated host hangs or died; starting another for {len(waiting)} tests",
                  flush=True)
        command = [os.path.join(ROOT, "tests/integration/batch"), str(JOBS), str(GUEST_LIMIT_S)]
        command += [c.dir for c in waiting.values()]
        if not native:
            command = [os.path.join(ROOT, "tools/testbed"), "--log",
                       os.path.join(WORK, f"{log}{attempt}.log"), "--"] + command
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        lines = queue.Queue()

        def reader(stream=process.stdout, lines=lines):
            for line in stream:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=reader, daemon=True).start()
        try:
            while (line := lines.get(timeout=STALL_LIMIT_S)) is not None:
                word, _, name = line.strip().partition(" ")
                if word == "done" and name in waiting:
                    done(waiting[name])
        except queue.Empty:
            pass
        finally:
            process.terminate()
            process.wait()
